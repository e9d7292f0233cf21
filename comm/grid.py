"""A regular grid cut into one block per rank."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from ..variable import Array
from ..world import agreed, communicator

if TYPE_CHECKING:
    from mpi4py import MPI

#: The same for all axes, or one for each.
PerAxis = int | Sequence[int]


class Blocks:
    """The geometry of a grid cut into blocks, one per rank, without any communication.

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
        self.shape = _positive(self.name, "shape", shape)
        self.ndim = len(self.shape)
        self.dims = _positive(self.name, "dims", dims)
        if len(self.dims) != self.ndim:
            raise ValueError(
                f"{self.name}: dims has {len(self.dims)} axes, expected {self.ndim} as in shape"
            )
        if any(p > n for n, p in zip(self.shape, self.dims)):
            raise ValueError(
                f"{self.name}: dims is {self.dims}, expected at most shape {self.shape}: "
                "every rank needs a node"
            )
        self.periodic = _flags(self.name, periodic, self.ndim)
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
        block = np.zeros((1,) * self.ndim, np.int64)
        within = np.zeros((1,) * self.ndim, np.int64)
        outside = np.zeros((1,) * self.ndim, bool)
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

    def widths(self, width: PerAxis) -> tuple[int, ...]:
        """Return ghost widths, one for each axis."""
        values = width if isinstance(width, Sequence) else (width,) * self.ndim
        if len(values) != self.ndim or any(not _is_int(w) or w < 0 for w in values):
            raise ValueError(
                f"{self.name}: width is {width!r}, expected a number of layers (0, 1, 2, …), "
                f"or {self.ndim} of them"
            )
        return tuple(int(w) for w in values)


class CartesianGrid(Blocks):
    """A grid of nodes, distributed in one block (patch) per rank.

    Parameters
    ----------
    shape : sequence of int
        Number of nodes of the whole grid along each axis.
    comm : mpi4py.MPI.Comm, optional
        ``COMM_WORLD`` by default; the library works on its own duplicate.
    dims : sequence of int, optional
        Ranks along each axis. By default those with the least surface between patches; among
        equals, those that cut the first axis most.
    periodic : bool or sequence of bool
        Whether the last node along an axis has the first for its neighbour.

    Attributes
    ----------
    comm : mpi4py.MPI.Comm
    rank, size, ndim : int
    shape, dims : tuple of int
        Nodes and ranks along each axis.
    periodic : tuple of bool
    coords : tuple of int
        Coordinates of this rank's block; ranks are numbered in C order of them.
    start, stop : tuple of int
        Global indices of this patch's first node and of its end.
    patch_shape : tuple of int
    counts : tuple of int
        Number of nodes of each rank.
    first_number : int
        Number of this patch's first node in :meth:`numbers`.

    Raises
    ------
    ValueError
        On all ranks: bad or different arguments, or fewer nodes than ranks along an axis.

    Notes
    -----
    Collective. Along an axis of ``n`` nodes and ``p`` ranks the first ``n mod p`` patches are one
    node longer than the others.

    Examples
    --------
    >>> grid = CartesianGrid((40, 30))
    >>> grid.padded_shape(2) == tuple(n + 4 for n in grid.patch_shape)
    True
    """

    name = "CartesianGrid"

    def __init__(
        self,
        shape: Sequence[int],
        comm: MPI.Comm | None = None,
        dims: Sequence[int] | None = None,
        periodic: bool | Sequence[bool] = False,
    ) -> None:
        self.comm = communicator(comm)
        self.rank = self.comm.rank
        with agreed(self.comm):
            nodes = _positive(self.name, "shape", shape)
            wraps = _flags(self.name, periodic, len(nodes))
            blocks = best_dims(nodes, self.comm.size, wraps) if dims is None else dims
            super().__init__(nodes, blocks, wraps)
            if self.size != self.comm.size:
                raise ValueError(
                    f"{self.name}: dims {self.dims} makes {self.size} blocks, "
                    f"expected {self.comm.size}, one for each rank"
                )
        same_on_all_ranks(
            self.comm, self.name, shape=self.shape, dims=self.dims, periodic=self.periodic
        )
        self.coords = self.coords_of(self.rank)
        self.start, self.stop = self.patch(self.rank)
        self.patch_shape = tuple(b - a for a, b in zip(self.start, self.stop))
        self.first_number = sum(self.counts[: self.rank])

    def padded_shape(self, width: PerAxis) -> tuple[int, ...]:
        """Return the shape of this patch with ``width`` ghost layers on either side."""
        return tuple(n + 2 * w for n, w in zip(self.patch_shape, self.widths(width)))

    def interior(self, width: PerAxis) -> tuple[slice, ...]:
        """Return the slices that cut the owned nodes out of a padded patch."""
        return tuple(slice(w, w + n) for n, w in zip(self.patch_shape, self.widths(width)))

    def numbers(self, width: PerAxis = 0) -> Array:
        """Return the global numbers of the nodes of the padded patch.

        Parameters
        ----------
        width : int or sequence of int
            Ghost layers on either side.

        Returns
        -------
        numpy.ndarray of int64
            Of shape ``padded_shape(width)``. Rank ``r``'s nodes are numbered after all those of
            lower ranks, in C order; −1 outside the domain; periodic axes wrap around.
        """
        return self.numbers_of(self.rank, width)

    def coordinates(
        self,
        spacing: float | Sequence[float],
        origin: float | Sequence[float] = 0.0,
        width: PerAxis = 0,
    ) -> tuple[Array, ...]:
        """Return where the nodes of the padded patch are.

        Parameters
        ----------
        spacing : float or sequence of float
            Distance of nodes along each axis, in metres (or any unit).
        origin : float or sequence of float
            Position of the whole grid's first node, in the same unit.
        width : int or sequence of int
            Ghost layers on either side; they continue the patch, also across a periodic boundary.

        Returns
        -------
        tuple of numpy.ndarray of float64
            One for each axis, of shape ``padded_shape(width)``; read-only views that take the
            memory of one line.
        """
        steps = _lengths(self.name, "spacing", spacing, self.ndim)
        origins = _lengths(self.name, "origin", origin, self.ndim)
        lines = [
            first + step * np.arange(a - w, b + w)
            for first, step, a, b, w in zip(
                origins, steps, self.start, self.stop, self.widths(width)
            )
        ]
        whole = self.padded_shape(width)
        return tuple(np.broadcast_to(x, whole) for x in np.ix_(*lines))

    def __repr__(self) -> str:
        return (
            f"CartesianGrid(shape={self.shape}, dims={self.dims}, periodic={self.periodic}, "
            f"rank={self.rank})"
        )


def same_on_all_ranks(comm: MPI.Comm, name: str, **arguments: Any) -> None:
    """Raise on all ranks unless they all bring the arguments of rank 0; collective."""
    theirs = comm.bcast(arguments, 0)
    with agreed(comm):
        for argument, expected in theirs.items():
            found = arguments[argument]
            if found != expected:
                raise ValueError(f"{name}: {argument} is {found}, expected {expected} as on rank 0")


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


def _edges(nodes: int, blocks: int) -> Array:
    """Return where blocks begin and end: the first ``nodes % blocks`` are one node longer."""
    lengths = np.full(blocks, nodes // blocks, np.int64)
    lengths[: nodes % blocks] += 1
    return np.concatenate([[0], np.cumsum(lengths)])


def _is_int(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _positive(name: str, argument: str, value: Any) -> tuple[int, ...]:
    items = tuple(value) if isinstance(value, Sequence | np.ndarray) else ()
    if not items or isinstance(value, str) or any(not _is_int(n) or n < 1 for n in items):
        raise ValueError(
            f"{name}: {argument} is {value!r}, expected positive integers, one for each axis"
        )
    return tuple(int(n) for n in items)


def _flags(name: str, value: Any, count: int) -> tuple[bool, ...]:
    if isinstance(value, bool | np.bool_):
        return (bool(value),) * count
    items = tuple(value) if isinstance(value, Sequence | np.ndarray) else ()
    if len(items) != count or any(not isinstance(p, bool | np.bool_) for p in items):
        raise ValueError(
            f"{name}: periodic is {value!r}, expected True or False, or {count} of them"
        )
    return tuple(bool(p) for p in items)


def _lengths(name: str, argument: str, value: Any, count: int) -> Array:
    try:
        return np.broadcast_to(np.asarray(value, float), count)
    except (TypeError, ValueError):
        message = f"{name}: {argument} is {value!r}, expected a number, or {count} of them"
        raise ValueError(message) from None
