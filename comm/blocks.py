"""The geometry of a grid cut into one block per rank, without any communication."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..variable import Array

#: The same for all axes, or one for each.
PerAxis = int | Sequence[int] | NDArray[np.integer[Any]]


class Blocks:
    """A grid cut into blocks, one per rank.

    Along each axis the ``n mod p`` first of ``p`` blocks are one node longer than the others. Ranks
    are numbered in C order of their block coordinates: the last axis varies fastest.

    Parameters
    ----------
    shape : sequence of int
        Number of nodes of the whole grid along each axis.
    dims : sequence of int
        Number of blocks along each axis, at most that of nodes.
    periodic : bool or sequence of bool
        Whether the last node along an axis has the first for its neighbour.

    Attributes
    ----------
    shape, dims : tuple of int
    periodic : tuple of bool
    ndim, size : int
        Number of axes and of blocks.
    counts : tuple of int
        Number of nodes of each rank.
    """

    name = "Blocks"

    def __init__(
        self,
        shape: Sequence[int],
        dims: Sequence[int],
        periodic: bool | Sequence[bool] = False,
    ) -> None:
        self.shape = positive(self.name, "shape", shape)
        self.ndim = len(self.shape)
        self.dims = positive(self.name, "dims", dims)
        if len(self.dims) != self.ndim:
            raise ValueError(
                f"{self.name}: dims has {len(self.dims)} axes, expected {self.ndim} as in shape"
            )
        if any(p > n for n, p in zip(self.shape, self.dims)):
            raise ValueError(
                f"{self.name}: dims is {self.dims}, expected at most shape {self.shape}: "
                "every rank needs a node"
            )
        self.periodic = flags(self.name, periodic, self.ndim)
        self.size = prod(self.dims)
        self._edges = [_edges(n, p) for n, p in zip(self.shape, self.dims)]

    def coords_of(self, rank: int) -> tuple[int, ...]:
        """Return the block coordinates of a rank."""
        return tuple(int(c) for c in np.unravel_index(rank, self.dims))

    def rank_at(self, coords: Sequence[int]) -> int | None:
        """Return the rank of a block, ``None`` outside the grid; periodic axes wrap around."""
        rank = 0
        for c, p, wraps in zip(coords, self.dims, self.periodic, strict=True):
            if not wraps and not 0 <= c < p:
                return None
            rank = rank * p + c % p
        return rank

    def coords_at(self, nodes: Array) -> Array:
        """Return the coordinates of the blocks that own nodes, given by their indices.

        Both lie along the last axis.
        """
        along = [
            np.searchsorted(edges[:-1], nodes[..., axis], side="right") - 1
            for axis, edges in enumerate(self._edges)
        ]
        return np.stack(along, axis=-1)

    def patch(self, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the global indices of a rank's first node and of the end of its patch."""
        coords = self.coords_of(rank)
        start = tuple(int(e[c]) for e, c in zip(self._edges, coords))
        stop = tuple(int(e[c + 1]) for e, c in zip(self._edges, coords))
        return start, stop

    def patch_slices(self, rank: int) -> tuple[slice, ...]:
        """Return the slices that cut a rank's patch out of the whole grid."""
        return tuple(slice(a, b) for a, b in zip(*self.patch(rank)))

    @cached_property
    def counts(self) -> tuple[int, ...]:
        lengths = np.ones((), np.int64)
        for edges in self._edges:
            lengths = np.multiply.outer(lengths, np.diff(edges))
        return tuple(lengths.ravel().tolist())

    @cached_property
    def smallest_patch(self) -> tuple[int, ...]:
        """Length of the shortest block along each axis."""
        return tuple(n // p for n, p in zip(self.shape, self.dims))

    def numbers_of(self, rank: int, width: PerAxis = 0) -> Array:
        """Return the numbers of a rank's nodes and of ``width`` layers around them.

        Nodes are numbered rank after rank, and in C order within a patch.

        Parameters
        ----------
        rank : int
        width : int or sequence of int
            Ghost layers on either side.

        Returns
        -------
        numpy.ndarray of int64
            Of the padded patch's shape; −1 outside the domain. Periodic axes wrap around.
        """
        widths = self.widths(width)
        start, stop = self.patch(rank)
        block: Array = np.zeros((), np.int64)
        within: Array = np.zeros((), np.int64)
        outside: Array = np.zeros((), bool)
        for axis, edges in enumerate(self._edges):
            nodes = np.arange(start[axis] - widths[axis], stop[axis] + widths[axis])
            beyond = np.zeros(nodes.shape, bool)
            if not self.periodic[axis]:
                beyond = (nodes < 0) | (nodes >= self.shape[axis])
            nodes = nodes % self.shape[axis]
            index = np.searchsorted(edges, nodes, side="right") - 1
            along = (-1,) + (1,) * (self.ndim - 1 - axis)
            outside = outside | beyond.reshape(along)
            block = block * self.dims[axis] + index.reshape(along)
            length = np.diff(edges)[index].reshape(along)
            within = within * length + (nodes - edges[index]).reshape(along)
        first = np.cumsum([0, *self.counts[:-1]])
        result: Array = np.where(outside, -1, first[block] + within)
        return result

    def widths(self, width: PerAxis, name: str = "") -> tuple[int, ...]:
        """Return ghost widths, one for each axis, or raise in the name of what they are for."""
        entries = _entries(width)
        values: tuple[Any, ...] = (width,) * self.ndim if entries is None else entries
        if len(values) != self.ndim or any(not _is_int(w) or w < 0 for w in values):
            raise ValueError(
                f"{name or self.name}: width is {width!r}, expected a number of layers "
                f"(0, 1, 2, …), or {self.ndim} of them"
            )
        return tuple(int(w) for w in values)


def best_dims(
    shape: Sequence[int], size: int, periodic: Sequence[bool] | None = None
) -> tuple[int, ...]:
    """Return the ranks along each axis that make the least surface between patches.

    Parameters
    ----------
    shape : sequence of int
        Nodes along each axis.
    size : int
        Number of ranks.
    periodic : sequence of bool, optional

    Raises
    ------
    ValueError
        If there is no way to give every rank a block.
    """
    wraps = periodic or (False,) * len(shape)
    nodes = prod(shape)

    def surface(dims: tuple[int, ...]) -> float:
        cuts = [p if p > 1 and w else p - 1 for p, w in zip(dims, wraps)]
        return sum(cut * (nodes // n) for cut, n in zip(cuts, shape))

    possible = [d for d in _factorisations(size, len(shape)) if all(map(int.__le__, d, shape))]
    if not possible:
        raise ValueError(
            f"CartesianGrid: shape {tuple(shape)} cannot be cut into {size} blocks, one for each "
            "rank: use fewer ranks or a larger grid"
        )
    return min(possible, key=lambda dims: (surface(dims), tuple(-p for p in dims)))


def _factorisations(size: int, count: int) -> Iterator[tuple[int, ...]]:
    """Yield all ordered products of ``count`` factors that make ``size``."""
    if count == 1:
        yield (size,)
        return
    for first in range(1, size + 1):
        if size % first == 0:
            for rest in _factorisations(size // first, count - 1):
                yield (first, *rest)


def even_parts(total: int, parts: int) -> tuple[int, ...]:
    """Cut a number evenly: the first ``total mod parts`` parts have one more than the others."""
    each, more = divmod(total, parts)
    return tuple(each + (i < more) for i in range(parts))


def _edges(nodes: int, blocks: int) -> Array:
    """Return where blocks begin and end."""
    return np.concatenate([[0], np.cumsum(even_parts(nodes, blocks))])


def _entries(value: Any) -> tuple[Any, ...] | None:
    """Return the entries of a sequence or an array, ``None`` for anything else."""
    several = value.ndim > 0 if isinstance(value, np.ndarray) else isinstance(value, Sequence)
    return tuple(value) if several else None


def _is_int(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def positive(name: str, argument: str, value: Any) -> tuple[int, ...]:
    """Return a tuple of positive integers, or raise."""
    items = _entries(value) or ()
    if not items or isinstance(value, str) or any(not _is_int(n) or n < 1 for n in items):
        raise ValueError(
            f"{name}: {argument} is {value!r}, expected positive integers, one for each axis"
        )
    return tuple(int(n) for n in items)


def flags(name: str, value: Any, count: int) -> tuple[bool, ...]:
    """Return one flag for each of ``count`` axes, or raise."""
    if isinstance(value, bool | np.bool_):
        return (bool(value),) * count
    items = _entries(value) or ()
    if len(items) != count or any(not isinstance(p, bool | np.bool_) for p in items):
        raise ValueError(
            f"{name}: periodic is {value!r}, expected True or False, or {count} of them"
        )
    return tuple(bool(p) for p in items)
