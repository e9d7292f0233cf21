"""Minimisation over distributed fields: minima, iterates, restarts, errors and signals."""

from __future__ import annotations

import errno
import gc
import os
import signal
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.optimize
from mpi4py import MPI

from adjoint import Operator, Tape, Variable, agreed
from adjoint.comm import Allreduce, CartesianGrid, HaloExchange
from adjoint.optimize import Iteration, Result, StateError
from adjoint.optimize.evaluation import resident
from adjoint.optimize.state import StateFile
from adjoint.solvers import InnerProduct, Tikhonov, minimize_field, petsc
from adjoint.solvers.field_state import checksum
from adjoint.solvers.quasi_newton import LimitedMemory
from tests.minimisations import facts

WORLD = MPI.COMM_WORLD
LAST = WORLD.rank == WORLD.size - 1
SHAPE, SPACING, BOUNDS = (7, 6), 0.2, (0.0, 1.1)


class Problem:
    """``½ Σ w (m + m³/3 − d)² h² + ½ ∫ α |∇m|²`` on a grid; one or several fields."""

    def __init__(
        self, comm: MPI.Comm = WORLD, shape: tuple[int, ...] = SHAPE, fields: int = 0,
        alpha: float = 0.02, spacing: float = SPACING,
    ) -> None:  # fmt: skip
        self.grid = CartesianGrid(shape, comm)
        self.own = (..., *self.grid.patch_slices(self.grid.rank))
        self.halo = HaloExchange(self.grid)
        self.penalty = Tikhonov(self.grid, spacing, alpha)
        self.total = Allreduce(comm)
        x = np.stack(np.meshgrid(*(np.linspace(0, 1, n) for n in shape), indexing="ij"))
        self.data = (np.sin(5 * x[0]) * np.cos(3 * x[-1]) + (x[0] > 0.5))[self.own]
        self.weights = (spacing ** len(shape) * (1 + x[0]))[self.own]
        self.fields, self.calls = fields, 0
        self.fail: tuple[int, Any] = (-1, None)

    @property
    def start(self) -> Any:
        return np.zeros((self.fields,) * bool(self.fields) + self.grid.patch_shape)

    def __call__(self, m: Variable) -> Any:
        if self.calls == self.fail[0]:
            self.fail[1]()
        self.calls += 1
        parts = [m[k] for k in range(self.fields)] or [m]
        share: Any = 0.0
        for number, part in enumerate(parts):
            residual = part + part**3 / 3 - self.data * (1 + number)
            share = share + (self.weights * residual**2).sum() / 2
            share = share + self.penalty(self.halo(part))
        return self.total(share)


def quiet(problem: Problem, **kwargs: Any) -> Result:
    kwargs = {"options": {"maxiter": 9, "memory": 4}, "bounds": BOUNDS, **kwargs}
    return minimize_field(problem, problem.start, problem.grid, progress=False, **kwargs)


@pytest.mark.parallel([1, 3])
@pytest.mark.parametrize("bounds", [None, BOUNDS])
@pytest.mark.parametrize("length", [None, 0.14])
def test_the_minimum_is_that_of_scipy(bounds: Any, length: float | None) -> None:
    problem, alone = Problem(), Problem(MPI.COMM_SELF)
    inner = None if length is None else InnerProduct(problem.grid, SPACING, length)
    options = {"maxiter": 200, "gtol": 1e-7}
    begin = time.perf_counter()
    found = quiet(problem, bounds=bounds, inner=inner, options=options)
    seconds = [0.0, *(i.seconds for i in found.history), time.perf_counter() - begin]
    assert seconds[1] > 0
    if problem.grid.rank == 0:  # whose clock it is
        assert seconds == sorted(seconds)

    def both(x: Any) -> tuple[float, Any]:
        with Tape(comm=MPI.COMM_SELF) as tape:
            m = tape.watch(x.reshape(SHAPE))
            loss = alone(m)
        return float(loss), tape.gradient(loss, [m])[0].ravel()

    expected = scipy.optimize.minimize(
        both, np.zeros(42), jac=True, method="L-BFGS-B", bounds=bounds and [bounds] * 42,
        options={"ftol": 1e-16, "gtol": 1e-12, "maxiter": 1000},
    )  # fmt: skip
    assert found.success
    assert found.message == "the projected gradient is within gtol"
    assert found.value == pytest.approx(expected.fun, rel=1e-9)
    np.testing.assert_allclose(found.theta, expected.x.reshape(SHAPE)[problem.own], atol=1e-5)
    if bounds:
        held = WORLD.allreduce(int(((found.theta == 0) | (found.theta == BOUNDS[1])).sum()))
        assert held > 5
    assert problem.calls == found.evaluations < 3 * found.iterations
    losses = [i.loss for i in found.history]
    assert (np.diff(losses) < 1e-12 * losses[0]).all()
    assert all(r == losses for r in WORLD.allgather(losses))


@pytest.mark.parallel([2, 4])
def test_iterates_are_those_of_one_rank() -> None:
    found = []
    for comm in (WORLD, MPI.COMM_SELF):
        problem = Problem(comm)
        inner = InnerProduct(problem.grid, SPACING, 0.1, rtol=1e-13)
        steps: list[Any] = []
        options = {"maxiter": 4, "memory": 4}
        quiet(problem, inner=inner, options=options,
              callback=lambda _, m, steps=steps: steps.append(m))  # fmt: skip
        found.append((np.array(steps), problem.own))
    (steps, own), (whole, _) = found
    np.testing.assert_allclose(steps, whole[own], rtol=1e-8, atol=1e-8)


@pytest.mark.parallel([1])
@pytest.mark.parametrize("bounds", [None, BOUNDS])
def test_iterations_do_not_grow_with_the_grid_where_directions_are_smooth(bounds: Any) -> None:
    count: dict[str, list[int]] = {"euclidean": [], "smooth": []}
    for n in (10, 20, 40):
        problem = Problem(shape=(n, n), spacing=1 / n)
        smooth = InnerProduct(problem.grid, 1 / n, 0.14)
        for name, inner in (("euclidean", None), ("smooth", smooth)):
            options = {"maxiter": 500, "gtol": 1e-5}
            found = quiet(problem, bounds=bounds, inner=inner, options=options)
            assert found.success
            count[name].append(found.iterations)
    assert count["euclidean"][2] > 2.5 * count["euclidean"][0]
    assert count["smooth"][2] < 1.6 * count["smooth"][0]
    assert count["smooth"][2] < count["euclidean"][2] / 3


@pytest.mark.parallel([1, 3])
@pytest.mark.parametrize("fields", [0, 2])
def test_several_fields_and_a_resumed_run_make_the_same_iterates(
    fields: int, directory: Path
) -> None:
    state = directory / "run.npz"
    lower = -np.ones(Problem().grid.patch_shape)
    inner = InnerProduct(grid := Problem().grid, SPACING, 0.1)

    def run(maxiter: int, **kwargs: Any) -> tuple[Result, int]:
        problem = Problem(fields=fields)
        problem.grid = grid
        options = {"maxiter": maxiter, "memory": 3}
        bounds = (lower, 1.1)
        return quiet(problem, bounds=bounds, inner=inner, options=options, **kwargs), problem.calls

    whole, calls = run(9)
    assert whole.theta.shape == Problem(fields=fields).start.shape
    for end in (2, 6):
        _, before = run(end, state=state, every=3)
        found, after = run(9, state=state, resume=True)
        assert facts(found) == facts(whole)
        assert before + after == calls
        files = {path.name for path in directory.iterdir()}
        assert files in ({"run.npz", f"run.npz.{slot}.npy"} for slot in (0, 1))
        WORLD.Barrier()
    seen: list[int] = []
    found, after = run(9, state=state, resume=True, callback=lambda i, _: seen.append(i.iteration))
    assert (after, seen) == (0, [])
    assert facts(found) == facts(whole)


@pytest.mark.parallel([2, 3])
def test_a_state_continues_on_another_number_of_ranks(directory: Path) -> None:
    state = directory / "run.npz"
    whole = quiet(Problem())
    quiet(Problem(), state=state, options={"maxiter": 5, "memory": 4})
    alone = Problem(MPI.COMM_SELF)
    everything = WORLD.gather((whole.theta, Problem().own))
    if everything is not None:
        found = quiet(alone, state=state, resume=True)
        assert found.value == pytest.approx(whole.value, rel=1e-9)
        assert [i.iteration for i in found.history] == [i.iteration for i in whole.history]
        for part, own in everything:
            np.testing.assert_allclose(found.theta[own], part, rtol=1e-7, atol=1e-8)
    WORLD.Barrier()


@pytest.mark.parallel([2, 3])
def test_an_agreed_exception_of_the_misfit_leaves_it_on_all_ranks(directory: Path) -> None:
    state = directory / "run.npz"
    whole = quiet(Problem())

    def fail() -> None:
        with agreed(WORLD):
            if LAST:
                raise ArithmeticError("no convergence")

    for k in (0, 4, whole.evaluations - 1):
        problem = Problem()
        problem.fail = (k, fail)
        with pytest.raises(ArithmeticError, match="no convergence"):
            quiet(problem, state=state, every=100)
        assert facts(quiet(Problem(), state=state, every=100, resume=True)) == facts(whole)
        WORLD.Barrier()
        if WORLD.rank == 0:
            for path in directory.iterdir():
                path.unlink()
        WORLD.Barrier()


@pytest.mark.parallel([1, 2])
def test_runs_that_fail_leave_no_petsc_objects() -> None:
    def fail() -> None:
        raise ArithmeticError("no convergence")

    def objects() -> int:
        gc.collect()
        quiet(Problem(), options={"maxiter": 1})  # destroys what all ranks have let go of
        return len(petsc.shelf_of(Problem().grid.comm)._objects)

    before = objects()
    for _ in range(3):
        problem = Problem()
        problem.fail = (2, fail)
        with pytest.raises(ArithmeticError):
            quiet(problem)
        del problem
    assert objects() == before


@pytest.mark.parallel([1, 3])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
def test_a_signal_to_one_rank_saves_the_state_and_ends_all(
    number: signal.Signals, directory: Path
) -> None:
    state = directory / "run.npz"
    whole = quiet(Problem())
    problem = Problem()
    problem.fail = (5, lambda: os.kill(os.getpid(), number) if LAST else None)
    former = signal.getsignal(number)
    alone = number == signal.SIGINT and WORLD.size == 1
    with pytest.raises(KeyboardInterrupt if alone else SystemExit) as caught:
        quiet(problem, state=state, every=100)
    assert alone or caught.value.code == 128 + number  # type: ignore[attr-defined]
    assert signal.getsignal(number) is former
    assert problem.calls == 6
    assert facts(quiet(Problem(), state=state, resume=True)) == facts(whole)


@pytest.mark.parallel([1, 3])
def test_a_handler_of_the_callers_finds_the_state_saved(directory: Path) -> None:
    state, found = directory / "run.npz", []
    whole = quiet(Problem())
    problem = Problem()
    problem.fail = (5, lambda: os.kill(os.getpid(), signal.SIGTERM) if LAST else None)
    former = signal.signal(signal.SIGTERM, lambda *_: found.append(state.is_file()))
    try:
        with pytest.raises(SystemExit) as caught:
            quiet(problem, state=state, every=100)
    finally:
        signal.signal(signal.SIGTERM, former)
    assert caught.value.code == 128 + signal.SIGTERM
    assert found == ([True] if LAST else [])
    assert facts(quiet(Problem(), state=state, resume=True)) == facts(whole)


class Uphill(Operator):
    """The identity, with a derivative of the wrong sign."""

    def forward(self, x: Any) -> Any:
        return np.array(x)

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        return (-cotangents[0],)


@pytest.mark.parallel([1, 3])
def test_a_run_that_finds_nothing_lower_ends_where_it_is() -> None:
    problem = Problem()

    def misfit(m: Any) -> Any:
        return problem.total(Uphill()((m - 1.0) ** 2).sum())

    found = minimize_field(misfit, problem.start, problem.grid, progress=False)
    assert not found.success
    assert found.message == "no lower value was found along the gradient (DIVERGED_LS_FAILURE)"
    assert found.iterations == 0
    assert found.evaluations > 2
    assert (found.theta == problem.start).all()


@pytest.mark.parallel([1, 3])
def test_a_search_that_fails_is_repeated_along_the_gradient(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem, asked, apply = Problem(), [], LimitedMemory.apply

    def spied(memory: LimitedMemory, gradient: Any, free: Any, value: float) -> Any:
        asked.append((value, len(memory.pairs)))
        return apply(memory, gradient, free, value)

    def misfit(m: Any) -> Any:
        return problem(m) + (1e6 if len(asked) == 4 else 0.0)  # of the fourth direction no point

    monkeypatch.setattr(LimitedMemory, "apply", spied)
    options = {"maxiter": 200, "gtol": 1e-7}
    found = minimize_field(misfit, problem.start, problem.grid, progress=False, options=options)
    assert asked[3] == (asked[4][0], 3)
    assert asked[4][1] == 0
    assert found.success


@pytest.mark.parallel([1, 3])
@pytest.mark.parametrize("level", [1e6, -1e6])
def test_values_that_differ_by_rounding_alone_are_not_lower(level: float) -> None:
    problem, values = Problem(), []

    def misfit(m: Any) -> Any:
        more = 0.0 if values else np.copysign(1e-9, level)  # a few units in the last place
        value = problem.total(Uphill()((m - 1.0) ** 2).sum()) + (level + more)
        values.append(float(value))
        return value

    found = minimize_field(misfit, problem.start, problem.grid, progress=False)
    assert 0 < abs(values[0] - values[-1]) < 2e-9
    assert not found.success
    assert found.iterations == 0


@pytest.mark.parallel([1, 3])
def test_a_start_beyond_the_bounds_is_put_on_them_and_stays_where_they_meet() -> None:
    problem, seen = Problem(), []
    lower = np.where(problem.data > 0, 0.5, 0.0)
    upper = np.where(problem.data > 0, 0.5, 1.0)
    minimize_field(
        problem, problem.start - 3, problem.grid, bounds=(lower, upper), progress=False,
        options={"maxiter": 3}, callback=lambda _, m: seen.append(m),
    )  # fmt: skip
    np.testing.assert_array_equal(seen[0], lower)
    for m in seen:
        assert ((lower <= m) & (m <= upper)).all()
    assert len(seen) == 4


@pytest.mark.parallel([2, 3])
def test_callbacks_end_the_run_on_all_ranks() -> None:
    def stop(iteration: Iteration, m: Any) -> None:
        if iteration.iteration == 3 and LAST:
            raise StopIteration

    found = quiet(Problem(), callback=stop)
    assert (found.iterations, found.message) == (3, "the callback stopped the run")

    def fail(iteration: Iteration, m: Any) -> None:
        if iteration.iteration == 3 and LAST:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        quiet(Problem(), callback=fail)


@pytest.mark.parallel([1, 3])
def test_neither_callbacks_nor_rounding_of_a_rank_change_a_run() -> None:
    """Ranks go by the misfit of rank 0, and each callback has a field of its own."""
    problem = Problem()

    def rounded(m: Any) -> Any:
        return problem(m) * (1 + WORLD.rank * np.finfo(float).eps)

    def run(misfit: Any, callback: Any = None) -> Result:
        return minimize_field(
            misfit, problem.start, problem.grid, progress=False, callback=callback,
            options={"maxiter": 9}, bounds=BOUNDS,
        )  # fmt: skip

    expected = run(problem)
    for found in (run(problem, lambda _, m: m.fill(7.0)), run(rounded)):
        assert all(history == found.history for history in WORLD.allgather(found.history))
        assert found.value == pytest.approx(expected.value, rel=1e-12)
        np.testing.assert_allclose(found.theta, expected.theta, rtol=1e-9, atol=1e-9)
    most = WORLD.allreduce(resident(), MPI.MAX)  # of a rank, and not of all
    assert 0.5 * most < expected.history[-1].memory < 1.5 * most


@pytest.mark.parallel([1, 3])
def test_unfit_arguments_raise_on_all_ranks() -> None:
    problem = Problem()
    grid, start = problem.grid, problem.start

    def refused(kind: type[Exception], message: str, theta: Any = start, **kwargs: Any) -> None:
        with pytest.raises(kind, match=f"minimize_field: .*{message}"):
            minimize_field(
                kwargs.pop("misfit", problem), theta, grid, progress=False, **kwargs
            )  # fmt: skip

    refused(TypeError, "misfit is a str, expected a function", misfit="a" if LAST else problem)
    refused(TypeError, "theta0 has dtype float32", start.astype(np.float32) if LAST else start)
    refused(ValueError, r"theta0 has shape \(2,\)", np.zeros(2) if LAST else start)
    refused(ValueError, "not finite", start + np.inf if LAST else start)
    refused(ValueError, "bounds are not two numbers", bounds=(0, np.zeros(3)) if LAST else (0, 1))
    refused(ValueError, r"bounds of entry \(0, 0\) are \(2.0, 1.0\)", bounds=(2, 1))
    lower = np.ones(start.shape)
    lower[0, 1] = 2.0
    refused(ValueError, r"bounds of entry \(0, 1\) are \(2.0, 1.0\)", bounds=(lower, 1.0))
    refused(ValueError, "no option maxfun; there are maxiter, memory", options={"maxfun": 3})
    refused(ValueError, "memory is 0", options={"memory": 0})
    refused(ValueError, "every is 0", every=0)
    refused(ValueError, "resume=True without a state file", resume=True)
    refused(ValueError, "inner is of another grid", inner=InnerProduct(Problem().grid, 1.0))
    refused(FileNotFoundError, "state file cannot be written", state="/missing/run.npz")
    refused(TypeError, "misfit returned a float", misfit=lambda m: 3.0 if LAST else problem(m))
    refused(ValueError, "misfit has shape", misfit=lambda m: m)
    refused(TypeError, "metadata.* is a object", state="run", metadata={"a": object()})
    if WORLD.size > 1:
        refused(ValueError, "every is", every=1 if LAST else 2)
    WORLD.Barrier()


@pytest.mark.parallel([2, 3])
def test_what_is_not_finite_on_one_rank_raises_on_all() -> None:
    problem = Problem()
    with pytest.raises(FloatingPointError, match="the misfit is nan at evaluation 0"):
        minimize_field(lambda m: problem(m) * np.nan, problem.start, problem.grid, progress=False)
    with np.errstate(divide="ignore", invalid="ignore"):
        with pytest.raises(FloatingPointError, match="the gradient is not finite at evaluation 0"):
            minimize_field(
                lambda m: problem(m) + Allreduce()((np.sqrt(m) if LAST else m).sum()),
                problem.start, problem.grid, progress=False,
            )  # fmt: skip


@pytest.mark.parallel([3])
def test_unfit_states_raise_on_all_ranks_and_stay(directory: Path) -> None:
    state = directory / "run.npz"
    quiet(Problem(), state=state)
    fields = next(p for p in directory.iterdir() if p.suffix == ".npy")
    content = fields.read_bytes()
    for change, message in [
        ({"options": {"memory": 7}}, r"options\['memory'\] 4, expected 7"),
        ({"bounds": (0, 2)}, "bounds"),
        ({"bounds": None}, "bounds"),
        ({"metadata": {"seed": 1}}, "metadata"),
    ]:
        with pytest.raises(StateError, match=f"minimize_field: state file .* has {message}"):
            quiet(Problem(), state=state, resume=True, **change)
    problem = Problem()
    with pytest.raises(StateError, match="another theta0"):
        minimize_field(problem, problem.start + 1, problem.grid, bounds=BOUNDS, state=state,
                       resume=True, progress=False, options={"memory": 4})  # fmt: skip
    flipped = bytearray(content)
    flipped[-3] ^= 1
    for damaged, message in [
        (bytes(flipped), "are damaged or of another state"),
        (content[:-8], "has no fields beside it that fit"),
        (None, "has no fields beside it that fit"),
    ]:
        WORLD.Barrier()
        if WORLD.rank == 0:
            fields.unlink() if damaged is None else fields.write_bytes(damaged)
        WORLD.Barrier()
        with pytest.raises(StateError, match=f"minimize_field: state file .*{message}"):
            quiet(Problem(), state=state, resume=True)
    WORLD.Barrier()


@pytest.mark.parallel([2])
def test_a_full_disk_raises_on_all_ranks_and_leaves_the_former_state(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = directory / "run.npz"
    calls = []

    def full(source: str, target: str) -> None:
        calls.append(source)
        if len(calls) > 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.rename(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left on device"):
        quiet(Problem(), state=state, every=1)
    monkeypatch.undo()
    WORLD.Barrier()
    assert not [name for name in os.listdir(directory) if name.endswith(".tmp")]
    WORLD.Barrier()
    found = quiet(Problem(), state=state, every=1, resume=True)
    assert facts(found) == facts(quiet(Problem()))


@pytest.mark.parallel([1, 3])
@pytest.mark.parametrize(("maxiter", "slot"), [(8, 0), (9, 1)])
def test_older_fields_that_a_killed_write_leaves_are_no_ones(
    maxiter: int, slot: int, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"maxiter": maxiter, "memory": 4}
    state, fields = directory / "run.npz", directory / f"run.npz.{slot}.npy"
    older = directory / f"run.npz.{1 - slot}.npy"
    whole = quiet(Problem(), state=state, every=4, options=options)

    def leave() -> None:
        """Let it be as if the job had been killed before it removed what has no name any more."""
        if WORLD.rank == 0:
            older.write_bytes(fields.read_bytes()[:-8])
        WORLD.Barrier()

    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    leave()
    with monkeypatch.context() as patch:  # fields are written, and no state that names them
        patch.setattr(StateFile, "write", full)
        with pytest.raises(OSError, match="No space left on device"):
            quiet(Problem(), state=state, options=options)
    WORLD.Barrier()
    leave()
    assert facts(quiet(Problem(), state=state, options=options, resume=True)) == facts(whole)
    WORLD.Barrier()
    assert {path.name for path in directory.iterdir()} == {state.name, fields.name}
    WORLD.Barrier()


@pytest.mark.parallel([1, 3])
def test_a_checksum_knows_places_and_not_ranks() -> None:
    whole = np.random.default_rng(0).standard_normal((2, *SHAPE))
    grid, alone = CartesianGrid(SHAPE), CartesianGrid(SHAPE, comm=MPI.COMM_SELF)
    own = (..., *grid.patch_slices(grid.rank))
    expected = checksum(alone, [whole, whole])
    assert checksum(grid, [whole[own], whole[own]]) == expected
    assert checksum(alone, [whole]) != expected
    for one, other in (((0, 0), (0, 1)), ((0, 0), (1, 0)), ((0, 1), (1, 0))):
        swapped = whole.copy()
        swapped[0][one], swapped[0][other] = whole[0][other], whole[0][one]
        assert checksum(alone, [whole, swapped]) != expected
    assert checksum(alone, [whole, -whole]) != expected
    assert checksum(alone, [whole, whole[::-1]]) != expected


@pytest.mark.parallel([2])
def test_only_rank_0_prints(capsys: pytest.CaptureFixture[str]) -> None:
    problem = Problem()
    minimize_field(problem, problem.start, problem.grid, options={"maxiter": 2})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == (["0", "1", "2"] if WORLD.rank == 0 else [])


@pytest.mark.parallel([4])
def test_memory_of_a_rank_does_not_depend_on_their_number(directory: Path) -> None:
    patch, most = 48, []
    dims = CartesianGrid((2**20, 2**20)).dims
    for comm, blocks in ((MPI.COMM_SELF, (1, 1)), (WORLD, dims)):
        shape = tuple(patch * d for d in blocks)
        problem = Problem(comm, shape, spacing=1 / patch)
        quiet(problem, options={"maxiter": 1})  # what is allocated once
        gc.collect()
        tracemalloc.start()
        quiet(problem, state=directory / f"{comm.size}-{WORLD.rank if comm.size == 1 else 0}.npz",
              options={"maxiter": 6, "memory": 4})  # fmt: skip
        most.append(tracemalloc.get_traced_memory()[1] / (8 * patch**2))
        tracemalloc.stop()
    alone, together = most
    assert together < 1.1 * alone
    assert alone < 2 * 4 + 32  # vectors
