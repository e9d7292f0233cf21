"""Eigenpairs and posterior variances against dense matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mpi4py import MPI
from scipy.sparse.linalg import aslinearoperator

from adjoint import Jacobian, Posterior, communicator, largest_eigenpairs

WORLD = communicator()
RANK, SIZE = WORLD.rank, WORLD.size
RANKS = [1, 2, 3, 4]
N, DATA, NODES, NOISE = 7, 12, 9, 0.3
THETA = np.linspace(-0.5, 0.6, N)


def random(*shape: int, seed: int) -> Any:
    return np.random.default_rng(seed).standard_normal(shape)


def part(count: int) -> slice:
    """This rank's part: none on the second of three."""
    bounds = (
        [0, count // 3, count // 3, count] if SIZE == 3 else np.arange(SIZE + 1) * count // SIZE
    )
    return slice(int(bounds[RANK]), int(bounds[RANK + 1]))


A, G = random(DATA, N, seed=1) * np.logspace(0, -2, N), random(NODES, N, seed=2)


def residual(theta: Any) -> Any:
    return np.sin(A[part(DATA)] @ theta)


def field(theta: Any) -> Any:
    return np.exp(0.3 * (G[part(NODES)] @ theta))


def dense(function: Any, theta: Any = THETA) -> Any:
    """All ranks' rows of the derivative, by central differences."""
    columns = [(function(theta + e) - function(theta - e)) / 2e-6 for e in 1e-6 * np.eye(N)]
    return np.concatenate(WORLD.allgather(np.stack(columns, axis=-1)))


@pytest.mark.parallel(RANKS)
def test_columns_by_products_are_those_of_differences() -> None:
    jacobian = Jacobian(residual, THETA)
    columns = np.stack([jacobian.matvec(e) for e in np.eye(N)], axis=1)
    np.testing.assert_allclose(np.concatenate(WORLD.allgather(columns)), dense(residual), atol=1e-9)


def priors() -> dict[str, tuple[Any, Any]]:
    """What a Posterior is given, and the covariance that it stands for."""
    scale, root = np.linspace(0.5, 2.0, N), np.tril(random(N, N, seed=3)) + 2 * np.eye(N)
    wide = random(N, N + 3, seed=4)
    return {
        "number": (0.7, 0.49 * np.eye(N)),
        "scale": (scale, np.diag(scale**2)),
        "root": (aslinearoperator(root), root @ root.T),
        "wide root": (aslinearoperator(wide), wide @ wide.T),
    }


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("kind", ["number", "scale", "root", "wide root"])
def test_the_posterior_is_that_of_dense_matrices(kind: str) -> None:
    prior, gamma = priors()[kind]
    posterior = Posterior(Jacobian(residual, THETA), prior, NOISE, rank=N)
    j, g = dense(residual), dense(field)
    hessian = j.T @ j / NOISE**2
    expected = np.linalg.inv(hessian + np.linalg.inv(gamma))
    covariance = np.stack([posterior.covariance_times(e) for e in np.eye(N)], axis=1)
    np.testing.assert_allclose(covariance, expected, atol=1e-7 * expected.max())

    for value, v in zip(posterior.eigenvalues, posterior.vectors.T):  # H v = λ Γ⁻¹ v
        np.testing.assert_allclose(gamma @ hessian @ v, value * v, atol=1e-6 * abs(hessian).max())
    gram = posterior.vectors.T @ np.linalg.solve(gamma, posterior.vectors)
    kept = posterior.eigenvalues > 1e-9
    np.testing.assert_allclose(gram[np.ix_(kept, kept)], np.eye(kept.sum()), atol=1e-8)

    np.testing.assert_allclose(posterior.variance(), np.diag(expected), atol=1e-7 * expected.max())
    np.testing.assert_allclose(posterior.prior_variance(), np.diag(gamma), rtol=1e-12)
    function = Jacobian(field, THETA)
    before, after = posterior.prior_variance(function), posterior.variance(function)
    np.testing.assert_allclose(before, np.diag(g @ gamma @ g.T)[part(NODES)], rtol=1e-7)
    np.testing.assert_allclose(after, np.diag(g @ expected @ g.T)[part(NODES)], rtol=1e-6)
    np.testing.assert_array_equal(posterior.variance(function, before), after)
    vectors = WORLD.allgather(posterior.vectors)
    assert all((v == posterior.vectors).all() for v in vectors)


@pytest.mark.parallel(RANKS)
def test_a_few_directions_hold_what_the_data_say() -> None:
    jacobian = Jacobian(residual, THETA)
    rank = 4
    posterior = Posterior(jacobian, 0.5, NOISE, rank=rank, oversampling=2, power=1)
    j = dense(residual) * 0.5 / NOISE
    values = np.linalg.eigvalsh(j.T @ j)[::-1]
    np.testing.assert_allclose(posterior.eigenvalues, values[:rank], rtol=1e-3)
    exact = Posterior(jacobian, 0.5, NOISE, rank=N).variance()
    left_out = posterior.variance() - exact  # never less than the exact variance
    assert left_out.min() > -1e-9
    assert left_out.max() < 1.1 * 0.25 * values[rank] / (1 + values[rank])


@pytest.mark.parallel(RANKS)
def test_what_is_not_observed_keeps_its_prior() -> None:
    posterior = Posterior(Jacobian(lambda x: x[:3] * 1.0, THETA), 2.0, 0.5, rank=3)
    readings = SIZE  # every rank reads the first three once
    expected = 1 / (0.25 + readings / 0.25)
    np.testing.assert_allclose(posterior.variance(), [expected] * 3 + [4.0] * (N - 3), rtol=1e-12)


@pytest.mark.parallel(RANKS)
def test_the_largest_eigenpairs() -> None:
    basis = np.linalg.qr(random(60, 60, seed=5))[0]
    values = 10.0 ** -np.arange(60.0)
    matrix = basis * values @ basis.T
    calls = []

    def product(v: Any) -> Any:
        calls.append(v)
        return matrix @ v

    found, vectors = largest_eigenpairs(product, 60, 5, oversampling=4)
    np.testing.assert_allclose(found, values[:5], rtol=1e-9)
    np.testing.assert_allclose(abs(vectors.T @ basis[:, :5]), np.eye(5), atol=1e-6)
    assert len(calls) == 2 * (5 + 4)
    flat = np.diag(np.linspace(1.0, 0.5, 60))
    errors = []
    for power in (0, 2, 20):
        found, _ = largest_eigenpairs(lambda v: flat @ v, 60, 3, power=power)
        errors.append(abs(found - np.diag(flat)[:3]).max())
    assert errors[0] > errors[1] > errors[2]


@pytest.mark.parallel([1, 2, 3])
def test_unfit_arguments_raise_on_all_ranks() -> None:
    jacobian, last = Jacobian(residual, THETA), RANK == SIZE - 1
    for prior, noise, rank, message in (
        (-1.0, 1.0, 2, "prior of shape"),
        (np.ones(3), 1.0, 2, r"prior of shape \(3,\)"),
        (aslinearoperator(np.ones((3, 3))), 1.0, 2, r"prior has shape \(3, 3\), expected 7 rows"),
        (1.0, 0.0, 2, "noise is 0.0, expected a positive number"),
        (1.0, 1.0, 8, "rank is 8, expected 1 to 7"),
    ):
        with pytest.raises(ValueError, match=message):
            if last:
                Posterior(jacobian, prior, noise, rank)
            else:
                Posterior(jacobian, 1.0, 1.0, 2)
    with pytest.raises(ValueError, match="oversampling is -1 and power 0"):
        largest_eigenpairs(lambda v: v, 3, 2, oversampling=-1)
    with pytest.raises(FloatingPointError, match="largest_eigenpairs: a product is not finite"):
        largest_eigenpairs(lambda v: v * np.nan, 3, 2)
    WORLD.Barrier()


@pytest.mark.parallel([2, 3])
def test_ranks_in_groups() -> None:
    alone = Posterior(
        Jacobian(lambda x: A @ x, THETA, comm=MPI.COMM_SELF), 1.0, NOISE, 4, comm=MPI.COMM_SELF
    )
    together = Posterior(Jacobian(lambda x: A[part(DATA)] @ x, THETA), 1.0, NOISE, 4)
    np.testing.assert_allclose(together.variance(), alone.variance(), rtol=1e-10)
