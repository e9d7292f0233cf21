"""Blocks and their numbering, against the plain definition, without MPI."""

from __future__ import annotations

import itertools
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from adjoint.comm import Blocks, CartesianGrid
from adjoint.comm.blocks import best_dims

#: A machine that is busy is no fault.
unhurried = settings(deadline=None)


@st.composite
def blocks(draw: Any) -> Blocks:
    shape = draw(st.lists(st.integers(1, 9), min_size=1, max_size=3))
    dims = [draw(st.integers(1, n)) for n in shape]
    return Blocks(shape, dims, [draw(st.booleans()) for _ in shape])


@unhurried
@given(blocks())
def test_patches_cover_the_grid_once_and_evenly(grid: Blocks) -> None:
    owners = np.full(grid.shape, -1)
    for rank in range(grid.size):
        assert (owners[grid.patch_slices(rank)] == -1).all()
        owners[grid.patch_slices(rank)] = rank
        assert grid.counts[rank] == (owners == rank).sum() > 0
    assert (owners >= 0).all()
    blocks_of = grid.coords_at(np.moveaxis(np.indices(grid.shape), 0, -1))
    np.testing.assert_array_equal(
        np.ravel_multi_index(np.moveaxis(blocks_of, -1, 0), grid.dims), owners
    )
    for axis, (n, p) in enumerate(zip(grid.shape, grid.dims)):
        along = {
            grid.coords_of(r)[axis]: np.subtract(*(e[axis] for e in grid.patch(r)[::-1]))
            for r in range(grid.size)
        }
        assert [along[c] for c in range(p)] == [n // p + (c < n % p) for c in range(p)]
        assert grid.smallest_patch[axis] == min(along.values())


@unhurried
@given(blocks(), st.data())
def test_ranks_and_coordinates_belong_together(grid: Blocks, data: Any) -> None:
    assert [grid.coords_of(r) for r in range(grid.size)] == list(np.ndindex(*grid.dims))
    coords = [data.draw(st.integers(-4, 12)) for _ in grid.dims]
    inside = all(w or 0 <= c < p for c, p, w in zip(coords, grid.dims, grid.periodic))
    wrapped = tuple(c % p for c, p in zip(coords, grid.dims))
    rank = grid.rank_at(coords)
    assert (grid.coords_of(rank) == wrapped) if rank is not None else not inside
    with pytest.raises(ValueError, match="zip"):
        grid.rank_at([0] * (grid.ndim + 1))


@unhurried
@given(blocks(), st.data())
def test_numbers_are_those_of_the_whole_grid_padded(grid: Blocks, data: Any) -> None:
    widths = [data.draw(st.integers(0, 3)) for _ in grid.shape]
    whole = np.empty(grid.shape, np.int64)
    first = 0
    for rank in range(grid.size):
        n = grid.counts[rank]
        whole[grid.patch_slices(rank)] = np.reshape(
            np.arange(first, first + n), whole[grid.patch_slices(rank)].shape
        )
        first += n
    padded = whole
    for axis, (w, wraps) in enumerate(zip(widths, grid.periodic)):
        around = [(w, w) if a == axis else (0, 0) for a in range(grid.ndim)]
        if wraps:
            padded = np.pad(padded, around, mode="wrap")
        else:
            padded = np.pad(padded, around, constant_values=-1)
    for rank in range(grid.size):
        start, stop = grid.patch(rank)
        cut = padded[tuple(slice(a, b + 2 * w) for a, b, w in zip(start, stop, widths))]
        found = grid.numbers_of(rank, widths)
        assert found.dtype == np.int64
        np.testing.assert_array_equal(found, cut)


@unhurried
@example([4, 12], 4, True)  # these tell whether one cut more is counted, and only around an axis
@example([8, 12], 4, True)
@example([12, 12], 6, True)
@example([8, 12], 4, False)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=3), st.integers(1, 24), st.booleans())
def test_best_dims_have_the_least_surface(shape: list[int], size: int, periodic: bool) -> None:
    """Against all choices, their surfaces counted edge by edge of the grid."""
    possible = [
        dims for dims in itertools.product(*(range(1, n + 1) for n in shape)) if prod(dims) == size
    ]
    wraps = [periodic] * len(shape)
    if not possible:
        with pytest.raises(ValueError, match=f"cannot be cut into {size} blocks"):
            best_dims(shape, size, wraps)
        return

    def surface(dims: Any) -> int:
        grid = Blocks(shape, dims, wraps)
        owners = np.empty(grid.shape, int)
        for rank in range(size):
            owners[grid.patch_slices(rank)] = rank
        total = 0
        for axis in range(grid.ndim):
            edges = np.not_equal(owners, np.roll(owners, -1, axis))
            total += int(edges.sum() if periodic else np.delete(edges, -1, axis).sum())
        return total

    found = best_dims(shape, size, wraps)
    assert surface(found) == min(map(surface, possible))


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((100, 100), 4, (2, 2)),
        ((100, 10), 4, (4, 1)),
        ((10, 100), 3, (1, 3)),
        ((64, 64, 64), 8, (2, 2, 2)),
        ((50, 50), 2, (2, 1)),  # among equals the first axis is cut: patches stay contiguous
        ((3, 3), 9, (3, 3)),
    ],
)
def test_best_dims_of_common_grids(shape: Any, size: int, expected: Any) -> None:
    assert best_dims(shape, size) == expected


def test_a_grid_on_one_rank() -> None:
    grid = CartesianGrid((4, 3), periodic=(True, False))
    assert (grid.rank, grid.size, grid.ndim, grid.dims, grid.coords) == (0, 1, 2, (1, 1), (0, 0))
    assert (grid.start, grid.stop, grid.patch_shape) == ((0, 0), (4, 3), (4, 3))
    assert (grid.counts, grid.first_number) == ((12,), 0)
    assert grid.padded_shape((1, 2)) == (6, 7)
    padded = np.zeros(grid.padded_shape((1, 2)))
    padded[grid.interior((1, 2))] = 1.0
    np.testing.assert_array_equal(padded, np.pad(np.ones((4, 3)), ((1, 1), (2, 2))))
    np.testing.assert_array_equal(grid.numbers(), np.arange(12).reshape(4, 3))
    assert "shape=(4, 3), dims=(1, 1), periodic=(True, False)" in repr(grid)


def test_coordinates() -> None:
    grid = CartesianGrid((3, 2))
    x, y = grid.coordinates((0.5, 2.0), (1.0, -1.0), width=1)
    np.testing.assert_allclose(x, np.outer([0.5, 1.0, 1.5, 2.0, 2.5], np.ones(4)))
    np.testing.assert_allclose(y, np.outer(np.ones(5), [-3.0, -1.0, 1.0, 3.0]))
    x, y = grid.coordinates(10.0)
    np.testing.assert_allclose(x[:, 0], [0, 10, 20])
    np.testing.assert_allclose(y[0], [0, 10])
    with pytest.raises(ValueError, match=r"spacing is \(1, 2, 3\), expected a number, or 2 of"):
        grid.coordinates((1, 2, 3))
    with pytest.raises(ValueError, match=r"origin is 'a', expected a number, or 2 of"):
        grid.coordinates(1, "a")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (0, 4)}, r"shape is \(0, 4\), expected positive integers"),
        ({"shape": 4}, "shape is 4, expected positive integers"),
        ({"shape": np.array(4)}, r"shape is array\(4\), expected positive integers"),
        ({"shape": (2.5, 4)}, r"shape is \(2.5, 4\), expected positive integers"),
        ({"shape": (True, 4)}, r"shape is \(True, 4\), expected positive integers"),
        ({"shape": ()}, r"shape is \(\), expected positive integers"),
        ({"shape": "ab"}, "shape is 'ab', expected positive integers"),
        ({"shape": (4, 4), "dims": (1,)}, "dims has 1 axes, expected 2"),
        ({"shape": (4, 4), "dims": (2, 2)}, r"dims \(2, 2\) makes 4 blocks, expected 1"),
        ({"shape": (4, 4), "dims": (1, 5)}, r"dims is \(1, 5\), expected at most shape \(4, 4\)"),
        ({"shape": (4, 4), "dims": (-1, -1)}, r"dims is \(-1, -1\), expected positive integers"),
        ({"shape": (4, 4), "periodic": (True,)}, r"periodic is \(True,\), expected True or False"),
        ({"shape": (4, 4), "periodic": 1}, "periodic is 1, expected True or False, or 2 of them"),
    ],
)
def test_bad_arguments(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"CartesianGrid: {message}"):
        CartesianGrid(**arguments)


@unhurried
@given(st.integers(-2, 0) | st.just(1.5) | st.just((1, 2, 3)) | st.just("ab"))
def test_bad_widths(width: Any) -> None:
    assume(width != 0)
    with pytest.raises(ValueError, match=r"Blocks: width is .*, expected a number of layers"):
        Blocks((4, 4), (1, 1)).numbers_of(0, width)


def test_bad_blocks() -> None:
    with pytest.raises(ValueError, match=r"Blocks: shape is \(0, 4\), expected positive integers"):
        Blocks((0, 4), (1, 1))


def test_arrays_serve_as_sequences() -> None:
    grid = CartesianGrid(np.array([5, 4]), dims=np.array([1, 1]), periodic=np.array([True, False]))
    assert (grid.shape, grid.dims, grid.periodic) == ((5, 4), (1, 1), (True, False))
    assert grid.padded_shape(np.array([1, 2])) == (7, 8)
