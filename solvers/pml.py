"""Perfectly matched layers: damping profiles of the convolutional form, in strips along sides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from ..variable import Array


class Strip(NamedTuple):
    """Where a patch meets the layers along one axis, and the recursion's coefficients there.

    Attributes
    ----------
    lines : numpy.ndarray of int64, shape (n,)
        Indices along the padded axis of the lines (rows or columns) that lie in a layer, ascending;
        some may lie beside it, where ``a`` and ``b`` are zero.
    slot : numpy.ndarray of int64, shape (padded length,)
        Where each line of the padded axis stands in ``lines``; −1 outside of the layers.
    runs : numpy.ndarray of int64, shape (2, 2)
        First line and number of lines at the low and at the high layer.
    a, b : numpy.ndarray, shape (n,)
        Coefficients of ``ψ ← b ψ + a ∂u``.
    """

    lines: Array
    slot: Array
    runs: Array
    a: Array
    b: Array


@dataclass(frozen=True)
class Layers:
    """The layers at both ends of an axis of a distributed grid.

    Parameters
    ----------
    length : int
        Nodes of the whole axis.
    widths : (int, int)
        Nodes in the layer at the low and at the high end, 0 for none.
    spacing, dt : float
        In metres and seconds.
    velocity : float
        Speed of the waves to be absorbed, m/s.
    frequency : float
        About that of the waves, in hertz.

    Attributes
    ----------
    reflection : float
        What an ideal layer reflects at normal incidence, ``R``.

    Notes
    -----
    In a layer the derivative along its axis is stretched, ``∂ → (1/s) ∂`` with
    ``s = 1 + d/(α + iω)``, which in time is ``∂u + ψ`` with the memory variable

        ψⁿ = b ψⁿ⁻¹ + a (∂u)ⁿ,   b = e^{−(d + α)Δt},   a = d (b − 1)/(d + α).

    With the depth ``x`` in a layer of thickness ``L``: ``d = d₀ (x/L)²`` with
    ``d₀ = −3 c ln R / (2L)``, and ``α = π f (1 − x/L)``.

    References
    ----------
    Komatitsch, Martin (2007). An unsplit convolutional perfectly matched layer improved at grazing
    incidence for the seismic wave equation. DOI 10.1190/1.2757586
    Pasalic, McGarry (2010). Convolutional perfectly matched layer for isotropic and anisotropic
    acoustic wave equations. DOI 10.1190/1.3513453
    """

    length: int
    widths: tuple[int, int]
    spacing: float
    dt: float
    velocity: float
    frequency: float
    reflection: ClassVar[float] = 1e-5

    def coefficients(self, positions: Array) -> tuple[Array, Array]:
        """Return ``a`` and ``b`` at positions in nodes from the low end; zero in the interior."""
        low, high = self.widths
        a, b = np.zeros(len(positions)), np.zeros(len(positions))
        for width, depth in (
            (low, low - positions),
            (high, positions - (self.length - 1 - high)),
        ):
            inside = (depth > 0) & (width > 0)
            if not inside.any():
                continue
            x = depth[inside] / width
            thickness = width * self.spacing
            d = -1.5 * self.velocity * np.log(self.reflection) / thickness * x**2
            alpha = np.pi * self.frequency * np.maximum(1 - x, 0)
            b[inside] = np.exp(-(d + alpha) * self.dt)
            a[inside] = d / (d + alpha) * (b[inside] - 1)
        return a, b

    def nodes(
        self, start: int, stop: int, ghost: int, dtype: DTypeLike, multiple: int = 1
    ) -> Strip:
        """Return the nodes of a patch and its ghosts, inside the grid, that lie in a layer.

        Parameters
        ----------
        start, stop : int
            Owned nodes of the patch along the axis.
        ghost : int
            Ghost layers on either side.
        dtype : dtype_like
            Of the coefficients.
        multiple : int
            Take so many nodes more beside each layer that the number of owned ones is a multiple of
            this, for a loop over whole vectors, where there is room for that.
        """
        low, high = self.widths
        first, last = max(start - ghost, 0), min(stop + ghost, self.length)
        ranges = ((first, min(low, last)), (max(self.length - high, first), last))
        ranges = _rounded(*ranges, (start, stop), multiple)
        return self._strip(ranges, start - ghost, stop - start + 2 * ghost, 0.0, dtype)

    def halves(
        self,
        start: int,
        stop: int,
        ghost: int,
        reach: int,
        dtype: DTypeLike,
        multiple: int = 1,
        beyond: tuple[int, int] = (0, 0),
    ) -> Strip:
        """Return the points half a cell after nodes that a difference of layer nodes reaches.

        Parameters
        ----------
        start, stop, ghost, dtype, multiple
            As for :meth:`nodes`.
        reach : int
            Nodes on either side of a half point that a difference there takes; the points taken
            here have all of these among the patch and its ghosts.
        beyond : tuple of int
            Points before the first and behind the last owned one that count as owned.
        """
        low, high = self.widths
        first, last = start - ghost + reach - 1, stop + ghost - reach
        below = (first, min(low + reach - 1, last) if low else first)
        above = (max(self.length - high - reach, first) if high else last, last)
        ranges = _rounded(below, above, (start - beyond[0], stop + beyond[1]), multiple)
        return self._strip(ranges, start - ghost, stop - start + 2 * ghost, 0.5, dtype)

    def both(
        self, start: int, stop: int, ghost: int, dtype: DTypeLike, reach: int, multiple: int
    ) -> tuple[Strip, Strip]:
        """Return nodes, and points half a cell after as many, that lie in a layer, or beside it.

        Parameters
        ----------
        start, stop, ghost, dtype
            As for :meth:`nodes`.
        reach : int
            Lines beside a layer that are taken with it.
        multiple : int
            As for :meth:`nodes`.
        """
        low, high = self.widths
        first, last = max(start - ghost, 0), min(stop + ghost, self.length)
        below = (first, min(low + reach, last) if low > first else first)
        begin = self.length - high - 1 if high else self.length
        above = (max(begin - reach, first) if begin < last else last, last)
        ranges = _rounded(below, above, (start, stop), multiple)
        origin, length = start - ghost, stop - start + 2 * ghost
        node, half = (self._strip(ranges, origin, length, at, dtype) for at in (0.0, 0.5))
        return node, half

    def _strip(
        self,
        ranges: tuple[tuple[int, int], tuple[int, int]],
        origin: int,
        length: int,
        shift: float,
        dtype: DTypeLike,
    ) -> Strip:
        (a0, a1), (b0, b1) = ranges
        b0 = max(b0, a1)
        low, high = np.arange(a0, max(a0, a1)), np.arange(b0, max(b0, b1))
        lines = np.concatenate([low, high])
        a, b = self.coefficients(lines + shift)
        local = (lines - origin).astype(np.int64)
        slot = np.full(length, -1, np.int64)
        slot[local] = np.arange(len(local))
        runs = np.array([[a0 - origin, len(low)], [b0 - origin, len(high)]], np.int64)
        return Strip(local, slot, runs, a.astype(dtype), b.astype(dtype))


def _rounded(
    low: tuple[int, int], high: tuple[int, int], owned: tuple[int, int], multiple: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Extend ranges towards each other to multiples of owned points, where there is room."""
    below, above = (min(b, owned[1]) - max(a, owned[0]) for a, b in (low, high))
    last = low[1] + -max(below, 0) % multiple
    first = high[0] - -max(above, 0) % multiple
    if last > first or last > owned[1] or first < owned[0]:
        return low, high
    return (low[0], last), (first, high[1])
