"""What the arguments of wave solvers come to: sides, widths of layers, and layers."""

from __future__ import annotations

from typing import Any

import pytest
from mpi4py import MPI

from adjoint.comm import CartesianGrid
from adjoint.solvers.pml import Layers
from adjoint.solvers.waves import absorbing_layers, free_sides, layer_widths

SPACING, DT = (10.0, 12.0), 1e-3
NONE = (False, False)


@pytest.fixture
def grid() -> CartesianGrid:
    return CartesianGrid((30, 40), MPI.COMM_SELF)


@pytest.mark.parametrize(
    ("sides", "surfaces", "expected"),
    [
        (None, (NONE, NONE), ((5, 5), (5, 5))),
        (("top", "right"), (NONE, NONE), ((5, 0), (0, 5))),
        ("bottom", (NONE, NONE), ((0, 5), (0, 0))),
        (None, ((True, False), (False, True)), ((0, 5), (5, 0))),
        ((), ((True, False), (False, True)), ((0, 0), (0, 0))),
    ],
)
def test_widths_of_layers(grid: CartesianGrid, sides: Any, surfaces: Any, expected: Any) -> None:
    assert layer_widths("wave", grid, 5, sides, surfaces) == expected


def test_free_sides(grid: CartesianGrid) -> None:
    assert free_sides("wave", grid, False) == (NONE, NONE)
    for top in (True, "top", ["top"]):
        assert free_sides("wave", grid, top) == ((True, False), NONE)
    with pytest.raises(ValueError, match="wave: free_surface has 'up', expected of top, bottom"):
        free_sides("wave", grid, "up")
    space = CartesianGrid((5, 6, 7), MPI.COMM_SELF)
    assert free_sides("wave", space, ("top", "back")) == ((True, False), (False, True), NONE)


def test_layers_of_a_wave(grid: CartesianGrid) -> None:
    widths = (5, 6), (0, 7)
    for velocity, frequency, speed, peak in (
        (2500.0, 9.0, 2500.0, 9.0),
        (2400.0, None, 2400.0, 10.0),  # 20 of the wider spacings a wavelength
        (None, 9.0, 1800.0, 9.0),  # half of the greatest velocity
    ):
        found = absorbing_layers("wave", grid, SPACING, DT, widths, velocity, frequency, 3600.0)
        assert found == [
            Layers(30, (5, 6), 10.0, DT, speed, peak), Layers(40, (0, 7), 12.0, DT, speed, peak)
        ]  # fmt: skip
