"""A distributed field in other parts: each rank hands on the blocks that others want of its own."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
from mpi4py import MPI

from ..spans import span
from ..variable import Array
from ..world import agreed
from .channel import new_channel
from .communication import Communication, Message
from .grid import CartesianGrid, same_on_all_ranks
from .transport import note_message

#: Indices of the first node and of the end along each axis, as :meth:`Blocks.patch` returns them.
Box = tuple[Sequence[int], Sequence[int]]


class Redistribute(Communication):
    """From the part of a field that each rank has to the part that it wants.

    So a field that is decomposed over all ranks gets to groups of ranks that each decompose the
    whole of it, and its cotangents, added up over the groups, back. No rank holds more than its two
    parts.

    Parameters
    ----------
    source, target : CartesianGrid, or (start, stop)
        What this rank has and what it wants: the patch of a grid, on this or any other
        communicator, or the indices of the first node and of the end along each axis, as
        ``grid.patch(rank)`` returns them. Where a start and its stop are equal, it is nothing.
    comm : mpi4py.MPI.Comm, optional
        All ranks that take part; ``COMM_WORLD`` by default.

    Attributes
    ----------
    source_shape, target_shape : tuple of int
        Of this rank's parts.

    Raises
    ------
    ValueError
        On all ranks: a part that is none, grids of different shapes, or ranks that differ in the
        number of axes. In a call: an input of a wrong shape.
    TypeError
        On all ranks, for an input that is not of float32 or float64.
    CommunicationError
        On all ranks, where dtypes or leading axes differ.

    Notes
    -----
    Collective to make and to call. The input is an array ``[..., *source_shape]``, the output one
    of ``[..., *target_shape]``; axes before those of the field are several fields, which travel in
    one message. A rank that has nothing brings an array without entries.

    With ``S_k`` the restriction of a field to what rank ``k`` has, and ``T_r`` to what rank ``r``
    wants,

        y_r = T_r Σ_k S_kᵀ x_k,        x̄_k = S_k Σ_r T_rᵀ ȳ_r.

    What several ranks have is added, what several ranks want goes to all of them, and what nobody
    has is zero: the transpose is the same with source and target exchanged. In particular, from a
    grid to those of G groups ``y`` is a copy of the field in each group and ``x̄`` the sum over the
    groups; from the grids of groups to one of all ranks it is the other way round. Sums are taken
    in the order of ranks, so that results repeat bit for bit.

    ``T_r S_kᵀ`` is not zero only where the two parts overlap, in a box, and only this box is sent,
    one message for each pair of ranks, and in reverse along the same way. Of a field over N ranks a
    rank sends its part to each of G groups and receives G/N of the field, however many ranks there
    are; besides its two parts it needs memory for these messages. Where the parts of all ranks lie
    is exchanged once, here.

    Examples
    --------
    >>> grid = CartesianGrid((6, 4))
    >>> world = grid.comm
    >>> group = world.Split(2 * world.rank // world.size)  # two halves
    >>> of_group = CartesianGrid((6, 4), comm=group)
    >>> y = Redistribute(grid, of_group)(np.ones(grid.patch_shape))
    >>> y.shape == of_group.patch_shape and bool((y == 1).all())
    True
    """

    def __init__(
        self,
        source: CartesianGrid | Box,
        target: CartesianGrid | Box,
        comm: MPI.Comm | None = None,
    ) -> None:
        super().__init__(comm)
        with agreed(self.comm):
            shapes = [of.shape for of in (source, target) if isinstance(of, CartesianGrid)]
            if len({*shapes}) > 1:
                raise ValueError(
                    f"{self.name}: source is of a grid of shape {shapes[0]}, target of {shapes[1]}"
                )
            ends = _part(self.name, "source", source), _part(self.name, "target", target)
            axes = [part.shape[1] for part in ends]
            if axes[0] != axes[1]:
                raise ValueError(f"{self.name}: source has {axes[0]} axes, target {axes[1]}")
        parts = np.array(ends)
        self._axes = parts.shape[-1]
        same_on_all_ranks(self.comm, self.name, axes=self._axes)
        table = np.empty((self.comm.size, *parts.shape), np.int64)
        self.comm.Allgather(parts, table)
        self.source_shape, self.target_shape = (tuple((b - a).tolist()) for a, b in parts)
        self._leaving = _overlaps(parts[0], table[:, 1])
        self._arriving = _overlaps(parts[1], table[:, 0])
        self._channel, self._tag = new_channel(self.comm)

    def forward(self, x: Any) -> Any:
        array, error = self.floats(x)
        lead = array.shape[: max(array.ndim - self._axes, 0)]
        if error is None and array.shape != (*lead, *self.source_shape):
            error = ValueError(
                f"{self.name}: the input has shape {array.shape}, expected {self.source_shape}, "
                "or more axes before these"
            )
        self.meet(error, (self._tag, lead, array.dtype.name))
        return self._moved(array, self._leaving, self._arriving, self.target_shape)

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        return self._moved(tangents[0], self._leaving, self._arriving, self.target_shape)

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        return (self._moved(cotangents[0], self._arriving, self._leaving, self.source_shape),)

    def message(self, inputs: Any, outputs: Any) -> Message:
        lead, dtype = inputs[0].shape[: -self._axes], inputs[0].dtype.name
        text = f"{self.name} of {prod(lead)} {dtype} field{'' if prod(lead) == 1 else 's'}"
        payload = (self.name, lead, dtype, self._tag)
        return Message("collective", text, self.comm, None, self._tag, payload)

    def neighbours(self, inputs: Any, outputs: Any) -> dict[int, int]:
        """Return the bytes that a recorded call sends to each rank."""
        each = prod(inputs[0].shape[: -self._axes]) * inputs[0].dtype.itemsize
        return {o.rank: each * prod(o.shape) for o in self._leaving if o.rank != self.comm.rank}

    def _moved(
        self,
        x: Array,
        leaving: Sequence[_Overlap],
        arriving: Sequence[_Overlap],
        shape: tuple[int, ...],
    ) -> Array:
        """Hand on what others want of ``x``, and return the sum of what they have for this rank."""
        own, lead = self.comm.rank, x.shape[: -self._axes]
        received = {o.rank: np.empty((*lead, *o.shape), x.dtype) for o in arriving}
        requests = {
            rank: self._channel.Irecv(block, rank, self._tag)
            for rank, block in received.items()
            if rank != own
        }
        sends = []
        for rank, region, _ in leaving:
            block = np.ascontiguousarray(x[region])
            if rank == own:
                received[own] = block
                continue
            note_message(self.comm, block, rank)
            sends.append((self._channel.Isend(block, rank, self._tag), block))
        y = np.zeros((*lead, *shape), x.dtype)
        for rank, region, _ in arriving:  # by rank, whichever comes first
            if rank != own:
                with span("wait"):
                    requests[rank].Wait()
            y[region] += received.pop(rank)
        with span("wait"):
            MPI.Request.Waitall([request for request, _ in sends])
        return y


class _Overlap(NamedTuple):
    """What one's own part has in common with another rank's.

    Attributes
    ----------
    rank : int
    region : tuple
        Index of it within one's own part, for all fields.
    shape : tuple of int
    """

    rank: int
    region: Any
    shape: tuple[int, ...]


def _overlaps(part: Array, others: Array) -> list[_Overlap]:
    """Return the overlaps of a part with those of all ranks, by rank; those without nodes left out.

    Parameters
    ----------
    part : numpy.ndarray of int64, shape (2, axes)
        Start and stop.
    others : numpy.ndarray of int64, shape (ranks, 2, axes)
    """
    start = np.maximum(part[0], others[:, 0])
    stop = np.minimum(part[1], others[:, 1])
    found = []
    for rank in np.flatnonzero((start < stop).all(axis=1)).tolist():
        a, b = (start[rank] - part[0]).tolist(), (stop[rank] - part[0]).tolist()
        shape = tuple(j - i for i, j in zip(a, b))
        found.append(_Overlap(rank, (..., *map(slice, a, b)), shape))
    return found


def _part(name: str, argument: str, of: CartesianGrid | Box) -> Array:
    """Return start and stop along each axis, or raise."""
    box: Any = (of.start, of.stop) if isinstance(of, CartesianGrid) else of
    try:
        part = np.array(box)
    except ValueError:  # ends of different lengths
        part = np.empty(0)
    fit = part.ndim == 2 and len(part) == 2 and part.shape[1] > 0 and part.dtype.kind in "iu"
    if not fit or (part[0] > part[1]).any():
        raise ValueError(
            f"{name}: {argument} is {of!r}, expected a CartesianGrid or (start, stop), both with "
            "an integer for each axis, and no stop before its start"
        )
    return part.astype(np.int64)
