"""What the wave solvers share: their arguments' checks, and the resolution of a wavelet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..comm import CartesianGrid
from ..variable import Array

#: Ends of axis 0 and of axis 1.
SIDES = ("top", "bottom", "left", "right")


def spacings(
    name: str, grid: CartesianGrid, spacing: Any, dt: float, steps: int, dtype: np.dtype[Any]
) -> tuple[float, float]:
    """Return the spacing of both axes; raise on what no wave solver takes."""
    if grid.ndim != 2 or any(grid.periodic):
        raise ValueError(
            f"{name}: grid has {grid.ndim} axes, periodic {grid.periodic}, expected 2 that are not"
        )
    pair = np.ravel(np.asarray(spacing, np.float64))
    pair = np.repeat(pair, 2) if len(pair) == 1 else pair
    if len(pair) != 2 or not (np.isfinite(pair) & (pair > 0)).all():
        raise ValueError(f"{name}: spacing is {spacing}, expected a positive number or two")
    if not (np.isfinite(dt) and dt > 0):
        raise ValueError(f"{name}: dt is {dt}, expected a positive number of seconds")
    if int(steps) != steps or steps < 1:
        raise ValueError(f"{name}: steps is {steps}, expected a positive integer")
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"{name}: dtype is {dtype}, expected float32 or float64")
    return float(pair[0]), float(pair[1])


def layer_widths(
    name: str, grid: CartesianGrid, width: int, sides: Sequence[str], free_surface: bool
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the nodes in the layers at both ends of both axes."""
    chosen = (sides,) if isinstance(sides, str) else tuple(sides)
    if unknown := [side for side in chosen if side not in SIDES]:
        raise ValueError(f"{name}: pml_sides has {unknown[0]!r}, expected of {', '.join(SIDES)}")
    if int(width) != width or width < 1:
        raise ValueError(f"{name}: pml_width is {width}, expected a positive integer")
    top, bottom, left, right = (width if side in chosen else 0 for side in SIDES)
    widths = ((0 if free_surface else top, bottom), (left, right))
    for axis, (pair, nodes) in enumerate(zip(widths, grid.shape)):
        if sum(pair) >= nodes:
            raise ValueError(
                f"{name}: layers of {pair} nodes leave none of the {nodes} along axis {axis}"
            )
    return widths


def highest_frequency(wavelets: Array, dt: float, share: float = 0.05) -> float:
    """Return the frequency above which wavelets have less than a share of their peak, in hertz."""
    spectrum = np.abs(np.fft.rfft(np.asarray(wavelets, np.float64), axis=-1))
    spectrum = spectrum.reshape(-1, spectrum.shape[-1]).max(axis=0)
    present = np.flatnonzero(spectrum > share * spectrum.max())
    frequencies = np.fft.rfftfreq(np.shape(wavelets)[-1], dt)
    return float(frequencies[present[-1]]) if len(present) else 0.0
