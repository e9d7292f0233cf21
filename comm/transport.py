"""MPI's collectives on NumPy arrays: new arrays in and out, no pickling, no derivatives.

Arrays are cut along their first axis; ``counts`` says how many entries of it each rank has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mpi4py import MPI

from ..spans import sent as note_sent
from ..variable import Array, Spec

Counts = Sequence[int]


def contiguous(x: Any) -> Array:
    """Return ``x`` in C order, which MPI sends without packing; a copy only where needed."""
    return np.ascontiguousarray(x).reshape(np.shape(x))


def bcast(comm: MPI.Comm, x: Any, root: int) -> Array:
    """Return the root's array on all ranks."""
    result = np.array(x, order="C")
    if comm.rank == root:
        _note(comm, result.nbytes)
    comm.Bcast(result, root)
    return result


def reduce(comm: MPI.Comm, x: Any, root: int) -> Array:
    """Return the sum of all ranks' arrays on the root, and zeros elsewhere."""
    x = contiguous(x)
    result = np.zeros(x.shape, x.dtype)
    if comm.rank != root:
        _note(comm, x.nbytes)
    comm.Reduce(x, result if comm.rank == root else None, MPI.SUM, root)
    return result


def allreduce(comm: MPI.Comm, x: Any) -> Array:
    """Return the sum of all ranks' arrays on all ranks."""
    x = contiguous(x)
    result = np.empty(x.shape, x.dtype)
    _note(comm, x.nbytes)
    comm.Allreduce(x, result, MPI.SUM)
    return result


def gatherv(comm: MPI.Comm, x: Any, counts: Counts, root: int) -> Array:
    """Return all ranks' arrays, one after another, on the root, and an empty array elsewhere."""
    x = contiguous(x)
    rows = sum(counts) if comm.rank == root else 0
    result = np.empty((rows, *x.shape[1:]), x.dtype)
    parts = _parts(result, counts) if comm.rank == root else None
    if comm.rank != root:
        _note(comm, x.nbytes)
    comm.Gatherv(x, parts, root)
    return result


def scatterv(comm: MPI.Comm, x: Any, like: Array | Spec, counts: Counts, root: int) -> Array:
    """Return this rank's part of the root's array, in the shape and dtype of ``like``."""
    result = np.empty(like.shape, like.dtype)
    parts = _parts(contiguous(x), counts) if comm.rank == root else None
    if comm.rank == root:
        _note(comm, x.nbytes - result.nbytes)
    comm.Scatterv(parts, result, root)
    return result


def allgatherv(comm: MPI.Comm, x: Any, counts: Counts) -> Array:
    """Return all ranks' arrays, one after another, on all ranks."""
    x = contiguous(x)
    result = np.empty((sum(counts), *x.shape[1:]), x.dtype)
    _note(comm, x.nbytes)
    comm.Allgatherv(x, _parts(result, counts))
    return result


def reduce_scatterv(comm: MPI.Comm, x: Any, counts: Counts) -> Array:
    """Return this rank's part of the sum of all ranks' arrays."""
    x = contiguous(x)
    result = np.empty((counts[comm.rank], *x.shape[1:]), x.dtype)
    width = _width(x)
    _note(comm, x.nbytes - result.nbytes)
    comm.Reduce_scatter(x, result, [n * width for n in counts], MPI.SUM)
    return result


def alltoallv(comm: MPI.Comm, x: Any, sent: Counts, received: Counts) -> Array:
    """Return what all ranks have for this one, in the order of ranks."""
    x = contiguous(x)
    result = np.empty((sum(received), *x.shape[1:]), x.dtype)
    _note(comm, x.nbytes - sent[comm.rank] * _width(x) * x.itemsize)
    comm.Alltoallv(_parts(x, sent), _parts(result, received))
    return result


def _note(comm: MPI.Comm, count: int) -> None:
    """Note how many bytes of this rank's go to others; see :func:`adjoint.profiling`."""
    if comm.size > 1:
        note_sent(count)


def note_message(comm: MPI.Comm, x: Array, dest: int) -> None:
    """Note what is sent to one rank."""
    if dest != comm.rank:
        note_sent(x.nbytes)


def _width(x: Array) -> int:
    """Return the number of values in one entry of the first axis."""
    return int(np.prod(x.shape[1:]))


def _parts(x: Array, counts: Counts) -> list[Any]:
    """Return a buffer in MPI's form: array, values for each rank, where they begin."""
    values = np.array(counts, int) * _width(x)
    return [x, (values, np.cumsum(values) - values)]
