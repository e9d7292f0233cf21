"""A regular grid distributed over the ranks of a communicator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mpi4py import MPI

from ..variable import Array
from ..world import agreed, communicator
from .blocks import Blocks, PerAxis, best_dims, flags, positive


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
            nodes = positive(self.name, "shape", shape)
            wraps = flags(self.name, periodic, len(nodes))
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


def _lengths(name: str, argument: str, value: Any, count: int) -> Array:
    try:
        return np.broadcast_to(np.asarray(value, float), count)
    except (TypeError, ValueError):
        message = f"{name}: {argument} is {value!r}, expected a number, or {count} of them"
        raise ValueError(message) from None
