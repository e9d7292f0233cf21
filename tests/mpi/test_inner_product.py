"""Inner products of fields and L-BFGS in them, against dense matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adjoint import communicator
from adjoint.comm import Allreduce, CartesianGrid, HaloExchange
from adjoint.solvers import InnerProduct, Tikhonov
from adjoint.solvers.quasi_newton import LimitedMemory
from adjoint.testing import check_jvp, check_vjp, dot_test

COMM = communicator()
CASES = [((9,), 0.3), ((6, 5), (0.5, 0.2)), ((4, 3, 5), 0.4)]


def dense(shape: tuple[int, ...], spacing: Any, length: float) -> Any:
    """``V (1 − ℓ² Δ)`` with the natural boundary."""
    steps = np.broadcast_to(spacing, len(shape))
    matrix = np.eye(int(np.prod(shape)))
    for axis, (n, h) in enumerate(zip(shape, steps)):
        line = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
        line[0, 0] = line[-1, -1] = 1
        before, after = int(np.prod(shape[:axis])), int(np.prod(shape[axis + 1 :]))
        stiffness = np.kron(np.kron(np.eye(before), line / h**2), np.eye(after))
        matrix += length**2 * stiffness
    return np.prod(steps) * matrix


def field(shape: tuple[int, ...], seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parallel([1, 2, 3, 4])
@pytest.mark.parametrize(("shape", "spacing"), CASES)
@pytest.mark.parametrize("length", [0.0, 0.7])
def test_the_riesz_map_is_the_inverse_of_a_dense_matrix(
    shape: tuple[int, ...], spacing: Any, length: float
) -> None:
    grid = CartesianGrid(shape)
    own = grid.patch_slices(grid.rank)
    inner = InnerProduct(grid, spacing, length, rtol=1e-12)
    matrix, u = dense(shape, spacing, length), field(shape)
    np.testing.assert_allclose(
        inner.apply(u[own]), (matrix @ u.ravel()).reshape(shape)[own], rtol=1e-12, atol=1e-12
    )
    expected = np.linalg.solve(matrix, u.ravel()).reshape(shape)
    np.testing.assert_allclose(inner.riesz(u[own]), expected[own], rtol=1e-9, atol=1e-9)
    free = field(shape, 1) > -0.3
    k = np.flatnonzero(free)
    restricted = np.zeros(u.size)
    restricted[k] = np.linalg.solve(matrix[np.ix_(k, k)], u.ravel()[k])
    found = inner.riesz(u[own], free[own])
    np.testing.assert_allclose(found, restricted.reshape(shape)[own], rtol=1e-9, atol=1e-9)
    assert (found[~free[own]] == 0).all()
    inner.close()


@pytest.mark.parallel([1, 3])
def test_it_is_the_hessian_of_a_penalty() -> None:
    grid = CartesianGrid((6, 5))
    inner = InnerProduct(grid, 0.2, 0.7)
    u = field(grid.shape)[grid.patch_slices(grid.rank)]
    penalty = Tikhonov(grid, 0.2, alpha=0.49, beta=1.0)(HaloExchange(grid)(u))
    total = Allreduce()
    assert float(total(penalty)) == pytest.approx(0.5 * float(total(np.vdot(u, inner.apply(u)))))


@pytest.mark.parallel([1, 3])
def test_what_is_smoothed_keeps_its_mean_and_its_bounds() -> None:
    grid = CartesianGrid((8, 7))
    inner, total = InnerProduct(grid, 0.1, 0.3, rtol=1e-12), Allreduce()
    m = np.where(field(grid.shape) > 0, 3.0, 1.0)[grid.patch_slices(grid.rank)]
    smoothed = inner.smooth(m)
    assert float(total(smoothed.sum())) == pytest.approx(float(total(m.sum())))
    assert smoothed.min() > 1.0
    assert smoothed.max() < 3.0
    dot_test(inner.smooth, m, rtol=1e-9)
    check_jvp(inner.smooth, m)
    check_vjp(inner.smooth, m)
    assert InnerProduct(grid, 0.1).smooth(m) is m


@pytest.mark.parallel([1, 3])
def test_bad_arguments_are_an_error_on_all_ranks() -> None:
    grid = CartesianGrid((6, 5))
    with pytest.raises(ValueError, match=r"InnerProduct: length is -1.0, expected 0 or more"):
        InnerProduct(grid, 0.1, -1.0 if grid.rank == grid.size - 1 else 1.0)
    for spacing in (0.0, [[0.1, 0.2]], (0.1, 0.2, 0.3)):
        with pytest.raises(ValueError, match=r"spacing is .*, expected a positive length, or 2"):
            InnerProduct(grid, spacing)  # type: ignore[arg-type]
    bad, whole = np.ones(grid.patch_shape)[int(grid.rank == grid.size - 1) :], grid.patch_shape
    for inner in InnerProduct(grid, 0.1), InnerProduct(grid, 0.1, 0.3):
        with pytest.raises(ValueError, match=r"InnerProduct: u has shape .*, expected"):
            inner.apply(bad)
        with pytest.raises(ValueError, match=r"InnerProduct: g has shape .*, expected"):
            inner.riesz(bad)
        assert inner.riesz(np.ones(whole)).shape == whole


@pytest.mark.parallel([1, 3])
@pytest.mark.parametrize("length", [None, 0.7])
@pytest.mark.parametrize("pairs", [0, 2, 5])
def test_the_recursion_is_the_update_of_a_dense_inverse(length: float | None, pairs: int) -> None:
    shape, spacing, memory = (6, 5), (0.5, 0.2), 3
    grid = CartesianGrid(shape)
    own = grid.patch_slices(grid.rank)
    riesz, inverse = None, np.eye(30)
    if length is not None:
        inner = InnerProduct(grid, spacing, length, rtol=1e-13)
        inverse = np.linalg.inv(dense(shape, spacing, length))

        def riesz(g: Any, free: Any) -> Any:
            part = inner.riesz(g.reshape(grid.patch_shape), free.reshape(grid.patch_shape))
            return part.reshape(-1)

    found = LimitedMemory(grid.comm, memory, riesz)
    g = field(shape, 50)
    hessian = inverse * 2 * 1.5 / (g.ravel() @ inverse @ g.ravel())
    history = []
    for k in range(pairs):
        s = field(shape, 2 * k).ravel()
        y = s * (1 + np.arange(30) / 10)
        found.update(s.reshape(shape)[own].ravel(), y.reshape(shape)[own].ravel())
        history.append((s, y))
    for number, (s, y) in enumerate(history[-memory:]):
        if number == 0:
            last_s, last_y = history[-1]
            hessian = inverse * (last_s @ last_y) / (last_y @ inverse @ last_y)
        left = np.eye(30) - np.outer(s, y) / (s @ y)
        hessian = left @ hessian @ left.T + np.outer(s, s) / (s @ y)
    expected = (hessian @ g.ravel()).reshape(shape)[own].ravel()
    everywhere = np.ones(expected.shape, bool)
    direction = found.apply(g[own].ravel(), everywhere, 1.5)
    np.testing.assert_allclose(direction, expected, rtol=1e-9, atol=1e-9 * abs(expected).max())
    again = LimitedMemory(grid.comm, memory, riesz)
    again.recall(found.rows())
    np.testing.assert_array_equal(again.apply(g[own].ravel(), everywhere, 1.5), direction)
    found.update(np.ones(expected.size), -np.ones(expected.size))  # not convex
    assert len(found.pairs) == min(pairs, memory)


@pytest.mark.parallel([1, 3])
def test_an_inverse_hessian_leaves_held_nodes_alone() -> None:
    """Also where a step moved them before they were held."""
    own = slice(4 * COMM.rank, 4 * COMM.rank + 4)
    step, other, gradient = np.random.default_rng(5).standard_normal((3, 4 * COMM.size))
    change = 2 * step + 0.3 * other
    memory = LimitedMemory(COMM, 3)
    memory.update(step[own], change[own])
    free = np.array([True, False, True, True])
    direction = memory.apply(gradient[own], free, 1.0)
    only = np.diag(np.tile(free, COMM.size).astype(float))
    product, one = step @ change, np.eye(4 * COMM.size)
    left = one - np.outer(step, change) / product
    first = product / (change @ only @ change) * only
    whole = left @ first @ left.T + np.outer(step, step) / product
    np.testing.assert_allclose(direction, (only @ whole @ only @ gradient)[own], rtol=1e-12)
    assert not direction[~free].any()
