"""The pattern of a grid's matrix in which each node is coupled to its nearest neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..comm import CartesianGrid
from ..variable import Array
from .pattern import Pattern

#: In three dimensions BoomerAMG's own choices make dense coarse matrices.
_THREE_DIMENSIONS = {
    "pc_hypre_boomeramg_coarsen_type": "HMIS",
    "pc_hypre_boomeramg_interp_type": "ext+i",
    "pc_hypre_boomeramg_agg_nl": 1,
}


def multigrid_options(grid: CartesianGrid, options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the PETSc options of a solve with such a matrix, with those of the user before all."""
    return {**(_THREE_DIMENSIONS if grid.ndim == 3 else {}), **(options or {})}


class Stencil:
    """A node and its neighbours along each axis, as a matrix's pattern and as a stack of fields.

    The stack has ``2 ndim + 1`` fields over the patch: the couplings to the node before along axis
    0, along axis 1, …; the diagonal; those to the node after along the last axis, …, along axis 0.

    Parameters
    ----------
    grid : CartesianGrid

    Attributes
    ----------
    pattern : Pattern
        Rows are numbered as ``grid.numbers()`` is.
    middle : int
        Where the diagonal is in the stack; ``axis`` and ``2 * middle - axis`` are around it.
    fields : numpy.ndarray, shape (2 ndim + 1, *patch_shape)
        Room for one stack, used again and again.
    """

    def __init__(self, grid: CartesianGrid) -> None:
        self.middle = grid.ndim
        numbers = grid.numbers(1)
        columns = np.stack([part.ravel() for part in self._around(grid, numbers)], axis=-1)
        present = columns >= 0
        # Neighbours on other ranks have numbers before or after all own ones: sort each row.
        order = np.argsort(np.where(present, columns, np.iinfo(np.int64).max), axis=1)
        nodes = np.arange(len(columns))[:, None]
        kept = present[nodes, order]
        self._entries = (order * len(columns) + nodes)[kept]
        indptr = np.concatenate([[0], np.cumsum(present.sum(axis=1))])
        self.pattern = Pattern(indptr, columns[nodes, order][kept], comm=grid.comm)
        self.fields: Array = np.empty((2 * grid.ndim + 1, *grid.patch_shape))

    def packed(self) -> Array:
        """Return the values that ``fields`` has on the pattern; what is off the grid drops out."""
        values: Array = self.fields.reshape(-1)[self._entries]
        return values

    def unpack(self, values: Array) -> None:
        """Lay values on the pattern into ``fields``, zero elsewhere: the transpose of `packed`."""
        self.fields.fill(0.0)
        self.fields.reshape(-1)[self._entries] = values

    @staticmethod
    def _around(grid: CartesianGrid, padded: Array) -> list[Array]:
        """Return each node's neighbours and itself, in the order of the stack."""

        def shifted(axis: int, by: int) -> Array:
            slices = list(grid.interior(1))
            slices[axis] = slice(1 + by, 1 + by + grid.patch_shape[axis])
            part: Array = padded[tuple(slices)]
            return part

        axes = range(grid.ndim)
        before, after = ([shifted(axis, by) for axis in axes] for by in (-1, 1))
        return [*before, padded[grid.interior(1)], *reversed(after)]
