"""The grid on several ranks: patches belong together, and bad arguments fail everywhere."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from adjoint import communicator
from adjoint.comm import CartesianGrid


@pytest.mark.parallel([1, 2, 3, 4, 6, 9])
@pytest.mark.parametrize("shape", [(23,), (7, 11), (5, 9, 4)])
def test_patches_make_up_the_grid(shape: tuple[int, ...]) -> None:
    grid = CartesianGrid(shape)
    whole = np.full(shape, -1)
    patches = grid.comm.allgather((grid.coords, grid.start, grid.stop, grid.numbers()))
    for rank, (coords, start, stop, numbers) in enumerate(patches):
        assert grid.rank_at(coords) == rank
        assert grid.patch(rank) == (start, stop)
        whole[tuple(map(slice, start, stop))] = numbers
    np.testing.assert_array_equal(np.sort(whole.ravel()), np.arange(whole.size))
    np.testing.assert_array_equal(
        grid.numbers().ravel(), grid.first_number + np.arange(grid.counts[grid.rank])
    )
    for axis, x in enumerate(grid.coordinates(2.0, 1.0)):
        assert x.shape == grid.patch_shape
        line = np.moveaxis(x, axis, 0).reshape(grid.patch_shape[axis], -1)
        expected = 1.0 + 2.0 * np.arange(grid.start[axis], grid.stop[axis])
        np.testing.assert_allclose(line, np.repeat(expected[:, None], line.shape[1], axis=1))


@pytest.mark.parallel([2, 3, 4])
def test_works_on_part_of_the_ranks() -> None:
    world = communicator()
    half = world.Split(world.rank % 2, world.rank)
    grid = CartesianGrid((6, 5), half, dims=(1, half.size))
    assert (grid.rank, grid.size, grid.dims) == (half.rank, half.size, (1, half.size))
    assert grid.comm is not half
    half.Free()


@pytest.mark.parallel([2, 3])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (lambda r, n: {"shape": (1, 1)}, "shape (1, 1) cannot be cut into {n} blocks"),
        (lambda r, n: {"shape": (9, 9), "dims": (n, 2)}, "dims ({n}, 2) makes"),
        (lambda r, n: {"shape": (9, n - 1), "dims": (1, n)}, "dims is (1, {n}), expected at most"),
        (lambda r, n: {"shape": (9, 8 + (r == 1))}, "rank 1: CartesianGrid: shape is (9, 9), exp"),
        (lambda r, n: {"shape": (9, 8), "periodic": r == 1}, "periodic is (True, True), expected"),
        (lambda r, n: {"shape": (9, 8 if r else 0)}, "rank 0: CartesianGrid: shape is (9, 0), ex"),
    ],
)
def test_bad_arguments_are_errors_on_all_ranks(arguments: Any, message: str) -> None:
    comm = communicator()
    with pytest.raises(ValueError, match=re.escape(message.format(n=comm.size))):
        CartesianGrid(**arguments(comm.rank, comm.size))
