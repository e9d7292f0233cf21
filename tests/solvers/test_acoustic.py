"""The acoustic wave against what is known of waves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mpi4py import MPI
from scipy.integrate import trapezoid
from scipy.special import j0

from adjoint.comm import CartesianGrid
from adjoint.solvers import AcousticWave, ricker

pytestmark = pytest.mark.timeout(300)  # the first test may have to wait for the compiler

C = 2500.0


def wave_on(n: int, h: float, dt: float, steps: int, **settings: Any) -> AcousticWave:
    middle = n // 2 * h
    defaults = {"sources": [[middle, middle]], "receivers": [[middle, middle]], "pml_width": 20}
    return AcousticWave(
        CartesianGrid((n, n), MPI.COMM_SELF), h, dt, steps, **{**defaults, **settings}
    )


def state_after(wave: AcousticWave, steps: int, *initial: Any) -> Any:
    """Return the field after so many steps from two initial levels."""
    loop = wave.propagator
    shape = wave.grid.patch_shape
    loop.prepare(np.full(shape, C), np.zeros((1, 1, wave.steps)), *initial)
    loop.begin(0)
    loop.advance(0, steps)
    return loop.state[1][loop.padding.inner].copy()


def test_greens_function() -> None:
    """u = 1/(2πc²) ∫ w(t − (r/c) cosh s) ds, the plane's Green's function convolved with w."""
    h, dt, steps, peak = 5.0, 5e-4, 500, 20.0
    times = dt * np.arange(steps)
    distances = np.array([100.0, 147.3, 190.0])
    start = np.array([301.7, 298.4])
    angle = np.array([0.3, 2.0, 4.4])
    receivers = start + distances[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=1)
    wave = wave_on(
        121, h, dt, steps, sources=[start], receivers=receivers,
        wavelets=1e6 * ricker(times, peak, 0.1),
    )  # fmt: skip
    traces = wave(np.full((121, 121), C))[0]
    s = np.linspace(0, 6, 6001)
    for found, r in zip(traces, distances):
        late = times[:, None] - r / C * np.cosh(s)
        phase = (np.pi * peak * (late - 0.1)) ** 2
        series = 1e6 * (1 - 2 * phase) * np.exp(-phase)
        expected = trapezoid(series, s, axis=1) / (2 * np.pi * C**2)
        assert np.abs(found - expected).max() < 0.01 * np.abs(expected).max()


def radial(n: int, h: float, width: float, time: float) -> Any:
    """The field that a resting Gaussian bump becomes, by its Hankel transform."""
    line = (np.arange(n) - n // 2) * h
    r = np.hypot(line[:, None], line)
    k = np.linspace(0, 9 / width, 1500)
    amplitude = width**2 * np.exp(-((k * width) ** 2) / 2) * np.cos(C * k * time) * k
    distinct, back = np.unique(np.round(r, 9), return_inverse=True)
    values = np.array([trapezoid(amplitude * j0(k * d), k) for d in distinct])
    return values[back].reshape(r.shape)


@pytest.mark.parametrize(("order", "expected"), [(2, 1.9), (4, 3.8)])
def test_order_in_space(order: int, expected: float) -> None:
    width, time = 60.0, 0.08
    errors = []
    for n, h in ((61, 20.0), (121, 10.0)):
        steps = 640
        dt = time / steps
        wave = wave_on(n, h, dt, steps, order=order, pml_width=2)
        found = state_after(wave, steps, radial(n, h, width, 0.0), radial(n, h, width, -dt))
        errors.append(np.abs(found - radial(n, h, width, time)).max())
    assert np.log2(errors[0] / errors[1]) >= expected


@pytest.mark.parametrize("order", [2, 4])
def test_order_in_time(order: int) -> None:
    n, h, width, time = 91, 10.0, 60.0, 0.08
    found = []
    for steps in (40, 80, 1280):
        dt = time / steps
        wave = wave_on(n, h, dt, steps, order=order, pml_width=2)
        initial = radial(n, h, width, 0.0), radial(n, h, width, -dt)
        found.append(state_after(wave, steps, *initial))
    errors = [np.abs(field - found[2]).max() for field in found[:2]]
    assert np.log2(errors[0] / errors[1]) >= 1.9


def energy(wave: AcousticWave, h: float, dt: float) -> float:
    """Kinetic and potential energy outside of the layers."""
    old, now = (
        field[wave.propagator.padding.inner][20:-20, 20:-20] for field in wave.propagator.state[:2]
    )
    slopes = sum(np.sum(np.diff(now, axis=axis) ** 2) for axis in (0, 1))
    return float(np.sum(((now - old) / dt) ** 2) + C**2 * slopes / h**2)


@pytest.mark.parametrize("order", [2, 4])
def test_layers_absorb_and_stay_quiet(order: int) -> None:
    n, h, dt, steps = 101, 10.0, 1.5e-3, 20000
    wavelet = ricker(dt * np.arange(steps), 15.0)
    wave = wave_on(n, h, dt, steps, wavelets=wavelet, order=order)
    loop = wave.propagator
    loop.prepare(np.full((n, n), C), wave.wavelets)
    loop.begin(0)
    levels = []
    for first in range(0, steps, 50):
        loop.advance(first, first + 50)
        levels.append(energy(wave, h, dt))
    peak = max(levels)
    left = int((2.4 / 15 + n * h / C) / dt / 50) + 1  # the wavelet's length and one crossing
    assert left < 10
    assert levels[left] <= 1e-6 * peak
    late = levels[100:]
    assert max(late) <= 1e-12 * peak
    assert late[-1] <= late[0]


@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize("free_surface", [False, True])
def test_reciprocity(order: int, free_surface: bool) -> None:
    n, h, dt, steps = 81, 10.0, 1.5e-3, 400
    settings = {"order": order, "free_surface": free_surface}
    random = np.random.default_rng(0)
    velocity = 2000 + 500 * random.random((n, n))
    places = np.array([[250.0, 283.3], [511.1, 460.0]])
    series = ricker(dt * np.arange(steps), 8.0)
    there, back = (
        wave_on(n, h, dt, steps, sources=[a], receivers=[b], wavelets=series, **settings)(velocity)
        for a, b in (places, places[::-1])
    )
    assert np.abs(there).max() > 0
    np.testing.assert_allclose(there, back, rtol=0, atol=1e-11 * np.abs(there).max())


def test_steps_are_those_of_a_dense_matrix() -> None:
    """Without layers, a step is 2u − u⁻ + Δt² L u with L = −Σ Dᵀ C D."""
    shape, spacing, dt = (9, 11), (10.0, 13.0), 1e-3
    grid = CartesianGrid(shape, MPI.COMM_SELF)
    wave = AcousticWave(
        grid, spacing, dt, 6, [[40.0, 60.0]], [[30.0, 70.0]], pml_sides=(), pml_width=1
    )
    random = np.random.default_rng(1)
    velocity = 2000 + 500 * random.random(shape)
    matrix = np.zeros((99, 99))
    for axis, (nodes, h) in enumerate(zip(shape, spacing)):
        ends = [(0, 0), (0, 0)]
        ends[axis] = (3, 3)
        square = np.moveaxis(np.pad(velocity**2, ends, mode="edge"), axis, 0)
        difference = np.zeros((nodes + 3, nodes + 6))  # at the half points that touch a node
        for k in range(nodes + 3):
            difference[k, k : k + 4] = np.array([1 / 24, -9 / 8, 9 / 8, -1 / 24]) / h
        difference = difference[:, 3:-3]
        for line in range(square.shape[1]):
            mean = (square[1:-2, line] + square[2:-1, line]) / 2
            block = -difference.T @ np.diag(mean) @ difference
            numbers = np.moveaxis(np.arange(99).reshape(shape), axis, 0)[:, line]
            matrix[np.ix_(numbers, numbers)] += block
    now, old = random.standard_normal((2, 99))
    loop = wave.propagator
    loop.prepare(velocity, np.zeros((1, 1, 6)), now.reshape(shape), old.reshape(shape))
    loop.begin(0)
    loop.advance(0, 6)
    for _ in range(6):
        now, old = 2 * now - old + dt**2 * (matrix @ now), now
    np.testing.assert_allclose(
        loop.state[1][loop.padding.inner].ravel(), now, rtol=1e-11, atol=1e-11
    )
