"""Messages under way that nobody waits for any more, with the memory that they need."""

from __future__ import annotations

from typing import Any

from mpi4py import MPI

_kept: list[tuple[MPI.Request, Any]] = []


def keep_until_complete(request: MPI.Request, memory: Any = None) -> None:
    """Keep the memory of a message alive until MPI has done with it.

    Parameters
    ----------
    request : mpi4py.MPI.Request
        Not persistent, or active if it is.
    memory : object
        Whatever the message is sent from or received into.
    """
    if MPI.Is_finalized():
        return
    _kept.append((request, memory))
    _kept[:] = [entry for entry in _kept if not _complete(entry[0])]


def _complete(request: MPI.Request) -> bool:
    try:
        return bool(request.Test())
    except MPI.Exception:  # a message that was longer than its memory: MPI has done with it too
        return True
