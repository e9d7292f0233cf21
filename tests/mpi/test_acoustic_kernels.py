"""The acoustic steps on several ranks against those on one, on grids small enough to interpret."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

from adjoint.comm import CartesianGrid
from adjoint.solvers import AcousticWave
from tests.plain_layers import DT, FREQUENCY, SPEED, WIDTH
from tests.waves_on_ranks import LOOPS, assert_same, whole_results

pytestmark = [
    pytest.mark.filterwarnings("ignore:AcousticWave. .* nodes for the shortest"),
    pytest.mark.timeout(300),  # the first test may have to wait for the compiler
]

STEPS = 5
#: Distances of nodes, by the number of axes.
SPACING = {2: (10.0, 12.0), 3: (11.0, 13.0, 12.0)}


def in_space(*shape: int) -> dict[str, Any]:
    """Return points between the layers of a grid in space."""
    sources, receivers = np.split([
        (0.2, 0.6, 0.7), (0.8, 1.0, 0.9),
        (0.3, 0.0, 0.3), (0.5, 0.9, 0.8), (0.9, 0.4, 1.0),
    ], [2])  # fmt: skip
    first, room = np.full(3, WIDTH), np.subtract(shape, 2 * WIDTH + 1)
    at = [np.array(SPACING[3]) * (first + points * room) for points in (sources, receivers)]
    return {"sources": at[0][:, None], "receivers": at[1]}


#: A grid, the axis that is shared out, and points near the borders of two ranks and of three. The
#: first has room for three steps in a sweep on two ranks, and for two on three; in the second, rows
#: of two ranks have no columns without use at the end.
GRIDS: dict[str, tuple[tuple[int, ...], int, dict[str, Any]]] = {
    "rows": ((75, 9), 0, {
        "sources": [[[366.0, 51.5], [243.0, 60.0]], [[243.0, 60.0], [240.0, 50.0]]],
        "receivers": [[365.0, 50.0], [508.0, 55.0], [90.0, 60.0]],
    }),
    "columns": ((9, 24), 1, {
        "sources": [[[41.0, 51.5]], [[40.0, 136.0]]],
        "receivers": [[50.0, 93.0], [50.0, 142.0], [41.0, 55.0]],
    }),
    "planes in space": ((13, 8, 9), 0, in_space(13, 8, 9)),
    "lines in space": ((8, 12, 9), 1, in_space(8, 12, 9)),
    "columns in space": ((8, 9, 14), 2, in_space(8, 9, 14)),
}  # fmt: skip
SETTINGS: dict[str, dict[str, Any]] = {
    "layers on all sides": {},
    "free surface": {"free_surface": True, "pml_sides": ("bottom", "right")},
    "two layers, second order": {"pml_sides": ("top", "left"), "order": 2},
    "no layers": {"pml_sides": ()},
}
#: Layers that other ranks' rows or columns belong to, and points between them.
WIDE: dict[str, dict[str, Any]] = {
    "rows": {
        "pml_sides": ("top", "bottom"), "pml_width": 33,
        "sources": [[[366.0, 51.5]], [[343.0, 60.0]]],
        "receivers": [[365.0, 50.0], [340.0, 55.0], [400.0, 60.0]],
    },
    "columns": {
        "pml_sides": ("left", "right"), "pml_width": 9,
        "sources": [[[41.0, 136.0]], [[40.0, 120.0]]],
        "receivers": [[50.0, 113.0], [50.0, 142.0], [41.0, 160.0]],
    },
}  # fmt: skip
#: Its steps are not taken back.
KEPT = [name for name in LOOPS if "backwards" not in name]


def results_of(comm: MPI.Comm, name: str, **settings: Any) -> list[Any]:
    shape, shared, places = GRIDS[name]
    dims = tuple(comm.size if axis == shared else 1 for axis in range(len(shape)))
    grid = CartesianGrid(shape, comm, dims)
    layers = {"pml_velocity": SPEED, "pml_frequency": FREQUENCY, "pml_width": WIDTH}
    spacing = SPACING[grid.ndim]
    settings = {**places, **layers, **settings}
    wave = AcousticWave(grid, spacing, DT, STEPS, **settings)
    random = np.random.default_rng(3)
    patch = tuple(map(slice, grid.start, grid.stop))
    velocity = 2000 + 800 * random.random(shape)[patch]
    *count, _ = np.shape(settings["sources"])
    wavelets = 1e3 * random.standard_normal((*count, STEPS))
    initial = (field[patch] for field in random.standard_normal((2, *shape)))
    return whole_results(wave, wave, (velocity, wavelets, *initial))


def assert_ranks_are_as_one(grid: str, loop: str, **settings: Any) -> None:
    many = results_of(MPI.COMM_WORLD, grid, **LOOPS[loop], **settings)
    one = results_of(MPI.COMM_SELF, grid, **settings)
    assert_same(many, one)


@pytest.mark.parallel([2, 3])
@pytest.mark.parametrize("loop", KEPT)
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", SETTINGS)
def test_ranks_take_the_steps_of_one(name: str, grid: str, loop: str) -> None:
    assert_ranks_are_as_one(grid, loop, **SETTINGS[name])


@pytest.mark.parallel([2, 3])
@pytest.mark.parametrize("loop", KEPT)
@pytest.mark.parametrize("grid", WIDE)
def test_layers_across_borders(grid: str, loop: str) -> None:
    assert_ranks_are_as_one(grid, loop, **WIDE[grid])
