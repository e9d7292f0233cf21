"""The communicator the library works on, and errors that all ranks raise together.

``mpi4py.MPI`` is imported on first use, so that ``import adjoint`` does not start MPI.
"""

from __future__ import annotations

import itertools
import pickle
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from .spans import span

if TYPE_CHECKING:
    from mpi4py import MPI


@cache
def _duplicate_key() -> int:
    """Attribute under which a communicator carries the library's duplicate of it."""
    from mpi4py import MPI

    def release(comm: MPI.Comm, keyval: int, own: MPI.Comm) -> None:
        ends: Any = own.Get_attr(_ends_key())
        for end in ends or ():
            end()
        own.Free()

    return MPI.Comm.Create_keyval(delete_fn=release)


@cache
def _ends_key() -> int:
    """Attribute under which a duplicate carries what is called before it is freed."""
    from mpi4py import MPI

    return MPI.Comm.Create_keyval()


@cache
def _own_key() -> int:
    """Attribute that marks a communicator as made by the library; its value is its identity."""
    from mpi4py import MPI

    return MPI.Comm.Create_keyval()


_numbers = itertools.count()

#: Seconds that a rank which failed by itself gives the others to fail as well.
PATIENCE = 5.0

#: How a message begins that names a rank already.
_NAMED = re.compile(r"rank \d+: ")


def identity(comm: MPI.Comm) -> tuple[int, int] | None:
    """Return what tells a duplicate from all others, the same on all its ranks.

    ``None`` for a communicator that the library has not made.
    """
    found: Any = comm.Get_attr(_own_key())
    return None if found is None else (found[0], found[1])


def communicator(comm: MPI.Comm | None = None) -> MPI.Comm:
    """Return the library's own duplicate of a communicator.

    Messages of the library never meet those of its user. There is one duplicate for each
    communicator, and it is freed with it.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm, optional
        ``COMM_WORLD`` by default. A duplicate made here is returned as it is.

    Notes
    -----
    Collective on the first call for a communicator.
    """
    from mpi4py import MPI

    if comm is None:
        comm = MPI.COMM_WORLD
    if comm.Get_attr(_own_key()):
        return comm
    own: Any = comm.Get_attr(_duplicate_key())
    if own is None:
        own = comm.Dup()
        # Its first rank, and how many duplicates that rank had made before as such.
        own.Set_attr(_own_key(), own.bcast((MPI.COMM_WORLD.rank, next(_numbers)), 0))
        comm.Set_attr(_duplicate_key(), own)
    duplicate: MPI.Comm = own
    return duplicate


def before_freeing(own: MPI.Comm, end: Callable[[], None]) -> None:
    """Have ``end()`` called, on all ranks, before a duplicate of the library is freed.

    A callback of an attribute on it would come too late for PETSc's objects, which have attributes
    on it themselves.
    """
    ends: Any = own.Get_attr(_ends_key())
    if ends is None:
        own.Set_attr(_ends_key(), ends := [])
    ends.append(end)


def agree(comm: MPI.Comm, error: Exception | None = None) -> None:
    """Raise the same exception on all ranks if any of them brings one; collective.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
    error : Exception, optional
        What this rank found. The lowest rank with a fault is named in the message.
    """
    from mpi4py import MPI

    if comm.size == 1:
        if error is not None:
            raise error
        return
    faulty = np.array(comm.size if error is None else comm.rank)
    with span("wait"):
        comm.Allreduce(MPI.IN_PLACE, faulty, MPI.MIN)
    first = int(faulty)
    if first == comm.size:
        return
    found = portable(error) if error is not None and comm.rank == first else None
    kind, message = comm.bcast(found, first)
    raise restored(kind, message, first) from error


def portable(error: BaseException) -> tuple[type[BaseException], str]:
    """Return the kind and the message of an exception, fit to be sent to other ranks."""
    kind = type(error)
    try:
        pickle.dumps(kind)
    except Exception:  # a class that the others cannot look up, such as one made in a function
        return RuntimeError, f"{kind.__name__}: {error}"
    return kind, str(error)


def restored(kind: type[BaseException], message: str, rank: int) -> BaseException:
    """Return the exception that :func:`portable` has taken apart on a rank, which it names."""
    named = "" if _NAMED.match(message) else f"rank {rank}: "  # by an agreement within this one
    try:
        return kind(f"{named}{message}")
    except Exception:  # an exception that is not made from one message
        return RuntimeError(f"rank {rank}: {kind.__name__}: {message}")


@contextmanager
def agreed(comm: MPI.Comm) -> Iterator[None]:
    """Run a block that may fail on some ranks; where it does, all ranks raise the same exception.

    The block must not communicate, but in steps whose own errors are agreed.

    Examples
    --------
    >>> with agreed(communicator()):
    ...     if not np.isfinite(1.0):
    ...         raise ValueError("the field is not finite")
    """
    error: Exception | None = None
    try:
        yield
    except Exception as caught:
        error = caught
    agree(comm, error)


@contextmanager
def agreed_or_ended(comm: MPI.Comm) -> Iterator[None]:
    """Run a block as :func:`agreed` does that communicates, such as a function of the user's.

    A rank that fails where others wait for its messages would wait for them in turn. It ends the
    job, with its traceback, unless all have come to the end of the block within ``PATIENCE``.
    """
    error: Exception | None = None
    try:
        yield
    except Exception as caught:
        error = caught
    if error is None or comm.size == 1:
        comm.Ibarrier().Wait()
    elif not all_arrive(comm):
        traceback.print_exception(error)
        sys.stderr.flush()
        comm.Abort(1)
    agree(comm, error)


def true_everywhere(comm: MPI.Comm, condition: bool) -> bool:
    """Return whether a condition holds on all ranks; collective."""
    from mpi4py import MPI

    flag = np.array(bool(condition))
    with span("wait"):
        comm.Allreduce(MPI.IN_PLACE, flag, MPI.LAND)
    return bool(flag)


def all_arrive(comm: MPI.Comm) -> bool:
    """Return whether all ranks come here, or meet the same barrier, within ``PATIENCE``."""
    arrived = comm.Ibarrier()
    limit = time.monotonic() + PATIENCE
    while not arrived.Test():
        if time.monotonic() > limit:
            return False
        time.sleep(0.01)
    return True
