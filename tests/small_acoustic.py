"""Acoustic waves on grids small enough that their kernels may be interpreted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from mpi4py import MPI

from adjoint import Tape
from adjoint.comm import CartesianGrid
from adjoint.solvers import AcousticWave
from tests.plain_layers import DT, FREQUENCY, SPEED, WIDTH

SHAPE, SPACING, STEPS = (9, 10), (10.0, 12.0), 5
SPACE: dict[str, Any] = {
    "shape": (9, 8, 10), "spacing": (11.0, 13.0, 12.0),
    "sources": [[[43.0, 41.2, 51.5]], [[44.0, 52.0, 60.0]]],
    "receivers": [[41.0, 47.1, 55.0], [50.0, 39.0, 60.0]],
}  # fmt: skip
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
    "thin layers far from each other": {"pml_width": 2, "shape": (12, 21)},
    "space": SPACE,
    "space, free surfaces": {
        **SPACE, "free_surface": ("top", "front", "back", "right"), "pml_sides": ("bottom", "left"),
        "sources": [[[3.0, 48.0, 51.5]], [[14.0, 88.0, 103.0]]],
        "receivers": [[6.0, 51.0, 55.0], [50.0, 90.5, 60.0]],
    },
    # Of two opposite sides, one.
    "space, surfaces beside layers": {
        **SPACE, "free_surface": ("bottom", "front", "right"), "pml_sides": ("top", "left"),
    },
    "space, three layers, second order": {
        **SPACE, "pml_sides": ("top", "front", "right"), "order": 2,
    },
    "space, no layers": {**SPACE, "pml_sides": ()},
    "space, thin layers far from each other": {**SPACE, "pml_width": 2, "shape": (8, 8, 17)},
}  # fmt: skip
PLANE = [name for name in SETTINGS if not name.startswith("space")]


def wave_of(
    steps: int = STEPS, shape: tuple[int, ...] = SHAPE, spacing: Any = SPACING, **settings: Any
) -> tuple[AcousticWave, tuple[Any, ...]]:
    usual = {
        "sources": [[[43.0, 51.5], [50.0, 55.0]], [[40.0, 60.0], [40.0, 60.0]]],
        "receivers": [[41.0, 55.0], [50.0, 60.0]],
        "pml_velocity": SPEED, "pml_frequency": FREQUENCY, "pml_width": WIDTH,
    }  # fmt: skip
    grid = CartesianGrid(shape, MPI.COMM_SELF)
    settings = {**usual, **settings}
    wave = AcousticWave(grid, spacing, DT, steps, **settings)
    random = np.random.default_rng(3)
    velocity = 2000 + 800 * random.random(shape)
    *count, _ = np.shape(settings["sources"])
    wavelets = 1e3 * random.standard_normal((*count, steps))
    return wave, (velocity, wavelets, *random.standard_normal((2, *shape)))


TALL = (147, 9)
SHARED: dict[str, dict[str, Any]] = {
    **{name: SETTINGS[name] for name in PLANE},
    "layers across borders": {"pml_sides": ("top", "bottom"), "pml_width": 30},
}  # fmt: skip


def outcome(
    threads: int, steps: int, prepared: Callable[[Any], Any] | None = None, **settings: Any
) -> list[Any]:
    """Traces and gradients, with rows shared among threads, and so many steps in a sweep."""
    width = settings.get("pml_width", 4)
    depths = SPACING[0] * np.arange(width, TALL[0] - width)  # so that a fault in any row is seen
    points = np.stack([depths, np.full_like(depths, 49.0)], axis=1)
    everywhere = {"sources": points[[3, -3], None], "receivers": points}
    wave, inputs = wave_of(**{**settings, **everywhere, "shape": TALL})
    stepper = wave.propagator._stepper
    stepper.share(threads, steps)
    assert stepper.steps == steps
    if prepared:
        prepared(stepper)
    return values_of(wave, inputs)


def same(found: list[Any], expected: list[Any]) -> None:
    """Compare arrays, none of them zero, whose sums are the same but for rounding."""
    for mine, other in zip(found, expected, strict=True):
        assert np.abs(other).max() > 0
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-13 * np.abs(other).max())


def values_of(wave: AcousticWave, inputs: Any) -> list[Any]:
    """Traces, and their gradient with respect to all inputs."""
    with Tape() as tape:
        watched = [tape.watch(value) for value in inputs]
        traces = wave(*watched)
    bar = np.random.default_rng(0).standard_normal(traces.value.shape)
    return [traces.value, *tape.vjp([traces], [bar], watched)]
