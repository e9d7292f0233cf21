"""Diffusion with a law of the solution, against manufactured and transformed solutions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

from adjoint import Tape, communicator
from adjoint.comm import Allreduce, Bcast, CartesianGrid
from adjoint.nn import MLP
from adjoint.solvers import (
    ConvergenceError,
    DiffusionMatrix,
    DirichletLoad,
    MatVec,
    NonlinearDiffusion,
    Poisson,
)
from adjoint.solvers.diffusion_operator import Diffusion
from adjoint.testing import Prepared, check_jvp, check_vjp, dot_test, taylor_test

Array = np.ndarray[Any, Any]
COMM = communicator()
RANK, SIZE = COMM.rank, COMM.size
TIGHT = {"rtol": 1e-13, "linear_rtol": 1e-14}
everywhere = pytest.mark.parallel([1, 2, 3, 4])

NETWORK = MLP((1, 6, 6, 1), domain=((0, 1),), lower=0.2, upper=3.0)


def learned(u: Any, theta: Any) -> Any:
    return NETWORK(theta, u.reshape(-1, 1)).reshape(u.shape)


class Case:
    """A source and Dirichlet values that do not vanish, on a patch with one layer around it."""

    def __init__(self, grid: CartesianGrid) -> None:
        self.grid = grid
        spacing = tuple(1 / (n + 1) for n in grid.shape)
        x = grid.coordinates(spacing, spacing, width=1)
        self.wave = 0.3 + 0.2 * sum(np.sin(3 * c + k) for k, c in enumerate(x))
        self.f = (6.0 + 4.0 * np.cos(5 * x[0]))[grid.interior(1)].copy()


@everywhere
@pytest.mark.parametrize("shape", [(9,), (6, 5), (4, 5, 4)], ids=str)
def test_the_operator_is_the_matrix_with_its_load(shape: tuple[int, ...]) -> None:
    grid = CartesianGrid(shape)
    spacing = (0.5, 2.0, 1.25)[: len(shape)]
    case = Case(grid)
    kappa = 1 + case.wave**2
    operator, matrix = Diffusion(grid, spacing), DiffusionMatrix(grid, spacing)
    inside = case.wave[grid.interior(1)].reshape(-1)
    expected = MatVec(matrix.pattern)(matrix(kappa), inside).reshape(grid.patch_shape)
    expected = expected - DirichletLoad(grid, spacing)(kappa, case.wave)
    np.testing.assert_allclose(operator(kappa, case.wave), expected, atol=1e-12)
    prepared = Prepared(operator, kappa, case.wave)
    for check in dot_test, check_jvp, check_vjp:
        check(prepared)


@everywhere
@pytest.mark.parametrize(
    ("shapes", "extent"),
    [(((11, 9), (23, 19)), (2.0, 1.5)), (((5, 6, 5), (11, 13, 11)), (1.0, 1.2, 0.8))],
    ids=["2-D", "3-D"],
)
def test_second_order_with_dirichlet_values(shapes: Any, extent: Any) -> None:
    """With ``κ = 1 + u²`` and ``u = 1 + sin(3x) e^{y/2}``, and its ``f`` by hand."""
    errors = []
    for shape in shapes:
        grid = CartesianGrid(shape)
        spacing = [length / (n + 1) for length, n in zip(extent, shape)]
        x, y, *_ = grid.coordinates(spacing, spacing, width=1)
        growth = np.exp(y / 2)
        u = 1 + np.sin(3 * x) * growth
        squares = (3 * np.cos(3 * x) * growth) ** 2 + ((u - 1) / 2) ** 2  # |∇u|²
        f = -((1 + u**2) * (u - 1) * (0.25 - 9) + 2 * u * squares)
        inside = grid.interior(1)
        with NonlinearDiffusion(grid, lambda u: 1 + u**2, extent=extent, boundary=u) as diffusion:
            assert diffusion.spacing == pytest.approx(tuple(spacing))
            error = diffusion(f[inside].copy()) - u[inside]
        total = COMM.allreduce(float(np.sum(error**2)))
        errors.append(np.sqrt(total / np.prod(shape)))
    assert 1.9 <= np.log2(errors[0] / errors[1]) <= 2.1


@everywhere
def test_the_integral_of_a_linear_law_solves_the_poisson_equation() -> None:
    """``K(u) = ∫ κ du`` (Kirchhoff): where ``κ`` is linear, also between nodes, to all digits."""
    case = Case(CartesianGrid((9, 7)))

    def integral(u: Array) -> Array:
        return np.asarray(u + 1.5 * u**2)

    diffusion = NonlinearDiffusion(case.grid, lambda u: 1 + 3 * u, boundary=case.wave, **TIGHT)
    linear = Poisson(case.grid, boundary=integral(case.wave), rtol=1e-13)
    expected = linear(np.ones(case.grid.padded_shape(1)), case.f)
    np.testing.assert_allclose(integral(diffusion(case.f)), expected, rtol=1e-10)


@everywhere
@pytest.mark.parametrize("shape", [(7, 6), (4, 3, 5)], ids=str)
def test_derivatives_with_a_network_inside(shape: tuple[int, ...]) -> None:
    case = Case(CartesianGrid(shape))
    diffusion = NonlinearDiffusion(case.grid, learned, **TIGHT)

    def program(theta: Any, f: Any, g: Any) -> Any:
        return diffusion(f, Bcast()(theta), boundary=g)

    prepared = Prepared(program, 2 * NETWORK.initial(1), case.f, case.wave)
    for check in dot_test, check_jvp, check_vjp:
        check(prepared)
    assert diffusion.solve.solves == 4


@everywhere
def test_the_gradient_of_a_misfit_passes_a_taylor_test() -> None:
    case = Case(CartesianGrid((8, 7)))
    diffusion = NonlinearDiffusion(case.grid, learned, boundary=0.1, **TIGHT)

    def misfit(theta: Any) -> Any:
        u = diffusion(case.f, Bcast()(theta))
        return Allreduce()(((u - 0.3) ** 2).sum())

    rates = taylor_test(misfit, 2 * NETWORK.initial(1), h=0.05, levels=4)
    assert 1.95 <= rates.min() <= rates.max() <= 2.2


def swept(grid: CartesianGrid) -> tuple[Array, Array, Array]:
    """Return this rank's solution, gradient by the source, and part of that by the network."""
    case = Case(grid)
    with NonlinearDiffusion(grid, learned, boundary=case.wave) as diffusion:
        with Tape(comm=grid.comm) as tape:
            theta, f = tape.watch(2 * NETWORK.initial(1)), tape.watch(case.f)
            u = diffusion(f, theta)
        weights = np.cos(9 * case.wave[grid.interior(1)])
        of_theta, of_f = tape.vjp([u], [weights], [theta, f])
    return u.value, of_f, of_theta


@pytest.mark.parallel([2, 3, 4])
def test_does_not_depend_on_the_number_of_ranks() -> None:
    shape = (13, 11)
    grid = CartesianGrid(shape)
    u, of_f, of_theta = swept(grid)
    all_u, all_f, all_theta = swept(CartesianGrid(shape, comm=MPI.COMM_SELF))
    owned = grid.patch_slices(RANK)
    total = COMM.allreduce(of_theta)
    for found, expected in ((u, all_u[owned]), (of_f, all_f[owned]), (total, all_theta)):
        assert np.abs(found - expected).max() <= 1e-9 * np.abs(expected).max()


@everywhere
def test_laws_that_are_not_defined_everywhere() -> None:
    """The corners are never asked for, and a step to where ``κ`` is negative is made shorter."""
    case = Case(CartesianGrid((6, 5)))
    g = case.wave.copy()
    g[0, 0] = g[-1, -1] = g[0, -1] = g[-1, 0] = np.nan
    diffusion = NonlinearDiffusion(case.grid, lambda u, a: a * u**-0.5, boundary=g, **TIGHT)
    with Tape() as tape:
        a = tape.watch(np.array(1.0))
        u = diffusion(case.f, a, start=0.3)
    assert np.isfinite(u.value).all()
    (of_a,) = tape.vjp([u], [np.ones(u.shape)], [a])
    assert np.isfinite(of_a)

    trapped = NonlinearDiffusion(CartesianGrid((9, 8)), lambda u: 0.02 + u, **TIGHT)
    f = np.full(trapped.grid.patch_shape, 30.0)
    w = Poisson(trapped.grid, rtol=1e-13)(np.ones(trapped.grid.padded_shape(1)), f)
    u = trapped(f, start=0.1)
    np.testing.assert_allclose(0.02 * u + u**2 / 2, w, rtol=1e-9)
    with pytest.raises(ConvergenceError, match="the residual at the start is nan"):
        trapped(f, start=-1.0)


@everywhere
def test_constant_laws_and_values() -> None:
    grid = CartesianGrid((8, 7))
    none = np.zeros(grid.patch_shape)
    field = np.full(grid.padded_shape(1), 2.5)
    for law in (np.ones_like, lambda u: np.ones(u.shape), lambda u: 1 + u**2):
        for diffusion, arguments in (
            (NonlinearDiffusion(grid, law, boundary=2.5), {}),
            (NonlinearDiffusion(grid, law, boundary=1.0), {"boundary": field}),
        ):
            u = diffusion(none, start=none, **arguments)
            np.testing.assert_allclose(u, 2.5, rtol=1e-8)
    np.testing.assert_array_equal(diffusion(none, boundary=0.0), 0.0)


@everywhere
def test_bad_arguments_are_errors_on_all_ranks() -> None:
    case = Case(CartesianGrid((9, 8)))
    last = RANK == SIZE - 1
    diffusion = NonlinearDiffusion(case.grid, lambda u: 1 + u**2)
    with pytest.raises(ValueError, match="NonlinearDiffusion: f has shape"):
        diffusion(case.f[int(last) :])
    with pytest.raises(ValueError, match="NonlinearDiffusion: start has shape"):
        diffusion(case.f, start=case.f[int(last) :])
    with pytest.raises(ValueError, match="NonlinearDiffusion: boundary has shape"):
        diffusion(case.f, boundary=case.wave[int(last) :])
    with pytest.raises(ValueError, match="got spacing and extent, expected one of them"):
        NonlinearDiffusion(case.grid, np.exp, spacing=0.1, extent=1.0)

    def of_neighbours(u: Any) -> Any:
        return 1 + (np.concatenate([u[1:], u[:1]]) + u) ** 2

    with pytest.raises(ValueError, match="jacobian times a random vector differs by"):
        NonlinearDiffusion(case.grid, of_neighbours)(case.f)
    with pytest.raises(ValueError, match=r"law returns an array of shape \(\d+,\) for one of"):
        NonlinearDiffusion(case.grid, lambda u: u.reshape(-1) if last else 1 + u)(case.f)
