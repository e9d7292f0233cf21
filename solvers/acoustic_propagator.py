"""The acoustic wave's time steps, with their tangents and transposes, in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..comm import CartesianGrid, HaloExchange
from ..propagator import Propagator
from ..spans import shown
from ..variable import Array
from .acquisition import Points
from .padding import Padding
from .pml import Layers
from .row_points import RowPoints, by_rows

#: Coefficients of staggered differences, by order.
DIFFERENCES = {2: (1.0, 0.0), 4: (9 / 8, -1 / 24)}


class Kept(NamedTuple):
    """The fields that a block of steps begin with, and what layers remember behind each."""

    u: Array
    psi0: Array
    psi1: Array


class AcousticPropagator(Propagator):
    """Leapfrog steps of ``∂²u/∂t² = ∇·(c²∇u) + f``; see :class:`~adjoint.solvers.AcousticWave`.

    Inputs are ``c``, the wavelets and, optionally, the initial state; the output is the traces.

    Parameters
    ----------
    grid : CartesianGrid
    spacing : tuple of float
    dt : float
    steps : int
    layers : tuple of Layers
        Of each axis.
    sources, receivers : Points
    order : int
    surface : bool
    dtype : numpy.dtype
    """

    def __init__(
        self,
        grid: CartesianGrid,
        spacing: tuple[float, float],
        dt: float,
        steps: int,
        layers: tuple[Layers, Layers],
        sources: Points,
        receivers: Points,
        order: int,
        surface: bool,
        dtype: Any,
    ) -> None:
        import numba

        from . import acoustic_kernels as kernels

        self.comm, self.grid, self.steps = grid.comm, grid, steps
        self.runs = len(sources.index)
        self.dtype = np.dtype(dtype)
        self._kernels = kernels
        self._sources, self._receivers = sources, receivers
        self._collection = receivers.collection()
        self._scale = dt**2 / (spacing[0] * spacing[1])
        self._dt = dt
        ghost = kernels.GHOST
        self.padding = Padding(grid, ghost, self.dtype)
        self._inner = self.padding.inner
        real = self.dtype.type
        # Fluxes are (c²ₖ + c²ₖ₊₁) times half a difference.
        self._weights = [
            tuple(real(c / h / 2) for c in DIFFERENCES[order])
            + tuple(real(c / h * dt**2) for c in DIFFERENCES[order])
            for h in spacing
        ]
        # Columns, which loops go along, in whole vectors.
        sides = list(zip(layers, grid.start, grid.stop, (1, self.padding.vector)))
        self._half = [
            layer.halves(start, stop, ghost, 2, self.dtype, multiple, beyond=(2, 1))
            for layer, start, stop, multiple in sides
        ]
        self._node = [
            layer.nodes(start, stop, ghost, self.dtype, multiple)
            for layer, start, stop, multiple in sides
        ]
        top = grid.start[0] == 0
        self._surface = bool(surface and top)
        self._ends = (
            top and not surface, grid.stop[0] == grid.shape[0],
            grid.start[1] == 0, grid.stop[1] == grid.shape[1],
        )  # fmt: skip
        self._halo = HaloExchange(grid, ghost).buffers(1, self.dtype)
        self._c2 = self.padding.fields()
        self._fields = self._new_fields()
        self._phase = 0
        threads = numba.get_num_threads()
        self._work = self.padding.lines(threads + 1, kernels.ROWS)
        self._neighbours = grid.start[0] > 0, grid.stop[0] < grid.shape[0]
        # Two steps in a sweep: not where they need others' columns, or borders are too near.
        shared = threads > 1 or any(self._neighbours)
        enough = grid.patch_shape[0] >= kernels.SHARE * threads
        self._pairs = grid.dims[1] == 1 and (enough or not shared)
        self._nothing = self.new_kept(0)
        self._parts = self._collection.new_parts(steps, self.dtype)

    def _new_fields(self) -> list[Array]:
        """Return u, and ψ and φ of both axes, all zero; with two levels those with rows' ghosts."""
        fields, lines, rows = self.padding.fields, self.padding.lines, self.padding.rows
        half, node = [len(h.lines) for h in self._half], [len(n.lines) for n in self._node]
        return [
            fields(2), lines(2, half[0]), np.zeros((rows, half[1]), self.dtype),
            lines(2, node[0]), np.zeros((rows, node[1]), self.dtype),
        ]  # fmt: skip

    # Forwards

    @property
    def state(self) -> Sequence[Array]:
        u, psi0, psi1, phi0, phi1 = self._fields
        return (u[self._phase], u[1 - self._phase], psi0[self._phase], psi1, phi0[0], phi1)

    def kept_bytes(self, steps: int) -> int:
        u, psi0, psi1 = self._fields[0][0], self._fields[1][0], self._fields[2]
        return steps * int(u.nbytes + psi0.nbytes + psi1.nbytes)

    def new_kept(self, steps: int) -> Kept:
        half0, half1 = (len(half.lines) for half in self._half)
        shape = (steps, self.padding.rows, half1)
        return Kept(self.padding.fields(steps), self.padding.lines(steps, half0),
                    np.zeros(shape, self.dtype))  # fmt: skip

    def prepare(self, *inputs: Array) -> None:
        velocity, self._wavelets = inputs[:2]
        self._initial = inputs[2:]
        self._velocity = velocity
        self._square(velocity**2, self._c2)
        self._parts[...] = 0

    def _square(self, square: Array, padded: Array) -> None:
        """Lay a coefficient at nodes into a padded array: neighbours' nodes, edges continued."""
        padded[self._inner] = square
        padded = self.padding.cut(padded)
        self._halo.forward([padded])
        g = self._kernels.GHOST
        low, high, left, right = self._ends
        if self._surface:
            padded[:g] = padded[2 * g : g : -1]
        if low:
            padded[:g] = padded[g]
        if high:
            padded[-g:] = padded[-g - 1]
        if left:
            padded[:, :g] = padded[:, g : g + 1]
        if right:
            padded[:, -g:] = padded[:, -g - 1 : -g]

    def begin(self, run: int) -> None:
        self._run, self._phase = run, 0
        self._start(self._fields, self._initial)
        self._forces = self._by_rows(self._sources, self._amplitudes(self._wavelets, run))

    def _start(self, fields: list[Array], initial: Sequence[Array]) -> None:
        for field in fields:
            field[...] = 0
        for level, value in zip((1, 0), initial):
            fields[0][level][self._inner] = value
            if self._surface:
                fields[0][level][self._kernels.GHOST] = 0

    def _amplitudes(self, wavelets: Array, run: int) -> Array:
        """Return what sources add to the field, (local sources, steps)."""
        chosen = wavelets[run][self._sources.index[run]]
        return np.ascontiguousarray(chosen * self.dtype.type(self._scale))

    def _by_rows(self, points: Points, series: Array) -> RowPoints:
        nodes, weights = points.nodes[self._run], points.weights[self._run]
        return by_rows([nodes], [weights], [np.arange(len(nodes))], series, self.padding)

    def advance(self, first: int, last: int, kept: Any = None) -> None:
        parts = self._parts[self._collection.rows(self._run)]
        self._advance(first, last, self._fields, kept or self._nothing, parts, self._forces)
        self._phase = (self._phase + last - first) % 2

    def _advance(
        self, first: int, last: int, fields: Sequence[Array], kept: Kept, parts: Array,
        sources: RowPoints,
    ) -> None:  # fmt: skip
        run = self._run
        u, psi0, psi1, phi0, phi1 = fields
        receivers = self._receivers.nodes[run], self._receivers.weights[run], parts
        self._take(
            self._kernels.advance, first, last, self._phase, False, (u, psi0, psi1, phi0[0], phi1),
            kept, receivers, sources, (),
        )  # fmt: skip

    def _take(
        self, kernel: Any, first: int, last: int, phase: int, back: bool, fields: Sequence[Array],
        kept: Kept, receivers: Any, sources: Any, more: tuple[Any, ...],
    ) -> None:  # fmt: skip
        """Take steps forwards or back, with ghosts exchanged before each."""
        medium = (self._c2, *self._half, *self._node, self._numbers(), self._surface, receivers,
                  sources, self._work, self.padding.columns, *more)  # fmt: skip
        kernel = shown("steps", kernel)

        def steps(a: int, b: int, phases: tuple[int, int], done: int) -> None:
            kernel(a, b, phase + done, phases, self._pairs, self._neighbours, *fields, *kept,
                   a - first, *medium)  # fmt: skip

        if self.grid.size == 1:
            steps(first, last, (0, 2), 0)
            return
        count, most = last - first, 2 if self._pairs else 1
        for done in range(0, count, most):
            size = min(most, count - done)
            a = last - done - size if back else first + done
            for fill in range(size):
                self._halo.forward([self.padding.cut(fields[0][(phase + done + fill + 1) % 2])])
                steps(a, a + size, (fill, fill + 1), done)

    def _numbers(self) -> tuple[Any, ...]:
        (a1, a2, b1, b2), (c1, c2, d1, d2) = self._weights
        return (a1, a2, b1, b2, c1, c2, d1, d2)

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

    def advance_tangent(self, first: int, last: int) -> None:
        parts = self._dparts[self._collection.rows(self._run)]
        for n in range(first, last):
            new = self._dfields[0][self._phase]
            self._advance(n, n + 1, self._dfields, self._nothing, parts, self._dforces)
            self.advance(n, n + 1)
            self._scatter(self.state, new)

    def _scatter(self, state: Sequence[Array], new: Array) -> None:
        """Add to ``new`` what a change of ``c²`` scatters of the field that a step began with."""
        u, memory = state[0], state[2:4]
        fluxes = self._dfields[3][0], self._dfields[4]
        g, cut = self._kernels.GHOST, self.padding.cut
        u, new, dc2 = cut(u), cut(new), cut(self._dc2)
        for axis, (half, node) in enumerate(zip(self._half, self._node)):
            w1, w2, v1, v2 = self._weights[axis]
            lines = np.moveaxis(u, axis, 0)
            flux = np.zeros_like(lines)
            flux[1:-2] = w1 * (lines[2:-1] - lines[1:-2]) + w2 * (lines[3:] - lines[:-3])
            flux[half.lines] += np.moveaxis(cut(memory[axis]), axis, 0)
            change = np.moveaxis(dc2, axis, 0)
            flux[:-1] *= change[:-1] + change[1:]
            n = len(lines) - 2 * g
            q = [flux[g + k : g + k + n] for k in (-2, -1, 0, 1)]
            divergence = np.zeros_like(lines)
            divergence[g:-g] = v1 * (q[2] - q[1]) + v2 * (q[3] - q[0])
            owned = self._inner[1 - axis]
            target = np.moveaxis(new, axis, 0)
            target[g:-g, owned] += divergence[g:-g, owned]
            inside = (node.lines >= g) & (node.lines < g + n)
            rows = node.lines[inside]
            more = node.a[inside, None] * divergence[rows][:, owned]
            phi = np.moveaxis(fluxes[axis], axis, 0)
            phi[np.flatnonzero(inside)[:, None], np.arange(phi.shape[1])[owned]] += more
            target[rows, owned] += more
        if self._surface:
            new[g] = 0

    def result_tangents(self) -> tuple[Array, ...]:
        return (self._collection.forward(self._dparts),)

    # In reverse

    def prepare_reverse(self, cotangents: Sequence[Array]) -> None:
        self._cotangents = self._collection.adjoint(np.ascontiguousarray(cotangents[0]))
        self._totals = tuple(self.padding.fields() for _ in range(2))
        self._wavelets_bar = np.zeros(np.shape(self._wavelets), self.dtype)
        self._initial_bar = [np.zeros(self.grid.patch_shape, self.dtype) for _ in self._initial]
        self._lam = self._new_fields()

    def begin_reverse(self, run: int) -> None:
        self._run, self._back = run, 0
        for field in self._lam:
            field[...] = 0
        self._series_bar = np.zeros((len(self._sources.index[run]), self.steps), self.dtype)
        traces = self._cotangents[self._collection.rows(run)]
        self._forces_back = self._by_rows(self._receivers, traces)

    def reverse(self, last: int, first: int, kept: Any) -> None:
        run = self._run
        sources = self._sources.nodes[run], self._sources.weights[run], self._series_bar
        self._take(self._kernels.reverse, first, last, self._back, True, self._lam, kept,
                   self._forces_back, sources, (self._totals,))  # fmt: skip
        self._back = (self._back + last - first) % 2

    def finish_reverse(self, run: int) -> None:
        index = self._sources.index[run]
        np.add.at(self._wavelets_bar[run], index, self._series_bar * self.dtype.type(self._scale))
        lam = self._lam[0]
        levels = (lam[1 - self._back], -lam[self._back])
        for total, level in zip(self._initial_bar, levels):
            inner = level[self._inner].copy()
            if self._surface:
                inner[0] = 0
            total += inner

    def gradients(self) -> tuple[Array | None, ...]:
        square = sum(self._at_nodes(total, axis) for axis, total in enumerate(self._totals))
        square *= self.dtype.type(-2 * self._dt**2)
        if self._surface:
            square[0] /= 2
        velocity = 2 * self._velocity * square
        return (velocity, self._wavelets_bar, *self._initial_bar)

    def _at_nodes(self, total: Array, axis: int) -> Array:
        """The transpose of adding neighbours' coefficients at the half points of an axis.

        The first and last of the grid's nodes stand for the ghosts beyond them, too.
        """
        g, (low, high) = self._kernels.GHOST, self._ends[2 * axis : 2 * axis + 2]
        lines = np.moveaxis(self.padding.cut(total), axis, 0)
        whole = lines[g - 1 : -g - 1] + lines[g:-g]
        if low:
            whole[0] += lines[g - 1] + 2 * lines[g - 2]
        if high:
            whole[-1] += lines[-g - 1] + 2 * lines[-g]
        return np.moveaxis(whole[:, self._inner[1 - axis]], 0, axis)
