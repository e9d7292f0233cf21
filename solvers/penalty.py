"""What penalties on the slopes of a field share: Tikhonov's, and the total variation."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from ..comm import CartesianGrid
from ..operator import Operator
from ..variable import Array
from ..world import agreed
from .spacing import node_spacing


class Penalty(Operator):
    """What penalties on slopes share: differences of a patch's nodes and those that follow.

    Parameters
    ----------
    grid : CartesianGrid
    spacing : float or sequence of float

    Notes
    -----
    Each difference belongs to the rank that has the first of its two nodes, so that none is taken
    twice or left out; the second may be a ghost. The layers of ghosts before the patch and the
    edges of the layer behind it are not looked at.
    """

    needs_inputs = (0,)
    needs_outputs = ()

    def __init__(self, grid: CartesianGrid, spacing: float | Sequence[float], **weights: float):
        self.grid = grid
        self.spacing = node_spacing(self.name, grid, spacing)
        with agreed(grid.comm):
            for name, weight in weights.items():
                if not 0 <= weight < np.inf:
                    raise ValueError(f"{self.name}: {name} is {weight}, expected 0 or more")
        self.cell = prod(self.spacing)
        self._inner = grid.interior(1)
        self._shape = grid.padded_shape(1)

    def check(self, m: Any) -> None:
        with agreed(self.grid.comm):
            self.require("m", np.shape(m), self._shape)
            self.require("m", str(np.asarray(m).dtype), "float64", "dtype")

    def pair(self, axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...], tuple[slice, ...]]:
        """Return first and second nodes of the differences along an axis, and the former's place.

        The last node of the domain has none that follows: across its boundary nothing differs.
        """
        grid = self.grid
        ends = grid.stop[axis] == grid.shape[axis] and not grid.periodic[axis]
        count = grid.patch_shape[axis] - int(ends)
        first, second, place = list(self._inner), list(self._inner), [slice(None)] * grid.ndim
        first[axis], second[axis] = slice(1, 1 + count), slice(2, 2 + count)
        place[axis] = slice(0, count)
        return tuple(first), tuple(second), tuple(place)

    def difference(self, m: Array, axis: int) -> Array:
        first, second, _ = self.pair(axis)
        difference: Array = (m[second] - m[first]) / self.spacing[axis]
        return difference

    def add_transposed(self, m: Array, flux: Array, axis: int) -> None:
        """Add the transpose of :meth:`difference` applied to ``flux``, which is spent."""
        first, second, _ = self.pair(axis)
        flux /= self.spacing[axis]
        m[second] += flux
        m[first] -= flux
