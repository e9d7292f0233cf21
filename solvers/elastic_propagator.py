"""The elastic wave's time steps, with their tangents and transposes, in place."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..comm import CartesianGrid, HaloExchange
from ..propagator import Propagator
from ..spans import shown
from ..variable import Array
from .acquisition import Points, TraceCollection
from .padding import LINE, Padding
from .pml import Layers
from .row_points import RowPoints, by_rows
from .wavefront import Wavefront

#: Where the fields' samples are, in cells from the nodes.
SHIFTS = {"v0": (0.5, 0.0), "v1": (0.0, 0.5), "s00": (0.0, 0.0), "s11": (0.0, 0.0),
          "s01": (0.5, 0.5)}  # fmt: skip
_NEAR, _FAR = 9 / 8, -1 / 24

#: Steps that are taken in one sweep. More save nothing: memory no longer holds them up.
SWEPT = 8


class Kept(NamedTuple):
    """What is kept of a block: the layers' memory of strain rates after each step, and either the
    velocities too, or the memory of accelerations and the last velocities and stresses."""

    v0: Array
    v1: Array
    q00: Array
    q01: Array
    q10: Array
    q11: Array
    p00: Array
    p01: Array
    p10: Array
    p11: Array
    last: Array


class ElasticPropagator(Propagator):
    """Steps of velocity and stress on a staggered grid; see :class:`~adjoint.solvers.ElasticWave`.

    They can be taken back: with what the layers' memory gave, a step of the interior scheme is
    undone by the same step with the opposite sign.

    Inputs are ``λ``, ``µ``, ``ρ``, the mechanisms and the wavelets; outputs are the traces of the
    fields that are recorded.

    Parameters
    ----------
    grid : CartesianGrid
    spacing : tuple of float
    dt : float
    steps : int
    layers : tuple of Layers
        Of each axis.
    sources, receivers : dict of Points
        By field, for all five fields.
    fields : tuple of str
        Those that are recorded.
    surface : bool
    dtype : numpy.dtype
    """

    backward_cost = 0.2  # measured at 1000×1000 nodes

    def __init__(
        self,
        grid: CartesianGrid,
        spacing: Sequence[float],
        dt: float,
        steps: int,
        layers: tuple[Layers, Layers],
        sources: dict[str, Points],
        receivers: dict[str, Points],
        fields: tuple[str, ...],
        surface: bool,
        dtype: Any,
    ) -> None:
        import numba

        from . import elastic_kernels as kernels

        self.comm, self.grid, self.steps = grid.comm, grid, steps
        self.runs = len(sources["v0"].index)
        self.dtype = np.dtype(dtype)
        self._kernels, self._dt = kernels, dt
        self._sources, self._receivers = sources, receivers
        self._collections: dict[str, TraceCollection] = {
            name: receivers[name].collection() for name in fields
        }
        ghost = kernels.GHOST
        self.padding = Padding(grid, ghost, self.dtype)
        self._inner = self.padding.inner
        area = spacing[0] * spacing[1]
        # Forces are multiplied by dt/ρ where they act; moments are taken from the stress.
        self._scales = np.array([1 / area, 1 / area, *(-dt / area,) * 3]).astype(self.dtype)
        top = grid.start[0] == 0
        self._surface = bool(surface and top)
        # Along rows, layers are taken with the columns that their differences reach, in vectors.
        vector = self.padding.vector
        pairs = [
            layer.both(*ends, ghost, self.dtype, reach, multiple)
            for layer, ends, reach, multiple in zip(
                layers, zip(grid.start, grid.stop), (0, ghost), (1, vector)
            )
        ]
        node, half = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        columns = grid.patch_shape[1]
        width = -(-columns // vector) * vector
        if width + 2 * ghost > self.padding.pitch:
            width = columns
        real = self.dtype.type
        weights = tuple(real(c / h) for h in spacing for c in (_NEAR, _FAR))
        self._geometry = (*half, *node, weights, self._surface, width)
        self._half, self._node, self._weights = half, node, weights
        #: Of each axis, whether the patch ends where the grid does.
        self._last = [stop == length for stop, length in zip(grid.stop, grid.shape)]
        halo = HaloExchange(grid, ghost)
        self._halos = {count: halo.buffers(count, self.dtype) for count in (2, 3, 5)}
        self._halo_model = HaloExchange(grid, ghost, corners=True).buffers(2, self.dtype)
        self._fields = self._new_fields()
        self._nothing = self._flat(self.new_kept(0))
        shared = grid.start[0] > 0, grid.stop[0] < grid.shape[0]
        rows, threads = self._inner[0], numba.get_num_threads()
        # Half steps may follow each other in one sweep where they need no other rank's columns. As
        # there is an exchange before each of them, ranks may differ in how many do.
        fused = grid.dims[1] == 1
        front = Wavefront(rows.start, rows.stop, threads, SWEPT, shared, fused)
        self._swept, self._phases = front.steps, front.forward()
        self._ready, self._phases_back = front.reverse()
        self._halves = Wavefront(rows.start, rows.stop, threads, 1, fused=False).forward()
        self._rows = self.padding.lines(2 * front.parts)
        # One row more than lines: it stays zero, for lines outside of the layers.
        self._z = tuple(self.padding.lines(len(node[0].lines) + 1) for _ in range(4))
        # Where each field's parts of traces are among all of them.
        ends = np.cumsum([0, *(c.rows(self.runs - 1).stop for c in self._collections.values())])
        self._places = {name: slice(*pair) for name, *pair in zip(fields, ends, ends[1:])}
        self._parts = self._new_parts()
        # A free surface halves the cells of whole rows: the transposes take them as half as heavy.
        self._light = {name: self._surface and SHIFTS[name][0] == 0 for name in SHIFTS}

    def _new_parts(self) -> Array:
        """Return room for this rank's parts of all traces, zero: (parts, steps)."""
        return np.zeros((sum(p.stop - p.start for p in self._places.values()), self.steps),
                        self.dtype)  # fmt: skip

    def _new_fields(self) -> tuple[Array, ...]:
        """Return v0, v1, the stresses, and the layers' memories, all zero."""
        rows, columns = (len(strip.lines) for strip in self._node)  # as many as half points
        fields = [self.padding.fields() for _ in range(5)]
        for _ in range(4):  # of both axes in turn
            fields += self.padding.lines(rows), self._sides(columns)
        return tuple(fields)

    def _sides(self, count: int, *leading: int) -> Array:
        """Return zeros for so many columns of each row, in whole cache lines."""
        entries = self.padding.vector
        shape = (*leading, self.padding.rows, -(-count // entries) * entries)
        memory = np.empty(prod(shape) + entries, self.dtype)
        memory[...] = 0
        begin = -memory.ctypes.data % LINE // self.dtype.itemsize
        return memory[begin : begin + prod(shape)].reshape(shape)

    def _cut(self, fields: Sequence[Array]) -> list[Array]:
        return [self.padding.cut(field) for field in fields]

    # Forwards

    @property
    def state(self) -> Sequence[Array]:
        return self._fields

    def kept_bytes(self, steps: int) -> int:
        v, s, p, q = (sum(int(x.nbytes) for x in group) for group in _groups(self._fields))
        if self.backwards:
            return steps * (p + q) + (v + s if steps else 0)
        return steps * (v + q)

    def new_kept(self, steps: int) -> Kept:
        fields = self.padding.fields
        whole, part, last = (0, steps, 5 if steps else 0) if self.backwards else (steps, 0, 0)
        _, _, p, q = _groups(self._fields)
        momentum, strain = (self._levels(x, n) for x, n in ((p, part), (q, steps)))
        return Kept._make([fields(whole), fields(whole), *strain, *momentum, fields(last)])

    def _levels(self, memory: Sequence[Array], steps: int) -> list[Array]:
        """Return room for so many levels of layers' memory."""
        lines, side = self.padding.lines, self._sides
        return [
            side(x.shape[1], steps) if k % 2 else lines(steps, len(x)) for k, x in enumerate(memory)
        ]

    def prepare(self, *inputs: Array) -> None:
        lam, mu, rho, self._mechanisms, self._wavelets = inputs
        self._model = self._padded(lam, mu, rho)
        self._b, self._c = self._coefficients(*self._model)

    def _padded(self, lam: Array, mu: Array, rho: Array) -> tuple[Array, Array, Array]:
        """Return λ (as it is), and µ and ρ with the nodes below and to the right, edges continued.

        Those above and to the left are not averaged with a patch's own.
        """
        padded = [self.padding.fields() for _ in range(2)]
        for whole, own in zip(padded, (mu, rho)):
            whole[self._inner] = own
        self._halo_model.forward(self._cut(padded))
        g = self._kernels.GHOST
        for whole in self._cut(padded):
            for axis in np.flatnonzero(self._last):
                lines = np.moveaxis(whole, axis, 0)
                lines[-g:] = lines[-g - 1]
        return lam, padded[0], padded[1]

    def _coefficients(
        self, lam: Array, mu: Array, rho: Array
    ) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Return dt/ρ where velocities are, and λ dt, µ dt at nodes, µ dt where shear stress is."""
        x, y = self._inner
        down, right = (_shifted(self._inner, *s) for s in ((1, 0), (0, 1)))
        real = self.dtype.type
        fields = [self.padding.fields() for _ in range(5)]
        b0, b1, la, m, mm = fields
        b0[x, y] = real(2 * self._dt) / (rho[x, y] + rho[down])
        b1[x, y] = real(2 * self._dt) / (rho[x, y] + rho[right])
        la[x, y], m[x, y] = lam * real(self._dt), mu[x, y] * real(self._dt)
        mm[x, y] = real(4 * self._dt) / sum(1 / mu[_shifted(self._inner, *s)] for s in _CORNERS)
        if self._surface:
            row = x.start
            a, b = lam[0], mu[row, y]
            m[row, y] = real(2 * self._dt) * b * (a + b) / (a + 2 * b)
            la[row] = 0
        return (b0, b1), (la, m, mm)

    def begin(self, run: int) -> None:
        self._run = run
        for field in self._fields:
            field[...] = 0
        amplitudes = self._amplitudes(self._mechanisms[run], self._wavelets[run])
        self._source_points = self._sources_of(run, amplitudes)
        self._receiver_points = self._recorder(
            self._by_rows(run, self._receivers, self._trace_rows(run), self._parts)
        )

    def _amplitudes(self, mechanisms: Array, wavelets: Array) -> list[Array]:
        """Return for each field what the sources give it, (sources, steps)."""
        columns = (mechanisms * self._scales).T
        return [column[:, None] * wavelets for column in columns]

    def _source_rows(self, run: int) -> dict[str, Array]:
        """Return which of all sources' series are each field's."""
        ends = np.cumsum([0, *(len(self._sources[name].index[run]) for name in SHIFTS)])
        return {name: np.arange(*pair) for name, *pair in zip(SHIFTS, ends, ends[1:])}

    def _trace_rows(self, run: int) -> dict[str, Array]:
        """Return which of all parts of traces are each recorded field's."""
        numbers = np.arange(len(self._parts))
        return {
            name: numbers[place][self._collections[name].rows(run)]
            for name, place in self._places.items()
        }

    def _sources_of(self, run: int, series: Sequence[Array]) -> RowPoints:
        """Return what kernels take for sources with these series, by field (sources, steps)."""
        mine = [values[self._sources[x].index[run]] for x, values in zip(SHIFTS, series)]
        return self._by_rows(run, self._sources, self._source_rows(run), np.concatenate(mine))

    def _by_rows(
        self, run: int, points: dict[str, Points], index: dict[str, Array], series: Array,
        factor: float = 1.0,
    ) -> RowPoints:  # fmt: skip
        """Sort points of all fields by rows; row weights of a surface times a factor."""
        nodes, weights, rows = [], [], []
        for name in SHIFTS:
            mine = index.get(name, np.empty(0, np.int64))
            here = slice(len(mine))  # all, or none of a field that is not recorded
            nodes.append(points[name].nodes[run][here])
            weights.append(self._weighted(name, nodes[-1], points[name].weights[run][here], factor))
            rows.append(mine)
        return by_rows(nodes, weights, rows, series, self.padding)

    def _recorder(self, points: RowPoints) -> tuple[Array, ...]:
        """Return points with room for what they take of the rows in the steps of a sweep."""
        return (*points, np.zeros((len(points.point), self._swept + 1), self.dtype))

    def _weighted(self, name: str, nodes: Array, weights: Array, factor: float) -> Array:
        if not self._light[name] or factor == 1:
            return weights
        first = nodes // self.padding.pitch == self._kernels.GHOST
        return np.where(first, weights * self.dtype.type(factor), weights)

    def advance(self, first: int, last: int, kept: Any = None) -> None:
        v, s, p, q = _groups(self._fields)
        every = last - first if self.grid.size == 1 else self._swept
        flat = self._nothing if kept is None else self._flat(kept)
        kernel = shown("steps", self._kernels.advance)
        for n in range(first, last, every):
            stop = min(n + every, last)
            for half, phase in enumerate(self._phases[: 2 * (stop - n)]):
                self._exchange(half, v, s)
                kernel(
                    n, stop, first, phase, v, s, self._b, self._c, p, q, *self._geometry,
                    self._source_points, self._receiver_points, kept is not None, flat,
                )  # fmt: skip
        if kept is not None:  # there is no such level unless steps are taken back
            for last_field, field in zip(kept.last, self._fields):
                last_field[...] = field

    def _flat(self, kept: Kept) -> tuple[Array, ...]:
        """Return all levels of what is kept below each other."""
        return tuple(x.reshape(x.shape[0] * x.shape[1], x.shape[2]) for x in kept[:-1])

    def _exchange(self, half: int, v: Sequence[Array], s: Sequence[Array], *more: Array) -> None:
        """Fill the ghosts of what a half step takes: every other one takes velocities."""
        fields = [*(v if half % 2 else s), *more]
        self._halos[len(fields)].forward(self._cut(fields))

    def results(self) -> tuple[Array, ...]:
        return self._traces(self._parts)

    def _traces(self, parts: Array) -> tuple[Array, ...]:
        return tuple(c.forward(parts[self._places[x]]) for x, c in self._collections.items())

    # Tangents

    def prepare_tangent(self, tangents: Sequence[Array]) -> None:
        dlam, dmu, drho, self._dmechanisms, self._dwavelets = tangents
        lam, mu, rho = self._model
        dlam, dmu, drho = self._padded(dlam, dmu, drho)
        x, y = self._inner
        dt = self._dt
        self._dparts = self._new_parts()
        # Of the logarithm of dt/ρ, and of the moduli.
        self._db = [
            -(drho[x, y] + drho[_shifted(self._inner, *s)])
            / (rho[x, y] + rho[_shifted(self._inner, *s)])
            for s in ((1, 0), (0, 1))
        ]
        corners = [_shifted(self._inner, *s) for s in _CORNERS]
        change = sum(dmu[corner] / mu[corner] ** 2 for corner in corners)
        dmm = self._c[2][x, y] ** 2 / (4 * dt) * change
        dla, dm = dlam * dt, dmu[x, y] * dt
        if self._surface:
            a, b = _plane_modulus(lam[0], mu[x.start, y])
            dm[0] = dt / 2 * (a * dlam[0] + b * dmu[x.start, y])
            dla[0] = 0
        self._dc = dla, dm, dmm

    def begin_tangent(self, run: int) -> None:
        self._dfields = self._new_fields()
        series = [
            a + b
            for a, b in zip(
                self._amplitudes(self._dmechanisms[run], self._wavelets[run]),
                self._amplitudes(self._mechanisms[run], self._dwavelets[run]),
            )
        ]
        self._dsource_points = self._sources_of(run, series)
        self._silent = self._recorder(self._by_rows(run, self._receivers, {}, self._dparts))

    def advance_tangent(self, first: int, last: int) -> None:
        inner = self._inner
        v, _, _, q = _groups(self._fields)
        dv, ds, _, _ = _groups(self._dfields)
        for n in range(first, last):
            before = [field[inner].copy() for field in v]
            self._half_step(n, 0)
            for field, now, old, change in zip(dv, v, before, self._db):
                field[inner] += change * (now[inner] - old)
            self._reflect(dv[0], dv[1], 1)
            self._half_step(n, 1)
            e, f, g = self._strain_rates(v, q)
            dla, dm, dmm = self._dc
            ds[0][inner] += dla * (e + f) + 2 * dm * e
            ds[1][inner] += dla * (e + f) + 2 * dm * f
            ds[2][inner] += dmm * g
            self._reflect(ds[2], ds[0], -1)
            self._record_tangent(n)

    def _half_step(self, n: int, half: int) -> None:
        """Take all velocities or stresses, and the tangents as if they were fields."""
        nothing = self._nothing
        for fields, sources in (
            (self._fields, self._source_points), (self._dfields, self._dsource_points)
        ):  # fmt: skip
            v, s, p, q = _groups(fields)
            self._exchange(half, v, s)
            self._kernels.advance(n, n + 1, n, self._halves[half], v, s, self._b, self._c, p, q,
                                  *self._geometry, sources, self._silent, False,
                                  nothing)  # fmt: skip

    def _reflect(self, half: Array, whole: Array, sign: int) -> None:
        """Continue two fields above a free surface, the first row of ``whole``, if there is one."""
        top = self._kernels.GHOST
        for k in range(1, top + 1) if self._surface else ():
            half[top - k] = sign * half[top + k - 1]
            whole[top - k] = sign * whole[top + k]

    def _record_tangent(self, n: int) -> None:
        run = self._run
        for name, field in zip(SHIFTS, self._dfields):
            rows, points = self._trace_rows(run).get(name), self._receivers[name]
            if rows is not None:
                taken = points.weights[run] * field.reshape(-1)[points.nodes[run]]
                self._dparts[rows, n] = taken.sum(axis=1)

    def _strain_rates(self, v: Sequence[Array], q: Sequence[Array]) -> tuple[Array, Array, Array]:
        """Return ε₀₀, ε₁₁ and 2 ε₀₁ at the owned nodes, with the layers' part."""
        w01, w02, w11, w12 = self._weights

        def difference(u: Array, axis: int, half: int) -> Array:
            shifts = []
            for k in range(half - 2, half + 2):
                move = (k, 0) if axis == 0 else (0, k)
                shifts.append(u[_shifted(self._inner, *move)])
            near, far = (w01, w02) if axis == 0 else (w11, w12)
            result: Array = near * (shifts[2] - shifts[1]) + far * (shifts[3] - shifts[0])
            return result

        g = self._kernels.GHOST
        rates = [difference(v[0], 0, 0), difference(v[1], 1, 0),
                 difference(v[1], 0, 1) + difference(v[0], 1, 1)]  # fmt: skip
        for rate, memory, strip, axis in (
            (rates[0], q[0], self._node[0], 0), (rates[1], q[3], self._node[1], 1),
            (rates[2], q[2], self._half[0], 0), (rates[2], q[1], self._half[1], 1),
        ):  # fmt: skip
            lines = strip.lines - g
            own = (lines >= 0) & (lines < rate.shape[axis])
            if axis == 0:
                rate[lines[own]] += memory[own][:, self._inner[1]]
            else:
                rate[:, lines[own]] += memory[g:-g, : len(own)][:, own]
        return rates[0], rates[1], rates[2]

    def result_tangents(self) -> tuple[Array, ...]:
        return self._traces(self._dparts)

    # In reverse

    def prepare_reverse(self, cotangents: Sequence[Array]) -> None:
        self._cotangents = self._new_parts()
        for (name, c), bar in zip(self._collections.items(), cotangents):
            self._cotangents[self._places[name]] = c.adjoint(np.ascontiguousarray(bar))
        self._sums = tuple(self.padding.fields() for _ in range(5))
        self._mechanisms_bar = np.zeros(self._mechanisms.shape, self.dtype)
        self._wavelets_bar = np.zeros(self._wavelets.shape, self.dtype)
        self._adjoint = self._new_fields()

    def begin_reverse(self, run: int) -> None:
        self._run = run
        for field in (*self._adjoint, *self._z):
            field[...] = 0
        self._adjoint_receivers = self._by_rows(
            run, self._receivers, self._trace_rows(run), self._cotangents, 2.0
        )
        index = self._source_rows(run)
        self._amplitudes_bar = np.zeros((sum(map(len, index.values())), self.steps), self.dtype)
        self._adjoint_sources = self._recorder(
            self._by_rows(run, self._sources, index, self._amplitudes_bar, 0.5)
        )
        self._undone = self._source_points
        if self.backwards:
            amplitudes = self._amplitudes(self._mechanisms[run], self._wavelets[run])
            self._undone = self._sources_of(run, [-x for x in amplitudes])

    def reverse(self, last: int, first: int, kept: Any) -> None:
        v, s, p, q = _groups(self._adjoint)
        flat = self._flat(kept)
        past: tuple[Array, ...] = self._nothing[:3]
        if self.backwards:
            for last_field, field in zip(kept.last, self._fields):
                field[...] = last_field
            velocities, past, _, _ = _groups(self._fields)
            flat = (*velocities, *flat[2:])
        kernel = shown("steps", self._kernels.reverse)

        def steps_back(stop: int, start: int, phases: Array) -> None:
            kernel(
                stop, start, first, phases, v, s, self._b, self._c, flat, past, self._undone,
                self._sums, p, q, self._z, *self._geometry, self._adjoint_receivers,
                self._adjoint_sources, self._rows,
            )  # fmt: skip

        if self.grid.size == 1:
            steps_back(last, first, self._phases_back[0])
            return
        steps_back(last, last - 1, self._ready)
        for stop in range(last, first, -self._swept):
            start = max(stop - self._swept, first)
            for half, phase in enumerate(self._phases_back[: 2 * (stop - start)]):
                more = (past if half % 2 else flat[:2]) if self.backwards else ()
                self._exchange(half, v, s, *more)
                steps_back(stop, start, phase)

    def finish_reverse(self, run: int) -> None:
        mechanisms, wavelets = self._mechanisms[run], self._wavelets[run]
        signs = (-1, -1, 1, 1, 1)  # the scaled adjoint velocities have the opposite sign
        for field, (name, rows) in enumerate(self._source_rows(run).items()):
            index = self._sources[name].index[run]
            bar = self._amplitudes_bar[rows] * (signs[field] * self._scales[field])
            np.add.at(self._mechanisms_bar[run, :, field], index, np.sum(bar * wavelets[index], 1))
            np.add.at(self._wavelets_bar[run], index, bar * mechanisms[index, field, None])

    def gradients(self) -> tuple[Array | None, ...]:
        lam, mu, _ = self._model
        x, y = self._inner
        dt, sums = self._dt, [total[self._inner] for total in self._sums]
        if self.backwards:  # rates of stress
            la, m, mm = (field[self._inner] for field in self._c)
            for total, modulus in zip(sums, (2 * (la + m), 2 * m, mm)):
                total /= modulus
        if self._surface:
            for total, name in zip(sums, ("s00", "s11", "s01", "v0", "v1")):
                if SHIFTS[name][0] == 0:
                    total[0] /= 2
        own, m = mu[x, y], self._c[1][x, y]
        bulk = sums[0] / (2 * (lam + own))
        lam_bar, mu_bar = bulk, bulk + sums[1] / (2 * own)
        if self._surface:
            a, b = _plane_modulus(lam[0], own[0])
            modulus_bar = sums[0][0] / (2 * m[0]) * dt
            lam_bar[0], mu_bar[0] = modulus_bar * a, modulus_bar * b
        mu_padded, rho_padded = (self.padding.fields() for _ in range(2))
        mu_padded[x, y] = mu_bar
        shear = sums[2] * self._c[2][x, y] / (4 * dt)
        for corner in _CORNERS:
            at = _shifted(self._inner, *corner)
            mu_padded[at] += shear / mu[at] ** 2
        # With b = 2 dt / (ρ + ρ') and V = −b v̄, ρ̄ = ρ̄' = Σ V Δv / (2 dt).
        for total, move in zip(sums[3:], ((1, 0), (0, 1))):
            part = total / (2 * dt)
            rho_padded[x, y] += part
            rho_padded[_shifted(self._inner, *move)] += part
        self._fold(self._cut((mu_padded, rho_padded)))
        return (lam_bar, mu_padded[x, y].copy(), rho_padded[x, y].copy(), self._mechanisms_bar,
                self._wavelets_bar)  # fmt: skip

    def _fold(self, padded: Sequence[Array]) -> None:
        """The transpose of ``_padded``: bring ghosts' parts to their owners."""
        g = self._kernels.GHOST
        for whole in padded:
            for axis in reversed(np.flatnonzero(self._last)):
                lines = np.moveaxis(whole, axis, 0)
                lines[-g - 1] += lines[-g:].sum(axis=0)
        self._halo_model.adjoint(padded)


_CORNERS = ((0, 0), (1, 0), (0, 1), (1, 1))


def _shifted(inner: tuple[slice, ...], down: int, right: int) -> tuple[slice, slice]:
    x, y = inner
    return slice(x.start + down, x.stop + down), slice(y.start + right, y.stop + right)


def _groups(fields: Sequence[Array]) -> tuple[Any, Any, Any, Any]:
    """Return velocities, stresses, and the layers' memories of both."""
    return tuple(fields[:2]), tuple(fields[2:5]), tuple(fields[5:9]), tuple(fields[9:])


def _plane_modulus(lam: Array, mu: Array) -> tuple[Array, Array]:
    """Return the derivatives of ``4 µ (λ + µ) / (λ + 2 µ)`` with respect to λ and µ."""
    total = lam + 2 * mu
    return 4 * mu**2 / total**2, 4 * (lam**2 + 2 * lam * mu + 2 * mu**2) / total**2
