"""Steps of Gauss-Newton against dense systems, its options, and runs that are stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import least_squares

from adjoint.optimize import Composite, Result, StateError, minimize
from adjoint.optimize.damped_steps import KrylovSteps, RowSteps
from adjoint.optimize.gauss_newton import _next_forcing
from tests.minimisations import facts

START = np.linspace(-1.0, 1.5, 6)


def matrix(rows: int, columns: int = 6, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal((rows, columns))


def damped(jacobian: Any, residual: Any, damping: float) -> tuple[Any, float]:
    """The step and the fall of the squares, by the dense least squares problem."""
    n = jacobian.shape[1]
    system = np.concatenate([jacobian, np.sqrt(damping) * np.eye(n)])
    step = np.linalg.lstsq(system, -np.concatenate([residual, np.zeros(n)]), rcond=None)[0]
    return step, float(residual @ residual - np.sum((residual + jacobian @ step) ** 2))


@pytest.mark.parametrize("composite", [False, True])
def test_the_ridge_is_a_residual_of_its_own(composite: bool) -> None:
    ridge = 0.3
    options = {"maxiter": 300, "ridge": ridge}
    found = quiet(made(composite)[1], options=options)
    mapping = made(True)[1] if composite else Valley()

    def stacked(x: Any) -> Any:
        return np.concatenate([mapping(x), np.sqrt(ridge) * (x - START)])

    expected = least_squares(stacked, found.theta, xtol=1e-15, gtol=1e-15, ftol=1e-15)
    assert found.value == pytest.approx(np.sum(stacked(found.theta) ** 2), rel=1e-12)
    assert found.value == pytest.approx(2 * expected.cost, rel=1e-8)
    assert found.gradient_norm < 1e-3 * found.history[0].gradient_norm


@pytest.mark.parametrize("rows", [9, 4])
def test_steps_from_the_krylov_space_are_those_of_the_dense_system(rows: int) -> None:
    jacobian, residual = matrix(rows), matrix(rows, 1, seed=1)[:, 0]
    calls = []

    def normal(v: Any) -> Any:
        calls.append(v)
        return jacobian.T @ (jacobian @ v)

    steps = KrylovSteps(normal, jacobian.T @ residual, forcing=1e-14, limit=50)
    for damping in (0.3, 3.0, 1e-2, 0.3):
        step, fall = steps.step(damping)
        expected, expected_fall = damped(jacobian, residual, damping)
        np.testing.assert_allclose(step, expected, rtol=1e-9, atol=1e-11)
        assert fall == pytest.approx(expected_fall, rel=1e-10)
    assert len(calls) == steps.products <= min(rows, 6)  # the space ends where the rows do


@pytest.mark.parametrize("forcing", [0.5, 0.1, 1e-3])
def test_the_krylov_space_grows_until_the_system_is_solved_so_far(forcing: float) -> None:
    jacobian = matrix(40, 30) * np.logspace(0, -3, 30)
    residual = matrix(40, 1, seed=1)[:, 0]
    h, normal = jacobian.T @ residual, jacobian.T @ jacobian
    steps = KrylovSteps(lambda v: normal @ v, h, forcing, limit=30)
    rest = []
    for damping in (10.0, 1e-1, 1e-3, 1e-5):
        step, _ = steps.step(damping)
        rest.append(np.linalg.norm(normal @ step + damping * step + h) / np.linalg.norm(h))
    assert max(rest) <= forcing
    products = steps.products
    assert products < 30
    # One product less would not have done for the last of them.
    shorter = KrylovSteps(lambda v: normal @ v, h, forcing, limit=products - 1)
    step, _ = shorter.step(1e-5)
    assert np.linalg.norm(normal @ step + 1e-5 * step + h) > forcing * np.linalg.norm(h)
    steps.step(20.0)  # a shorter step needs no other product
    assert steps.products == products


def test_steps_of_a_few_rows_are_those_of_the_dense_system() -> None:
    jacobian, b = matrix(4), matrix(4, 1, seed=1)[:, 0]
    offset = matrix(6, 1, seed=2)[:, 0]
    for ridge in (0.0, 0.7):
        steps = RowSteps(lambda: (jacobian, b), offset, ridge)
        system = np.concatenate([jacobian, np.sqrt(ridge) * np.eye(6)])
        residual = np.concatenate([b, np.sqrt(ridge) * offset])
        for damping in (1e-6, 0.3, 30.0):
            step, fall = steps.step(damping)
            expected, expected_fall = damped(system, residual, damping)
            np.testing.assert_allclose(step, expected, rtol=1e-7, atol=1e-9)
            assert fall == pytest.approx(expected_fall, rel=1e-9)


def test_the_forcing_terms_of_eisenstat_and_walker() -> None:
    assert _next_forcing(0.5, 1.0, 0.0, 0.5) == 0.5  # nothing is known at the start
    assert _next_forcing(0.2, 0.2, 2.0, 0.5) == pytest.approx(0.009)
    assert _next_forcing(0.5, 0.2, 2.0, 0.5) == pytest.approx(0.225)  # guarded: 0.9 · 0.5²
    assert _next_forcing(0.2, 5.0, 1.0, 0.5) == 0.5


class Valley:
    """Rosenbrock's residuals; counts its calls, and fails at one of them."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.calls = 0
        self.fail_at = fail_at

    def __call__(self, x: Any) -> Any:
        if self.calls == self.fail_at:
            raise ArithmeticError("stop")
        self.calls += 1
        bend = x[1:] - x[:-1] ** 2
        return np.eye(9, 5) @ (10 * bend) + np.eye(9, 5, -4) @ (1 - x[:-1])  # one is mixed

    def parts(self) -> Composite:
        return Composite(lambda x: np.sin(x) * 2.0, self)


def quiet(residual: Any, theta0: Any = START, **kwargs: Any) -> Result:
    arguments = {"options": {"maxiter": 15}, "progress": False, **kwargs}
    return minimize(residual, theta0, "Gauss-Newton", **arguments)


def made(composite: bool, fail_at: int | None = None) -> tuple[Valley, Any]:
    valley = Valley(fail_at)
    return valley, valley.parts() if composite else valley


def test_the_value_is_the_sum_of_squares_and_the_minimum_that_of_scipy() -> None:
    found = quiet(Valley(), options={"maxiter": 200})
    values = Valley()(START)
    assert found.history[0].loss == pytest.approx(values @ values, rel=1e-14)
    expected = least_squares(Valley(), START, xtol=1e-14, gtol=1e-14)
    assert found.value == pytest.approx(2 * expected.cost, rel=1e-9)  # SciPy halves
    np.testing.assert_allclose(found.theta, expected.x, rtol=1e-4)
    losses = [i.loss for i in found.history]
    assert losses == sorted(losses, reverse=True)


def test_a_linear_residual_takes_one_undamped_step() -> None:
    a, b = matrix(9), matrix(9, 1, seed=1)[:, 0]
    options = {"damping": 1e-14, "forcing": 1e-10, "maxiter": 1}
    found = quiet(lambda x: a @ x - b, options=options)
    np.testing.assert_allclose(found.theta, np.linalg.lstsq(a, b, rcond=None)[0], rtol=1e-8)


def test_the_learned_derivative_finds_the_minimum_of_the_exact_one() -> None:
    _, composite = made(True)
    learned = quiet(composite, options={"maxiter": 400})
    exact = quiet(lambda x: composite(x), options={"maxiter": 400})
    assert learned.value == pytest.approx(exact.value, rel=1e-6, abs=1e-20)


def test_what_is_learned_on_the_way_is_broydens_matrix(tmp_path: Path) -> None:
    a, b, state = matrix(9), matrix(9, 1, seed=1)[:, 0], tmp_path / "run.npz"
    composite = Composite(lambda x: np.tanh(x), lambda field: a @ field - b)
    iterates: list[Any] = []
    found = quiet(
        composite, START / 3, state=state, options={"maxiter": 4, "damping": 10.0},
        callback=lambda iteration, theta: iterates.append(theta),
    )  # fmt: skip
    assert found.message == "maxiter iterations were made"
    assert found.evaluations == 5  # no step was refused
    fields = [np.tanh(theta) for theta in iterates]
    learned = np.zeros_like(a)
    for k, field in enumerate(fields):
        if k:
            v = field - fields[k - 1]
            learned += np.outer(a @ v - learned @ v, v) / (v @ v)
        r = a @ field - b
        learned += np.outer(r, a.T @ r - learned.T @ r) / (r @ r)
    with np.load(state) as archive:
        np.testing.assert_allclose(archive["left"].T @ archive["right"], learned, atol=1e-11)


def test_the_memory_bounds_the_rank(tmp_path: Path) -> None:
    state = tmp_path / "run.npz"
    quiet(made(True)[1], options={"maxiter": 12, "memory": 3}, state=state)
    with np.load(state) as archive:
        assert archive["left"].shape == (3, 9)
        assert archive["right"].shape == (3, 6)
        np.testing.assert_allclose(archive["left"] @ archive["left"].T, np.eye(3), atol=1e-12)


@pytest.mark.parametrize("composite", [False, True])
@pytest.mark.parametrize("every", [1, 4])
def test_a_run_stopped_at_any_evaluation_continues_bit_for_bit(
    composite: bool, every: int, tmp_path: Path
) -> None:
    valley, residual = made(composite)
    made_at: list[int] = []  # evaluations when an iterate was reported
    limit: Any = {"options": {"maxiter": 6, "ridge": 1e-3}, "every": every}
    whole = quiet(residual, callback=lambda iteration, theta: made_at.append(valley.calls), **limit)
    assert whole.iterations == 6
    # What was learned is kept with every write; all else with every iterate.
    kept = made_at[::every] if composite else made_at
    for k in range(whole.evaluations):
        state = tmp_path / f"{k}.npz"
        with pytest.raises(ArithmeticError, match="stop"):
            quiet(made(composite, k)[1], state=state, **limit)
        valley, residual = made(composite)
        found = quiet(residual, state=state, resume=True, **limit)
        assert facts(found) == facts(whole)
        before = max((calls for calls in kept if calls <= k), default=0)
        again = before > 0  # the point to go on from is evaluated once more
        assert valley.calls == whole.evaluations - before + again


@pytest.mark.parametrize("composite", [False, True])
def test_a_finished_run_is_read_without_the_residual_and_goes_on(
    composite: bool, tmp_path: Path
) -> None:
    state = tmp_path / "run.npz"
    longer = quiet(made(composite)[1], options={"maxiter": 20})
    whole = quiet(made(composite)[1], state=state)
    assert facts(quiet(made(composite, 0)[1], state=state, resume=True)) == facts(whole)
    found = quiet(made(composite)[1], state=state, resume=True, options={"maxiter": 20})
    assert facts(found) == facts(longer)


def test_a_callback_may_stop_the_run(tmp_path: Path) -> None:
    state = tmp_path / "run.npz"

    def stop(iteration: Any, theta: Any) -> None:
        if iteration.iteration == 5:
            raise StopIteration

    found = quiet(made(True)[1], state=state, callback=stop)
    assert found.message == "the callback stopped the run"
    assert facts(quiet(made(True)[1], state=state, resume=True)) == facts(quiet(made(True)[1]))


@pytest.mark.parametrize(
    "change",
    [
        lambda a: {**a, "theta": a["theta"][:-1]},
        lambda a: {k: x for k, x in a.items() if k != "numbers"},
        lambda a: {**a, "left_counts": a["left_counts"] + 1},
        lambda a: {k: x for k, x in a.items() if k != "right_counts"},
    ],
)
def test_a_state_of_another_layout(change: Any, tmp_path: Path) -> None:
    state = tmp_path / "run.npz"
    quiet(made(True)[1], state=state)
    with np.load(state) as archive:
        arrays = dict(archive)
    np.savez(state, **change(arrays))
    with pytest.raises(StateError, match="has another layout"):
        quiet(made(True)[1], state=state, resume=True)


@pytest.mark.parametrize("composite", [False, True])
def test_a_state_of_another_kind_of_residual(composite: bool, tmp_path: Path) -> None:
    state = tmp_path / "run.npz"
    quiet(made(composite)[1], state=state)
    with pytest.raises(StateError, match=f"has composite {composite}, expected {not composite}"):
        quiet(made(not composite)[1], state=state, resume=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nonsense": 1}, "Gauss-Newton has no option nonsense; it has damping,"),
        ({"damping": 0.0}, "damping is 0.0, expected > 0"),
        ({"ridge": -1.0}, "ridge is -1.0, expected 0 or more"),
        ({"forcing": 1.0}, "forcing is 1.0, expected 0 to 1"),
        ({"maxcg": 0}, "maxcg is 0, expected at least 1"),
        ({"memory": 0}, "memory is 0, expected at least 1"),
    ],
)
def test_unfit_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"minimize: .*{message}"):
        quiet(Valley(), options=options)


def test_bounds_are_refused() -> None:
    with pytest.raises(ValueError, match="Gauss-Newton takes no bounds"):
        quiet(Valley(), bounds=[(0, 1)] * 6)


@pytest.mark.parametrize("composite", [False, True])
def test_a_start_that_cannot_be_bettered(composite: bool) -> None:
    zero: Any = Composite(lambda x: x * 1.0, lambda x: x - 1.0)
    found = quiet(zero if composite else (lambda x: zero(x)), np.ones(3))
    assert found.success
    assert found.message == "the gradient is within gtol"
    assert (found.iterations, found.evaluations, found.value) == (0, 1, 0.0)


def test_single_precision_parameters() -> None:
    found = quiet(made(True)[1], START.astype(np.float32), options={"maxiter": 40})
    assert found.theta.dtype == np.float32
    assert found.value < 0.1 * found.history[0].loss
