"""Fluxes of advection and diffusion against a dense assembly, analytic and manufactured ones."""

from __future__ import annotations

from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pytest

from adjoint import communicator
from adjoint.comm import CartesianGrid
from adjoint.solvers import AdvectionDiffusionMatrix, InflowLoad, LinearSolve
from adjoint.solvers.fluxes import bernoulli, bernoulli_slope
from adjoint.testing import check_jvp, check_vjp, dot_test

Array = np.ndarray[Any, Any]
COMM = communicator()
RANK, SIZE = COMM.rank, COMM.size
everywhere = pytest.mark.parallel([1, 2, 3, 4])
both = pytest.mark.parametrize("scheme", ["fitted", "upwind"])

#: By number of axes: different ends everywhere.
SIDES: dict[int, Any] = {
    1: [("value", "open")],
    2: [("open", "closed"), ("value", "open")],
    3: ["open", ("closed", "value"), "closed"],
}


def medium(shape: tuple[int, ...], seed: int = 1) -> tuple[Array, Array, Array]:
    """Return κ, v and g on the whole grid with the layer around it; v has all signs, and zeros."""
    generator = np.random.default_rng(seed)
    whole = tuple(n + 2 for n in shape)
    kappa = 10 ** generator.uniform(-2, 1, whole)
    velocity = generator.standard_normal((len(shape), *whole))
    velocity[:, :2] = 0.0
    return kappa, velocity, generator.standard_normal(whole)


def cut(grid: CartesianGrid, whole: Array) -> Array:
    """Return the padded patch of what :func:`medium` returns."""
    padded = tuple(slice(a, b + 2) for a, b in zip(grid.start, grid.stop))
    return whole[(..., *padded)].copy()


def assembled(
    shape: tuple[int, ...], spacing: tuple[float, ...], sides: Any, scheme: str, kappa: Array,
    velocity: Array,
) -> Array:  # fmt: skip
    """Return the matrix of the whole grid and the layer around it, face by face.

    A face's flux is ``v (u_i + u_j)/2 − D (u_j − u_i)/h`` with ``D = (vh/2) coth(vh/2κ)`` (fitted)
    or ``κ + |v| h/2`` (upwind).
    """
    pairs = [(end, end) if isinstance(end, str) else end for end in sides]
    whole = kappa.shape
    number = np.arange(kappa.size).reshape(whole)
    dense = np.zeros((kappa.size, kappa.size))
    for i in np.ndindex(*whole):
        for axis, h in enumerate(spacing):
            j = tuple(k + int(a == axis) for a, k in enumerate(i))
            if j[axis] == whole[axis]:
                continue
            end = {0: pairs[axis][0], whole[axis] - 2: pairs[axis][1]}.get(i[axis], "inside")
            if end == "closed":
                continue
            diffusivity = 0.0 if end == "open" else (kappa[i] + kappa[j]) / 2
            v = (velocity[axis][i] + velocity[axis][j]) / 2
            if scheme == "upwind" or diffusivity == 0 or v == 0:
                whole_d = diffusivity + abs(v) * h / 2
            else:
                whole_d = v * h / 2 / np.tanh(v * h / 2 / diffusivity)
            loss = np.array([v / 2 + whole_d / h, v / 2 - whole_d / h]) / h
            a, b = number[i], number[j]
            dense[a, [a, b]] += loss
            dense[b, [a, b]] -= loss
    return dense


@everywhere
@both
@pytest.mark.parametrize("shape", [(9,), (6, 5), (4, 5, 4)], ids=str)
def test_matrix_and_load_are_those_of_a_dense_assembly(shape: tuple[int, ...], scheme: str) -> None:
    spacing, sides = (0.5, 2.0, 1.25)[: len(shape)], SIDES[len(shape)]
    kappa, velocity, g = medium(shape)
    dense = assembled(shape, spacing, sides, scheme, kappa, velocity)
    inside = np.zeros(kappa.shape, bool)
    inside[tuple(slice(1, -1) for _ in shape)] = True
    number = np.arange(kappa.size).reshape(kappa.shape)

    grid = CartesianGrid(shape)
    matrix = AdvectionDiffusionMatrix(grid, spacing, sides, scheme)
    load = InflowLoad(grid, spacing, sides, scheme)
    local = [cut(grid, field) for field in (kappa, velocity, g)]
    order = np.concatenate(COMM.allgather(cut(grid, number)[grid.interior(1)].ravel()))
    rows = order[np.arange(*matrix.pattern.row_range)]
    found = np.zeros((len(rows), len(order)))
    here = np.repeat(np.arange(len(rows)), np.diff(matrix.pattern.indptr))
    found[here, matrix.pattern.indices] = matrix(*local[:2])
    np.testing.assert_allclose(found, dense[np.ix_(rows, order)], rtol=1e-12, atol=1e-14)
    expected = -dense[np.ix_(rows, number[~inside])] @ g[~inside]
    np.testing.assert_allclose(load(*local).ravel(), expected, rtol=1e-12, atol=1e-14)


@everywhere
@both
@pytest.mark.parametrize("shape", [(7, 6), (4, 3, 5)], ids=str)
def test_derivatives(shape: tuple[int, ...], scheme: str) -> None:
    grid = CartesianGrid(shape)
    kappa, velocity, g = medium(shape, seed=2)
    kappa += 0.2  # less, and differences of such a length are no derivatives
    if scheme == "upwind":
        for axis in range(len(shape)):  # no face may be still, for there is a kink
            velocity[axis] = (0.2 + np.abs(velocity[axis])) * (-1) ** axis
    local = [cut(grid, field) for field in (kappa, velocity, g)]
    spacing, sides = (0.5, 2.0, 1.25)[: len(shape)], SIDES[len(shape)]
    matrix = AdvectionDiffusionMatrix(grid, spacing, sides, scheme)
    load = InflowLoad(grid, spacing, ["value"] * len(shape), scheme)
    for check in dot_test, check_jvp, check_vjp:
        check(matrix, *local[:2])
        check(load, *local)
    flowing = 0.2 + np.abs(local[1])  # for open ends have a kink with both schemes
    for check in dot_test, check_jvp, check_vjp:
        check(InflowLoad(grid, spacing, "open", scheme), local[0], flowing, local[2])


@everywhere
def test_a_still_fluid_has_the_derivative_of_abs_where_there_is_a_kink() -> None:
    """Of an upwind flux half of what flow either way would carry; the fitted one is smooth."""
    grid = CartesianGrid((5,))
    rest, change = np.zeros((1, grid.padded_shape(1)[0])), np.ones((1, grid.padded_shape(1)[0]))
    kappa, step = np.ones(grid.padded_shape(1)), 1e-6
    found = {}
    for scheme in ("fitted", "upwind"):
        matrix = AdvectionDiffusionMatrix(grid, 0.5, "value", scheme)
        found[scheme] = matrix.jvp((0 * kappa, change), (kappa, rest), (None,))
        sides = [matrix(kappa, by * step * change) for by in (1, -1)]
        central = (sides[0] - sides[1]) / (2 * step)
        np.testing.assert_allclose(found[scheme], central, atol=1e-8)
        bent = np.abs(sides[0] + sides[1] - 2 * matrix(kappa, rest)).max() / step
        assert (bent > 1) == (scheme == "upwind")
    np.testing.assert_allclose(found["fitted"], found["upwind"], atol=1e-14)


@pytest.mark.parallel([1])
def test_bernoullis_function_and_its_slope() -> None:
    x = np.concatenate([np.linspace(0, 0.12, 49), 10 ** np.linspace(-6, 2.5, 18)])
    values, slopes = [1.0], [-0.5]
    with localcontext() as context:
        context.prec = 40
        for d in map(Decimal, x[1:].tolist()):
            value = d / (d.exp() - 1)
            values.append(float(value))
            slopes.append(float(value * (1 - d - value) / d))
    np.testing.assert_allclose(bernoulli(x), values, rtol=1e-15)
    np.testing.assert_allclose(bernoulli_slope(x), slopes, rtol=0, atol=1e-14)


@everywhere
@pytest.mark.parametrize("peclet", [1e-3, 3.0, 60.0, 1e5])
def test_fitted_fluxes_are_exact_in_one_dimension(peclet: float) -> None:
    """``v u' = κ u''`` between two values has ``u = (e^{vx/κ} − 1)/(e^{v/κ} − 1)``."""
    n = 19
    grid = CartesianGrid((n,))
    kappa, velocity = np.full(grid.padded_shape(1), 1 / peclet), np.ones((1, n + 2))
    velocity = cut(grid, velocity)
    g = (np.arange(grid.start[0], grid.stop[0] + 2) == n + 1).astype(float)
    matrix = AdvectionDiffusionMatrix(grid, 1 / (n + 1), "value")
    load = InflowLoad(grid, 1 / (n + 1), "value")
    with LinearSolve(matrix.pattern, rtol=1e-13) as solve:
        u = solve(matrix(kappa, velocity), load(kappa, velocity, g))
    x = np.arange(grid.start[0] + 1, grid.stop[0] + 1) / (n + 1)
    exact = np.exp(peclet * (x - 1)) * np.expm1(-peclet * x) / np.expm1(-peclet)
    np.testing.assert_allclose(u, exact, atol=1e-10)


@everywhere
@pytest.mark.parametrize(
    ("scheme", "order", "sizes"), [("fitted", 1.9, (12, 24)), ("upwind", 0.9, (24, 48))]
)
def test_order_in_space(scheme: str, order: float, sizes: tuple[int, int]) -> None:
    """Where κ, v and u vary and v has sources: ``u = e^{0.7x − 0.4y}`` on the unit square."""
    errors = []
    for n in sizes:
        h = 1 / (n + 1)
        grid = CartesianGrid((n, n))
        x, y = grid.coordinates(h, h, width=1)
        u = np.exp(0.7 * x - 0.4 * y)
        velocity = np.stack([3 + y**2 + x, 2 - x * y])
        kappa, slope = 0.3 + 0.1 * np.sin(2 * x + y), 0.1 * np.cos(2 * x + y)
        along = 0.7 * velocity[0] - 0.4 * velocity[1]
        f = u * (along + (1 - x) - 0.65 * kappa - slope * (2 * 0.7 - 0.4))
        matrix = AdvectionDiffusionMatrix(grid, h, "value", scheme)
        load = InflowLoad(grid, h, "value", scheme)
        inner = grid.interior(1)
        with LinearSolve(matrix.pattern) as solve:
            b = f[inner] + load(kappa, velocity, u)
            found = solve(matrix(kappa, velocity), b.ravel()).reshape(grid.patch_shape)
        squares = COMM.allreduce(float(np.sum((found - u[inner]) ** 2)))
        errors.append(np.sqrt(squares) / n)
    assert np.log2(errors[0] / errors[1]) >= order


@everywhere
def test_bad_arguments_are_errors_on_all_ranks() -> None:
    grid = CartesianGrid((9, 8))
    matrix = AdvectionDiffusionMatrix(grid, 1.0)
    kappa, velocity = np.ones(grid.padded_shape(1)), np.ones((2, *grid.padded_shape(1)))
    kappa[0, 0] = velocity[0, -1, -1] = np.nan  # corners are not used
    last = RANK == SIZE - 1

    def with_fault(field: Array, value: float) -> Array:
        field = field.copy()
        if last:
            field[..., 2, -1] = value
        return field

    with pytest.raises(ValueError, match="AdvectionDiffusionMatrix: kappa has shape"):
        matrix(kappa[int(last) :], velocity)
    with pytest.raises(ValueError, match="AdvectionDiffusionMatrix: velocity has shape"):
        matrix(kappa, velocity[int(last) :])
    with pytest.raises(ValueError, match="kappa has dtype float32, expected float64"):
        matrix(kappa.astype(np.float32) if last else kappa, velocity)
    for bad in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="kappa has values that are negative or not finite"):
            matrix(with_fault(kappa, bad), velocity)
    with pytest.raises(ValueError, match="velocity has values that are not finite"):
        matrix(kappa, with_fault(velocity, np.nan))
    with pytest.raises(ValueError, match="InflowLoad: g has shape"):
        InflowLoad(grid, 1.0)(kappa, velocity, kappa[int(last) :])
    with pytest.raises(ValueError, match="scheme is 'central', expected fitted or upwind"):
        AdvectionDiffusionMatrix(grid, 1.0, scheme="central")
    for sides in ("shut", ["open"], ["open", ("open", "value", "open")]):
        with pytest.raises(ValueError, match=r"sides is .* expected value, open, closed, or for"):
            AdvectionDiffusionMatrix(grid, 1.0, sides)
