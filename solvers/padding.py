"""Arrays of a patch with its ghosts, laid out for vector instructions."""

from __future__ import annotations

from itertools import count
from math import prod

import numpy as np
from numpy.typing import DTypeLike

from ..comm import CartesianGrid
from ..variable import Array

#: Bytes in a cache line, which is also the longest vector register.
LINE = 64

#: Bytes after which addresses compete for the same places in a cache of the first level.
PLACES = 4096

#: Bytes between the places of arrays that are made one after the other. Those of which a loop takes
#: the same entry should not all compete for one place, nor with the neighbours of one another.
APART = 5 * LINE


def row_pitch(columns: int, dtype: DTypeLike) -> int:
    """Return how many entries apart rows of so many entries are.

    Whole cache lines, and never a multiple of 1 kB: rows that far apart compete for the same places
    in a cache.
    """
    each = LINE // np.dtype(dtype).itemsize
    lines = -(-columns // each)
    return each * (lines + (lines % 16 == 0))


class Padding:
    """How the arrays of a patch are padded: by ghosts on all sides, and by unused columns.

    The first owned node of each row is at the beginning of a cache line, so that loads and stores
    of whole vectors of owned nodes do not straddle two.

    Parameters
    ----------
    grid : CartesianGrid
        Its last axis is that of the columns; all others are of rows.
    ghost : int
        Ghost layers on either side.
    dtype : dtype_like

    Attributes
    ----------
    shape : tuple of int
        Of the patch with its ghosts.
    rows, columns, pitch : int
        Rows and columns of the patch with its ghosts, and columns with the unused ones at the end.
    inner : tuple of slice
        The owned nodes.
    vector : int
        Entries of a cache line.
    """

    def __init__(self, grid: CartesianGrid, ghost: int, dtype: DTypeLike) -> None:
        self.dtype = np.dtype(dtype)
        self.shape = grid.padded_shape(ghost)
        self.rows, self.columns = prod(self.shape[:-1]), self.shape[-1]
        self.pitch = row_pitch(self.columns, self.dtype)
        self.inner = grid.interior(ghost)
        self.vector = LINE // self.dtype.itemsize
        self._places = count(0, APART)

    def fields(self, *leading: int) -> Array:
        """Return zeros of shape ``(*leading, *shape)``, with ``pitch`` columns."""
        return self.lines(*leading, *self.shape[:-1])

    def lines(self, *leading: int) -> Array:
        """Return zeros of shape ``(*leading, pitch)``."""
        shape = (*leading, self.pitch)
        size, itemsize = prod(shape), self.dtype.itemsize
        # NumPy asks for huge pages only where it does not get zeros from the system. With small
        # ones a processor stalls at each page of a row that it has not seen for long.
        memory = np.empty(size + PLACES // itemsize, self.dtype)
        memory[...] = 0
        first = memory.ctypes.data + self.inner[-1].start * itemsize
        place = next(self._places)
        begin = (place - first) % PLACES // itemsize
        return memory[begin : begin + size].reshape(shape)

    def cut(self, array: Array) -> Array:
        """Return the view of an array without the unused columns."""
        return array[..., : self.columns]
