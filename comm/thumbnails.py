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
        On root the nodes whose indices are multiples of one number along every axis, the least with
        which they are so few; on the other ranks ``None``.

    Raises
    ------
    ValueError
        On all ranks, for a patch of a wrong shape, or where not even one node is wanted.

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
        if most < 1:
            raise ValueError(f"thumbnail: most is {most}, expected a positive number")
    step = -(-max(grid.shape) // most)
    own = array[tuple(slice(-start % step, None, step) for start in grid.start)]
    first = [-(-start // step) for start in grid.start]
    parts = grid.comm.gather((first, own), root)
    if parts is None:
        return None
    whole = np.empty([-(-n // step) for n in grid.shape], array.dtype)
    for corner, part in parts:
        whole[tuple(slice(a, a + n) for a, n in zip(corner, part.shape))] = part
    return whole
