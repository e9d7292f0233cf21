"""What the wave solvers share: their arguments' checks, and what suits time step and nodes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..comm import CartesianGrid
from ..variable import Array
from .pml import Layers

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
    if min(grid.patch_shape) < 4:
        raise ValueError(
            f"{name}: a patch has shape {grid.patch_shape}, expected 4 nodes or more along each "
            "axis: use fewer ranks or a larger grid"
        )
    return tuple(given.tolist())


def per_source(
    name: str, argument: str, values: Any, shape: tuple[int, int, int], dtype: DTypeLike
) -> Array:
    """Return what all sources, those of all shots, or each one have, of shape (shots, sources, n).

    ``values`` has that shape, or lacks its first axis, or both of the first.
    """
    given = np.asarray(values, dtype)
    if not 1 <= given.ndim <= 3 or given.shape != shape[3 - given.ndim :]:
        raise ValueError(
            f"{name}: {argument} has shape {given.shape}, expected {shape}, {shape[1:]} or "
            f"{shape[2:]}"
        )
    return np.ascontiguousarray(np.broadcast_to(given, shape))


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
) -> tuple[tuple[int, int], ...]:  # fmt: skip
    """Return the nodes in the layers at both ends of each axis: none at a free surface.

    ``sides`` are the names of those that absorb, or ``None`` for all.
    """
    absorbing = chosen_sides(name, "pml_sides", grid, SIDES[grid.ndim] if sides is None else sides)
    if int(width) != width or width < 1:
        raise ValueError(f"{name}: pml_width is {width}, expected a positive integer")
    width = int(width)
    widths = tuple(
        (width * (low and not free[0]), width * (high and not free[1]))
        for (low, high), free in zip(absorbing, surfaces)
    )
    for axis, (pair, nodes) in enumerate(zip(widths, grid.shape)):
        if sum(pair) >= nodes:
            raise ValueError(
                f"{name}: layers of {pair} nodes leave none of the {nodes} along axis {axis}"
            )
    return widths


def free_sides(
    name: str, grid: CartesianGrid, sides: bool | str | Sequence[str]
) -> tuple[tuple[bool, bool], ...]:
    """Return whether the low and the high end of each axis are free surfaces.

    ``True`` is the top, which is the only side that may be free in two dimensions.
    """
    named = sides if isinstance(sides, str | Sequence) else ("top",) * bool(sides)
    free = chosen_sides(name, "free_surface", grid, named)
    if grid.ndim == 2 and np.ravel(free)[1:].any():
        raise ValueError(
            f"{name}: free_surface is {sides!r}, expected the top alone in two dimensions"
        )
    return free


def absorbing_layers(
    name: str, grid: CartesianGrid, spacing: Sequence[float], dt: float,
    widths: Sequence[tuple[int, int]], velocity: float | None, frequency: float | None,
    fastest: float,
) -> list[Layers]:  # fmt: skip
    """Return the layers of each axis.

    By default they are for half of the greatest velocity that is stable, and for the frequency at
    which a wavelength then has 20 nodes.
    """
    speed = fastest / 2 if velocity is None else velocity
    if not (np.isfinite(speed) and speed > 0):
        raise ValueError(f"{name}: pml_velocity is {velocity}, expected a positive number of m/s")
    peak = speed / (20 * max(spacing)) if frequency is None else frequency
    if not (np.isfinite(peak) and peak >= 0):
        raise ValueError(f"{name}: pml_frequency is {frequency}, expected 0 Hz or more")
    return [Layers(n, w, h, dt, speed, peak) for n, w, h in zip(grid.shape, widths, spacing)]


def require_inputs(
    name: str, dtype: np.dtype[Any], shapes: Mapping[str, tuple[int, ...]], inputs: Sequence[Any],
    positive: Sequence[str],
) -> None:  # fmt: skip
    """Raise unless inputs are finite arrays of their shapes, and those that are named positive."""
    for (argument, shape), values in zip(shapes.items(), inputs):
        if not isinstance(values, np.ndarray):
            raise TypeError(f"{name}: {argument} is a {type(values).__name__}, expected an array")
        for what, found, expected in (
            ("shape", values.shape, shape), ("dtype", values.dtype, dtype)
        ):  # fmt: skip
            if found != expected:
                raise ValueError(f"{name}: {argument} has {what} {found}, expected {expected}")
        if not np.isfinite(values).all():
            raise ValueError(f"{name}: {argument} has values that are not finite")
        if argument in positive and values.min() <= 0:
            raise ValueError(
                f"{name}: {argument} has the value {values.min():g}, expected positive ones"
            )


class Sampling:
    """Whether a time step is short enough for a medium, and the nodes near enough.

    Parameters
    ----------
    name : str
        Of the operator.
    grid : CartesianGrid
    spacing : sequence of float
        In metres.
    dt : float
        In seconds.
    limit : float
        The greatest ``dt c √(Σ hᵢ⁻²)`` of a velocity ``c`` for which the step is stable.
    nodes : int
        That are advised for the shortest wavelength.
    kind : str
        What the greatest velocity is called.

    Attributes
    ----------
    fastest : float
        The greatest velocity for which the step is stable, in m/s.
    """

    def __init__(
        self, name: str, grid: CartesianGrid, spacing: Sequence[float], dt: float, limit: float,
        nodes: int, kind: str,
    ) -> None:  # fmt: skip
        self._name, self._grid, self._dt, self._nodes, self._kind = name, grid, dt, nodes, kind
        self._courant = limit / math.hypot(*(1 / h for h in spacing))
        self._widest = max(spacing)
        self._warned = False
        self.fastest = self._courant / dt

    def require(self, fastest: float, slowest: float, wavelets: Array) -> None:
        """Raise on all ranks where the step is too long; warn once where the nodes are too few.

        Parameters
        ----------
        fastest, slowest : float
            This rank's greatest velocity, and its least one of the slowest kind of wave, in m/s.
        wavelets : numpy.ndarray, shape (..., steps)
        """
        from mpi4py import MPI

        ends = np.array([fastest, -slowest], np.float64)
        self._grid.comm.Allreduce(MPI.IN_PLACE, ends, MPI.MAX)
        fastest, slowest = float(ends[0]), -float(ends[1])
        longest = self._courant / fastest
        if self._dt > longest * (1 + 1e-12):
            raise ValueError(
                f"{self._name}: dt is {self._dt:g} s, expected at most {longest:g} s for the "
                f"greatest {self._kind} {fastest:g} m/s"
            )
        if self._warned or self._grid.rank:
            return
        frequency = highest_frequency(wavelets, self._dt)
        if frequency > 0 and slowest / frequency / self._widest < self._nodes:
            self._warned = True
            warnings.warn(
                f"{self._name}: {slowest / frequency / self._widest:.1f} nodes for the shortest "
                f"wavelength ({slowest:g} m/s at {frequency:.3g} Hz), {self._nodes} or more are "
                "advised",
                stacklevel=5,  # the caller of the operator
            )


def highest_frequency(wavelets: Array, dt: float, share: float = 0.05) -> float:
    """Return the frequency above which wavelets have less than a share of their peak, in hertz."""
    spectrum = np.abs(np.fft.rfft(np.asarray(wavelets, np.float64), axis=-1))
    spectrum = spectrum.reshape(-1, spectrum.shape[-1]).max(axis=0, initial=0)
    present = np.flatnonzero(spectrum > share * spectrum.max())
    frequencies = np.fft.rfftfreq(np.shape(wavelets)[-1], dt)
    return float(frequencies[present[-1]]) if len(present) else 0.0
