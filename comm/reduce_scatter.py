"""The sum of all ranks' arrays, cut into parts, one for each rank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mpi4py import MPI

from .communication import Communication
from .transport import allgatherv, reduce_scatterv


class ReduceScatter(Communication):
    """``(y_0, y_1, …) = Σ_r x_r``: rank s gets part s of the sum, cut along the first axis.

    Parameters
    ----------
    counts : sequence of int, optional
        Entries of the first axis for each rank; even parts by default.
    comm : mpi4py.MPI.Comm, optional
        ``COMM_WORLD`` by default.

    Notes
    -----
    All ranks give an array of the same shape and dtype (float32 or float64). Every rank's part
    ``s`` enters ``y_s`` with the factor one, so the adjoint is ``Allgather``.

    Raises
    ------
    CommunicationError
        On all ranks, where counts, shapes or dtypes differ.
    ValueError
        On all ranks, where counts are not those of the array.

    Examples
    --------
    >>> ReduceScatter()(np.ones(communicator().size)) == communicator().size
    array([ True])
    """

    def __init__(self, counts: Sequence[int] | None = None, comm: MPI.Comm | None = None) -> None:
        super().__init__(comm)
        self.counts = None if counts is None else tuple(int(n) for n in counts)

    def forward(self, x: Any) -> Any:
        array, error = self.floats(x)
        counts, error = self.parts_of(array, self.counts, error)
        self.meet(error, (counts, array.shape, array.dtype.name))
        return reduce_scatterv(self.comm, array, counts)

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        (t,) = tangents
        return reduce_scatterv(self.comm, t, self.parts_of(t, self.counts)[0])

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        (w,), (x,) = cotangents, inputs
        return (allgatherv(self.comm, w, self.parts_of(x, self.counts)[0]),)
