"""Gauss-Newton on several ranks: dense oracles for what is learned, one result, one error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

from adjoint import agreed, communicator
from adjoint.comm import Allreduce
from adjoint.optimize import Composite, Result, StateError, minimize
from adjoint.optimize.secant import Secant
from adjoint.optimize.sums import summed
from tests.minimisations import facts

WORLD = communicator()
RANK, SIZE = WORLD.rank, WORLD.size
RANKS = [1, 2, 3, 4]
START = np.linspace(-0.5, 0.7, 5)
NODES, DATA = 13, 11


def share(count: int) -> slice:
    """This rank's part: none on the second of three, more on the last."""
    if (RANK, SIZE) == (1, 3):
        return slice(0, 0)
    bounds = [0, count // 5, count // 5, count] if SIZE == 3 else None
    if bounds is None:
        bounds = [round(count * (r / SIZE) ** 1.5) for r in range(SIZE + 1)]
    return slice(bounds[RANK], bounds[RANK + 1])


def random(*shape: int, seed: int) -> Any:
    return np.random.default_rng(seed).standard_normal(shape)


def whole(part: Any) -> Any:
    """All ranks' parts, side by side."""
    return np.concatenate(WORLD.allgather(part), axis=-1)


@pytest.mark.parallel(RANKS)
def test_what_is_learned_is_broydens_matrix() -> None:
    secant = Secant(WORLD, *(len(range(n)[share(n)]) for n in (DATA, NODES)), limit=100)
    dense = np.zeros((DATA, NODES))
    derivative, last = random(DATA, NODES, seed=1), np.zeros(DATA)
    for k in range(20):
        v, w = random(NODES, seed=10 + k), random(DATA, seed=50 + k)
        if k in (3, 7):  # what is known already, and a multiple of it
            w = last * (k - 2)
        last = w
        y, a = derivative @ v, derivative.T @ w
        secant.learn_secant(v[share(NODES)], y[share(DATA)])
        dense += np.outer(y - dense @ v, v) / (v @ v)
        learned = whole(secant.left).T @ whole(secant.right)
        np.testing.assert_allclose(learned, dense, atol=1e-12)
        np.testing.assert_allclose(learned @ v, y, atol=1e-11)
        secant.learn_adjoint(w[share(DATA)], a[share(NODES)])
        dense += np.outer(w, a - dense.T @ w) / (w @ w)
        learned = whole(secant.left).T @ whole(secant.right)
        np.testing.assert_allclose(learned, dense, atol=1e-12)
        np.testing.assert_allclose(learned.T @ w, a, atol=1e-11)
    left = whole(secant.left)
    assert len(left) == DATA
    np.testing.assert_allclose(left @ left.T, np.eye(DATA), atol=1e-12)
    np.testing.assert_allclose(secant.project(w[share(DATA)]), left @ w, atol=1e-12)
    secant.learn_secant(np.zeros_like(v[share(NODES)]), y[share(DATA)])  # no way, no word
    secant.learn_adjoint(np.zeros_like(w[share(DATA)]), a[share(NODES)])
    np.testing.assert_array_equal(whole(secant.left), left)


@pytest.mark.parallel(RANKS)
def test_of_more_than_the_limit_the_best_approximation_is_kept() -> None:
    limit = 4
    secant = Secant(WORLD, *(len(range(n)[share(n)]) for n in (DATA, NODES)), limit=limit)
    dense = np.zeros((DATA, NODES))
    for k in range(6):
        v, y = random(NODES, seed=40 + k), random(DATA, seed=60 + k)
        secant.learn_secant(v[share(NODES)], y[share(DATA)])
        dense += np.outer(y - dense @ v, v) / (v @ v)
        if np.linalg.matrix_rank(dense) >= limit:  # one less leaves room for what comes
            left, values, right = np.linalg.svd(dense)
            dense = left[:, : limit - 1] * values[: limit - 1] @ right[: limit - 1]
        w, a = random(DATA, seed=k), random(NODES, seed=20 + k)
        secant.learn_adjoint(w[share(DATA)], a[share(NODES)])
        dense += np.outer(w, a - dense.T @ w) / (w @ w)
        learned = whole(secant.left).T @ whole(secant.right)
        np.testing.assert_allclose(learned, dense, atol=1e-11)
        np.testing.assert_allclose(learned.T @ w, a, atol=1e-11)
    assert len(secant.left) == limit


@pytest.mark.parallel(RANKS)
def test_sums_are_the_same_on_all_ranks() -> None:
    values = random(40, seed=RANK) * 10.0 ** np.arange(-20, 20)
    total = summed(WORLD, values)
    assert len({t.tobytes() for t in WORLD.allgather(total)}) == 1
    np.testing.assert_allclose(total, sum(WORLD.allgather(values)), rtol=1e-13, atol=1e-3)
    np.testing.assert_array_equal(values, random(40, seed=RANK) * 10.0 ** np.arange(-20, 20))


class Problem:
    """A field of tanh, and residuals of it that mix the parts of all ranks."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.weights, self.mixing = random(NODES, 5, seed=1), random(DATA, NODES, seed=2)
        self.data = self.serial(np.linspace(0.2, -0.4, 5)) + 0.01 * random(DATA, seed=3)
        self.calls, self.fail_at = 0, fail_at

    def serial(self, theta: Any) -> Any:
        """All residuals, without data."""
        field = np.tanh(self.weights @ theta)
        return self.mixing @ (field + 0.3 * field**2)

    def inner(self, theta: Any) -> Any:
        with agreed(WORLD):
            if self.calls == self.fail_at and RANK == SIZE - 1:
                raise ArithmeticError("no convergence")
        self.calls += 1
        return np.tanh(self.weights[share(NODES)] @ theta)

    def outer(self, field: Any) -> Any:
        mixed = self.mixing[:, share(NODES)] @ (field + 0.3 * field**2)
        return (Allreduce()(mixed) - self.data)[share(DATA)]

    def residual(self, learned: bool) -> Any:
        composite = Composite(self.inner, self.outer)
        return composite if learned else lambda theta: composite(theta)


def quiet(residual: Any, theta0: Any = START, **kwargs: Any) -> Result:
    arguments = {"options": {"maxiter": 8}, "progress": False, **kwargs}
    return minimize(residual, theta0, "gauss-newton", **arguments)


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("ridge", [0.0, 0.5])
@pytest.mark.parametrize("learned", [False, True])
def test_all_ranks_get_the_serial_result(learned: bool, ridge: float) -> None:
    problem, options = Problem(), {"maxiter": 8, "ridge": ridge}
    found = quiet(problem.residual(learned), options=options)
    assert all(facts(r) == facts(found) for r in WORLD.allgather(found))
    assert problem.calls == found.evaluations

    # The same iterates, from the dense problem on this rank alone.
    inner = lambda theta: np.tanh(problem.weights @ theta)  # noqa: E731
    outer = lambda field: problem.mixing @ (field + 0.3 * field**2) - problem.data  # noqa: E731
    alone: Any = Composite(inner, outer) if learned else lambda theta: outer(inner(theta))
    expected = quiet(alone, comm=MPI.COMM_SELF, options=options)
    assert expected.iterations == found.iterations > 4
    np.testing.assert_allclose(found.theta, expected.theta, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(
        [i.loss for i in found.history], [i.loss for i in expected.history], rtol=1e-7
    )

    step, h = 1e-6, []
    for e in np.eye(5):  # the gradient that is reported, by differences
        values = []
        for theta in (found.theta + step * e, found.theta - step * e):
            misfit = np.sum((problem.serial(theta) - problem.data) ** 2)
            values.append(misfit + ridge * np.sum((theta - START) ** 2))
        h.append((values[0] - values[1]) / (2 * step))
    assert found.gradient_norm == pytest.approx(np.linalg.norm(h), rel=1e-3, abs=1e-7)


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("learned", [False, True])
def test_a_run_that_failed_on_one_rank_continues_bit_for_bit(
    learned: bool, directory: Path
) -> None:
    state = directory / "run.npz"
    expected = quiet(Problem().residual(learned))
    for k in (0, 5):
        with pytest.raises(ArithmeticError, match="no convergence"):
            quiet(Problem(k).residual(learned), state=state, every=2)
        found = quiet(Problem().residual(learned), state=state, every=2, resume=True)
        assert facts(found) == facts(expected)
        WORLD.Barrier()


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("learned", [False, True])
def test_an_exception_in_the_callback_releases_all_ranks(learned: bool) -> None:
    def callback(iteration: Any, theta: Any) -> None:
        if iteration.iteration == 2:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        quiet(Problem().residual(learned), callback=callback)
    WORLD.Barrier()


@pytest.mark.parallel([1, 2, 3])
def test_unfit_residuals_raise_on_all_ranks() -> None:
    problem, last = Problem(), RANK == SIZE - 1
    with pytest.raises(FloatingPointError, match="the misfit is inf at evaluation 0"):
        quiet(lambda theta: problem.residual(False)(theta) * (np.inf if last else 1.0))
    with pytest.raises(TypeError, match="the function returned a float"):
        quiet(lambda theta: 3.0 if last else theta)
    if SIZE > 1:
        with pytest.raises(TypeError, match="the residual is a Composite on some ranks only"):
            quiet(problem.residual(last))
    WORLD.Barrier()


@pytest.mark.parallel([2, 3])
def test_a_state_of_other_parts_is_refused_on_all_ranks(directory: Path) -> None:
    state = directory / "run.npz"
    quiet(Problem().residual(True), state=state)
    WORLD.Barrier()
    longer = {"options": {"maxiter": 10}, "resume": True, "state": state}
    if RANK == 0:  # parts cut elsewhere
        with np.load(state) as archive:
            arrays = dict(archive)
        arrays["left_counts"] += np.array([1, *[0] * (SIZE - 2), -1])
        np.savez(state, **arrays)
    WORLD.Barrier()
    with pytest.raises(StateError, match=r"rank \d: minimize: the state is of \d+ residuals"):
        quiet(Problem().residual(True), **longer)
    if RANK == 0:  # of another number of ranks
        for name in ("left_counts", "right_counts"):
            arrays[name] = np.append(arrays[name], 0)
        np.savez(state, **arrays)
    WORLD.Barrier()
    with pytest.raises(StateError, match=f"the state is of {SIZE + 1} ranks, expected {SIZE}"):
        quiet(Problem().residual(True), **longer)
    WORLD.Barrier()
