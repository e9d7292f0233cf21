"""Patterns and products against dense matrices, for stripes of any sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from adjoint import Tape, agreed, communicator
from adjoint.solvers import MatVec, Pattern
from adjoint.strategies import on_all_ranks, partitions, spmd
from adjoint.testing import check_jvp, check_vjp, dot_test

Array = np.ndarray[Any, Any]
COMM = communicator()
RANK, SIZE = COMM.rank, COMM.size


def stripes(counts: tuple[int, ...]) -> slice:
    """Return this rank's part of what ``counts`` shares out."""
    return slice(sum(counts[:RANK]), sum(counts[: RANK + 1]))


def sparse(shape: tuple[int, int], density: float, seed: int) -> tuple[Array, Array]:
    """Return where a random matrix has entries, and the matrix; the same on all ranks."""
    generator = np.random.default_rng(seed)
    present = generator.random(shape) < density
    return present, np.where(present, generator.uniform(0.5, 1.5, shape), 0.0)


@pytest.mark.parallel([1, 2, 3, 4])
@spmd
@given(data=st.data(), density=st.sampled_from([0.0, 0.2, 0.6, 1.0]), seed=st.integers(0, 999))
@on_all_ranks
def test_is_the_dense_product(data: Any, density: float, seed: int) -> None:
    rows, columns = (data.draw(partitions(SIZE, 12)) for _ in range(2))
    i, j = stripes(rows), stripes(columns)
    present, dense = sparse((sum(rows), sum(columns)), density, seed)
    mine, where = dense[i], present[i]
    indptr = np.concatenate([[0], np.cumsum(where.sum(axis=1))]).astype(int)
    pattern = Pattern(indptr, np.nonzero(where)[1], columns[RANK])
    assert pattern.shape == dense.shape
    np.testing.assert_array_equal(pattern.rows, i.start + np.nonzero(where)[0])
    others = np.setdiff1d(pattern.indices, np.arange(j.start, j.stop))
    np.testing.assert_array_equal(pattern.ghosts, others)
    assert pattern.local_indices.dtype == np.int32  # SciPy converts others in each product
    product, values = MatVec(pattern), mine[where]
    extended = np.concatenate([np.arange(j.start, j.stop), others])
    with agreed(COMM):  # else the others would wait in the product for a rank that fails here
        np.testing.assert_array_equal(extended[pattern.local_indices], pattern.indices)
        np.testing.assert_array_equal(pattern.matrix(values).toarray(), mine[:, extended])
    x, y, dx = (np.random.default_rng(seed + k).standard_normal(max(dense.shape)) for k in range(3))
    x, y, dx = x[: dense.shape[1]], y[: dense.shape[0]], dx[: dense.shape[1]]

    with Tape(persistent=True) as tape:
        v, u = tape.watch(values), tape.watch(x[j])
        result = product(v, u)
    of_values, of_x = tape.vjp([result], [y[i]], [v, u])
    (tangent,) = tape.jvp([result], [v, u], [2 * values, dx[j]])
    np.testing.assert_allclose(result.value, (dense @ x)[i], atol=1e-13)
    np.testing.assert_allclose(of_x, (dense.T @ y)[j], atol=1e-13)
    np.testing.assert_allclose(of_values, np.outer(y, x)[i][where], atol=1e-14)
    np.testing.assert_allclose(tangent, (2 * dense @ x + dense @ dx)[i], atol=1e-13)


@pytest.mark.parallel([1, 2, 3, 4])
def test_derivatives() -> None:
    columns = [5, 0, 3, 2][:SIZE]
    stripe = np.random.default_rng(RANK).uniform(-1, 1, ([2, 4, 0, 3][RANK], sum(columns)))
    stripe[np.abs(stripe) < 0.4] = 0.0
    pattern, values = Pattern.from_scipy(stripe, columns[RANK])
    x = np.random.default_rng(RANK + 9).standard_normal(columns[RANK])
    for check in dot_test, check_jvp, check_vjp:
        check(MatVec(pattern), values, x)


@pytest.mark.parallel([1, 2, 3, 4])
def test_the_sweep_reaches_ranks_without_a_cotangent() -> None:
    """The loss is on the last rank alone; every rank's part of the gradient arrives."""
    pattern, values = Pattern.from_scipy(np.ones((1, SIZE)))
    with Tape() as tape:
        x = tape.watch(np.full(1, 1.0 + RANK))
        y = MatVec(pattern)(values, x)
        loss = (y * y).sum()
    (gradient,) = tape.gradient(loss, [x], root=SIZE - 1)
    assert gradient[0] == pytest.approx(SIZE * (SIZE + 1))


@pytest.mark.parallel([1, 2])
def test_from_scipy_leaves_the_matrix_as_it_is() -> None:
    """Its entries need not be sorted, nor be one each; they may be read-only."""
    data, columns = np.array([1.0, 2.0, 3.0]), np.array([1, 0, 1])
    data.flags.writeable = columns.flags.writeable = False
    matrix = scipy.sparse.csr_matrix((data, columns, [0, 3]), shape=(1, 2))
    pattern, values = Pattern.from_scipy(matrix, columns=2 if RANK == 0 else 0)
    np.testing.assert_array_equal(matrix.data, data)
    np.testing.assert_array_equal(matrix.indices, [1, 0, 1])
    np.testing.assert_array_equal(pattern.indices, [0, 1])
    np.testing.assert_array_equal(values, [2.0, 4.0])


FAULTS = {
    "column": (lambda: Pattern([0, 1], [SIZE]), f"row {SIZE - 1} has column {SIZE}, expected 0 to"),
    "negative": (lambda: Pattern([0, 1], [-1]), "has column -1, expected 0 to"),
    "indptr": (lambda: Pattern([0, 2], [0]), r"begins and ends with \[0, 2\], expected \[0, 1\]"),
    "begin": (lambda: Pattern([1, 0, 1], [0]), r"begins and ends with \[1, 1\], expected \[0, 1\]"),
    "empty": (lambda: Pattern([], []), "begins and ends with nothing"),
    "decreasing": (lambda: Pattern([0, 2, 1], [0], 1), "indptr decreases after row 1"),
    "twice": (lambda: Pattern([0, 2], [0, 0]), "has column 0 twice"),
    "unsorted": (lambda: Pattern([0, 2], [1, 0], 2), "has column 1 before column 0"),
    "real": (lambda: Pattern([0, 1], [0.5]), "dtype float64, expected a vector of integers"),
    "columns": (lambda: Pattern([0, 1], [0], -1), "columns is -1, expected 0 or more"),
}


@pytest.mark.parallel([1, 3])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_pattern_on_one_rank_is_an_error_on_all(fault: str) -> None:
    bad, message = FAULTS[fault]
    with pytest.raises(ValueError, match=message) as caught:
        bad() if RANK == SIZE - 1 else Pattern([0, 1], [0])
    assert SIZE == 1 or str(caught.value).startswith(f"rank {SIZE - 1}: Pattern: ")


@pytest.mark.parallel([1, 3])
def test_a_bad_input_on_one_rank_is_an_error_on_all() -> None:
    pattern, values = Pattern.from_scipy(np.ones((2, 2 * SIZE)))
    x, bad = np.ones(2), SIZE - 1
    short, single = np.ones(2 + (bad == RANK)), np.ones(2, np.float32 if bad == RANK else float)
    with pytest.raises(ValueError, match=r"MatVec: x has shape \(3,\), expected \(2,\)"):
        MatVec(pattern)(values, short)
    with pytest.raises(ValueError, match="MatVec: x has dtype float32, expected float64"):
        MatVec(pattern)(values, single)
    with pytest.raises(ValueError, match=r"MatVec: values has shape .*, expected"):
        MatVec(pattern)(values[bad == RANK :], x)
    with pytest.raises(ValueError, match="from_scipy: stripe has 1 columns, expected"):
        Pattern.from_scipy(np.ones((2, 1 if bad == RANK else 2 * SIZE)))
    with pytest.raises(ValueError, match="could not convert string to float"):
        Pattern.from_scipy([["none" if bad == RANK else 1.0] * 2 * SIZE])
