"""The acoustic steps against the scheme written out plainly, on grids small enough to interpret.

``NUMBA_DISABLE_JIT=1`` runs the kernels as Python: faults in them are then tried without compiling.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

from adjoint import Tape
from adjoint.comm import CartesianGrid
from adjoint.solvers import AcousticWave, acoustic_kernels
from adjoint.testing import check_jvp, check_vjp, dot_test
from tests.plain_layers import DT, FREQUENCY, SPEED, WIDTH, damping

pytestmark = pytest.mark.filterwarnings("ignore:AcousticWave. .* nodes for the shortest")

SHAPE, SPACING, STEPS = (9, 10), (10.0, 12.0), 4
SETTINGS: dict[str, dict[str, Any]] = {
    "layers on all sides": {},
    "free surface": {
        "free_surface": True,
        "pml_sides": ("bottom", "right"),
        # Interpolated from nodes on the surface, too.
        "sources": [[[3.0, 51.5]], [[14.0, 60.0]]],
        "receivers": [[6.0, 55.0], [50.0, 60.0]],
    },
    "two layers, second order": {"pml_sides": ("top", "left"), "order": 2},
    "no layers": {"pml_sides": ()},
}


def wave_of(
    steps: int = STEPS, shape: tuple[int, int] = SHAPE, **settings: Any
) -> tuple[AcousticWave, tuple[Any, ...]]:
    usual = {
        "sources": [[[43.0, 51.5]], [[40.0, 60.0]]], "receivers": [[41.0, 55.0], [50.0, 60.0]],
        "pml_velocity": SPEED, "pml_frequency": FREQUENCY, "pml_width": WIDTH,
    }  # fmt: skip
    grid = CartesianGrid(shape, MPI.COMM_SELF)
    wave = AcousticWave(grid, SPACING, DT, steps, **{**usual, **settings})
    random = np.random.default_rng(3)
    velocity = 2000 + 800 * random.random(shape)
    wavelets = 1e3 * random.standard_normal((2, 1, steps))
    return wave, (velocity, wavelets, *random.standard_normal((2, *shape)))


def traces_by_the_equations(wave: AcousticWave, inputs: Any, surface: bool, sides: Any) -> Any:
    """Whole-array steps: each axis in turn as the first, three nodes more at both ends."""
    velocity, wavelets, now, old = inputs
    near, far = (9 / 8, -1 / 24) if wave.order == 4 else (1.0, 0.0)
    loop = wave.propagator
    traces = np.zeros((2, 2, wave.steps))
    for run in range(2):
        u, before = now.copy(), old.copy()
        psi = [np.zeros((n + 5, m)) for n, m in (SHAPE, SHAPE[::-1])]
        phi = [np.zeros((n, m)) for n, m in (SHAPE, SHAPE[::-1])]
        if surface:
            u[0] = before[0] = 0
        for n in range(wave.steps):
            traces[run, :, n] = at_points(loop._receivers, run, loop.padding) @ u.ravel()
            change = np.zeros(SHAPE)
            for axis, ends in enumerate((("top", "bottom"), ("left", "right"))):
                image = surface and axis == 0
                low, high = (side in sides and not (image and side == "top") for side in ends)
                lines = np.pad(np.moveaxis(u, axis, 0), ((3, 3), (0, 0)))
                square = np.pad(np.moveaxis(velocity, axis, 0) ** 2, ((3, 3), (0, 0)), "edge")
                if image:
                    lines[:3], square[:3] = -lines[6:3:-1], square[6:3:-1]
                nodes, h = SHAPE[axis], SPACING[axis]
                # Half points −2½, …, so that one lies two before the first node's own.
                d = np.zeros((nodes + 5, lines.shape[1]))
                d[1:-1] = near * np.diff(lines, axis=0)[1:-1] + far * (lines[3:] - lines[:-3])
                a, b = damping(np.arange(nodes + 5) - 2.5, nodes, h, low, high)
                psi[axis] = b * psi[axis] + a * d / h
                p = (square[1:] + square[:-1]) / 2 * (d / h + psi[axis])
                divergence = (near * (p[3:-2] - p[2:-3]) + far * (p[4:-1] - p[1:-4])) / h
                a, b = damping(np.arange(nodes), nodes, h, low, high)
                phi[axis] = b * phi[axis] + a * divergence
                change += np.moveaxis(divergence + phi[axis], 0, axis)
            force = wavelets[run, :, n] / (SPACING[0] * SPACING[1])
            change += (force @ at_points(loop._sources, run, loop.padding)).reshape(SHAPE)
            u, before = 2 * u - before + DT**2 * change, u
            if surface:
                u[0] = 0
    return traces


def at_points(points: Any, run: int, padding: Any) -> Any:
    """The interpolation from nodes to points as a dense matrix."""
    rows = []
    for nodes, weights in zip(points.nodes[run], points.weights[run]):
        padded = padding.fields()
        np.add.at(padded.reshape(-1), nodes, weights)
        rows.append(padded[padding.inner].ravel())
    return np.array(rows)


@pytest.mark.parametrize("name", SETTINGS)
def test_steps_are_those_of_the_equations(name: str) -> None:
    settings = SETTINGS[name]
    wave, inputs = wave_of(steps=9, **settings)
    sides = settings.get("pml_sides", ("top", "bottom", "left", "right"))
    surface = settings.get("free_surface", False)
    expected = traces_by_the_equations(wave, inputs, surface, sides)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(wave(*inputs), expected, rtol=0, atol=1e-11 * scale)


@pytest.mark.parametrize("name", SETTINGS)
def test_derivatives(name: str) -> None:
    wave, inputs = wave_of(**SETTINGS[name])
    dot_test(wave, *inputs, rtol=1e-12)
    check_jvp(wave, *inputs)
    check_vjp(wave, *inputs)


def outcome(threads: int, pairs: bool, **settings: Any) -> list[Any]:
    """Traces and gradients, with rows shared among threads, and steps taken one by one or not."""
    depths = SPACING[0] * np.arange(4, 49)  # so that a fault in any row is seen
    points = np.stack([depths, np.full_like(depths, 49.0)], axis=1)
    everywhere = {"sources": points[20:31:10, None], "receivers": points}
    wave, inputs = wave_of(steps=5, shape=(53, 9), **{**settings, **everywhere})
    loop = wave.propagator
    loop._work = loop.padding.lines(threads + 1, acoustic_kernels.ROWS)
    loop._pairs = pairs
    with Tape() as tape:
        watched = [tape.watch(value) for value in inputs]
        traces = wave(*watched)
    bar = np.random.default_rng(0).standard_normal(traces.value.shape)
    return [traces.value, *tape.vjp([traces], [bar], watched)]


@pytest.mark.parametrize("name", SETTINGS)
def test_how_rows_and_steps_are_shared_out_does_not_matter(name: str) -> None:
    """Bit for bit: every row of every step is computed by the same sums."""
    expected = outcome(1, False, **SETTINGS[name])
    assert all(np.abs(value).max() > 0 for value in expected)
    for threads, pairs in ((1, True), (2, False), (2, True), (3, True)):
        for mine, other in zip(outcome(threads, pairs, **SETTINGS[name]), expected):
            np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize(("order", "limit"), [(2, 1.0), (4, 6 / 7)])
def test_the_layers_by_default(order: int, limit: float) -> None:
    """Half of the greatest stable velocity, and 20 of the wider cells a wavelength."""
    speed = limit / np.hypot(1 / SPACING[0], 1 / SPACING[1]) / DT / 2
    usual, _ = wave_of(pml_velocity=None, pml_frequency=None, order=order)
    frequency = speed / (20 * max(SPACING))
    given, _ = wave_of(pml_velocity=speed, pml_frequency=frequency, order=order)
    for mine, other in zip(usual.propagator._half, given.propagator._half):
        np.testing.assert_allclose(mine.a, other.a, rtol=1e-13)
        np.testing.assert_allclose(mine.b, other.b, rtol=1e-13)


def test_a_level_that_is_not_given_is_zero() -> None:
    wave, (velocity, wavelets, initial, previous) = wave_of()
    rest = np.zeros(SHAPE)
    np.testing.assert_array_equal(
        wave(velocity, wavelets, initial=initial), wave(velocity, wavelets, initial, rest)
    )
    np.testing.assert_array_equal(
        wave(velocity, wavelets, previous=previous), wave(velocity, wavelets, rest, previous)
    )
