"""The sum of all ranks' arrays on all ranks."""

from __future__ import annotations

from typing import Any

from .communication import Communication
from .transport import allreduce


class Allreduce(Communication):
    """``y_r = Σ_s x_s`` on every rank r.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm, optional
        ``COMM_WORLD`` by default.

    Notes
    -----
    All ranks give an array of the same shape and dtype (float32 or float64). Each contribution is
    in every copy of the sum, so the adjoint sums the copies' cotangents: ``x̄_s = Σ_r ȳ_r``. (Some
    libraries take the identity, which is right where all copies bear one cotangent that should
    count once; see docs/conventions.md.)

    Raises
    ------
    CommunicationError
        On all ranks, where shapes or dtypes differ.

    Examples
    --------
    >>> float(Allreduce()(np.array(2.0))) == 2.0 * communicator().size
    True
    """

    def forward(self, x: Any) -> Any:
        return allreduce(self.comm, self.meet_alike(x))

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        return allreduce(self.comm, tangents[0])

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        return (allreduce(self.comm, cotangents[0]),)
