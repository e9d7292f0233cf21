"""Which entries of a distributed vector go to which rank, and the messages that take them there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..comm.channel import new_channel
from ..spans import sent, span
from ..variable import Array

if TYPE_CHECKING:
    from mpi4py import MPI


class Exchange:
    """A fixed plan that appends entries of other ranks' vectors to one's own, and its transpose.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
        The library's duplicate of a communicator. The exchange has a channel of its own on it, so
        it is made by all ranks together.
    length : int
        Number of entries of this rank's vector.
    send : mapping of int to array of int
        For each receiving rank the positions of the entries it gets, each position once.
    receive : mapping of int to int
        For each sending rank the number of entries it sends.

    Attributes
    ----------
    length, received : int
        Numbers of own entries and of those that come from other ranks.

    Notes
    -----
    ``fetch`` is ``[x; R x]`` with a selection ``R`` of entries of all ranks, and ``add_back`` its
    transpose ``[x̄; ḡ] ↦ x̄ + Rᵀ ḡ``, which adds to each entry what its copies elsewhere got.
    """

    def __init__(
        self, comm: MPI.Comm, length: int, send: Mapping[int, Array], receive: Mapping[int, int]
    ) -> None:
        self._comm, self._tag = new_channel(comm)
        self.length = length
        self._senders = slices({rank: receive[rank] for rank in sorted(receive)})
        self._receivers = slices({rank: len(send[rank]) for rank in sorted(send)})
        self.received = sum(receive.values())
        self._positions = np.concatenate(
            [np.zeros(0, np.intp), *(send[rank] for rank in sorted(send))]
        ).astype(np.intp)
        self._buffer = np.empty(len(self._positions))

    @property
    def sends(self) -> dict[int, int]:
        """Bytes that :meth:`fetch` sends to each rank."""
        return {rank: self._buffer[part].nbytes for rank, part in self._receivers}

    def fetch(self, x: Array) -> Array:
        """Return this rank's entries followed by those of other ranks, by rank; collective."""
        from mpi4py import MPI

        extended = np.empty(self.length + self.received)
        extended[: self.length] = x
        ghosts = extended[self.length :]
        comm, tag = self._comm, self._tag
        requests = [comm.Irecv(ghosts[part], rank, tag) for rank, part in self._senders]
        np.take(x, self._positions, out=self._buffer, mode="clip")  # "raise" would copy
        sent(self._buffer.nbytes)
        for rank, part in self._receivers:
            requests.append(comm.Isend(self._buffer[part], rank, tag))
        with span("wait"):
            MPI.Request.Waitall(requests)
        return extended

    def add_back(self, extended: Array) -> Array:
        """Return the transpose of :meth:`fetch` applied to ``extended``; collective."""
        from mpi4py import MPI

        ghosts = np.ascontiguousarray(extended[self.length :])
        comm, tag = self._comm, self._tag
        requests = [comm.Irecv(self._buffer[part], rank, tag) for rank, part in self._receivers]
        sent(ghosts.nbytes)
        for rank, part in self._senders:
            requests.append(comm.Isend(ghosts[part], rank, tag))
        x: Array = extended[: self.length].copy()
        with span("wait"):
            MPI.Request.Waitall(requests)
        for _, part in self._receivers:  # within one part no position occurs twice
            x[self._positions[part]] += self._buffer[part]
        return x


def exchange_for(comm: MPI.Comm, starts: Array, wanted: Array) -> Exchange:
    """Plan an exchange from what each rank wants; collective.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
    starts : array of int64
        Global number of each rank's first entry, and the number of all entries at the end.
    wanted : array of int64
        Global numbers of other ranks' entries, sorted, each once.
    """
    bounds = np.searchsorted(wanted, starts)
    parts = {r: wanted[bounds[r] : bounds[r + 1]] for r in range(comm.size)}
    asked = swap(comm, {r: part for r, part in parts.items() if len(part)})
    first, end = starts[comm.rank], starts[comm.rank + 1]
    send = {rank: numbers - first for rank, numbers in asked.items()}
    receive = {rank: len(part) for rank, part in parts.items() if len(part)}
    return Exchange(comm, int(end - first), send, receive)


def swap(comm: MPI.Comm, outgoing: Mapping[int, Array]) -> dict[int, Array]:
    """Send each rank its array of int64, and return what the others sent; collective.

    Ranks that send nothing are left out of the result.
    """
    lengths = np.zeros(comm.size, np.int64)
    for rank, numbers in outgoing.items():
        lengths[rank] = len(numbers)
    counts = np.empty_like(lengths)
    comm.Alltoall(lengths, counts)
    incoming: dict[int, Any] = {
        int(rank): np.empty(counts[rank], np.int64) for rank in np.flatnonzero(counts)
    }
    from mpi4py import MPI

    channel, tag = new_channel(comm)
    requests = [channel.Irecv(numbers, rank, tag) for rank, numbers in incoming.items()]
    for rank, numbers in outgoing.items():
        if len(numbers):
            requests.append(channel.Isend(np.ascontiguousarray(numbers, np.int64), rank, tag))
    MPI.Request.Waitall(requests)
    return incoming


def slices(counts: Mapping[int, int]) -> list[tuple[int, slice]]:
    """Return the consecutive part of a buffer that belongs to each rank with any entries."""
    parts, start = [], 0
    for rank, count in counts.items():
        if count:
            parts.append((rank, slice(start, start + count)))
        start += count
    return parts
