"""MPI itself: start, end, rank, size, synchronisation. Nothing here has a gradient."""

from __future__ import annotations

from mpi4py import MPI

from ..world import communicator


def init() -> None:
    """Start MPI, unless it runs already; importing ``adjoint.comm`` does so too."""
    if not MPI.Is_initialized():
        MPI.Init()


def finalize() -> None:
    """End MPI, unless it has ended; a program that merely exits does so too."""
    if not MPI.Is_finalized():
        MPI.Finalize()


def initialized() -> bool:
    """Whether MPI has been started."""
    return bool(MPI.Is_initialized())


def finalized() -> bool:
    """Whether MPI has been ended."""
    return bool(MPI.Is_finalized())


def rank(comm: MPI.Comm | None = None) -> int:
    """Return the number of this process in a communicator (``COMM_WORLD`` by default)."""
    return (MPI.COMM_WORLD if comm is None else comm).rank


def size(comm: MPI.Comm | None = None) -> int:
    """Return the number of processes in a communicator (``COMM_WORLD`` by default)."""
    return (MPI.COMM_WORLD if comm is None else comm).size


def sync(comm: MPI.Comm | None = None) -> None:
    """Wait until all processes have come here; :class:`Barrier` is recorded, this is not."""
    communicator(comm).Barrier()
