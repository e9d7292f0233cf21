"""The elastic steps on several ranks against those on one, on grids small enough to interpret."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from mpi4py import MPI

from tests.small_elastic import SETTINGS, scaled, wave_of
from tests.waves_on_ranks import LOOPS, assert_same, whole_results

pytestmark = [
    pytest.mark.filterwarnings("ignore:ElasticWave. .* nodes for the shortest"),
    pytest.mark.timeout(300),  # the first test may have to wait for the compiler
]

STEPS = 5
#: A grid, the axis that is shared out, and points near the borders of two ranks and of three: one
#: with room for three steps in a sweep on the first of two ranks, for two on the second and on two
#: of three, and a point on a row of half points; one in which rows of two ranks have no columns
#: without use at the end; and one with fewer rows than columns.
GRIDS: dict[str, tuple[tuple[int, int], int, dict[str, Any]]] = {
    "rows": ((47, 9), 0, {
        "sources": [[[41.0, 51.5], [236.0, 60.0]], [[236.0, 60.0], [237.0, 50.0]]],
        "receivers": [[168.0, 50.0], [245.0, 60.0], [50.0, 55.0]],
    }),
    "columns": ((9, 24), 1, {
        "sources": [[[41.0, 51.5], [40.0, 136.0]], [[40.0, 136.0], [41.0, 90.0]]],
        "receivers": [[50.0, 93.0], [50.0, 142.0], [41.0, 55.0]],
    }),
    "short rows": ((12, 14), 0, {
        "sources": [[[41.0, 51.5]], [[66.0, 60.0]]],
        "receivers": [[58.0, 60.0], [70.0, 81.0], [50.0, 55.0]],
    }),
}  # fmt: skip
#: Layers that other ranks' rows or columns belong to, and points between them.
WIDE: dict[str, dict[str, Any]] = {
    "rows": {
        "pml_sides": ("top", "bottom"), "pml_width": 19,
        "sources": [[[206.0, 51.5]], [[236.0, 60.0]]],
        "receivers": [[215.0, 50.0], [245.0, 60.0], [226.0, 55.0]],
    },
    "columns": {
        "pml_sides": ("left", "right"), "pml_width": 9,
        "sources": [[[41.0, 136.0]], [[40.0, 150.0]]],
        "receivers": [[50.0, 113.0], [50.0, 142.0], [41.0, 160.0]],
    },
}  # fmt: skip


def results_of(comm: MPI.Comm, name: str, **settings: Any) -> list[Any]:
    shape, axis, places = GRIDS[name]
    settings = {**places, **settings}
    dims = (comm.size, 1) if axis == 0 else (1, comm.size)
    wave, inputs = wave_of(STEPS, shape, comm, dims, **settings)
    return whole_results(wave, partial(scaled, wave), inputs)


def assert_ranks_are_as_one(grid: str, loop: str, **settings: Any) -> None:
    """Also where one rank keeps what the others take back or compute once more."""
    many = results_of(MPI.COMM_WORLD, grid, **LOOPS[loop], **settings)
    one = results_of(MPI.COMM_SELF, grid, **settings)
    assert_same(many, one)


@pytest.mark.parallel([2, 3])
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", SETTINGS)
def test_ranks_take_the_steps_of_one(name: str, grid: str, loop: str) -> None:
    assert_ranks_are_as_one(grid, loop, **SETTINGS[name])


@pytest.mark.parallel([2, 3])
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("grid", WIDE)
def test_layers_across_borders(grid: str, loop: str) -> None:
    assert_ranks_are_as_one(grid, loop, **WIDE[grid])
