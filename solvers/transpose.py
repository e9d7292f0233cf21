"""The transpose of a distributed sparse matrix."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..operator import Operator
from ..variable import Array
from ..world import agreed
from .exchange import Exchange, swap
from .pattern import Pattern


class Transpose(Operator):
    """``values of A ↦ values of Aᵀ``, both in rows over the ranks.

    The pattern of ``Aᵀ`` and the way of each entry are found once, here; a call is then a
    permutation with one message to each neighbour.

    Parameters
    ----------
    pattern : Pattern
        Of ``A``.

    Attributes
    ----------
    pattern : Pattern
        Of ``A``.
    transposed : Pattern
        Of ``Aᵀ``: its rows are distributed as the columns of ``A`` are, and the other way round.

    Notes
    -----
    Collective. The forward rule is ``b = P a`` with a permutation ``P`` of all ranks' entries, so
    the tangent is ``ḃ = P ȧ`` and the adjoint ``ā = Pᵀ b̄``: each entry goes back to its place.

    Examples
    --------
    >>> from mpi4py import MPI
    >>> transpose = Transpose(Pattern([0, 2, 3], [0, 1, 1], comm=MPI.COMM_SELF))
    >>> transpose(np.array([1.0, 2.0, 3.0]))
    array([1., 2., 3.])
    >>> transpose.transposed.indices
    array([0, 0, 1])
    """

    needs_inputs = ()
    needs_outputs = ()
    communicates = True

    def __init__(self, pattern: Pattern) -> None:
        self.pattern = pattern
        comm, begin = pattern.comm, pattern.column_range[0]
        rows = pattern.rows
        owner = np.searchsorted(pattern.column_starts, pattern.indices, side="right") - 1
        leaving = {int(r): np.flatnonzero(owner == r) for r in np.unique(owner) if r != comm.rank}
        new_rows = swap(comm, {r: pattern.indices[entries] for r, entries in leaving.items()})
        new_columns = swap(comm, {r: rows[entries] for r, entries in leaving.items()})
        arriving = {r: len(entries) for r, entries in new_rows.items()}
        self._exchange = Exchange(comm, pattern.nnz, leaving, arriving)

        # All entries that are here after the exchange, own ones first; those that leave drop out.
        order = sorted(arriving)
        row = np.concatenate([pattern.indices, *(new_rows[r] for r in order)]) - begin
        column = np.concatenate([rows, *(new_columns[r] for r in order)])
        here = np.concatenate(
            [owner == comm.rank, np.ones(self._exchange.received, bool)]
        ).nonzero()[0]
        self._order = here[np.lexsort((column[here], row[here]))]
        lengths = np.bincount(row[here], minlength=pattern.local_shape[1])
        indptr = np.concatenate([[0], np.cumsum(lengths)])
        self.transposed = Pattern(indptr, column[self._order], pattern.local_shape[0], comm)

    def check(self, values: Any) -> None:
        with agreed(self.pattern.comm):
            self.pattern.check_values(self, values)

    def forward(self, values: Any) -> Any:
        extended = self._exchange.fetch(values)
        return np.take(extended, self._order, mode="clip")

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        return self.forward(tangents[0])

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        extended: Array = np.zeros(self._exchange.length + self._exchange.received)
        extended[self._order] = cotangents[0]
        return (self._exchange.add_back(extended),)

    def neighbours(self, inputs: Any, outputs: Any) -> dict[int, int]:
        """Return the bytes that a recorded call sends to each rank."""
        return self._exchange.sends
