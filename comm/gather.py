"""All ranks' arrays, one after another, on one rank."""

from __future__ import annotations

from typing import Any

from mpi4py import MPI

from ..variable import Spec
from .communication import Communication, as_rows
from .transport import gatherv, scatterv


class Gather(Communication):
    """``y_root = (x_0, x_1, …)`` joined along the first axis; the other ranks get an empty array.

    Parameters
    ----------
    root : int
    comm : mpi4py.MPI.Comm, optional
        ``COMM_WORLD`` by default.

    Notes
    -----
    Arrays may differ in the length of their first axis, which may be zero; the other axes and the
    dtype (float32 or float64) are alike. A number (shape ``()``) counts as one entry. The adjoint
    cuts the root's cotangent and gives every rank its part back.

    Raises
    ------
    CommunicationError
        On all ranks, where roots, dtypes or the other axes differ.

    Examples
    --------
    >>> Gather(root=0)(np.arange(2.0)).size in (0, 2 * communicator().size)
    True
    """

    auxiliary = 1

    def __init__(self, root: int = 0, comm: MPI.Comm | None = None) -> None:
        super().__init__(comm)
        self.root = self.require_rank("root", root)

    def forward(self, x: Any) -> Any:
        rows, counts = self.meet_rows(x, root=self.root)
        return gatherv(self.comm, rows, counts, self.root), counts

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        (t,), (_, counts) = tangents, outputs
        return gatherv(self.comm, as_rows(t), counts, self.root)

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        (w,), (x,), (_, counts) = cotangents, inputs, outputs
        return (scatterv(self.comm, w, Spec.of(x), counts, self.root),)
