"""Minimisation over a distributed field whose misfit rejects points that the search tries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

from adjoint import Variable, agreed
from adjoint.comm import Allreduce, CartesianGrid
from adjoint.optimize import Result
from adjoint.solvers import minimize_field, petsc
from tests.minimisations import facts

WORLD = MPI.COMM_WORLD
RANKS = [1, 2, 3]
SCALES = np.logspace(0, 1, 5)


class Refused(Exception):
    """A point has no misfit."""


class Logarithm:
    """``Σ (c x − ln x)``, least at ``1 / c``, of positive ``x``; one rank says that it is not."""

    def __init__(self, comm: MPI.Comm = WORLD) -> None:
        self.grid = CartesianGrid(SCALES.shape, comm)
        self.scales = SCALES[self.grid.patch_slices(self.grid.rank)]
        self.total = Allreduce(comm)
        self.refused = self.calls = 0

    def __call__(self, x: Variable) -> Any:
        self.calls += 1
        with agreed(self.grid.comm):
            if x.value.min() <= 0:
                self.refused += 1
                raise Refused("there is no logarithm")
        return self.total((self.scales * x - np.log(x)).sum())


def quiet(misfit: Any, problem: Logarithm, **kwargs: Any) -> Result:
    arguments = {"options": {"maxiter": 60, "gtol": 1e-6}, "reject": Refused, **kwargs}
    start = arguments.pop("start", np.full(problem.grid.patch_shape, 0.5))
    return minimize_field(misfit, start, problem.grid, progress=False, **arguments)


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("bounds", [None, (-1.0, np.where(SCALES > 5, 0.5, 0.4))])
def test_a_trial_is_rejected_on_all_ranks_where_one_rejects_it(bounds: Any) -> None:
    points = []
    for comm in (WORLD, MPI.COMM_SELF):
        problem = Logarithm(comm)
        own = problem.grid.patch_slices(problem.grid.rank)
        limits = bounds and (bounds[0], bounds[1][own])
        seen: list[Any] = []
        found = quiet(problem, problem, bounds=limits,
                      callback=lambda _, x, seen=seen: seen.append(x))  # fmt: skip
        refused = problem.grid.comm.allreduce(problem.refused)
        assert 0 < refused < found.evaluations == problem.calls < 4 * found.iterations
        expected = 1 / SCALES if bounds is None else np.minimum(1 / SCALES, bounds[1])
        np.testing.assert_allclose(found.theta, expected[own], rtol=1e-5)
        assert all(np.isfinite(i.loss) for i in found.history)
        points.append((np.array(seen), own))
    (steps, own), (whole, _) = points
    np.testing.assert_allclose(steps[:6], whole[:6, own[0]], rtol=1e-8)


@pytest.mark.parallel(RANKS)
def test_where_zero_is_does_not_matter() -> None:
    """A search turns back by how far a rejected trial is, and not by where."""
    runs = []
    for shift in (0.0, 64.0):
        problem, seen = Logarithm(), []
        start = np.full(problem.grid.patch_shape, 0.5 + shift)
        found = quiet(
            lambda x, c=shift, problem=problem: problem(x - c), problem, start=start,
            callback=lambda _, x, c=shift, seen=seen: seen.append(x - c),
        )  # fmt: skip
        assert problem.grid.comm.allreduce(problem.refused) > 0
        assert found.success
        runs.append(np.array(seen[:6]))
    np.testing.assert_allclose(*runs, rtol=1e-9)


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("what", ["misfit", "gradient"])
def test_what_is_not_finite_may_be_rejected(what: str) -> None:
    problem = Logarithm()

    def misfit(x: Any) -> Any:
        if what == "misfit":
            return problem.total((problem.scales * x - np.log(x)).sum())
        # Of x < 0 the root is 0, and its derivative 0 · ∞.
        return problem.total((problem.scales * x - 2 * np.sqrt(np.maximum(x, 0.0))).sum())

    with np.errstate(divide="ignore", invalid="ignore"):
        found = quiet(misfit, problem, reject=FloatingPointError)
        with pytest.raises(FloatingPointError, match=f"the {what} is "):
            quiet(misfit, problem, reject=())
    power = 1 if what == "misfit" else 2
    np.testing.assert_allclose(problem.scales**power * found.theta, 1, rtol=1e-5)


@pytest.mark.parallel(RANKS)
def test_a_run_with_rejected_trials_continues(directory: Path) -> None:
    state = directory / "run.npz"
    problem = Logarithm()
    whole = quiet(problem, problem, options={"maxiter": 8})
    for end in (1, 4):
        quiet(problem, problem, options={"maxiter": end}, state=state)
        problem.refused = 0
        found = quiet(problem, problem, options={"maxiter": 8}, state=state, resume=True)
        assert end > 1 or WORLD.allreduce(problem.refused) > 0
        assert facts(found) == facts(whole)
        WORLD.Barrier()


@pytest.mark.parallel(RANKS)
def test_no_search_ends_where_the_misfit_rejects() -> None:
    problem = Logarithm()

    def misfit(x: Any) -> Any:  # the slope changes little before the edge
        with agreed(WORLD):
            if x.value.max() >= -92:
                raise Refused
        return problem.total((x**2 / 2 - 1e-3 * np.log(-92 - x)).sum())

    start = np.full(problem.grid.patch_shape, -100.0)
    found = quiet(misfit, problem, start=start, options={"maxiter": 30})
    np.testing.assert_allclose(found.theta, -92.00001, atol=1e-4)


@pytest.mark.parallel(RANKS)
def test_unfit_rejections_raise_on_all_ranks() -> None:
    problem = Logarithm()
    last = WORLD.rank == WORLD.size - 1
    with pytest.raises(ValueError, match=r"minimize_field: the misfit rejects theta0: .*logarithm"):
        quiet(problem, problem, start=np.full(problem.grid.patch_shape, -1.0 if last else 1.0))
    with pytest.raises(TypeError, match="minimize_field: reject is 'Refused', expected classes"):
        quiet(problem, problem, reject="Refused" if last else Refused)
    if WORLD.size > 1:
        with pytest.raises(ValueError, match="minimize_field: reject is"):
            quiet(problem, problem, reject=() if last else Refused)


@contextmanager
def option(name: str, value: Any) -> Iterator[None]:
    database = petsc.petsc().Options()
    database[name] = value
    try:
        yield
    finally:
        database.delValue(name)


@pytest.mark.parallel(RANKS)
def test_a_search_that_takes_every_step_takes_none_that_is_rejected() -> None:
    problem = Logarithm()
    with option("minimize_field_tao_ls_type", "unit"):
        found = quiet(problem, problem)
    assert WORLD.allreduce(problem.refused) > 0
    assert (found.theta > 0).all()
    assert np.isfinite(found.value)
    assert found.message.startswith("no lower value was found")
