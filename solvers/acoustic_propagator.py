"""The acoustic wave's time steps, with their tangents and transposes, in place."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from ..comm import CartesianGrid
from ..propagator import Propagator
from ..variable import Array
from .acoustic_stepper import STEPPERS, Fields, Medium
from .acquisition import Points
from .pml import Layers, Strip
from .row_points import RowPoints, by_rows

#: Coefficients of staggered differences, by order.
DIFFERENCES = {2: (1.0, 0.0), 4: (9 / 8, -1 / 24)}


class AcousticPropagator(Propagator):
    """Leapfrog steps of ``∂²u/∂t² = ∇·(c²∇u) + f``; see :class:`~adjoint.solvers.AcousticWave`.

    Inputs are ``c``, the wavelets and, optionally, the initial state; the output is the traces.

    Parameters
    ----------
    grid : CartesianGrid
        Of two or three axes.
    spacing : sequence of float
    dt : float
    steps : int
    layers : sequence of Layers
        Of each axis.
    sources, receivers : Points
    order : int
    surfaces : sequence of (bool, bool)
        Whether the low and the high end of each axis are free surfaces.
    dtype : numpy.dtype
    """

    def __init__(
        self,
        grid: CartesianGrid,
        spacing: Sequence[float],
        dt: float,
        steps: int,
        layers: Sequence[Layers],
        sources: Points,
        receivers: Points,
        order: int,
        surfaces: Sequence[tuple[bool, bool]],
        dtype: Any,
    ) -> None:
        self.comm, self.grid, self.steps = grid.comm, grid, steps
        self.runs = len(sources.index)
        self.dtype = np.dtype(dtype)
        self._sources, self._receivers = sources, receivers
        self._collection = receivers.collection()
        self._scale = dt**2 / prod(spacing)
        self._dt = dt
        self._stepper = STEPPERS[grid.ndim](grid, self.dtype)
        self.padding, self._ghost = self._stepper.padding, self._stepper.ghost
        self._inner = self.padding.inner
        ends = [(a == 0, b == n) for a, b, n in zip(grid.start, grid.stop, grid.shape)]
        free = [tuple(here and f for here, f in zip(*pair)) for pair in zip(ends, surfaces)]
        #: Of each axis, whether the patch's ends are ends of the grid and no free surfaces.
        self._ends = [tuple(e and not f for e, f in zip(*pair)) for pair in zip(ends, free)]
        #: Where the patch's nodes on free surfaces are.
        self._surfaces = [
            (*(slice(None),) * axis, -end)
            for axis, pair in enumerate(free)
            for end in (0, 1)
            if pair[end]
        ]
        real = self.dtype.type
        # Fluxes are (c²ₖ + c²ₖ₊₁) times half a difference.
        self._weights = [
            tuple(real(c / h / 2) for c in DIFFERENCES[order])
            + tuple(real(c / h * dt**2) for c in DIFFERENCES[order])
            for h in spacing
        ]
        # Columns, which loops go along, in whole vectors.
        multiples = (*(1,) * (grid.ndim - 1), self.padding.vector)
        sides = list(zip(layers, grid.start, grid.stop, multiples))
        half = tuple(
            layer.halves(start, stop, self._ghost, 2, self.dtype, multiple, beyond=(2, 1))
            for layer, start, stop, multiple in sides
        )
        node = tuple(
            layer.nodes(start, stop, self._ghost, self.dtype, multiple)
            for layer, start, stop, multiple in sides
        )
        self._medium = Medium(
            self.padding.fields(), half, node, tuple(w for axis in self._weights for w in axis),
            tuple(bool(f) for pair in free for f in pair),
        )  # fmt: skip
        self._fields = self._new_fields()
        self._phase = 0
        self._nothing = self.new_kept(0)
        self._parts = self._collection.new_parts(steps, self.dtype)

    def _new_fields(self) -> Fields:
        """Return u, and ψ and φ of all axes, all zero."""
        levels = [*[(2,)] * (self.grid.ndim - 1), ()]
        psi, phi = (
            tuple(self._lines(axis, strips[axis], *levels[axis]) for axis in range(self.grid.ndim))
            for strips in (self._medium.half, self._medium.node)
        )
        return Fields(self.padding.fields(2), psi, phi)

    def _lines(self, axis: int, strip: Strip, *leading: int) -> Array:
        """Return zeros for the lines along an axis that lie in layers."""
        shape = list(self.padding.shape)
        shape[axis] = len(strip.lines)
        if axis == self.grid.ndim - 1:
            return np.zeros((*leading, *shape), self.dtype)
        return self.padding.lines(*leading, *shape[:-1])

    # Forwards

    @property
    def state(self) -> Sequence[Array]:
        u, psi, phi = self._fields
        levels = [field[self._phase] for field in psi[:-1]]
        first = [field[0] for field in phi[:-1]]
        return (u[self._phase], u[1 - self._phase], *levels, psi[-1], *first, phi[-1])

    def kept_bytes(self, steps: int) -> int:
        levels = self.state[0], *self._memory()
        return steps * sum(int(level.nbytes) for level in levels)

    def _memory(self) -> Sequence[Array]:
        """What layers remember at half points in the present state, along each axis."""
        return self.state[2 : 2 + self.grid.ndim]

    def new_kept(self, steps: int) -> tuple[Array, ...]:
        """Return the fields that steps begin with, and what layers remember behind each."""
        half = enumerate(self._medium.half)
        return (self.padding.fields(steps), *(self._lines(a, strip, steps) for a, strip in half))

    def prepare(self, *inputs: Array) -> None:
        velocity, self._wavelets = inputs[:2]
        self._initial = inputs[2:]
        self._velocity = velocity
        self._square(velocity**2, self._medium.c2)

    def _square(self, square: Array, padded: Array) -> None:
        """Lay a coefficient at nodes into a padded array: neighbours' nodes, edges continued."""
        padded[self._inner] = square
        self._stepper.exchange(padded)
        g = self._ghost
        for axis, (low, high) in enumerate(self._ends):
            lines = np.moveaxis(self.padding.cut(padded), axis, 0)
            if low:
                lines[:g] = lines[g]
            if high:
                lines[-g:] = lines[-g - 1]
        self._mirror(self.padding.cut(padded))

    def _mirror(self, padded: Array) -> None:
        """Continue a coefficient evenly beyond free surfaces."""
        g = self._ghost
        for *leading, end in self._surfaces:
            lines = np.moveaxis(padded, len(leading), 0)
            lines = lines[::-1] if end else lines
            lines[:g] = lines[2 * g : g : -1]

    def begin(self, run: int) -> None:
        self._run, self._phase = run, 0
        self._start(self._fields, self._initial)
        self._forces = self._by_rows(self._sources, self._amplitudes(self._wavelets, run))
        self._recorder = self._recording(self._receivers, self._parts[self._collection.rows(run)])

    def _start(self, fields: Fields, initial: Sequence[Array]) -> None:
        for field in (fields.u, *fields.psi, *fields.phi):
            field[...] = 0
        for level, value in zip((1, 0), initial):
            inner = fields.u[level][self._inner]
            inner[...] = value
            for surface in self._surfaces:
                inner[surface] = 0

    def _amplitudes(self, wavelets: Array, run: int) -> Array:
        """Return what sources add to the field, (local sources, steps)."""
        chosen = wavelets[run][self._sources.index[run]]
        return np.ascontiguousarray(chosen * self.dtype.type(self._scale))

    def _by_rows(self, points: Points, series: Array) -> RowPoints:
        nodes, weights = points.nodes[self._run], points.weights[self._run]
        return by_rows([nodes], [weights], [np.arange(len(nodes))], series, self.padding)

    def _recording(self, points: Points, series: Array) -> Any:
        """Return what a stepper takes to record the values at points."""
        return self._stepper.recorder(points.nodes[self._run], points.weights[self._run], series)

    def advance(self, first: int, last: int, kept: Any = None) -> None:
        kept = kept or self._nothing
        self._advance(first, last, self._fields, kept, self._recorder, self._forces)
        self._phase = (self._phase + last - first) % 2

    def _advance(
        self, first: int, last: int, fields: Fields, kept: Sequence[Array], recorder: Any,
        sources: RowPoints,
    ) -> None:  # fmt: skip
        self._stepper.take(
            False, first, last, self._phase, self._medium, fields, kept, recorder, sources
        )

    def results(self) -> tuple[Array, ...]:
        return (self._collection.forward(self._parts),)

    # Tangents

    def prepare_tangent(self, tangents: Sequence[Array]) -> None:
        velocity, self._dwavelets = tangents[:2]
        self._dinitial = tangents[2:]
        self._dc2 = self.padding.fields()
        self._square(2 * self._velocity * velocity, self._dc2)
        self._dparts = np.zeros_like(self._parts)

    def begin_tangent(self, run: int) -> None:
        self._dfields = self._new_fields()
        self._start(self._dfields, self._dinitial)
        self._dforces = self._by_rows(self._sources, self._amplitudes(self._dwavelets, run))
        parts = self._dparts[self._collection.rows(run)]
        self._drecorder = self._recording(self._receivers, parts)

    def advance_tangent(self, first: int, last: int) -> None:
        for n in range(first, last):
            new = self._dfields.u[self._phase]
            self._advance(n, n + 1, self._dfields, self._nothing, self._drecorder, self._dforces)
            self.advance(n, n + 1)
            self._scatter(new)

    def _scatter(self, new: Array) -> None:
        """Add to ``new`` what a change of ``c²`` scatters of the field that a step began with.

        On a free surface this is zero: fluxes are alike on both sides.
        """
        *fluxes, last = self._dfields.phi
        fluxes = [*(levels[0] for levels in fluxes), last]
        g, cut = self._ghost, self.padding.cut
        u, new, dc2 = cut(self.state[0]), cut(new), cut(self._dc2)
        layers = zip(self._medium.half, self._medium.node, self._memory(), fluxes, self._weights)
        for axis, (half, node, memory, phi, (w1, w2, v1, v2)) in enumerate(layers):
            lines = np.moveaxis(u, axis, 0)
            flux = np.zeros_like(lines)
            flux[1:-2] = w1 * (lines[2:-1] - lines[1:-2]) + w2 * (lines[3:] - lines[:-3])
            flux[half.lines] += np.moveaxis(cut(memory), axis, 0)
            change = np.moveaxis(dc2, axis, 0)
            flux[:-1] *= change[:-1] + change[1:]
            n = len(lines) - 2 * g
            owned = self._inner[:axis] + self._inner[axis + 1 :]
            flux = flux[(slice(None), *owned)]
            q = [flux[g + k : g + k + n] for k in (-2, -1, 0, 1)]
            divergence = v1 * (q[2] - q[1]) + v2 * (q[3] - q[0])
            target = np.moveaxis(new, axis, 0)[(slice(g, -g), *owned)]
            target += divergence
            inside = (node.lines >= g) & (node.lines < g + n)
            rows = node.lines[inside] - g
            coefficients = node.a[inside].reshape(-1, *(1,) * len(owned))
            more = coefficients * divergence[rows]
            remembered = np.moveaxis(phi, axis, 0)[(slice(None), *owned)]
            remembered[inside] += more
            target[rows] += more

    def result_tangents(self) -> tuple[Array, ...]:
        return (self._collection.forward(self._dparts),)

    # In reverse

    def prepare_reverse(self, cotangents: Sequence[Array]) -> None:
        self._cotangents = self._collection.adjoint(np.ascontiguousarray(cotangents[0]))
        self._totals = [self.padding.fields() for _ in range(self.grid.ndim)]
        self._wavelets_bar = np.zeros(np.shape(self._wavelets), self.dtype)
        self._initial_bar = [np.zeros(self.grid.patch_shape, self.dtype) for _ in self._initial]
        self._lam = self._new_fields()

    def begin_reverse(self, run: int) -> None:
        self._run, self._back = run, 0
        self._start(self._lam, ())
        self._series_bar = np.zeros((len(self._sources.index[run]), self.steps), self.dtype)
        self._recorder_back = self._recording(self._sources, self._series_bar)
        traces = self._cotangents[self._collection.rows(run)]
        self._forces_back = self._by_rows(self._receivers, traces)

    def reverse(self, last: int, first: int, kept: Any) -> None:
        self._stepper.take(
            True, first, last, self._back, self._medium, self._lam, kept, self._forces_back,
            self._recorder_back, self._totals,
        )  # fmt: skip
        self._back = (self._back + last - first) % 2

    def finish_reverse(self, run: int) -> None:
        index = self._sources.index[run]
        np.add.at(self._wavelets_bar[run], index, self._series_bar * self.dtype.type(self._scale))
        lam = self._lam.u
        levels = (lam[1 - self._back], -lam[self._back])
        for total, level in zip(self._initial_bar, levels):  # zero on free surfaces
            total += level[self._inner]

    def gradients(self) -> tuple[Array | None, ...]:
        square = sum(self._at_nodes(total, axis) for axis, total in enumerate(self._totals))
        square *= self.dtype.type(-2 * self._dt**2)
        for surface in self._surfaces:
            square[surface] /= 2
        velocity = 2 * self._velocity * square
        return (velocity, self._wavelets_bar, *self._initial_bar)

    def _at_nodes(self, total: Array, axis: int) -> Array:
        """The transpose of adding neighbours' coefficients at the half points of an axis.

        The first and last of the grid's nodes stand for the ghosts beyond them, too.
        """
        g, (low, high) = self._ghost, self._ends[axis]
        lines = np.moveaxis(self.padding.cut(total), axis, 0)
        whole = lines[g - 1 : -g - 1] + lines[g:-g]
        if low:
            whole[0] += lines[g - 1] + 2 * lines[g - 2]
        if high:
            whole[-1] += lines[-g - 1] + 2 * lines[-g]
        owned = self._inner[:axis] + self._inner[axis + 1 :]
        return np.moveaxis(whole[(slice(None), *owned)], 0, axis)
