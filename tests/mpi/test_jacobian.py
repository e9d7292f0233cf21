"""Products with the derivative of a function that several ranks compute together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator, cg, lsqr

from adjoint import Jacobian, communicator
from adjoint.comm import Bcast

Array = np.ndarray[Any, Any]
COMM = communicator()
RANK, SIZE = COMM.rank, COMM.size
N = 5
everywhere = pytest.mark.parallel([1, 2, 3, 4])


def rows() -> Array:
    """This rank's rows of a matrix: more on later ranks, none on the second of three."""
    count = 0 if (RANK, SIZE) == (1, 3) else 3 + 2 * RANK
    return np.random.default_rng(RANK).standard_normal((count, N))


def whole() -> Array:
    return np.concatenate(COMM.allgather(rows()))


def function(theta: Any) -> Any:
    return (rows() @ Bcast()(theta)) ** 2


THETA = np.linspace(0.5, 1.5, N)


def dense() -> Array:
    """The derivative of the squares, all ranks' rows."""
    matrix = whole()
    return 2 * (matrix @ THETA)[:, None] * matrix


@everywhere
def test_products_are_those_of_the_dense_matrix() -> None:
    jacobian = Jacobian(function, THETA)
    assert jacobian.shape == (len(rows()), N)
    np.testing.assert_allclose(jacobian.value, (rows() @ THETA) ** 2)
    v, matrix = np.arange(N) - 1.5, dense()
    for _ in range(2):  # a tape that is kept serves many products
        parts = COMM.allgather(jacobian.matvec(v))
        np.testing.assert_allclose(np.concatenate(parts), matrix @ v, rtol=1e-13)
        w = np.cos(np.arange(len(matrix)))
        begin = sum(len(part) for part in parts[:RANK])
        mine = jacobian.rmatvec(w[begin : begin + len(rows())])
        np.testing.assert_allclose(mine, matrix.T @ w, rtol=1e-12)


@everywhere
def test_parts_of_their_own_are_not_summed() -> None:
    theta = np.arange(3.0) + RANK
    jacobian = Jacobian(lambda x: x**3, theta, shared=False)
    np.testing.assert_allclose(jacobian.rmatvec(np.ones(3)), 3 * theta**2)


@everywhere
def test_a_function_that_begins_with_a_sum_has_a_product_too() -> None:
    theta = np.ones((2, 3))
    jacobian = Jacobian(lambda x: x.sum() * np.ones(RANK), theta)
    product = jacobian.rmatvec(np.ones(RANK))
    np.testing.assert_array_equal(product, np.full((2, 3), SIZE * (SIZE - 1) / 2))
    product += 1.0  # it is ours


@everywhere
def test_conjugate_gradients_of_scipy_agree_on_all_ranks() -> None:
    view = Jacobian(function, THETA).linear_operator()
    normal = LinearOperator((N, N), matvec=lambda v: view.rmatvec(view.matvec(v)) + v, dtype=float)
    b = np.linspace(-1, 1, N)
    x, status = cg(normal, b, atol=1e-12)
    assert status == 0
    matrix = dense()
    np.testing.assert_allclose(x, np.linalg.solve(matrix.T @ matrix + np.eye(N), b), rtol=1e-6)
    assert all((other == x).all() for other in COMM.allgather(x))


@pytest.mark.parallel([1])
def test_least_squares_of_scipy() -> None:
    view = Jacobian(function, THETA).linear_operator()
    b = np.linspace(-1, 1, view.shape[0])
    x = lsqr(view, b, atol=1e-14, btol=1e-14)[0]
    np.testing.assert_allclose(x, np.linalg.lstsq(dense(), b, rcond=None)[0], rtol=1e-8)


@everywhere
def test_a_function_that_takes_no_part_of_theta_is_refused_on_all_ranks() -> None:
    def constant_on_the_last(theta: Any) -> Any:
        return np.ones(2) if RANK == SIZE - 1 else theta

    with pytest.raises(TypeError, match="Jacobian: the function returned a ndarray that does not"):
        Jacobian(constant_on_the_last, THETA)


@everywhere
def test_a_wrong_shape_on_one_rank_is_refused_on_all() -> None:
    jacobian = Jacobian(function, THETA)
    wrong = RANK == SIZE - 1
    with pytest.raises(ValueError, match=r"Jacobian: v has shape \(6,\), expected \(5,\)"):
        jacobian.matvec(np.ones(N + wrong))
    with pytest.raises(ValueError, match="Jacobian: w has shape"):
        jacobian.rmatvec(np.ones(len(rows()) + wrong))
