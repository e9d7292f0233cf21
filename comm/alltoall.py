"""From every rank a part to every rank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mpi4py import MPI

from .communication import Communication
from .transport import alltoallv


class Alltoall(Communication):
    """``y_s = (x_0[s], x_1[s], …)``: part s of every rank's array goes to rank s.

    Parameters
    ----------
    counts : sequence of int, optional
        Entries of this rank's first axis for each other rank, which may be zero; even parts by
        default.
    comm : mpi4py.MPI.Comm, optional
        ``COMM_WORLD`` by default.

    Notes
    -----
    The axes after the first and the dtype (float32 or float64) are alike on all ranks. The adjoint
    sends every part's cotangent back: the same exchange with sent and received counts swapped.

    Raises
    ------
    CommunicationError
        On all ranks, where dtypes or the other axes differ.
    ValueError
        On all ranks, where counts are not those of the array.

    Examples
    --------
    >>> Alltoall()(np.arange(float(communicator().size))).size == communicator().size
    True
    """

    auxiliary = 1

    def __init__(self, counts: Sequence[int] | None = None, comm: MPI.Comm | None = None) -> None:
        super().__init__(comm)
        self.counts = None if counts is None else tuple(int(n) for n in counts)

    def forward(self, x: Any) -> Any:
        array, error = self.floats(x)
        sent, error = self.parts_of(array, self.counts, error)
        self.meet(error, (array.shape[1:], array.dtype.name))
        announced = np.empty(self.comm.size, int)
        self.comm.Alltoall(np.array(sent), announced)
        received = tuple(int(n) for n in announced)
        return alltoallv(self.comm, array, sent, received), (sent, received)

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        (t,), (_, (sent, received)) = tangents, outputs
        return alltoallv(self.comm, t, sent, received)

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        (w,), (_, (sent, received)) = cotangents, outputs
        return (alltoallv(self.comm, w, received, sent),)
