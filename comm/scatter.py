"""One rank's array cut into parts, one for each rank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mpi4py import MPI

from ..variable import Spec
from .communication import Communication
from .transport import gatherv, scatterv


class Scatter(Communication):
    """``(y_0, y_1, …) = x_root``: rank r gets part r of the root's array, cut along the first axis.

    Parameters
    ----------
    root : int
    counts : sequence of int, optional
        Entries of the first axis for each rank, which may be zero; even parts by default. Those of
        the root count.
    comm : mpi4py.MPI.Comm, optional
        ``COMM_WORLD`` by default.

    Notes
    -----
    On the other ranks the input is not looked at: give ``None``. The adjoint gathers the parts'
    cotangents on the root.

    Raises
    ------
    ValueError, TypeError
        On all ranks, where counts are not those of the array or its dtype is not a float's.
    CommunicationError
        On all ranks, where roots differ.

    Examples
    --------
    >>> part = Scatter(root=0)(np.arange(10.0))
    """

    auxiliary = 1

    def __init__(
        self, root: int = 0, counts: Sequence[int] | None = None, comm: MPI.Comm | None = None
    ) -> None:
        super().__init__(comm)
        self.root = self.require_rank("root", root)
        self.counts = None if counts is None else tuple(int(n) for n in counts)

    def forward(self, x: Any) -> Any:
        error: Exception | None = None
        counts: tuple[int, ...] = ()
        array = np.zeros(0)
        if self.comm.rank == self.root:
            array, error = self.floats(x)
            counts, error = self.parts_of(array, self.counts, error)
        self.meet(error, ("root", self.root))
        counts, rest, dtype = self.comm.bcast((counts, array.shape[1:], array.dtype), self.root)
        part = Spec((counts[self.comm.rank], *rest), dtype)
        return scatterv(self.comm, array, part, counts, self.root), counts

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        (t,), (y, counts) = tangents, outputs
        return scatterv(self.comm, t, y, counts, self.root)

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        (w,), (x,), (_, counts) = cotangents, inputs, outputs
        whole = gatherv(self.comm, w, counts, self.root)
        if self.comm.rank == self.root:
            return (whole,)
        return (x.zeros() if isinstance(x, Spec) else None,)
