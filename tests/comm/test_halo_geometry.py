"""Which nodes of a patch are whose ghosts, against the grid padded by NumPy, without MPI."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import pytest

from adjoint.comm import Blocks
from adjoint.comm.halo_buffers import Face, HaloGeometry

Array = np.ndarray[Any, Any]

CASES = [  # shape, dims, periodic, widths
    ((7,), (3,), False, (2,)),
    ((9,), (2,), True, (3,)),
    ((5, 4), (1, 1), True, (2, 1)),
    ((8, 7), (2, 3), False, (1, 2)),
    ((6, 7), (3, 2), True, (2, 1)),
    ((8, 6), (2, 1), (False, True), (0, 2)),
    ((8, 6), (2, 2), True, (1, 0)),
    ((6, 4, 5), (2, 1, 2), (True, True, False), (1, 2, 1)),
]


def padded(grid: Blocks, whole: Array, rank: int, widths: tuple[int, ...]) -> Array:
    """Return a rank's padded patch of a whole array, −1 outside the domain, by NumPy alone."""
    for axis, (w, wraps) in enumerate(zip(widths, grid.periodic)):
        around = [(w, w) if a == axis else (0, 0) for a in range(grid.ndim)]
        options: Any = {"mode": "wrap"} if wraps else {"constant_values": -1}
        whole = np.pad(whole, around, **options)
    start, stop = grid.patch(rank)
    return whole[tuple(slice(a, b + 2 * w) for a, b, w in zip(start, stop, widths))]


def axes_off(lengths: tuple[int, ...], widths: tuple[int, ...]) -> Array:
    """Return along how many axes each node of a padded patch lies off the patch."""
    off = [np.pad(np.zeros(n, int), w, constant_values=1) for n, w in zip(lengths, widths)]
    return np.asarray(sum(np.ix_(*off)))


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_sent_is_what_the_ghosts_copy(case: Any, corners: bool) -> None:
    shape, dims, periodic, widths = case
    grid = Blocks(shape, dims, periodic)
    numbers = np.arange(prod(shape)).reshape(shape)
    ranks = range(grid.size)
    geometries = [HaloGeometry(grid, rank, widths, corners) for rank in ranks]
    patches = [numbers[grid.patch_slices(rank)] for rank in ranks]
    wholes = [padded(grid, numbers, rank, widths) for rank in ranks]
    for rank, geometry, patch, whole in zip(ranks, geometries, patches, wholes):
        assert geometry.patch_shape == patch.shape
        assert geometry.padded_shape == whole.shape
        np.testing.assert_array_equal(whole[geometry.interior], patch)
        filled = np.full(whole.shape, -1)
        filled[geometry.interior] = patch

        def fill(ghost: Face, nodes: Array, filled: Array = filled) -> None:
            assert nodes.size > 0
            assert nodes.shape == ghost.shape == filled[ghost.ghost].shape
            assert (filled[ghost.ghost] == -1).all()
            filled[ghost.ghost] = nodes

        for near, far in geometry.wraps:
            fill(near, patch[far.slab])
            np.testing.assert_array_equal(whole[far.slab_padded], patch[far.slab])
        assert rank not in geometry.neighbours
        for owner, (_, ghosts) in geometry.neighbours.items():
            slabs = geometries[owner].neighbours[rank][0]  # in the order of the message
            assert len(slabs) == len(ghosts)
            for slab, ghost in zip(slabs, ghosts):
                fill(ghost, patches[owner][slab.slab])
                nodes = wholes[owner][slab.slab_padded]
                np.testing.assert_array_equal(nodes, patches[owner][slab.slab])
        off = axes_off(patch.shape, widths)
        expected = np.where((off <= 1) | corners, whole, -1)
        np.testing.assert_array_equal(filled, expected)
        owned_elsewhere = np.zeros(whole.shape, bool)
        for region in geometry.ghosts:
            owned_elsewhere[region] = True
        np.testing.assert_array_equal(owned_elsewhere, (expected >= 0) & (off > 0))
