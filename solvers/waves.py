"""What the wave solvers share: their arguments' checks, and the resolution of a wavelet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..comm import CartesianGrid
from ..variable import Array

#: What the axes are called, by their number.
AXES = {2: ("z", "x"), 3: ("z", "y", "x")}

#: Low and high end of each axis, by their number.
SIDES = {
    2: ("top", "bottom", "left", "right"),
    3: ("top", "bottom", "front", "back", "left", "right"),
}

_NUMBERS = {2: "two", 3: "three"}


def spacings(
    name: str, grid: CartesianGrid, spacing: Any, dt: float, steps: int, dtype: np.dtype[Any],
    dimensions: Sequence[int] = (2,),
) -> tuple[float, ...]:  # fmt: skip
    """Return the spacing of each axis; raise on what a wave solver of these dimensions lacks."""
    if grid.ndim not in dimensions or any(grid.periodic):
        expected = " or ".join(map(str, dimensions))
        raise ValueError(
            f"{name}: grid has {grid.ndim} axes, periodic {grid.periodic}, expected {expected} "
            "that are not"
        )
    given = np.ravel(np.asarray(spacing, np.float64))
    given = np.repeat(given, grid.ndim) if len(given) == 1 else given
    if len(given) != grid.ndim or not (np.isfinite(given) & (given > 0)).all():
        raise ValueError(
            f"{name}: spacing is {spacing}, expected a positive number or {_NUMBERS[grid.ndim]}"
        )
    if not (np.isfinite(dt) and dt > 0):
        raise ValueError(f"{name}: dt is {dt}, expected a positive number of seconds")
    if int(steps) != steps or steps < 1:
        raise ValueError(f"{name}: steps is {steps}, expected a positive integer")
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"{name}: dtype is {dtype}, expected float32 or float64")
    return tuple(given.tolist())


def chosen_sides(
    name: str, argument: str, grid: CartesianGrid, sides: str | Sequence[str]
) -> tuple[tuple[bool, bool], ...]:
    """Return whether the low and the high end of each axis are among the sides that are named."""
    known = SIDES[grid.ndim]
    chosen = (sides,) if isinstance(sides, str) else tuple(sides)
    if unknown := [side for side in chosen if side not in known]:
        raise ValueError(f"{name}: {argument} has {unknown[0]!r}, expected of {', '.join(known)}")
    found = [side in chosen for side in known]
    return tuple(zip(found[::2], found[1::2]))


def layer_widths(
    name: str, grid: CartesianGrid, width: int, sides: str | Sequence[str] | None,
    surfaces: Sequence[tuple[bool, bool]],
) -> tuple[tuple[int, ...], ...]:  # fmt: skip
    """Return the nodes in the layers at both ends of each axis: none at a free surface.

    ``sides`` are the names of those that absorb, or ``None`` for all.
    """
    absorbing = chosen_sides(name, "pml_sides", grid, SIDES[grid.ndim] if sides is None else sides)
    if int(width) != width or width < 1:
        raise ValueError(f"{name}: pml_width is {width}, expected a positive integer")
    widths = tuple(
        tuple(width if absorbs and not free else 0 for absorbs, free in zip(*axis))
        for axis in zip(absorbing, surfaces)
    )
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
