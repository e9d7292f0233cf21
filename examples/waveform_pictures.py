"""Fields in the patches of waves, as figures show them: of the model alone, on rank 0."""

from __future__ import annotations

from typing import Any

import numpy as np
from mpi4py import MPI

from adjoint.comm import CartesianGrid, Redistribute, thumbnail


class Pictures:
    """What the groups of ranks have in their patches, without the absorbing layers.

    Parameters
    ----------
    grid : CartesianGrid
        That of this rank's group, with layers.
    shape : tuple of int
        Of the model, without them.
    group : int
        The number of this rank's group.
    comm : mpi4py.MPI.Comm
        All ranks.
    most : int
        Nodes along the longest axis at most; every so many-th is shown.
    """

    def __init__(
        self, grid: CartesianGrid, shape: tuple[int, ...], group: int, comm: MPI.Comm, most: int
    ) -> None:
        self.step = -(-max(shape) // most)
        self._most, self._group = most, group
        layers = [(m - n) // 2 for m, n in zip(grid.shape, shape)]
        start, stop = (
            [min(max(end - w, 0), n) for end, w, n in zip(ends, layers, shape)]
            for ends in (grid.start, grid.stop)
        )
        self._inside = tuple(
            slice(a + w - first, b + w - first)
            for a, b, w, first in zip(start, stop, layers, grid.start)
        )
        self._whole = CartesianGrid(shape, comm)
        self._move = Redistribute((start, stop), self._whole, comm)

    def first(self, patch: Any) -> Any:
        """Return the field of the first group on rank 0, ``None`` elsewhere; collective."""
        return self.sum(np.zeros_like(patch) if self._group else patch)

    def sum(self, patch: Any) -> Any:
        """Return the sum of all groups' fields on rank 0, ``None`` elsewhere; collective."""
        return thumbnail(self._whole, self._move(patch[self._inside]), self._most)
