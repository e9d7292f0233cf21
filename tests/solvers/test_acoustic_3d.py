"""The acoustic wave in space against what is known of waves, and against itself."""

from __future__ import annotations

import re
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

from adjoint import Tape
from adjoint.comm import CartesianGrid
from adjoint.solvers import AcousticWave, ricker
from adjoint.solvers.waves import SIDES

pytestmark = [
    pytest.mark.filterwarnings("ignore:AcousticWave. .* nodes for the shortest"),
    pytest.mark.timeout(300),  # the first test may have to wait for the compiler
]

C = 2500.0


def wave_on(shape: Any, h: Any, dt: float, steps: int, **settings: Any) -> AcousticWave:
    middle = [n // 2 * x for n, x in zip(shape, np.broadcast_to(h, 3))]
    usual = {"sources": [middle], "receivers": [middle], "pml_width": 10}
    return AcousticWave(CartesianGrid(shape, MPI.COMM_SELF), h, dt, steps, **{**usual, **settings})


def begun(wave: AcousticWave, *initial: Any) -> Any:
    """Return the propagator of a wave in a uniform medium, before its first step."""
    loop = wave.propagator
    wavelets = np.zeros((1, 1, wave.steps)) if wave.wavelets is None else wave.wavelets
    loop.prepare(np.full(wave.grid.patch_shape, C), wavelets, *initial)
    loop.begin(0)
    return loop


def test_greens_function() -> None:
    """u = w(t − r/c) / (4πc²r), and nothing behind it: in space a wave leaves no tail."""
    h, dt, steps, peak, n = 10.0, 5e-4, 300, 20.0, 45
    times = dt * np.arange(steps)
    distances = np.array([80.0, 97.3, 120.0])
    start = np.array([221.7, 218.4, 220.9])
    directions = np.array([[0.3, -0.2, 1.0], [1.0, 0.8, -0.5], [-0.4, 1.0, 0.1]])
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    wave = wave_on(
        (n,) * 3, h, dt, steps, sources=[start],
        receivers=start + distances[:, None] * directions, wavelets=1e9 * ricker(times, peak, 0.07),
    )  # fmt: skip
    for found, r in zip(wave(np.full((n,) * 3, C))[0], distances):
        expected = 1e9 * ricker(times - r / C, peak, 0.07) / (4 * np.pi * C**2 * r)
        assert np.abs(found - expected).max() < 0.01 * np.abs(expected).max()


def sphere(shape: Any, h: float, width: float, time: float) -> Any:
    """The field that a resting Gaussian bump becomes: two waves of r u, inwards and outwards."""
    lines = np.ix_(*((np.arange(n) - n // 2) * h for n in shape))
    r = np.maximum(np.sqrt(sum(x**2 for x in lines)), 1e-6 * h)
    ends = r - C * time, r + C * time
    return sum(s * np.exp(-(s**2) / (2 * width**2)) for s in ends) / (2 * r)


def error_after(n: int, h: float, steps: int, order: int, time: float = 0.05) -> float:
    width, dt, shape = 60.0, time / steps, (n, n, n)
    wave = wave_on(shape, h, dt, steps, order=order, pml_sides=(), pml_width=1)
    loop = begun(wave, sphere(shape, h, width, 0.0), sphere(shape, h, width, -dt))
    loop.advance(0, steps)
    found = loop.state[1][loop.padding.inner]
    return float(np.abs(found - sphere(shape, h, width, time)).max())


@pytest.mark.parametrize(("order", "steps", "expected"), [(2, 60, 1.9), (4, 300, 3.8)])
def test_order_in_space(order: int, steps: int, expected: float) -> None:
    """With steps enough that only the nodes matter."""
    errors = [error_after(n, h, steps, order) for n, h in ((33, 24.0), (65, 12.0))]
    assert np.log2(errors[0] / errors[1]) >= expected


def test_order_in_time() -> None:
    """With nodes enough that only the steps matter."""
    errors = [error_after(65, 12.0, steps, 4) for steps in (24, 48)]
    assert 1.9 <= np.log2(errors[0] / errors[1]) <= 2.3


def energy(loop: Any, h: float, dt: float) -> float:
    """Kinetic and potential energy."""
    old, now = (field[loop.padding.inner] for field in loop.state[:2])
    slopes = sum(np.sum(np.diff(now, axis=axis) ** 2) for axis in range(3))
    return float(np.sum(((now - old) / dt) ** 2) + C**2 * slopes / h**2)


@pytest.mark.parametrize("free_surface", [False, True])
def test_layers_absorb_and_stay_quiet(free_surface: bool) -> None:
    n, h, dt, steps, peak = 30, 10.0, 1.5e-3, 3000, 15.0
    wavelet = 1e6 * ricker(dt * np.arange(steps), peak)
    wave = wave_on((n, n, n), h, dt, steps, wavelets=wavelet, free_surface=free_surface)
    loop = begun(wave)
    levels = []
    for first in range(0, steps, 50):
        loop.advance(first, first + 50)
        levels.append(energy(loop, h, dt))
    left = int((2.4 / peak + 2 * n * h / C) / dt / 50) + 1  # the wavelet's length, two crossings
    assert left < 7
    assert levels[left] <= 1e-8 * max(levels)
    assert max(levels[30:]) <= 1e-13 * max(levels)
    assert levels[-1] <= levels[30]


@pytest.mark.parametrize("free_surface", [(), ("top", "left")])
def test_reciprocity(free_surface: Any) -> None:
    shape, h, dt, steps = (24, 22, 26), 10.0, 1.2e-3, 120
    velocity = 2000 + 500 * np.random.default_rng(0).random(shape)
    places = np.array([[90.0, 83.3, 121.1], [131.1, 120.0, 104.2]])
    series = ricker(dt * np.arange(steps), 20.0)
    there, back = (
        wave_on(shape, h, dt, steps, sources=[a], receivers=[b], wavelets=series, pml_width=6,
                free_surface=free_surface)(velocity)
        for a, b in (places, places[::-1])
    )  # fmt: skip
    assert np.abs(there).max() > 0
    np.testing.assert_allclose(there, back, rtol=0, atol=1e-11 * np.abs(there).max())


def test_the_order_of_axes_does_not_matter() -> None:
    """Traces and gradients of a survey that is turned, layers and free surfaces with it."""
    shape, h, dt, steps = (12, 13, 14), (10.0, 12.0, 11.0), 1.2e-3, 25
    random = np.random.default_rng(2)
    fields = [2000 + 500 * random.random(shape), *random.standard_normal((2, *shape))]
    places = np.array([[61.1, 70.0, 75.5], [50.0, 77.7, 93.0]])
    series = 1e6 * random.standard_normal((1, 1, steps))
    bar = random.standard_normal((1, 1, steps))
    names = list(zip(SIDES[3][::2], SIDES[3][1::2]))

    def outcome(axes: tuple[int, ...]) -> list[Any]:
        renamed = {old: new for a, b in enumerate(axes) for old, new in zip(names[b], names[a])}
        wave = wave_on(
            [shape[a] for a in axes], [h[a] for a in axes], dt, steps,
            sources=places[:1, axes], receivers=places[1:, axes], pml_width=3,
            pml_sides=[renamed[side] for side in ("bottom", "front", "back", "right")],
            free_surface=[renamed[side] for side in ("top", "left")],
            pml_frequency=12.0,
        )  # fmt: skip
        with Tape() as tape:
            c, *initial = (tape.watch(np.ascontiguousarray(f.transpose(axes))) for f in fields)
            w = tape.watch(series)
            traces = wave(c, w, *initial)
        gradients = tape.vjp([traces], [bar], [c, *initial, w])
        back = [g.transpose(np.argsort(axes)) for g in gradients[:3]]
        return [traces.value, *back, gradients[3]]

    expected = outcome((0, 1, 2))
    for axes in list(permutations(range(3)))[1:]:
        for found, known in zip(outcome(axes), expected):
            assert np.abs(known).max() > 0
            np.testing.assert_allclose(found, known, rtol=0, atol=1e-12 * np.abs(known).max())


@pytest.mark.parametrize("order", [2, 4])
def test_a_wave_that_does_not_vary_along_an_axis_is_that_of_the_plane(order: int) -> None:
    """As far from the ends of that axis as what they do has not come yet."""
    shape, h, dt, steps = (15, 16), 10.0, 1.2e-3, 6
    random = np.random.default_rng(5)
    velocity, *initial = 2000 + 500 * random.random(shape), *random.standard_normal((2, *shape))
    settings = {"pml_width": 4, "free_surface": True, "order": order, "pml_velocity": C,
                "pml_frequency": 12.0}  # fmt: skip
    plane = AcousticWave(
        CartesianGrid(shape, MPI.COMM_SELF), h, dt, steps, [[50.0, 60.0]], [[53.0, 71.0]],
        **settings,
    )  # fmt: skip
    rest = np.zeros((1, 1, steps))
    expected = plane(velocity, rest, *initial)
    length = 2 * 3 * steps + 5
    space = AcousticWave(
        CartesianGrid((15, length, 16), MPI.COMM_SELF), h, dt, steps,
        [[50.0, length // 2 * h, 60.0]], [[53.0, length // 2 * h, 71.0]],
        pml_sides=("bottom", "left", "right"), **settings,
    )  # fmt: skip
    repeated = [np.repeat(field[:, None], length, axis=1) for field in (velocity, *initial)]
    found = space(repeated[0], rest, *repeated[1:])
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("order", [2, 4])
def test_the_longest_step_is_the_longest_that_is_stable(order: int) -> None:
    shape, h, steps = (14, 15, 16), (10.0, 8.0, 12.0), 400
    known = (1 if order == 2 else 6 / 7) / (C * np.sqrt(sum(1 / x**2 for x in h)))
    wave = wave_on(shape, h, 1.5 * known, 1, order=order, pml_sides=(), pml_width=1)
    with pytest.raises(ValueError, match=r"dt is .* s, expected at most \S+ s for") as error:
        wave(np.full(shape, C), np.zeros((1, 1, 1)))
    limit = float(re.findall(r"at most (\S+) s", str(error.value))[0])
    assert limit == pytest.approx(known, rel=1e-5)
    initial = np.random.default_rng(3).standard_normal(shape)
    sizes = []
    for dt in (limit, 1.03 * limit):
        loop = begun(wave_on(shape, h, dt, steps, order=order, pml_sides=(), pml_width=1),
                     initial, initial)  # fmt: skip
        loop.advance(0, steps)
        sizes.append(np.abs(loop.state[1][loop.padding.inner]).max())
    assert sizes[0] < 100
    assert sizes[1] > 1e6
