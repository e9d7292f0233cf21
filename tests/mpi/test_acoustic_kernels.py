"""The acoustic steps on several ranks against those on one, on grids small enough to interpret."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

from adjoint import Tape
from adjoint.comm import CartesianGrid, GatherField
from adjoint.solvers import AcousticWave
from tests.plain_layers import DT, FREQUENCY, SPEED, WIDTH

pytestmark = [
    pytest.mark.filterwarnings("ignore:AcousticWave. .* nodes for the shortest"),
    pytest.mark.timeout(300),  # the first test may have to wait for the compiler
]

SPACING, STEPS = (10.0, 12.0), 5
#: By the axis that is shared out, a grid and points near the borders of two ranks and of three: one
#: with room for three steps in a sweep on two ranks, and for two on three; one in which rows of two
#: ranks have no columns without use at the end.
GRIDS: dict[int, tuple[tuple[int, int], dict[str, Any]]] = {
    0: ((75, 9), {"sources": [[[366.0, 51.5]], [[243.0, 60.0]]],
                  "receivers": [[365.0, 50.0], [508.0, 55.0], [90.0, 60.0]]}),
    1: ((9, 24), {"sources": [[[41.0, 51.5]], [[40.0, 136.0]]],
                  "receivers": [[50.0, 93.0], [50.0, 142.0], [41.0, 55.0]]}),
}  # fmt: skip
SETTINGS: dict[str, dict[str, Any]] = {
    "layers on all sides": {},
    "free surface": {"free_surface": True, "pml_sides": ("bottom", "right")},
    "two layers, second order": {"pml_sides": ("top", "left"), "order": 2},
    "no layers": {"pml_sides": ()},
}


def results_of(comm: MPI.Comm, axis: int, **settings: Any) -> list[Any]:
    """Return the whole traces, and the gradients of half of their energy."""
    shape, places = GRIDS[axis]
    grid = CartesianGrid(shape, comm, (comm.size, 1) if axis == 0 else (1, comm.size))
    layers = {"pml_velocity": SPEED, "pml_frequency": FREQUENCY, "pml_width": WIDTH}
    wave = AcousticWave(grid, SPACING, DT, STEPS, **{**places, **layers, **settings})
    random = np.random.default_rng(3)
    patch = tuple(map(slice, grid.start, grid.stop))
    velocity = 2000 + 800 * random.random(shape)[patch]
    wavelets = 1e3 * random.standard_normal((2, 1, STEPS))
    initial = (field[patch] for field in random.standard_normal((2, *shape)))
    with Tape(comm=comm) as tape:
        watched = [tape.watch(x) for x in (velocity, wavelets, *initial)]
        traces = wave(*watched)
    of_velocity, of_wavelets, *of_initial = tape.vjp([traces], [traces.value], watched)
    whole = np.zeros((2, 3, STEPS))
    for index, part in comm.allgather((wave.receivers, traces.value)):
        whole[:, index] = part
    fields = [comm.bcast(GatherField(grid)(field)) for field in (of_velocity, *of_initial)]
    # Each rank has its own copy of the wavelets, and a gradient for it.
    return [whole, comm.allreduce(of_wavelets), *fields]


@pytest.mark.parallel([2, 3])
@pytest.mark.parametrize("axis", GRIDS)
@pytest.mark.parametrize("name", SETTINGS)
def test_ranks_take_the_steps_of_one(name: str, axis: int) -> None:
    results = [results_of(comm, axis, **SETTINGS[name]) for comm in (MPI.COMM_WORLD, MPI.COMM_SELF)]
    for found, expected in zip(*results, strict=True):
        assert np.abs(expected).max() > 0
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())
