"""A small picture of a distributed field on one rank."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..variable import Array
from ..world import agreed
from .grid import CartesianGrid


def thumbnail(grid: CartesianGrid, patch: Any, most: int = 512, root: int = 0) -> Array | None:
    """Return every so many-th node of a field on one rank, for figures.

    What root gets does not grow with the grid. It is not an operator: nothing is recorded.

    Parameters
    ----------
    grid : CartesianGrid
    patch : numpy.ndarray, shape (*grid.patch_shape)
    most : int
        Nodes along the longest axis, at most.
    root : int
        Rank in ``grid.comm`` that gets them.

    Returns
    -------
    numpy.ndarray or None
        On root the nodes whose indices are multiples of ``stride(grid, most)`` along every axis,
        on the other ranks ``None``.

    Raises
    ------
    ValueError
        On all ranks, for a patch of a wrong shape.

    Notes
    -----
    Collective.

    Examples
    --------
    >>> from mpi4py import MPI
    >>> grid = CartesianGrid((7, 4), comm=MPI.COMM_SELF)
    >>> thumbnail(grid, np.arange(28.0).reshape(7, 4), most=4)
    array([[ 0.,  2.],
           [ 8., 10.],
           [16., 18.],
           [24., 26.]])
    """
    array = np.asarray(patch)
    with agreed(grid.comm):
        if array.shape != grid.patch_shape:
            raise ValueError(
                f"thumbnail: patch has shape {array.shape}, expected {grid.patch_shape}"
            )
    step = stride(grid, most)
    own = array[tuple(slice(-start % step, None, step) for start in grid.start)]
    first = [-(-start // step) for start in grid.start]
    parts = grid.comm.gather((first, own), root)
    if parts is None:
        return None
    whole = np.empty([-(-n // step) for n in grid.shape], array.dtype)
    for corner, part in parts:
        whole[tuple(slice(a, a + n) for a, n in zip(corner, part.shape))] = part
    return whole


def stride(grid: CartesianGrid, most: int = 512) -> int:
    """Return how many nodes apart those of a thumbnail are, along every axis."""
    return max(1, -(-max(grid.shape) // most))
