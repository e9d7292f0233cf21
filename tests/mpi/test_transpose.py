"""The transpose against SciPy's, for stripes of any sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from adjoint import communicator
from adjoint.solvers import Pattern, Transpose
from adjoint.strategies import on_all_ranks, partitions, spmd
from adjoint.testing import check_jvp, check_vjp, dot_test

COMM = communicator()
RANK, SIZE = COMM.rank, COMM.size


def stripe(matrix: Any, counts: tuple[int, ...]) -> Any:
    result = matrix[sum(counts[:RANK]) : sum(counts[: RANK + 1])]
    result.sort_indices()
    return result


def random(rows: int, columns: int, density: float, seed: int) -> Any:
    return scipy.sparse.random(rows, columns, density, "csr", random_state=seed)


@pytest.mark.parallel([1, 2, 3, 4])
@spmd
@given(data=st.data(), density=st.sampled_from([0.0, 0.2, 0.6, 1.0]), seed=st.integers(0, 999))
@on_all_ranks
def test_is_scipys_and_its_adjoint_the_inverse(data: Any, density: float, seed: int) -> None:
    rows, columns = (data.draw(partitions(SIZE, 12)) for _ in range(2))
    matrix = random(sum(rows), sum(columns), density, seed)
    expected = stripe(matrix.T.tocsr(), columns)
    pattern, values = Pattern.from_scipy(stripe(matrix, rows), columns[RANK])
    transpose = Transpose(pattern)
    found = transpose(values)
    (taken_back,) = transpose.vjp((found,), (), ())
    twice = Transpose(transpose.transposed)(found)
    np.testing.assert_array_equal(found, expected.data)
    np.testing.assert_array_equal(transpose.transposed.indices, expected.indices)
    np.testing.assert_array_equal(transpose.transposed.indptr, expected.indptr)
    assert transpose.transposed.local_shape == pattern.local_shape[::-1]
    np.testing.assert_array_equal(taken_back, values)
    np.testing.assert_array_equal(twice, values)


@pytest.mark.parallel([1, 2, 3, 4])
def test_derivatives() -> None:
    rows, columns = (3, 0, 5, 2)[:SIZE], (4, 2, 0, 3)[:SIZE]
    matrix = random(sum(rows), sum(columns), 0.5, 1)
    pattern, values = Pattern.from_scipy(stripe(matrix, rows), columns[RANK])
    for check in dot_test, check_jvp, check_vjp:
        check(Transpose(pattern), values)


@pytest.mark.parallel([3])
def test_a_bad_input_on_one_rank_is_an_error_on_all() -> None:
    pattern, values = Pattern.from_scipy(np.eye(SIZE)[RANK : RANK + 1])
    with pytest.raises(ValueError, match=r"rank 1: Transpose: values has shape \(0,\), expected"):
        Transpose(pattern)(values[int(RANK == 1) :])
