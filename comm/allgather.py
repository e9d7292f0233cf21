"""All ranks' arrays, one after another, on all ranks."""

from __future__ import annotations

from typing import Any

from .communication import Communication, as_rows
from .transport import allgatherv, reduce_scatterv


class Allgather(Communication):
    """``y_r = (x_0, x_1, …)`` joined along the first axis, on every rank r.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm, optional
        ``COMM_WORLD`` by default.

    Notes
    -----
    Arrays may differ in the length of their first axis, which may be zero; the other axes and the
    dtype (float32 or float64) are alike. A number (shape ``()``) counts as one entry. Each part is
    on every rank, so its cotangents are summed over ranks: the adjoint is ``ReduceScatter``.

    Raises
    ------
    CommunicationError
        On all ranks, where dtypes or the other axes differ.

    Examples
    --------
    >>> Allgather()(np.arange(2.0)).size == 2 * communicator().size
    True
    """

    auxiliary = 1

    def forward(self, x: Any) -> Any:
        rows, counts = self.meet_rows(x)
        return allgatherv(self.comm, rows, counts), counts

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        (t,), (_, counts) = tangents, outputs
        return allgatherv(self.comm, as_rows(t), counts)

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        (w,), (x,), (_, counts) = cotangents, inputs, outputs
        return (reduce_scatterv(self.comm, w, counts).reshape(x.shape),)
