"""One rank's array on all ranks."""

from __future__ import annotations

from typing import Any

from mpi4py import MPI

from .communication import Communication
from .transport import bcast, reduce


class Bcast(Communication):
    """``y_r = x_root`` on every rank r.

    Parameters
    ----------
    root : int
    comm : mpi4py.MPI.Comm, optional
        ``COMM_WORLD`` by default.

    Notes
    -----
    All ranks give an array of the same shape and dtype (float32 or float64); that of root counts.
    The adjoint of copying is summing: ``x̄_root = Σ_r ȳ_r``, and zero on the other ranks, whose
    arrays did not matter.

    Raises
    ------
    CommunicationError
        On all ranks, where roots, shapes or dtypes differ.

    Examples
    --------
    >>> float(Bcast(root=0)(np.array(1.5)))
    1.5
    """

    def __init__(self, root: int = 0, comm: MPI.Comm | None = None) -> None:
        super().__init__(comm)
        self.root = self.require_rank("root", root)

    def forward(self, x: Any) -> Any:
        x = self.meet_alike(x, root=self.root)
        return bcast(self.comm, x, self.root)

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        return bcast(self.comm, tangents[0], self.root)

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        return (reduce(self.comm, cotangents[0], self.root),)
