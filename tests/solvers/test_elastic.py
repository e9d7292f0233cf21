"""The elastic wave against what is known of waves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mpi4py import MPI
from scipy.special import hankel2

from adjoint.comm import CartesianGrid
from adjoint.solvers import ElasticWave, Lame, ricker
from adjoint.testing import check_jvp, check_vjp, dot_test

VP, VS, RHO = 2600.0, 1500.0, 2100.0

pytestmark = pytest.mark.timeout(300)  # the first test may have to wait for the compiler


def wave_on(n: int, h: float, dt: float, steps: int, **settings: Any) -> tuple[Any, Any]:
    """Return a wave on a square, and a homogeneous model."""
    grid = CartesianGrid((n, n), MPI.COMM_SELF)
    rho = np.full((n, n), RHO)
    model = (*Lame()(np.full((n, n), VP), np.full((n, n), VS), rho), rho)
    return ElasticWave(grid, h, dt, steps, **settings), model


def greens_velocity(place: Any, dt: float, force: Any, series: Any) -> Any:
    """Velocity at ``place`` of a force at the origin, half a step later: both components.

    With time dependence e^{iωt}, ``u = (−i/4) [H(k_S r)/µ + ∇∇(H(k_S r) − H(k_P r)) / (ρω²)] F``
    where ``H`` is Hankel's function of the second kind and order zero.
    """
    steps = len(series)
    omega = 2 * np.pi * np.fft.rfftfreq(4 * steps, dt)[1:]
    spectrum = np.fft.rfft(series, 4 * steps)[1:]
    r = float(np.hypot(*place))
    g = np.asarray(place) / r

    def second(k: Any) -> Any:
        slope = -k * hankel2(1, k * r)
        curvature = -(k**2) * (hankel2(0, k * r) - hankel2(1, k * r) / (k * r))
        outer = np.outer(g, g)[..., None]
        return outer * curvature + (np.eye(2)[..., None] - outer) * slope / r

    ks, kp = omega / VS, omega / VP
    tensor = np.eye(2)[..., None] * hankel2(0, ks * r) / (RHO * VS**2)
    tensor = -0.25j * (tensor + (second(ks) - second(kp)) / (RHO * omega**2))
    found = np.einsum("ijw,j->iw", tensor, force) * spectrum * 1j * omega
    found = found * np.exp(0.5j * omega * dt)
    whole = np.concatenate([np.zeros((2, 1)), found], axis=1)
    return np.fft.irfft(whole, 4 * steps)[:, :steps]


def test_greens_function_of_a_force() -> None:
    """P and S arrivals in three directions."""
    h, dt, steps = 5.0, 7e-4, 600
    series = 1e9 * ricker(dt * np.arange(steps), 15.0, 0.12)
    source = np.array([452.1, 448.7])
    offsets = np.array([[200.0, 0.0], [-130.0, 170.0], [20.0, -251.3]])
    force = np.array([0.8, -0.6])
    wave, model = wave_on(
        181, h, dt, steps, sources=[source], receivers=source + offsets, wavelets=series,
        mechanisms=(*force, 0, 0, 0),
    )  # fmt: skip
    v0, v1 = wave(*model)
    for k, place in enumerate(offsets):
        expected = greens_velocity(place, dt, force, series)
        found = np.stack([v0[0, k], v1[0, k]])
        assert np.abs(found - expected).max() < 0.01 * np.abs(expected).max()
        # Both arrivals are there: what moves along the ray is early, what moves across it late.
        ray = place / np.linalg.norm(place)
        along, across = np.abs(ray @ found), np.abs(np.array([-ray[1], ray[0]]) @ found)
        distance = np.linalg.norm(place)
        assert abs(dt * np.argmax(along) - 0.12 - distance / VP) < 0.03
        assert abs(dt * np.argmax(across) - 0.12 - distance / VS) < 0.03


@pytest.mark.filterwarnings("ignore:ElasticWave. .* nodes for the shortest")
def test_order_in_space() -> None:
    errors = []
    dt, steps = 1.5e-4, 1400
    series = 1e9 * ricker(dt * np.arange(steps), 20.0, 0.07)
    place = np.array([60.0, 80.0])
    for n, h in ((63, 10.0), (125, 5.0)):
        middle = np.array([n // 2 * h, n // 2 * h])
        wave, model = wave_on(
            n, h, dt, steps, sources=[middle], receivers=[middle + place], wavelets=series,
            mechanisms=(1, 0, 0, 0, 0),
        )  # fmt: skip
        found = np.concatenate(wave(*model))[:, 0]
        errors.append(np.abs(found - greens_velocity(place, dt, [1.0, 0.0], series)).max())
    assert np.log2(errors[0] / errors[1]) >= 3.8


def test_order_in_time() -> None:
    n, h, time = 81, 10.0, 0.2
    found = []
    for steps in (100, 200, 3200):
        dt = time / steps
        moments = 1e6 * ricker(dt * (np.arange(steps) + 0.5), 12.0, 0.1)
        wave, model = wave_on(
            n, h, dt, steps, sources=[[400.0, 400.0]], receivers=[[400.0, 480.0], [450.0, 430.0]],
            wavelets=moments, mechanisms=(0, 0, 1.0, 0.3, 0.4), record=("s00", "s01"),
            pml_sides=(),
        )  # fmt: skip
        every = steps // 100
        found.append(np.stack(wave(*model))[..., every - 1 :: every])
    errors = [np.abs(traces - found[2]).max() for traces in found[:2]]
    assert np.log2(errors[0] / errors[1]) >= 1.9


def energy(wave: Any) -> float:
    v0, v1, s00, s11, s01 = (
        field[wave.propagator.padding.inner][20:-20, 20:-20] for field in wave.propagator.state[:5]
    )
    mu = RHO * VS**2
    lam = RHO * VP**2 - 2 * mu
    pressure = (s00 + s11) ** 2 / (8 * (lam + mu)) + (s00 - s11) ** 2 / (8 * mu)
    return float(np.sum(RHO / 2 * (v0**2 + v1**2) + pressure + s01**2 / (2 * mu)))


@pytest.mark.parametrize("mechanism", [(0, 0, 1, 1, 0), (1, 0.5, 0, 0, 0)])
def test_layers_absorb_and_stay_quiet(mechanism: tuple[float, ...]) -> None:
    n, h, dt, steps = 101, 10.0, 2e-3, 20000
    peak = 12.0
    wave, model = wave_on(
        n, h, dt, steps, sources=[[500.0, 500.0]], receivers=[[300.0, 300.0]],
        wavelets=ricker(dt * np.arange(steps), peak), mechanisms=mechanism,
    )  # fmt: skip
    loop = wave.propagator
    loop.prepare(*model, wave.mechanisms, wave.wavelets)
    loop.begin(0)
    levels = []
    for first in range(0, steps, 50):
        loop.advance(first, first + 50)
        levels.append(energy(wave))
    left = int((2.4 / peak + 1.2 * n * h / VS) / dt / 50) + 1
    assert left < 15
    assert levels[left] <= 1e-6 * max(levels)
    assert max(levels[100:]) <= 1e-10 * max(levels)
    assert levels[-1] <= levels[100]


@pytest.mark.parametrize("free_surface", [False, True])
def test_reciprocity(free_surface: bool) -> None:
    n, h, dt, steps = 81, 10.0, 2e-3, 300
    random = np.random.default_rng(0)
    rho = 2000 + 200 * random.random((n, n))
    vp = 2500 + 200 * random.random((n, n))
    model = (*Lame()(vp, vp / 1.8, rho), rho)
    top = 0.0 if free_surface else 230.0
    places = np.array([[top, 283.0], [511.0, 460.0]])
    grid = CartesianGrid((n, n), MPI.COMM_SELF)
    traces = [
        ElasticWave(
            grid, h, dt, steps, [a], [b], 1e6 * ricker(dt * np.arange(steps), 8.0), mechanism,
            record=record, free_surface=free_surface,
        )(*model)
        for a, b, mechanism, record in (
            (places[0], places[1], (1, 0, 0, 0, 0), "v1"),
            (places[1], places[0], (0, 1, 0, 0, 0), "v0"),
        )
    ]  # fmt: skip
    scale = np.abs(traces[0]).max()
    assert scale > 0
    np.testing.assert_allclose(traces[0], traces[1], rtol=0, atol=1e-10 * scale)


def test_a_surface_bears_no_traction() -> None:
    n, h, dt, steps = 81, 10.0, 2e-3, 250
    wave, model = wave_on(
        n, h, dt, steps, sources=[[150.0, 400.0]], receivers=[[0.0, 350.0], [0.0, 480.0]],
        wavelets=1e6 * ricker(dt * np.arange(steps), 10.0), record=("s00", "s11", "v0"),
        free_surface=True,
    )  # fmt: skip
    vertical, horizontal, velocity = wave(*model)
    assert np.abs(horizontal).max() > 0
    assert np.abs(velocity).max() > 0
    assert np.abs(vertical).max() == 0


def test_lame() -> None:
    random = np.random.default_rng(3)
    inputs = tuple(1 + random.random((3, 4)) for _ in range(3))
    dot_test(Lame(), *inputs, rtol=1e-12)
    check_jvp(Lame(), *inputs)
    check_vjp(Lame(), *inputs)
    with pytest.raises(ValueError, match=r"Lame: vs has shape \(2,\), expected \(3, 4\)"):
        Lame()(inputs[0], np.ones(2), inputs[2])
