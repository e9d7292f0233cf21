"""Where the entries of a distributed sparse matrix are; their values live on the tape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import csr_matrix

from ..variable import Array
from ..world import agreed, communicator
from .exchange import exchange_for

if TYPE_CHECKING:
    from mpi4py import MPI

    from ..operator import Operator


class Pattern:
    """The pattern of a sparse matrix whose rows, in contiguous stripes, belong to the ranks.

    Values go with it as one array of this rank's entries, row after row. A vector that the matrix
    is applied to is distributed as its columns are, the result as its rows.

    Parameters
    ----------
    indptr : array_like of int
        Row ``i`` of this rank has the entries ``indptr[i]`` to ``indptr[i + 1]``. A rank without
        rows passes ``[0]``.
    indices : array_like of int
        Global column of each entry, increasing within each row.
    columns : int, optional
        How many columns (entries of ``x``) belong to this rank; by default as many as rows.
    comm : mpi4py.MPI.Comm, optional
        ``COMM_WORLD`` by default; the library works on its own duplicate.

    Attributes
    ----------
    comm : mpi4py.MPI.Comm
    shape : tuple of int
        Rows and columns of the whole matrix.
    local_shape : tuple of int
        Rows and columns that belong to this rank.
    row_starts, column_starts : numpy.ndarray of int64
        Global number of each rank's first row (column), and the number of all at the end.
    nnz : int
        Number of this rank's entries.
    indptr, indices : numpy.ndarray
        As given; ``indices`` of int64.
    ghosts : numpy.ndarray of int64
        Columns of other ranks in which this rank has entries, sorted.
    exchange : Exchange
        Fetches the entries of ``x`` at ``ghosts``.
    local_indices : numpy.ndarray
        Column of each entry in the vector that ``exchange.fetch`` returns.

    Raises
    ------
    ValueError
        On all ranks, if an argument is inconsistent on any: a row pointer that decreases or does
        not fit, a column out of range, columns that do not increase (duplicates).

    Notes
    -----
    Collective.

    Examples
    --------
    >>> from mpi4py import MPI
    >>> from adjoint.solvers import MatVec
    >>> pattern = Pattern([0, 2, 3], [0, 1, 1], comm=MPI.COMM_SELF)
    >>> MatVec(pattern)(np.array([1.0, 2.0, 3.0]), np.array([1.0, 10.0]))
    array([21., 30.])
    """

    name = "Pattern"

    def __init__(
        self,
        indptr: Any,
        indices: Any,
        columns: int | None = None,
        comm: MPI.Comm | None = None,
    ) -> None:
        self.comm = communicator(comm)
        with agreed(self.comm):
            self.indptr = _integers("indptr", indptr)
            self.indices = _integers("indices", indices)
            self.nnz = len(self.indices)
            if not len(self.indptr) or self.indptr[0] != 0 or self.indptr[-1] != self.nnz:
                ends = self.indptr[[0, -1]].tolist() if len(self.indptr) else "nothing"
                raise ValueError(
                    f"Pattern: indptr begins and ends with {ends}, expected [0, {self.nnz}], "
                    "the length of indices"
                )
            if np.any(np.diff(self.indptr) < 0):
                raise ValueError(
                    f"Pattern: indptr decreases after row {_first(np.diff(self.indptr) < 0)}, "
                    "expected it never to"
                )
            rows = len(self.indptr) - 1
            owned = rows if columns is None else columns
            if owned < 0:
                raise ValueError(f"Pattern: columns is {owned}, expected 0 or more")
        self.local_shape = (rows, owned)
        counts = np.array(self.comm.allgather(self.local_shape), np.int64)
        self.row_starts = np.concatenate([[0], np.cumsum(counts[:, 0])])
        self.column_starts = np.concatenate([[0], np.cumsum(counts[:, 1])])
        self.shape = (int(self.row_starts[-1]), int(self.column_starts[-1]))
        with agreed(self.comm):
            self._check_columns()
        self._locate_columns()

    @classmethod
    def from_scipy(
        cls, stripe: Any, columns: int | None = None, comm: MPI.Comm | None = None
    ) -> tuple[Pattern, Array]:
        """Return the pattern and the values of a matrix of which each rank has its rows.

        Parameters
        ----------
        stripe : scipy.sparse matrix, or array_like
            This rank's rows, with all columns of the matrix; duplicates are summed.
        columns, comm
            As for the class.

        Returns
        -------
        pattern : Pattern
        values : numpy.ndarray of float64
            This rank's values.

        Raises
        ------
        ValueError, TypeError
            On all ranks, if a stripe is no matrix or has not as many columns as the ranks together.
        """
        with agreed(communicator(comm)):
            matrix = csr_matrix(stripe, dtype=np.float64, copy=True)
        matrix.sum_duplicates()  # sorts, too
        pattern = cls(matrix.indptr, matrix.indices, columns, comm)
        with agreed(pattern.comm):
            if matrix.shape[1] != pattern.shape[1]:
                raise ValueError(
                    f"Pattern.from_scipy: stripe has {matrix.shape[1]} columns, expected "
                    f"{pattern.shape[1]}, the sum of all ranks' columns"
                )
        return pattern, matrix.data

    @property
    def row_range(self) -> tuple[int, int]:
        """Global numbers of this rank's first row and of the row after its last."""
        rank = self.comm.rank
        return int(self.row_starts[rank]), int(self.row_starts[rank + 1])

    @property
    def column_range(self) -> tuple[int, int]:
        """Global numbers of this rank's first column and of the column after its last."""
        rank = self.comm.rank
        return int(self.column_starts[rank]), int(self.column_starts[rank + 1])

    @property
    def rows(self) -> Array:
        """Global row of each of this rank's entries, int64: what ``indices`` is of columns."""
        rows: Array = np.repeat(np.arange(*self.row_range), self._row_lengths)
        return rows

    @property
    def square(self) -> bool:
        """Whether rows and columns are distributed alike."""
        return bool(np.array_equal(self.row_starts, self.column_starts))

    def matrix(self, values: Array) -> csr_matrix:
        """Return this rank's stripe, with the columns that ``exchange.fetch`` lays out."""
        shape = (self.local_shape[0], self._width)
        return csr_matrix((values, self.local_indices, self._local_indptr), shape=shape, copy=False)

    def outer(self, y: Array, extended: Array) -> Array:
        """Return ``y_i x_j`` at each entry, with ``x`` as ``exchange.fetch`` returns it."""
        values: Array = extended[self.local_indices]
        values *= np.repeat(y, self._row_lengths)
        return values

    def check_square(self, operator: Operator) -> None:
        """Raise, in the operator's name, unless rows and columns are distributed alike."""
        if not self.square:
            raise ValueError(
                f"{operator.name}: pattern has shape {self.shape} and {self.local_shape} on this "
                "rank, expected rows and columns to be distributed alike"
            )

    def check_values(self, operator: Operator, values: Any) -> None:
        """Raise, in the operator's name, unless this rank's entries have one value each."""
        self._check_array(operator, "values", values, self.nnz)

    def check_domain(self, operator: Operator, argument: str, x: Any) -> None:
        """Raise, in the operator's name, unless ``x`` is distributed as the columns are."""
        self._check_array(operator, argument, x, self.local_shape[1])

    def check_range(self, operator: Operator, argument: str, y: Any) -> None:
        """Raise, in the operator's name, unless ``y`` is distributed as the rows are."""
        self._check_array(operator, argument, y, self.local_shape[0])

    @staticmethod
    def _check_array(operator: Operator, argument: str, found: Any, length: int) -> None:
        operator.require(argument, np.shape(found), (length,))
        operator.require(argument, str(np.asarray(found).dtype), "float64", "dtype")

    def _check_columns(self) -> None:
        outside = (self.indices < 0) | (self.indices >= self.shape[1])
        if outside.any():
            entry = _first(outside)
            raise ValueError(
                f"Pattern: row {self._row_of(entry)} has column {self.indices[entry]}, "
                f"expected 0 to {self.shape[1] - 1}"
            )
        stuck = np.diff(self.indices) <= 0
        begins = self.indptr[1:-1]
        stuck[begins[(begins > 0) & (begins < self.nnz)] - 1] = False  # a new row begins
        if stuck.any():
            entry = _first(stuck)
            now, then = self.indices[entry : entry + 2]
            fault = "twice" if now == then else f"before column {then}"
            raise ValueError(
                f"Pattern: row {self._row_of(entry)} has column {now} {fault}, "
                "expected columns to increase within each row"
            )

    def _locate_columns(self) -> None:
        begin, end = self.column_range
        remote = (self.indices < begin) | (self.indices >= end)
        self.ghosts = np.unique(self.indices[remote])
        self.exchange = exchange_for(self.comm, self.column_starts, self.ghosts)
        self._width = self.exchange.length + self.exchange.received
        local = self.indices - begin
        local[remote] = self.exchange.length + np.searchsorted(self.ghosts, self.indices[remote])
        small = max(self.nnz, self._width) <= np.iinfo(np.int32).max
        self.local_indices = local.astype(np.int32 if small else np.int64)
        self._local_indptr = self.indptr.astype(self.local_indices.dtype)
        self._row_lengths = np.diff(self.indptr)

    def _row_of(self, entry: int) -> int:
        row = int(np.searchsorted(self.indptr, entry, side="right")) - 1
        return self.row_range[0] + row

    def __repr__(self) -> str:
        return f"Pattern(shape={self.shape}, local_shape={self.local_shape}, nnz={self.nnz})"


def _integers(argument: str, value: Any) -> Array:
    array = np.asarray(value)
    if array.ndim != 1 or (array.size and not np.issubdtype(array.dtype, np.integer)):
        raise ValueError(
            f"Pattern: {argument} has shape {array.shape} and dtype {array.dtype}, "
            "expected a vector of integers"
        )
    return array.astype(np.int64)


def _first(condition: Array) -> int:
    return int(np.flatnonzero(condition)[0])
