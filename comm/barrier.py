"""A point that no rank passes before all have come to it, forwards and backwards."""

from __future__ import annotations

from typing import Any

from .communication import Communication


class Barrier(Communication):
    """Wait for all ranks; in the reverse sweep too, at the same place.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm, optional
        ``COMM_WORLD`` by default.

    Notes
    -----
    No data, no derivative. :func:`adjoint.comm.sync` waits without being recorded.

    Examples
    --------
    >>> Barrier()()
    """

    def forward(self) -> None:
        self.meet(None, ())

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> None:
        self.comm.Barrier()

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        self.comm.Barrier()
        return ()
