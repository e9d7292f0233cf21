"""A network whose parameters are distributed over the ranks, as unknowns of the field optimiser."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

from adjoint import Tape
from adjoint.comm import Allgather, Allreduce, Bcast, CartesianGrid, read_field, write_field
from adjoint.comm.blocks import even_parts
from adjoint.nn import MLP
from adjoint.optimize import Result
from adjoint.solvers import minimize_field
from adjoint.testing import dot_test, taylor_test

WORLD = MPI.COMM_WORLD
POINTS = np.random.default_rng(5).uniform(-1, 1, (23, 2))


class Fit:
    """Fit a network to a function; the points are divided, and so are the parameters."""

    def __init__(self, comm: MPI.Comm = WORLD, widths: tuple[int, ...] = (2, 6, 5, 1)) -> None:
        self.network = MLP(widths, chunk=16)
        self.grid = CartesianGrid((self.network.n_parameters,), comm)
        self.gathered, self.total = Allgather(comm), Allreduce(comm)
        whole = self.network.initial(seed=3)
        self.own = self.grid.patch_slices(self.grid.rank)
        self.start = whole[self.own].copy()
        # The last of several ranks has no points, and still parameters.
        counts = even_parts(len(POINTS), max(comm.size - 1, 1)) + (0,) * (comm.size > 1)
        first = sum(counts[: comm.rank])
        self.points = POINTS[first : first + counts[comm.rank]]
        self.data = np.sin(3 * self.points[:, :1]) * self.points[:, 1:]

    def with_whole(self, theta: Any) -> Any:
        return self.total(((self.network(theta, self.points) - self.data) ** 2).sum())

    def misfit(self, share: Any) -> Any:
        return self.with_whole(self.gathered(share))

    def minimised(self, iterations: int, **kwargs: Any) -> Result:
        options = {"maxiter": iterations, "memory": 4}
        return minimize_field(
            self.misfit, self.start, self.grid, options=options, progress=False, **kwargs
        )


@pytest.mark.parallel([1, 2, 3, 4])
def test_a_share_of_the_gradient_is_a_share_of_the_whole() -> None:
    fit = Fit()
    assert WORLD.size < 3 or len(set(fit.grid.counts)) == 2
    with Tape() as tape:
        share = tape.watch(fit.start)
        loss = fit.misfit(share)
    found = tape.gradient(loss, [share])[0]
    assert found.shape == fit.grid.patch_shape

    with Tape() as tape:  # as where the parameters lie on rank 0
        theta = tape.watch(fit.network.initial(seed=3))
        expected_loss = fit.with_whole(Bcast()(theta))
    expected = WORLD.bcast(tape.gradient(expected_loss, [theta])[0])
    assert float(loss) == pytest.approx(float(expected_loss), rel=1e-13)
    np.testing.assert_allclose(found, expected[fit.own], atol=1e-12 * abs(expected).max())

    dot_test(fit.misfit, fit.start)
    assert taylor_test(fit.misfit, fit.start, h=1e-2).min() > 1.95


@pytest.mark.parallel([2, 3])
def test_iterates_are_those_of_one_rank() -> None:
    found = []
    for fit in (Fit(), Fit(MPI.COMM_SELF)):
        steps: list[Any] = []
        fit.minimised(12, callback=lambda _, share, steps=steps: steps.append(share))
        found.append(np.array(steps))
    steps, whole = found
    assert ((whole[-1] - whole[0]) ** 2).sum() > 0.1
    np.testing.assert_allclose(steps, whole[(slice(None), *Fit().own)], rtol=1e-6, atol=1e-7)


@pytest.mark.parallel([1, 3])
def test_a_run_is_continued_and_its_network_is_written(tmp_path: Path) -> None:
    directory = Path(WORLD.bcast(str(tmp_path)))
    whole = Fit().minimised(8)
    Fit().minimised(5, state=directory / "state.npz")
    result = Fit().minimised(8, state=directory / "state.npz", resume=True)
    assert np.array_equal(result.theta, whole.theta)
    assert result.value < 0.5 * result.history[0].loss

    fit, file = Fit(), directory / "theta.npy"
    write_field(file, fit.grid, result.theta)
    if WORLD.rank == 0:
        fit.network.save(directory / "network.npz", np.load(file, mmap_mode="r"))
    WORLD.Barrier()
    network, theta = MLP.load(directory / "network.npz")
    assert network.widths == fit.network.widths
    np.testing.assert_array_equal(theta[fit.own], result.theta)
    np.testing.assert_array_equal(read_field(file, fit.grid), result.theta)


@pytest.mark.parallel([3])
def test_what_lasts_shrinks_with_the_ranks() -> None:
    """The optimiser's vectors do; whole on each are θ and its derivative while it is evaluated."""

    def most(comm: MPI.Comm) -> float:
        fit = Fit(comm, (2, 150, 150, 1))
        fit.minimised(1)  # what is allocated once a process
        gc.collect()
        tracemalloc.start()
        fit.minimised(7)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak / (8 * fit.network.n_parameters)

    alone, together = most(MPI.COMM_SELF), max(WORLD.allgather(most(WORLD)))
    assert together < alone / 3 + 2.5
