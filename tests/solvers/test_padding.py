"""How the arrays of a patch lie in memory, and what the wave solvers say of wavelets and layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

from adjoint.comm import CartesianGrid
from adjoint.solvers.padding import Padding, row_pitch
from adjoint.solvers.waves import chosen_sides, highest_frequency, layer_widths, spacings


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("ghost", [2, 3])
@pytest.mark.parametrize("columns", [4, 9, 58, 122, 250])
def test_owned_nodes_begin_at_cache_lines(columns: int, ghost: int, dtype: Any) -> None:
    grid = CartesianGrid((5, columns), MPI.COMM_SELF)
    padding = Padding(grid, ghost, dtype)
    assert padding.vector * np.dtype(dtype).itemsize == 64
    for fields, shape in (
        (padding.fields(2), (2, 5 + 2 * ghost, padding.pitch)),
        (padding.fields(), (5 + 2 * ghost, padding.pitch)),
        (padding.lines(3), (3, padding.pitch)),
    ):
        assert fields.shape == shape
        assert fields.dtype == dtype
        assert not fields.any()
        assert fields.flags.c_contiguous
        first = fields[..., padding.inner[1]]
        assert first.ctypes.data % 64 == 0
        fields[...] = 1  # all of it is there to be written to
        assert padding.cut(fields).shape == (*shape[:-1], columns + 2 * ghost)
    assert padding.fields()[padding.inner].shape == (5, columns)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_made_one_after_the_other_begin_at_different_places(dtype: Any) -> None:
    """A cache of the first level has 64 places for lines: no two of 64 arrays compete for one."""
    padding = Padding(CartesianGrid((5, 9), MPI.COMM_SELF), 2, dtype)
    arrays = [padding.fields() if k % 3 else padding.lines(3) for k in range(64)]
    places = [array.reshape(-1)[2:].ctypes.data % 4096 // 64 for array in arrays]
    assert len({*places}) == 64
    # Nor do the next lines of one with the first of the next one.
    assert all((b - a) % 64 == 5 for a, b in zip(places, places[1:]))


def test_a_padded_patch_in_space() -> None:
    padding = Padding(CartesianGrid((5, 6, 9), MPI.COMM_SELF), 3, np.float64)
    assert padding.shape == (11, 12, 15)
    assert padding.rows == 11 * 12
    field = padding.fields(2)
    assert field.shape == (2, 11, 12, padding.pitch)
    assert field[0][padding.inner].shape == (5, 6, 9)
    assert field[1, 4, 5, 3:].ctypes.data % 64 == 0
    assert padding.cut(field).shape == (2, 11, 12, 15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_are_whole_cache_lines_and_not_a_kilobyte_apart(dtype: Any) -> None:
    size = np.dtype(dtype).itemsize
    for columns in range(1, 700):
        apart = row_pitch(columns, dtype) * size
        assert apart >= columns * size
        assert apart % 64 == 0
        assert apart % 1024 != 0
        # No longer than that takes.
        least = -(-columns * size // 64) * 64
        assert apart == least + 64 * (least % 1024 == 0)


def test_the_highest_frequency_of_wavelets() -> None:
    times = np.arange(1000) * 2e-3
    slow, fast = (np.sin(2 * np.pi * f * times) for f in (10.0, 35.0))
    assert highest_frequency(slow, 2e-3) == pytest.approx(10.0)
    for share, expected in ((0.04, 10.0), (0.06, 35.0)):
        both = slow + share * fast
        assert highest_frequency(both, 2e-3) == pytest.approx(expected)
        # The greatest of all wavelets counts.
        assert highest_frequency(np.stack([slow, share * fast])[None], 2e-3) == pytest.approx(
            expected
        )
    assert highest_frequency(slow + 0.3 * fast, 2e-3, share=0.5) == pytest.approx(10.0)
    assert highest_frequency(np.zeros(50), 2e-3) == 0


def test_widths_of_layers() -> None:
    grid = CartesianGrid((30, 40), MPI.COMM_SELF)
    sides = ("top", "left", "right", "bottom")
    none = ((False, False),) * 2
    assert layer_widths("wave", grid, 5, sides, none) == ((5, 5), (5, 5))
    assert layer_widths("wave", grid, 5, None, none) == ((5, 5), (5, 5))
    assert layer_widths("wave", grid, 5, sides, ((True, False), none[0])) == ((0, 5), (5, 5))
    assert layer_widths("wave", grid, 5, ("top", "right"), none) == ((5, 0), (0, 5))
    assert layer_widths("wave", grid, 5, "left", none) == ((0, 0), (5, 0))
    assert layer_widths("wave", grid, 5, (), none) == ((0, 0), (0, 0))


def test_sides_in_space() -> None:
    grid = CartesianGrid((30, 40, 50), MPI.COMM_SELF)
    free = chosen_sides("wave", "free_surface", grid, ("back", "left"))
    assert free == ((False, False), (False, True), (True, False))
    assert layer_widths("wave", grid, 5, ("top", "back", "right"), free) == ((5, 0), (0, 0), (0, 5))
    with pytest.raises(ValueError, match="free_surface has 'front', expected of top, bottom, left"):
        chosen_sides("wave", "free_surface", CartesianGrid((3, 4), MPI.COMM_SELF), "front")


def test_spacings() -> None:
    grid = CartesianGrid((30, 40), MPI.COMM_SELF)
    double = np.dtype(np.float64)
    assert spacings("wave", grid, 5, 1e-3, 10, double) == (5.0, 5.0)
    assert spacings("wave", grid, [5, 2.5], 1e-3, 10, double) == (5.0, 2.5)
    assert spacings("wave", grid, (5.0,), 1e-3, 10, np.dtype(np.float32)) == (5.0, 5.0)
    space = CartesianGrid((30, 40, 50), MPI.COMM_SELF)
    assert spacings("wave", space, 5, 1e-3, 10, double, (2, 3)) == (5.0, 5.0, 5.0)
    with pytest.raises(ValueError, match=r"spacing is .*, expected a positive number or three"):
        spacings("wave", space, (5.0, 4.0), 1e-3, 10, double, (2, 3))
    with pytest.raises(ValueError, match=r"grid has 3 axes, .* expected 2 that are not"):
        spacings("wave", space, 5, 1e-3, 10, double)
