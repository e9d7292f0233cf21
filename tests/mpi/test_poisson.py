"""The Poisson equation against manufactured solutions, a dense assembly, and one rank alone."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

from adjoint import Tape, communicator
from adjoint.comm import Allreduce, CartesianGrid
from adjoint.solvers import DiffusionMatrix, DirichletLoad, Poisson
from adjoint.solvers.stencil import multigrid_options
from adjoint.testing import check_jvp, check_vjp, dot_test, taylor_test

Array = np.ndarray[Any, Any]
COMM = communicator()
RANK, SIZE = COMM.rank, COMM.size
everywhere = pytest.mark.parallel([1, 2, 3, 4])


class Manufactured:
    """``u``, ``κ`` and ``f = −∇·(κ∇u)`` on a padded patch; ``u`` is not zero on the boundary."""

    def __init__(self, grid: CartesianGrid, extent: tuple[float, ...]) -> None:
        self.grid, self.extent = grid, extent
        self.spacing = tuple(length / (n + 1) for length, n in zip(extent, grid.shape))
        x = grid.coordinates(self.spacing, self.spacing, width=1)
        rates = (0.7, -0.4, 0.5)[: grid.ndim]
        growth = np.exp(sum(a * c for a, c in zip(rates, x)))
        wave, slope = 1 + np.sin(3 * x[0]), 3 * np.cos(3 * x[0])
        self.u = growth * wave
        self.kappa = 1.5 + 0.3 * sum(np.sin(2 * c + k) for k, c in enumerate(x))
        gradient = [a * self.u for a in rates]
        gradient[0] = gradient[0] + slope * growth
        laplacian = sum(a**2 for a in rates) * self.u
        laplacian = laplacian + (2 * rates[0] * slope - 9 * np.sin(3 * x[0])) * growth
        of_kappa = [0.6 * np.cos(2 * c + k) for k, c in enumerate(x)]
        f = -(self.kappa * laplacian + sum(p * q for p, q in zip(of_kappa, gradient)))
        self.f = f[grid.interior(1)].copy()

    def error(self, u: Array) -> float:
        squares = COMM.allreduce(float(np.sum((u - self.u[self.grid.interior(1)]) ** 2)))
        return float(np.sqrt(squares / np.prod(self.grid.shape)))


@everywhere
@pytest.mark.parametrize(
    ("shapes", "extent"),
    [(((19, 14), (39, 29)), (2.0, 1.5)), (((7, 8, 6), (15, 17, 13)), (1.0, 1.2, 0.8))],
    ids=["2-D", "3-D"],
)
def test_second_order_with_dirichlet_values(shapes: Any, extent: Any) -> None:
    errors = []
    for shape in shapes:
        case = Manufactured(CartesianGrid(shape), extent)
        with Poisson(case.grid, extent=extent) as poisson:
            assert poisson.spacing == pytest.approx(case.spacing)
            errors.append(case.error(poisson(case.kappa, case.f, boundary=case.u)))
    assert np.log2(errors[0] / errors[1]) >= 1.95


@everywhere
@pytest.mark.parametrize("shape", [(9,), (6, 5), (4, 5, 4)], ids=str)
def test_matrix_and_load_are_those_of_a_dense_assembly(shape: tuple[int, ...]) -> None:
    """Assembled face by face on the whole grid, with the boundary's nodes in it."""
    spacing = (0.5, 2.0, 1.25)[: len(shape)]
    whole = tuple(n + 2 for n in shape)
    generator = np.random.default_rng(1)
    kappa, g = generator.uniform(0.5, 2.0, (2, *whole))
    inside = np.zeros(whole, bool)
    inside[tuple(slice(1, -1) for _ in shape)] = True
    number = np.arange(inside.size).reshape(whole)
    dense = np.zeros((inside.size, inside.size))
    for i in np.ndindex(*whole):
        for axis, h in enumerate(spacing):
            j = tuple(k + int(a == axis) for a, k in enumerate(i))
            if j[axis] < whole[axis]:
                c = (kappa[i] + kappa[j]) / (2 * h**2)
                a, b = number[i], number[j]
                dense[[a, b], [a, b]] += c
                dense[[a, b], [b, a]] -= c
    inner, outer = number[inside], number[~inside]

    grid = CartesianGrid(shape)
    cut = tuple(slice(a, b + 2) for a, b in zip(grid.start, grid.stop))
    matrix, load = DiffusionMatrix(grid, spacing), DirichletLoad(grid, spacing)
    order = np.concatenate(COMM.allgather(number[cut][grid.interior(1)].ravel()))
    assert sorted(order) == sorted(inner)
    rows = order[np.arange(*matrix.pattern.row_range)]
    found = np.zeros((len(rows), len(order)))
    local = np.repeat(np.arange(len(rows)), np.diff(matrix.pattern.indptr))
    found[local, matrix.pattern.indices] = matrix(kappa[cut])
    np.testing.assert_allclose(found, dense[np.ix_(rows, order)], rtol=1e-14)
    expected = -dense[np.ix_(rows, outer)] @ g[~inside]
    np.testing.assert_allclose(load(kappa[cut], g[cut]).ravel(), expected, rtol=1e-13)


@everywhere
def test_the_domain_is_the_unit_interval_by_default() -> None:
    """``u = x (1 − x)`` solves ``−u'' = 2``, and second differences of it are exact."""
    grid = CartesianGrid((11,))
    with Poisson(grid, rtol=1e-13) as poisson:
        u = poisson(np.ones(grid.padded_shape(1)), np.full(grid.patch_shape, 2.0))
    x = np.arange(grid.start[0] + 1, grid.stop[0] + 1) / 12
    np.testing.assert_allclose(u, x * (1 - x), rtol=1e-11)


@everywhere
@pytest.mark.parametrize("shape", [(7, 6), (4, 3, 5)], ids=str)
def test_derivatives(shape: tuple[int, ...]) -> None:
    case = Manufactured(CartesianGrid(shape), (1.0,) * len(shape))
    matrix = DiffusionMatrix(case.grid, case.spacing)
    load = DirichletLoad(case.grid, case.spacing)
    poisson = Poisson(case.grid, rtol=1e-14)
    for check in dot_test, check_jvp, check_vjp:
        check(matrix, case.kappa)
        check(load, case.kappa, case.u)
        check(poisson, case.kappa, case.f, case.u)


@everywhere
def test_the_gradient_of_a_misfit_passes_a_taylor_test() -> None:
    case = Manufactured(CartesianGrid((12, 11)), (1.0, 1.0))
    poisson = Poisson(case.grid, boundary=case.u, rtol=1e-12)

    def misfit(kappa: Any) -> Any:
        return Allreduce()(((poisson(kappa, case.f) - 1.0) ** 2).sum())

    rates = taylor_test(misfit, case.kappa, h=1e-2, levels=4)
    assert rates.min() >= 1.95
    assert rates.max() <= 2.2


@everywhere
def test_the_adjoint_solve_takes_the_forward_solves_hierarchy() -> None:
    case = Manufactured(CartesianGrid((12, 11)), (1.0, 1.0))
    with Poisson(case.grid) as poisson, Tape() as tape:
        f = tape.watch(case.f)
        u = poisson(case.kappa, f)
        tape.vjp([u], [np.ones(u.shape)], [f])
        assert (poisson.solve.setups, poisson.solve.solves) == (1, 2)


@cache
def alone(shape: tuple[int, ...]) -> tuple[Array, Array, Array]:
    """Return solution and gradients of one rank that has the whole grid."""
    return swept(CartesianGrid(shape, comm=MPI.COMM_SELF), 1e-10)


def swept(grid: CartesianGrid, rtol: float) -> tuple[Array, Array, Array]:
    case = Manufactured(grid, (1.0,) * grid.ndim)
    weights = np.cos(7 * case.kappa[grid.interior(1)])
    with Poisson(grid, rtol=rtol) as poisson, Tape(comm=grid.comm) as tape:
        kappa, f = tape.watch(case.kappa), tape.watch(case.f)
        u = poisson(kappa, f, boundary=case.u)
        of_kappa, of_f = tape.vjp([u], [weights], [kappa, f])
    return u.value, of_kappa, of_f


@pytest.mark.parallel([2, 3, 4])
@pytest.mark.parametrize("shape", [(23, 17), (7, 8, 9)], ids=str)
def test_does_not_depend_on_the_number_of_ranks(shape: tuple[int, ...]) -> None:
    grid = CartesianGrid(shape)
    u, of_kappa, of_f = swept(grid, 1e-10)
    everywhere_u, everywhere_kappa, everywhere_f = alone(shape)
    owned = grid.patch_slices(RANK)
    padded = tuple(slice(a, b + 2) for a, b in zip(grid.start, grid.stop))
    total = np.zeros(tuple(n + 2 for n in shape))
    for cut, part in COMM.allgather((padded, of_kappa)):
        total[cut] += part
    for found, expected in ((u, everywhere_u[owned]), (of_f, everywhere_f[owned])):
        assert np.abs(found - expected).max() <= 1e-9 * np.abs(expected).max()
    assert np.abs(total - everywhere_kappa).max() <= 1e-9 * np.abs(everywhere_kappa).max()


@everywhere
def test_boundary_values_of_every_kind() -> None:
    """Constant values on the boundary without a source are the solution."""
    grid = CartesianGrid((8, 7))
    kappa = Manufactured(grid, (1.0, 1.0)).kappa
    none = np.zeros(grid.patch_shape)
    field = np.full(grid.padded_shape(1), 2.5)
    for poisson, arguments in (
        (Poisson(grid, boundary=2.5), {}),
        (Poisson(grid, boundary=field), {}),
        (Poisson(grid, boundary=1.0), {"boundary": 2.5}),
        (Poisson(grid), {"boundary": field}),
    ):
        np.testing.assert_allclose(poisson(kappa, none, **arguments), 2.5, rtol=1e-8)
    np.testing.assert_allclose(Poisson(grid, boundary=1)(kappa, none), 1.0, rtol=1e-8)
    np.testing.assert_array_equal(Poisson(grid)(kappa, none), 0.0)

    with Tape() as tape:
        value = tape.watch(np.array(2.5))
        u = Poisson(grid)(kappa, none, boundary=value)
    (found,) = tape.vjp([u], [np.ones(grid.patch_shape)], [value])
    assert COMM.allreduce(float(found)) == pytest.approx(np.prod(grid.shape), rel=1e-8)


@everywhere
@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_a_bad_diffusivity_on_one_rank_is_an_error_on_all(bad: float) -> None:
    grid = CartesianGrid((9, 8))
    poisson = Poisson(grid)
    kappa, f = np.ones(grid.padded_shape(1)), np.ones(grid.patch_shape)
    kappa[0, 0] = kappa[-1, 0] = kappa[0, -1] = np.nan  # corners are not used
    assert np.isfinite(poisson(kappa, f)).all()
    if RANK == SIZE - 1:
        kappa[2, -1] = bad
    last = grid.patch(SIZE - 1)
    node = (last[0][0] + 1, last[1][1])
    prefix = f"rank {SIZE - 1}: " if SIZE > 1 else ""
    message = f"^{prefix}DiffusionMatrix: kappa is {bad} at node {re.escape(str(node))}, expected"
    with pytest.raises(ValueError, match=message):
        poisson(kappa, f)


@everywhere
def test_bad_arguments_are_errors_on_all_ranks() -> None:
    grid = CartesianGrid((9, 8))
    poisson = Poisson(grid)
    kappa, f = np.ones(grid.padded_shape(1)), np.ones(grid.patch_shape)
    last = RANK == SIZE - 1
    with pytest.raises(ValueError, match="Poisson: f has shape"):
        poisson(kappa, f[int(last) :])
    with pytest.raises(ValueError, match="DiffusionMatrix: kappa has shape"):
        poisson(kappa[int(last) :], f)
    with pytest.raises(ValueError, match="DiffusionMatrix: kappa has dtype float32"):
        poisson(kappa.astype(np.float32) if last else kappa, f)
    with pytest.raises(ValueError, match="DirichletLoad: spacing is -1, expected a positive"):
        DirichletLoad(grid, -1)
    with pytest.raises(ValueError, match="got spacing and extent, expected one of them"):
        Poisson(grid, spacing=0.1, extent=1.0)
    with pytest.raises(ValueError, match=r"Poisson: extent is \(1, 0\), expected a positive"):
        Poisson(grid, extent=(1, 0))
    with pytest.raises(ValueError, match=r"Poisson: spacing is .* a positive length, or 2"):
        Poisson(grid, spacing=(0.1, 0.1, np.inf)[: 2 + last])
    periodic = CartesianGrid((9, 8), periodic=(False, True))
    with pytest.raises(ValueError, match=r"grid has periodic \(False, True\), expected none"):
        Poisson(periodic)
    f[0, 0] = np.nan
    with pytest.raises(ValueError, match="LinearSolve: b has nan"):
        poisson(kappa, f)


@pytest.mark.parallel([1])
def test_the_users_options_come_before_those_of_a_grid_in_space() -> None:
    name = "pc_hypre_boomeramg_agg_nl"
    plane, space = CartesianGrid((3, 3)), CartesianGrid((3, 3, 3))
    assert multigrid_options(plane, None) == {}
    assert multigrid_options(plane, {"ksp_rtol": 1e-3}) == {"ksp_rtol": 1e-3}
    usual, mine = multigrid_options(space, None), multigrid_options(space, {name: 3})
    assert mine == {**usual, name: 3} != usual
