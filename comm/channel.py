"""A communicator and tags for messages that no user sees, apart from all others."""

from __future__ import annotations

from functools import cache
from itertools import count
from typing import Any

from mpi4py import MPI

from .tags import highest_tag


def new_channel(comm: MPI.Comm) -> tuple[MPI.Comm, int]:
    """Return a communicator for internal messages and a tag of one's own there; collective.

    Exchanges that are under way together never take each other's messages for their own, and
    those of ``Send`` and ``Recv`` are apart from all of them.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
        The library's duplicate of a communicator; all its ranks ask for their channels in the same
        order.
    """
    channels: Any = comm.Get_attr(_key())
    if channels is None:
        channels = _Channels(comm)
        comm.Set_attr(_key(), channels)
    return channels.comm, next(channels.tags) % channels.limit


class _Channels:
    """A communicator for channels alone, and the tags not yet taken there."""

    def __init__(self, comm: MPI.Comm) -> None:
        self.comm = comm.Dup()
        self.tags = count()
        self.limit = highest_tag() + 1


@cache
def _key() -> int:
    """Attribute under which the library's communicator carries its channels."""

    def release(comm: MPI.Comm, keyval: int, channels: _Channels) -> None:
        channels.comm.Free()

    return MPI.Comm.Create_keyval(delete_fn=release)
