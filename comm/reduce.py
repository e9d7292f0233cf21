"""The sum of all ranks' arrays on one rank."""

from __future__ import annotations

from typing import Any

from mpi4py import MPI

from .communication import Communication
from .transport import bcast, reduce


class Reduce(Communication):
    """``y_root = Σ_r x_r``; the other ranks get zeros.

    Parameters
    ----------
    root : int
    comm : mpi4py.MPI.Comm, optional
        ``COMM_WORLD`` by default.

    Notes
    -----
    All ranks give an array of the same shape and dtype (float32 or float64). Every rank's
    contribution enters with the factor one, so each has the root's cotangent: ``x̄_r = ȳ_root``.

    Raises
    ------
    CommunicationError
        On all ranks, where roots, shapes or dtypes differ.

    Examples
    --------
    >>> float(Reduce(root=0)(np.array(2.0))) == 2.0 * communicator().size
    True
    """

    def __init__(self, root: int = 0, comm: MPI.Comm | None = None) -> None:
        super().__init__(comm)
        self.root = self.require_rank("root", root)

    def forward(self, x: Any) -> Any:
        x = self.meet_alike(x, root=self.root)
        return reduce(self.comm, x, self.root)

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        return reduce(self.comm, tangents[0], self.root)

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        return (bcast(self.comm, cotangents[0], self.root),)
