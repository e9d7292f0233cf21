"""Minimisation on several ranks: one result, one error, and no rank left behind."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.optimize
from mpi4py import MPI

from adjoint import Operator, Tape, Variable, agreed, communicator
from adjoint.optimize import Iteration, Result, StateError, minimize
from tests.minimisations import facts

WORLD = MPI.COMM_WORLD
RANKS = [1, 2, 3, 4]
START = np.linspace(-1.0, 1.5, 6)


class SumToRoot(Operator):
    """Sum of all ranks' values, valid on rank 0 (nan elsewhere); its transpose is a broadcast."""

    needs_inputs = ()
    needs_outputs = ()
    communicates = True

    def __init__(self, comm: MPI.Comm) -> None:
        self.comm = comm

    def forward(self, x: Any) -> Any:
        total = np.full(np.shape(x), np.nan)
        self.comm.Reduce(np.ascontiguousarray(x), total, MPI.SUM, 0)
        return total

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        return self.forward(tangents[0])

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        w = np.array(cotangents[0])
        self.comm.Bcast(w, 0)
        return (w,)


class Distributed:
    """``½‖A θ − d‖² + Rosenbrock``, its rows and terms dealt to the ranks."""

    def __init__(self, comm: MPI.Comm = WORLD, fail_at: int | None = None) -> None:
        generator = np.random.default_rng(5)
        self.matrix = generator.standard_normal((11, START.size))
        self.data = generator.standard_normal(11)
        self.comm = communicator(comm)
        self.rows = slice(comm.rank, None, comm.size)
        self.calls = 0
        self.fail_at = fail_at

    def __call__(self, x: Variable) -> Any:
        with agreed(self.comm):
            if self.calls == self.fail_at and self.comm.rank == self.comm.size - 1:
                raise ArithmeticError("no convergence")
        self.calls += 1
        residual = self.matrix[self.rows] @ x - self.data[self.rows]
        valley = 10 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2
        weight = np.zeros(START.size - 1)
        weight[self.rows] = 1
        return SumToRoot(self.comm)((residual**2).sum() / 2 + (weight * valley).sum())

    def serial(self, x: Any) -> tuple[float, Any]:
        """Value and gradient, written out."""
        residual = self.matrix @ x - self.data
        bend, slack = x[1:] - x[:-1] ** 2, 1 - x[:-1]
        gradient = self.matrix.T @ residual
        gradient[1:] += 20 * bend
        gradient[:-1] += -40 * bend * x[:-1] - 2 * slack
        return (residual**2).sum() / 2 + (10 * bend**2 + slack**2).sum(), gradient


def quiet(misfit: Any, method: str = "L-BFGS-B", **kwargs: Any) -> Result:
    arguments = {"theta0": START, "options": {"maxiter": 12}, "progress": False, **kwargs}
    return minimize(misfit, arguments.pop("theta0"), method, **arguments)


class Refused(Exception):
    """A point has no misfit."""


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("method", ["L-BFGS-B", "Gauss-Newton"])
def test_a_trial_is_rejected_on_all_ranks_where_one_rejects_it(method: str) -> None:
    comm = communicator()
    scales = np.array([1.0, 10.0, 100.0])
    mine = np.arange(scales.size) % comm.size == comm.rank  # none, on the fourth
    refused = []

    def misfit(x: Variable) -> Any:
        with agreed(comm):
            if x.value[mine].min(initial=1.0) <= 0:
                refused.append(x.value)
                raise Refused("there is no logarithm")
        own = scales[mine] * x[mine]
        if method == "Gauss-Newton":
            return np.log(own)
        return SumToRoot(comm)((own - np.log(own)).sum())

    options = {"maxiter": 30}
    found = quiet(misfit, method, theta0=np.full(3, 0.5), options=options, reject=Refused)
    assert comm.allreduce(len(refused)) > 0
    np.testing.assert_allclose(scales * found.theta, 1, rtol=1e-6)
    if comm.size > 1:
        with pytest.raises(ValueError, match="rank 1: minimize: reject is given on some ranks"):
            quiet(misfit, method, reject=() if comm.rank else Refused)


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("method", ["L-BFGS-B", "CG", "SLSQP"])
def test_iterates_are_those_of_a_serial_run(method: str) -> None:
    iterates: list[Any] = []
    expected: list[Any] = []
    misfit = Distributed()
    options = {"maxiter": 5, "ftol" if method == "SLSQP" else "gtol": 1e-14}
    found = quiet(misfit, method, options=options, callback=lambda _, theta: iterates.append(theta))
    if method == "L-BFGS-B":
        options = {**options, "maxcor": 50, "ftol": 0.0}
    reference = scipy.optimize.minimize(
        misfit.serial,
        START,
        jac=True,
        method=method,
        options=options,
        callback=lambda x: expected.append(np.array(x)),
    )
    assert len(iterates) == (len(expected) + 1 if WORLD.rank == 0 else 0)
    if WORLD.rank == 0:
        np.testing.assert_allclose(iterates[1:], expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.theta, reference.x, rtol=1e-9, atol=1e-9)
    assert found.value == pytest.approx(reference.fun, rel=1e-9)
    assert misfit.calls == found.evaluations == reference.nfev


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("method", ["L-BFGS-B", "Adam"])
def test_all_ranks_get_the_same_result(method: str) -> None:
    results = WORLD.allgather(quiet(Distributed(), method))
    assert all(facts(r) == facts(results[0]) for r in results)
    assert all(r.history == results[0].history for r in results)
    assert results[0].history[-1].loss < results[0].history[0].loss
    misfit = Distributed()
    value, gradient = misfit.serial(results[0].theta)
    assert results[0].value == pytest.approx(value, rel=1e-12)
    assert results[0].gradient_norm == pytest.approx(np.linalg.norm(gradient), rel=1e-6)


@pytest.mark.parallel(RANKS)
def test_only_the_arguments_of_rank_0_count() -> None:
    whole = quiet(Distributed())
    if WORLD.rank == 0:
        found = minimize(Distributed(), START, options={"maxiter": 12}, progress=False)
    else:
        found = minimize(Distributed(), None, "no such method", every=0, resume=True)
    assert facts(found) == facts(whole)


@pytest.mark.parallel(RANKS)
def test_a_misfit_that_broadcasts_theta_itself() -> None:
    class Bcast(SumToRoot):
        def forward(self, x: Any) -> Any:
            y = np.array(x)
            self.comm.Bcast(y, 0)
            return y

        def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
            w = np.zeros_like(cotangents[0])
            self.comm.Reduce(np.ascontiguousarray(cotangents[0]), w, MPI.SUM, 0)
            return (w,)

    inner = Distributed()
    found = quiet(lambda x: inner(Bcast(inner.comm)(x)))
    assert facts(found) == facts(quiet(Distributed()))


@pytest.mark.parallel([2, 3])
def test_a_loss_that_all_ranks_hold_counts_once() -> None:
    def misfit(x: Variable) -> Any:
        return ((x - 2) ** 2).sum() * (1.0 if WORLD.rank == 0 else np.pi)

    found = quiet(misfit)
    np.testing.assert_allclose(found.theta, 2)
    start = found.history[0]
    assert start.gradient_norm == pytest.approx(np.linalg.norm(2 * (START - 2)))


@pytest.mark.parallel([3, 4])
def test_ranks_in_two_groups_minimise_side_by_side() -> None:
    group = WORLD.Split(WORLD.rank % 2, WORLD.rank)
    shift = WORLD.rank % 2

    def misfit(x: Variable) -> Any:
        return SumToRoot(communicator(group))(((x - shift) ** 2).sum())

    with Tape():  # what the user records stays apart
        found = quiet(misfit, comm=group)
    np.testing.assert_allclose(found.theta, shift, atol=1e-12)
    group.Free()


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"theta0": np.array([1.0, np.inf])}, ValueError, "theta0 has entries that are not finite"),
        ({"theta0": np.arange(3)}, TypeError, "theta0 has dtype int64"),
        ({"theta0": np.zeros((2, 0))}, ValueError, r"theta0 has shape \(2, 0\)"),
        ({"method": "dogleg"}, ValueError, "method 'dogleg', expected one of"),
        ({"bounds": [(0, 1)]}, ValueError, r"bounds have shape \(1, 2\), expected \(6, 2\)"),
        ({"options": {"nonsense": 1}}, ValueError, "Unknown solver options: nonsense"),
        ({"state": "/missing/run.npz"}, FileNotFoundError, "cannot be written"),
    ],
)
def test_unfit_arguments_raise_on_all_ranks(
    arguments: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=f"minimize: .*{message}"):
        quiet(Distributed(), **arguments)
    WORLD.Barrier()


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("where", [0, -1])
def test_an_unfit_misfit_on_one_rank_raises_on_all(where: int) -> None:
    faulty = WORLD.rank == where % WORLD.size

    def wrong(x: Variable) -> Any:
        return 3.0 if faulty else (x**2).sum()

    with pytest.raises(TypeError, match="misfit returned a float, expected a Variable"):
        quiet(wrong)
    with pytest.raises(ValueError, match=r"misfit has shape \(6,\), expected a scalar"):
        quiet(lambda x: x if faulty else (x**2).sum())
    with pytest.raises(TypeError, match="misfit is a str, expected a function"):
        quiet("misfit" if faulty else wrong)
    WORLD.Barrier()


class Unusual(Exception):
    """Not made from one message."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("at", [0, 3])
def test_an_exception_in_the_callback_releases_all_ranks(at: int) -> None:
    class Local(Exception):
        """Cannot be sent."""

    cases: list[tuple[BaseException, type[BaseException], str]] = [
        (RuntimeError("enough"), RuntimeError, "enough"),
        (KeyboardInterrupt("typed"), KeyboardInterrupt, "typed"),
        (Local("here"), RuntimeError, "here"),
        (Unusual(1, 2), RuntimeError, "1 and 2"),
        (SystemExit(7), SystemExit, "7"),
    ]
    for error, kind, message in cases:

        def callback(iteration: Iteration, theta: Any, error: BaseException = error) -> None:
            if iteration.iteration == at:
                raise error

        with pytest.raises(BaseException, match=message) as caught:
            quiet(Distributed(), callback=callback)
        if WORLD.rank == 0:
            assert caught.value is error
        else:
            assert type(caught.value) is kind
            if kind is not SystemExit:
                assert "rank 0: " in str(caught.value) or "Unusual: rank 0" in str(caught.value)
            else:
                assert caught.value.code == 7  # type: ignore[attr-defined]
    WORLD.Barrier()


@pytest.mark.parallel([1, 2, 3])
def test_an_exception_in_the_method_releases_all_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(fun: Any, x0: Any, **kwargs: Any) -> None:
        fun(x0)
        raise MemoryError("no room")

    monkeypatch.setattr(scipy.optimize, "minimize", broken)
    with pytest.raises(MemoryError, match="no room"):
        quiet(Distributed())
    WORLD.Barrier()


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("method", ["L-BFGS-B", "Adam"])
def test_an_agreed_exception_of_the_misfit_leaves_the_state_intact(
    method: str, directory: Path
) -> None:
    state = directory / "run.npz"
    whole = quiet(Distributed(), method)
    for k in range(whole.evaluations):
        with pytest.raises(ArithmeticError, match="no convergence"):
            quiet(Distributed(fail_at=k), method, state=state, every=100)
        misfit = Distributed()
        found = quiet(misfit, method, state=state, every=100, resume=True)
        assert facts(found) == facts(whole)
        assert misfit.calls == whole.evaluations - k
        WORLD.Barrier()
        if WORLD.rank == 0:
            os.remove(state)
        WORLD.Barrier()


@pytest.mark.parallel([1, 2, 3])
def test_a_misfit_that_is_not_finite_raises_on_all_ranks(directory: Path) -> None:
    state = directory / "run.npz"
    inner = Distributed()

    def misfit(x: Variable) -> Any:
        scale = np.inf if inner.calls == 4 else 1.0
        return inner(x) * scale

    with pytest.raises(FloatingPointError, match="the misfit is inf at evaluation 4, after"):
        quiet(misfit, state=state, every=100)
    WORLD.Barrier()
    with np.load(state) as archive:
        assert len(archive["evaluations"]) == 4


@pytest.mark.parallel([1, 2, 3])
def test_unfit_state_files_raise_on_all_ranks(directory: Path) -> None:
    state = directory / "run.npz"
    quiet(Distributed(), state=state)
    content = state.read_bytes()
    for change in ({"method": "CG"}, {"options": {"maxcor": 4}}, {"theta0": np.zeros(4)}):
        with pytest.raises(StateError, match=f"minimize: state file {state} has .*, expected"):
            quiet(Distributed(), state=state, resume=True, **change)
    WORLD.Barrier()
    if WORLD.rank == 0:
        state.write_bytes(content[:-100])
    WORLD.Barrier()
    with pytest.raises(StateError, match=f"minimize: state file {state} is damaged"):
        quiet(Distributed(), state=state, resume=True)
    assert state.read_bytes() == content[:-100]


@pytest.mark.parallel([1, 2, 3])
def test_a_full_disk_raises_on_all_ranks(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = directory / "run.npz"
    calls = []

    def full(source: str, target: str) -> None:
        calls.append(source)
        if len(calls) > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.rename(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match=r"cannot be written: No space left on device: .*run\.npz"):
        quiet(Distributed(), state=state, every=1)
    monkeypatch.undo()
    WORLD.Barrier()
    assert os.listdir(state.parent) == ["run.npz"]
    WORLD.Barrier()  # before rank 0 tries whether it can write
    found = quiet(Distributed(), state=state, every=1, resume=True)
    assert facts(found) == facts(quiet(Distributed()))


@pytest.mark.parallel([1, 2, 3])
def test_only_rank_0_prints_and_calls_back(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[Iteration] = []
    found = quiet(
        Distributed(),
        options={"maxiter": 3},
        progress=True,
        callback=lambda iteration, _: seen.append(iteration),
    )
    lines = capsys.readouterr().out.splitlines()
    if WORLD.rank == 0:
        assert tuple(seen) == found.history
        assert [line.split()[1] for line in lines] == ["0", "1", "2", "3"]
    else:
        assert (seen, lines) == ([], [])


@pytest.mark.parallel([1, 2, 3])
def test_memory_is_that_of_the_largest_rank() -> None:
    import resource

    before = WORLD.allreduce(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, MPI.MAX)
    found = quiet(Distributed(), options={"maxiter": 1})
    after = WORLD.allreduce(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, MPI.MAX)
    assert before * 1024 <= found.history[0].memory <= found.history[-1].memory <= after * 1024
