"""Penalties on fields, against sums over all nodes, dense matrices and one rank."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

from adjoint import Tape
from adjoint.comm import Allreduce, CartesianGrid, HaloExchange
from adjoint.solvers import Tikhonov, TotalVariation
from adjoint.testing import check_jvp, check_vjp, dot_test, taylor_test

CASES = [((9,), 0.3), ((7, 5), (0.5, 0.2)), ((4, 5, 6), (0.5, 0.2, 0.3))]
KINDS = ["tikhonov", "distance", "variation"]


def field(shape: tuple[int, ...], seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape)


def penalty(kind: str, grid: CartesianGrid, spacing: Any) -> Any:
    if kind == "variation":
        return TotalVariation(grid, spacing, alpha=0.7, epsilon=0.4)
    reference = field(grid.shape, 5)[grid.patch_slices(grid.rank)]
    return Tikhonov(grid, spacing, 0.7 if kind == "tikhonov" else 0.0, 0.3, reference)


def dense(kind: str, m: Any, spacing: Any) -> float:
    """The whole penalty, node by node."""
    steps = np.broadcast_to(spacing, m.ndim)
    reference = field(m.shape, 5)
    total = 0.0
    for node in np.ndindex(*m.shape):
        squares = 0.0
        for axis, h in enumerate(steps):
            following = tuple(i + (a == axis) for a, i in enumerate(node))
            if following[axis] < m.shape[axis]:
                squares += ((m[following] - m[node]) / h) ** 2
        if kind == "variation":
            total += 0.7 * np.sqrt(squares + 0.4**2)
        else:
            total += 0.35 * squares * (kind == "tikhonov")
            total += 0.15 * (m[node] - reference[node]) ** 2
    return float(total * np.prod(steps))


@pytest.mark.parallel([1, 2, 3, 4])
@pytest.mark.parametrize(("shape", "spacing"), CASES)
@pytest.mark.parametrize("kind", KINDS)
def test_value_and_derivatives(kind: str, shape: tuple[int, ...], spacing: Any) -> None:
    grid = CartesianGrid(shape)
    halo, operator, total = HaloExchange(grid), penalty(kind, grid, spacing), Allreduce()
    own = field(shape)[grid.patch_slices(grid.rank)]
    assert float(total(operator(halo(own)))) == pytest.approx(dense(kind, field(shape), spacing))
    padded = field((grid.size, *grid.padded_shape(1)), 1)[grid.rank]
    for check in (dot_test, check_jvp, check_vjp):
        check(operator, padded)
    dot_test(lambda x: total(operator(halo(x))), own)
    rates = taylor_test(lambda x: total(operator(halo(x))), own, h=2e-3)
    assert rates.min() > 1.95


@pytest.mark.parallel([2, 3, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_value_and_gradient_are_those_of_one_rank(kind: str) -> None:
    shape, spacing = CASES[1]
    found = []
    for comm in (MPI.COMM_WORLD, MPI.COMM_SELF):
        grid = CartesianGrid(shape, comm)
        operator, halo, total = penalty(kind, grid, spacing), HaloExchange(grid), Allreduce(comm)
        with Tape(comm=comm) as tape:
            x = tape.watch(field(shape)[grid.patch_slices(grid.rank)])
            loss = total(operator(halo(x)))
        found.append((float(loss), tape.gradient(loss, [x])[0], grid.patch_slices(grid.rank)))
    (value, gradient, part), (expected, whole, _) = found
    assert value == pytest.approx(expected, rel=1e-13)
    np.testing.assert_allclose(gradient, whole[part], rtol=1e-12, atol=1e-14)


@pytest.mark.parallel([1, 3])
def test_the_gradient_of_tikhonov_is_a_dense_matrix() -> None:
    shape, steps = (6, 5), (0.5, 0.2)
    grid = CartesianGrid(shape)
    operator, halo = Tikhonov(grid, steps, alpha=0.7, beta=0.3), HaloExchange(grid)
    stiffness = []
    for n, h in zip(shape, steps):  # −d²/dx² with the natural boundary
        line = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
        line[0, 0] = line[-1, -1] = 1
        stiffness.append(line / h**2)
    laplacian = np.kron(stiffness[0], np.eye(5)) + np.kron(np.eye(6), stiffness[1])
    matrix = np.prod(steps) * (0.7 * laplacian + 0.3 * np.eye(30))
    m = field(shape)
    with Tape() as tape:
        x = tape.watch(m[grid.patch_slices(grid.rank)])
        loss = Allreduce()(operator(halo(x)))
    expected = (matrix @ m.ravel()).reshape(shape)[grid.patch_slices(grid.rank)]
    np.testing.assert_allclose(tape.gradient(loss, [x])[0], expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parallel([1, 2, 3])
def test_a_periodic_axis_has_a_difference_across_its_boundary() -> None:
    grid = CartesianGrid((6, 3), periodic=(True, False))
    m = field(grid.shape)
    value = Allreduce()(Tikhonov(grid, 1.0)(HaloExchange(grid)(m[grid.patch_slices(grid.rank)])))
    expected = ((np.roll(m, -1, axis=0) - m) ** 2).sum() + (np.diff(m, axis=1) ** 2).sum()
    assert float(value) == pytest.approx(0.5 * expected)


@pytest.mark.parallel([1, 2, 3])
def test_bad_arguments_are_an_error_on_all_ranks() -> None:
    grid = CartesianGrid((6, 5))
    last = grid.rank == grid.size - 1
    for wrong, message in [
        ({"spacing": 0.0}, "spacing is 0.0, expected a positive length, or 2"),
        ({"spacing": (1.0, 1.0, 1.0)}, "spacing is"),
        ({"spacing": 1.0, "alpha": -1.0}, "alpha is -1.0, expected 0 or more"),
        ({"spacing": 1.0, "epsilon": 0.0}, "epsilon is 0.0, expected more than 0"),
    ]:
        with pytest.raises(ValueError, match=f"TotalVariation: {message}"):
            TotalVariation(grid, **wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"Tikhonov: reference has shape \(2,\)"):
        Tikhonov(grid, 1.0, reference=np.ones(2) if last else 0.0)
    with pytest.raises(ValueError, match="TotalVariation: m has shape"):
        TotalVariation(grid, 1.0)(np.ones(grid.patch_shape if last else grid.padded_shape(1)))
    with pytest.raises(ValueError, match="Tikhonov: m has dtype float32, expected float64"):
        Tikhonov(grid, 1.0)(np.ones(grid.padded_shape(1), np.float32))
