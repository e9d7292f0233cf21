"""Sums over ranks that are the same to the last bit on all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..variable import Array

if TYPE_CHECKING:
    from mpi4py import MPI


def summed(comm: MPI.Comm, part: Any) -> Array:
    """Return the sum over all ranks, taken on rank 0 and handed to the others; collective.

    ``Allreduce`` may add in another order on each rank, and ranks that decide by a number must have
    the same one.
    """
    from mpi4py import MPI

    total = np.array(part, dtype=np.float64, order="C")
    if comm.size > 1:
        if comm.rank == 0:
            comm.Reduce(MPI.IN_PLACE, total, MPI.SUM, 0)
        else:
            comm.Reduce(total, None, MPI.SUM, 0)
        comm.Bcast(total, 0)
    return total
