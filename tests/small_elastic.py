"""Elastic waves on grids small enough that their kernels may be interpreted."""

from __future__ import annotations

from typing import Any

import numpy as np
from mpi4py import MPI

from adjoint import Tape
from adjoint.comm import CartesianGrid
from adjoint.solvers import ElasticWave
from tests.plain_layers import DT, FREQUENCY, SPEED, WIDTH

SHAPE, SPACING, STEPS = (9, 10), (10.0, 12.0), 4
FIELDS = ("v0", "v1", "s00", "s11", "s01")
SETTINGS: dict[str, dict[str, Any]] = {
    "layers on all sides": {},
    "free surface": {"free_surface": True, "pml_sides": ("bottom", "right")},
    "two layers": {"pml_sides": ("top", "left")},
    "no layers": {"pml_sides": ()},
}


def wave_of(
    steps: int = STEPS,
    shape: tuple[int, int] = SHAPE,
    comm: MPI.Comm = MPI.COMM_SELF,
    dims: tuple[int, int] | None = None,
    **settings: Any,
) -> tuple[ElasticWave, tuple[Any, ...]]:
    """Return a wave of two shots, with points at the top, below layers if there are any."""
    if settings.get("free_surface"):
        first = 0.0, 51.5
    elif "top" in settings.get("pml_sides", ("top",)):
        first = 45.0, 54.0  # where a shear stress is
    else:
        first = 3.0, 51.5
    places = {
        "sources": [[first, [50.0, 55.0]], [[40.0, 60.0], [40.0, 60.0]]],
        "receivers": [[first[0], 55.0], [50.0, 60.0]],
    }  # fmt: skip
    layers = {"pml_velocity": SPEED, "pml_frequency": FREQUENCY, "pml_width": WIDTH}
    grid = CartesianGrid(shape, comm, dims)
    settings = {**places, **layers, **settings}
    wave = ElasticWave(grid, SPACING, DT, steps, record=FIELDS, **settings)
    random = np.random.default_rng(3)
    patch = tuple(map(slice, grid.start, grid.stop))
    lam, mu, rho = ((low + random.random(shape))[patch] for low in (3.0, 2.0, 1.5))
    *count, _ = np.shape(settings["sources"])
    mechanisms = random.standard_normal((*count, 5))
    return wave, (lam, mu, rho, random.standard_normal((*count, steps)), mechanisms)


def scaled(wave: ElasticWave, *inputs: Any) -> Any:
    """Traces of parameters in handy units, all of about the same size."""
    lam, mu, rho, wavelets, mechanisms = inputs
    units = np.array([100.0, 50.0, 1e5, 3e4, 4e4])
    traces = wave(lam * 1e9, mu * 1e9, rho * 1e3, wavelets * 1e6, mechanisms * units)
    return tuple(t * unit for t, unit in zip(traces, (1e3, 1e3, 1e-3, 1e-3, 1e-3)))


def results_of(wave: ElasticWave, inputs: Any) -> list[Any]:
    """Return traces, and the gradients of half of their energy."""
    with Tape() as tape:
        watched = [tape.watch(x) for x in inputs]
        traces = scaled(wave, *watched)
    values = [trace.value for trace in traces]
    return [*values, *tape.vjp(list(traces), values, watched)]
