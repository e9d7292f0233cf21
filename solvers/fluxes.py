"""What advection and diffusion carry through the faces between the nodes of a grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..comm import CartesianGrid
from ..variable import Array
from ..world import agreed
from .diffusion import Faces, Slices

#: What an end of an axis is: a face with a known value beyond it, one through which flow carries
#: and nothing diffuses, and one that lets nothing through.
ENDS = ("value", "open", "closed")

#: How fluxes are formed.
SCHEMES = ("fitted", "upwind")

#: One end for all sides, or for each axis one for both or a pair.
Sides = str | Sequence[str | Sequence[str]]

#: Above this, Péclet's number leaves nothing of diffusion in double precision.
_LARGE = 700.0


class Rates(NamedTuple):
    """Fluxes through faces, in 1/s: ``a u_i − b u_{i+1}`` is what node ``i`` loses."""

    a: Array
    b: Array


class Slopes(NamedTuple):
    """Derivatives of both rates by the face's conductance and its velocity.

    Attributes
    ----------
    of_c : numpy.ndarray
        ``∂a/∂c = ∂b/∂c``.
    a_of_v, b_of_v : numpy.ndarray
    """

    of_c: Array
    a_of_v: Array
    b_of_v: Array


class End(NamedTuple):
    """A side where the patch ends at the boundary of the domain.

    Attributes
    ----------
    axis : int
    faces : slice
        Of the faces along the axis, the one on this side.
    outside : tuple of slice
        The nodes beyond it, in the padded patch.
    nodes : tuple of slice
        The nodes before it, in the patch.
    low : bool
        Whether it is the low end of the axis.
    """

    axis: int
    faces: slice
    outside: Slices
    nodes: Slices
    low: bool


class Fluxes(Faces):
    """The faces of a patch, and how fast nodes lose to each other through them.

    Parameters
    ----------
    name : str
        Of the operator that asks, for messages.
    grid : CartesianGrid
        Without periodic axes.
    spacing : float or sequence of float
        Distance of nodes along each axis, in metres.
    sides : str or sequence
        What the ends of the axes are, see :class:`~adjoint.solvers.AdvectionDiffusion`.
    scheme : str
        ``"fitted"`` or ``"upwind"``.

    Notes
    -----
    Between nodes ``i`` and ``i + 1``, ``c = (κ_i + κ_{i+1}) / (2h²)`` and
    ``v = (v_i + v_{i+1}) / (2h)``, both in 1/s. With ``v± = (|v| ± v)/2`` and ``x = |v|/c``,
    Péclet's number of a cell,

        a = v⁺ + c B(x),   b = v⁻ + c B(x),   B(x) = x / (eˣ − 1)  or, upwind,  B = 1.

    Neither is ever negative. On an open face ``c = 0``, on a closed one ``c = v = 0``.

    The derivatives of ``e = c B(x)`` are ``∂e/∂c = B − x B'`` and ``∂e/∂v = sgn(v) B'``, with
    ``B'(x) = B (1 − x − B)/x``. As ``B'(0) = −½``, those of the fitted rates,

        ∂a/∂v = (1 + sgn v)/2 + sgn(v) B',   ∂b/∂v = −(1 − sgn v)/2 + sgn(v) B',

    are ½ and −½ on either side of ``v = 0``: the rates are as smooth as ``v coth v``. Upwind they
    have a kink there (so they have where ``c = 0``), and the derivative is that with ``sgn 0 = 0``,
    as of ``abs`` everywhere in the library.
    """

    def __init__(
        self,
        name: str,
        grid: CartesianGrid,
        spacing: float | Sequence[float],
        sides: Sides = "open",
        scheme: str = "fitted",
    ) -> None:
        super().__init__(name, grid, spacing)
        self.name = name
        with agreed(grid.comm):
            if scheme not in SCHEMES:
                raise ValueError(f"{name}: scheme is {scheme!r}, expected {' or '.join(SCHEMES)}")
            self.sides = _sides(name, sides, grid.ndim)
        self.scheme = scheme
        self._masks = [self._mask(axis) for axis in range(grid.ndim)]

    def require(self, kappa: Any, velocity: Any) -> None:
        """Raise, in the operator's name, where κ or the velocity cannot be used."""
        expected = {"kappa": self.padded, "velocity": (self.grid.ndim, *self.padded)}
        for argument, found in (("kappa", kappa), ("velocity", velocity)):
            if np.shape(found) != expected[argument]:
                raise ValueError(
                    f"{self.name}: {argument} has shape {np.shape(found)}, expected "
                    f"{expected[argument]}"
                )
            if np.asarray(found).dtype != np.float64:
                raise ValueError(
                    f"{self.name}: {argument} has dtype {np.asarray(found).dtype}, expected float64"
                )
        for axis in range(self.grid.ndim):
            used = self.within(axis, slice(None))
            if not (kappa[used].min() >= 0 and kappa[used].max() < np.inf):
                raise ValueError(
                    f"{self.name}: kappa has values that are negative or not finite, expected "
                    "κ ≥ 0 everywhere, also around the patch"
                )
            if not np.isfinite(velocity[axis][used]).all():
                raise ValueError(f"{self.name}: velocity has values that are not finite")

    def rates(self, axis: int, kappa: Array, velocity: Array, faces: slice | None = None) -> Rates:
        """Return the rates of all faces along an axis, or of some of them."""
        c, v = self._means(axis, kappa, velocity, faces)
        size = np.abs(v)
        e = c if self.scheme == "upwind" else c * bernoulli(_peclet(size, c))
        return Rates(0.5 * (size + v) + e, 0.5 * (size - v) + e)

    def tangents(
        self, axis: int, medium: tuple[Array, Array], changes: tuple[Array, Array],
        faces: slice | None = None,
    ) -> Rates:  # fmt: skip
        """Return the rates' tangents; ``medium`` and ``changes`` are of κ and velocity."""
        slopes = self._slopes(axis, *medium, faces)
        dc, dv = self._means(axis, *changes, faces)
        common = slopes.of_c * dc
        return Rates(common + slopes.a_of_v * dv, common + slopes.b_of_v * dv)

    def add_cotangents(
        self, axis: int, medium: tuple[Array, Array], rates: Rates, into: tuple[Array, Array],
        faces: slice | None = None,
    ) -> None:  # fmt: skip
        """Add to κ's and the velocity's cotangents what the rates' cotangents make of them."""
        slopes = self._slopes(axis, *medium, faces)
        carried, flows = self._masked(axis, faces)
        of_c = slopes.of_c * (rates.a + rates.b)
        of_v = slopes.a_of_v * rates.a + slopes.b_of_v * rates.b
        of_kappa = of_c * (carried * self.weights[axis])
        of_velocity = of_v * (flows * (0.5 / self.spacing[axis]))
        for part in self._both(axis, faces):
            into[0][part] += of_kappa
            into[1][axis][part] += of_velocity

    def ends(self) -> Iterator[End]:
        """Yield each side where the patch ends at a boundary that lets something in."""
        for axis, (low, high) in enumerate(self.sides):
            n = self.grid.patch_shape[axis]
            if low != "closed" and self.grid.start[axis] == 0:
                yield End(axis, slice(0, 1), self.within(axis, slice(0, 1)),
                          self.across(axis, slice(0, 1)), True)  # fmt: skip
            if high != "closed" and self.grid.stop[axis] == self.grid.shape[axis]:
                yield End(axis, slice(n, n + 1), self.within(axis, slice(n + 1, n + 2)),
                          self.across(axis, slice(n - 1, n)), False)  # fmt: skip

    def _mask(self, axis: int) -> tuple[Array, Array]:
        """Return for each face along an axis whether anything diffuses, and whether it flows."""
        n = self.grid.patch_shape[axis]
        carried, flows = np.ones(n + 1), np.ones(n + 1)
        ends = (self.grid.start[axis] == 0, self.grid.stop[axis] == self.grid.shape[axis])
        for face, here, side in zip((0, n), ends, self.sides[axis]):
            if here:
                carried[face] = side == "value"
                flows[face] = side != "closed"
        shape = [1] * self.grid.ndim
        shape[axis] = n + 1
        return carried.reshape(shape), flows.reshape(shape)

    def _masked(self, axis: int, faces: slice | None) -> tuple[Array, Array]:
        chosen = self.across(axis, faces or slice(None))
        carried, flows = self._masks[axis]
        return carried[chosen], flows[chosen]

    def _both(self, axis: int, faces: slice | None) -> tuple[Slices, Slices]:
        """Return the nodes before and behind faces, in the padded patch."""
        faces = faces or slice(0, self.grid.patch_shape[axis] + 1)
        behind = slice(faces.start + 1, faces.stop + 1)
        return self.within(axis, faces), self.within(axis, behind)

    def _means(
        self, axis: int, kappa: Array, velocity: Array, faces: slice | None
    ) -> tuple[Array, Array]:
        """Return ``c`` and ``v`` of faces."""
        before, behind = self._both(axis, faces)
        carried, flows = self._masked(axis, faces)
        c = (kappa[before] + kappa[behind]) * (carried * self.weights[axis])
        along = velocity[axis]
        v = (along[before] + along[behind]) * (flows * (0.5 / self.spacing[axis]))
        return c, v

    def _slopes(self, axis: int, kappa: Array, velocity: Array, faces: slice | None) -> Slopes:
        c, v = self._means(axis, kappa, velocity, faces)
        sign = np.sign(v)
        if self.scheme == "upwind":
            return Slopes(np.ones_like(c), 0.5 * (1 + sign), 0.5 * (sign - 1))
        x = _peclet(np.abs(v), c)
        value, slope = bernoulli(x), bernoulli_slope(x)
        of_v = sign * (0.5 + slope)
        return Slopes(value - x * slope, of_v + 0.5, of_v - 0.5)


def bernoulli(x: Array) -> Array:
    """Return ``x / (eˣ − 1)``, 1 at 0, for ``x`` from 0 to 700."""
    value: Array = np.ones_like(x)
    np.divide(x, np.expm1(x), out=value, where=x > 0)
    return value


def bernoulli_slope(x: Array) -> Array:
    """Return the derivative of :func:`bernoulli`, to a few units of rounding of 1."""
    small = np.minimum(x, 0.1)
    y = small * small
    # From Bernoulli's numbers; the formula behind it loses digits where x is small.
    slope: Array = -0.5 + small * (1 / 6 - y * (1 / 180 - y * (1 / 5040 - y / 151200)))
    value = bernoulli(x)
    np.divide(value * (1 - x - value), x, out=slope, where=x > 0.1)
    return slope


def _peclet(size: Array, c: Array) -> Array:
    """Return ``|v| / c``, at most what counts, and 0 where nothing flows."""
    x: Array = np.where(size > 0, _LARGE, 0.0)
    with np.errstate(over="ignore"):
        np.divide(size, c, out=x, where=c > 0)
    return np.minimum(x, _LARGE, out=x)


def _sides(name: str, sides: Sides, ndim: int) -> tuple[tuple[str, str], ...]:
    """Return a pair for each axis."""
    each = [sides] * ndim if isinstance(sides, str) else list(sides)
    pairs = [(end, end) if isinstance(end, str) else tuple(end) for end in each]
    if len(pairs) != ndim or any(len(p) != 2 or not {*p} <= {*ENDS} for p in pairs):
        raise ValueError(
            f"{name}: sides is {sides!r}, expected {', '.join(ENDS)}, or for each of {ndim} axes "
            "one of them or a pair"
        )
    return tuple((low, high) for low, high in pairs)
