"""Compiled steps of the elastic wave: forwards and in reverse, several in one sweep over memory.

Fields are padded by ``GHOST`` lines on all sides, and by columns without use at the end of a row
(see :mod:`~adjoint.solvers.padding`). ``v0[i, j]`` is at ``(i + ½, j)``, ``v1`` at ``(i, j + ½)``,
``s00`` and ``s11`` at ``(i, j)``, ``s01`` at ``(i + ½, j + ½)``. See
:mod:`~adjoint.solvers.elastic` for what is computed.

A step has two halves, velocities from stresses and stresses from velocities, each of which needs
the other's results up to two rows further down. The halves of several steps follow each other
through the rows at that distance (see :mod:`~adjoint.solvers.wavefront`): when one half has done
all rows before ``r``, the next one does those before ``r − 2``, and so on, all in place. What a
half overwrites is then needed by none before it, and what the first one loads is still in the cache
for the last. They take turns of ``TURN`` rows, of which neighbouring ones share what they load.
All that belongs to a half is done row by row: layers, sources, images above a free surface, and
recording, before the next half overwrites the row.

In reverse, the forward run is taken back along with its transpose where its velocities were not
kept: its stresses and velocities are changed in the same turns, a half step after the other, and
are always those that the transpose needs next.

Indices of inner loops are :mod:`~adjoint.solvers.unsigned`. All is in one file because Numba's
cache does not see changes in others; and there are two functions to be compiled, :func:`advance`
and :func:`reverse`, for the compiler takes the parts of each anew.
"""

from __future__ import annotations

from typing import Any

from numba import njit, prange

from .disjoint import disjoint, entry, get, put, take
from .streaming import prefetch, stream
from .unsigned import unsigned
from .wavefront import LAG

#: Ghost layers: differences take two lines on either side.
GHOST = 2

#: Rows that a half step takes before the next one does, forwards and in reverse, where more fields
#: share the cache.
TURN, TURN_BACK = 8, 5

#: Rows between those that a step back takes and those of the forward run that it has sent for.
AHEAD = 6

#: Of what a step is made of: inlined, for the arrays' descriptions are long lists of arguments.
#: They count no references, for threads would write to the counts in turns in each row; so they can
#: make no arrays.
_PART: dict[str, Any] = {
    "fastmath": {"contract"}, "error_model": "numpy", "forceinline": True, "_nrt": False,
}  # fmt: skip

#: Of what is part of a loop's expressions: inlined before anything is compiled.
_TERM: dict[str, Any] = {"error_model": "numpy", "inline": "always"}

#: Of what is called from outside.
_ENTRY: dict[str, Any] = {"fastmath": {"contract"}, "error_model": "numpy", "cache": True}

_1, _2 = unsigned(1), unsigned(2)


@njit(**_PART)
def _owned(width: int) -> Any:
    """The columns that are computed: the owned ones, to whole vectors where there is room."""
    return range(unsigned(GHOST), unsigned(GHOST + width))


@njit(**_TERM)
def _down(u: Any, k: int, j: int, w1: float, w2: float) -> Any:
    """Difference between rows ``k`` and ``k + 1``; ``k`` and ``j`` are unsigned."""
    return w1 * (get(u, k + _1, j) - get(u, k, j)) + w2 * (get(u, k + _2, j) - get(u, k - _1, j))


@njit(**_TERM)
def _along(u: Any, i: int, j: int, w1: float, w2: float) -> Any:
    """Difference between columns ``j`` and ``j + 1`` of a row."""
    return w1 * (get(u, i, j + _1) - get(u, i, j)) + w2 * (get(u, i, j + _2) - get(u, i, j - _1))


# The steps in the interior, which are their own transposes


@njit(**_PART)
def _velocity_row(v: Any, s: Any, b: Any, row: int, width: int, w: Any) -> None:
    """``v += b ∇·σ`` in a row."""
    disjoint()
    w01, w02, w11, w12 = w
    v0, v1, s00, s11, s01, b0, b1 = v[0], v[1], s[0], s[1], s[2], b[0], b[1]
    i = unsigned(row)
    for j in _owned(width):
        d0 = _down(s00, i, j, w01, w02) + _along(s01, i, j - _1, w11, w12)
        d1 = _down(s01, i - _1, j, w01, w02) + _along(s11, i, j, w11, w12)
        put(v0, i, j, take(v0, i, j, 1) + get(b0, i, j) * d0, 1)
        put(v1, i, j, take(v1, i, j, 2) + get(b1, i, j) * d1, 2)


@njit(**_PART)
def _stress_row(s: Any, v: Any, c: Any, row: int, width: int, w: Any) -> None:
    """``σ += λ tr(ε) + 2 µ ε`` in a row."""
    disjoint()
    w01, w02, w11, w12 = w
    s00, s11, s01, v0, v1, la, mu, mm = s[0], s[1], s[2], v[0], v[1], c[0], c[1], c[2]
    i = unsigned(row)
    for j in _owned(width):
        e, f = _down(v0, i - _1, j, w01, w02), _along(v1, i, j - _1, w11, w12)
        twist = _down(v1, i, j, w01, w02) + _along(v0, i, j, w11, w12)
        both, twice = get(la, i, j) * (e + f), get(mu, i, j) + get(mu, i, j)
        put(s00, i, j, take(s00, i, j, 1) + both + twice * e, 1)
        put(s11, i, j, take(s11, i, j, 2) + both + twice * f, 2)
        put(s01, i, j, take(s01, i, j, 3) + get(mm, i, j) * twist, 3)


@njit(**_TERM)
def _strain_down(s: Any, c: Any, i: int, j: int, e: float, g: float) -> None:
    """``σ += λ e + 2 µ ε`` of the strains ``ε₀₀ = e`` and ``2 ε₀₁ = g``."""
    both, twice = get(c[0], i, j) * e, get(c[1], i, j) + get(c[1], i, j)
    put(s[0], i, j, take(s[0], i, j, 1) + both + twice * e, 1)
    put(s[1], i, j, take(s[1], i, j, 2) + both, 2)
    put(s[2], i, j, take(s[2], i, j, 3) + get(c[2], i, j) * g, 3)


@njit(**_TERM)
def _strain_along(s: Any, c: Any, i: int, j: int, f: float, g: float) -> None:
    """The same of ``ε₁₁ = f`` and ``2 ε₀₁ = g``."""
    both, twice = get(c[0], i, j) * f, get(c[1], i, j) + get(c[1], i, j)
    put(s[0], i, j, take(s[0], i, j, 1) + both, 1)
    put(s[1], i, j, take(s[1], i, j, 2) + both + twice * f, 2)
    put(s[2], i, j, take(s[2], i, j, 3) + get(c[2], i, j) * g, 3)


# Layers: ``ψ ← b ψ + a ∂u``, and what ``ψ`` adds. Memories are in the order of the derivatives
# ∂₀σ₀₀, ∂₁σ₀₁, ∂₀σ₀₁, ∂₁σ₁₁ and ∂₀v₀, ∂₁v₀, ∂₀v₁, ∂₁v₁; strips at nodes and at half points have
# the same lines.


@njit(**_PART)
def _absorb_momentum(
    v: Any, b: Any, p: Any, s: Any, row: int, half: Any, node: Any, width: int, w1: float, w2: float
) -> None:
    """Layers along axis 0 in a row of velocities."""
    disjoint()
    v0, v1, s00, s01, b0, b1, p00, p10 = v[0], v[1], s[0], s[2], b[0], b[1], p[0], p[2]
    slot = half.slot[row]
    a, e, f, g = half.a[slot], half.b[slot], node.a[slot], node.b[slot]
    i, x = unsigned(row), unsigned(slot)
    for j in _owned(width):
        one = e * take(p00, x, j, 3) + a * _down(s00, i, j, w1, w2)
        two = g * take(p10, x, j, 4) + f * _down(s01, i - _1, j, w1, w2)
        put(p00, x, j, one, 3)
        put(p10, x, j, two, 4)
        put(v0, i, j, take(v0, i, j, 1) + get(b0, i, j) * one, 1)
        put(v1, i, j, take(v1, i, j, 2) + get(b1, i, j) * two, 2)


@njit(**_PART)
def _absorb_strain(
    s: Any, c: Any, q: Any, v: Any, row: int, half: Any, node: Any, width: int, w1: float, w2: float
) -> None:
    """Layers along axis 0 in a row of stresses."""
    disjoint()
    v0, v1, q00, q10 = v[0], v[1], q[0], q[2]
    slot = half.slot[row]
    a, e, f, g = half.a[slot], half.b[slot], node.a[slot], node.b[slot]
    i, x = unsigned(row), unsigned(slot)
    for j in _owned(width):
        one = g * take(q00, x, j, 4) + f * _down(v0, i - _1, j, w1, w2)
        two = e * take(q10, x, j, 5) + a * _down(v1, i, j, w1, w2)
        put(q00, x, j, one, 4)
        put(q10, x, j, two, 5)
        _strain_down(s, c, i, j, one, two)


@njit(**_PART)
def _run(u: Any, strip: Any, side: int) -> tuple[Any, Any, Any]:
    """First and last owned column in a layer, and where the first stands among its lines."""
    start, count = strip.runs[side]
    first = max(start, GHOST)
    stop = max(min(start + count, u.shape[1] - GHOST), first)
    slot = first - start + (strip.runs[0, 1] if side else 0)
    return unsigned(first), unsigned(stop), unsigned(max(slot, 0))


@njit(**_PART)
def _absorb_momentum_columns(
    v: Any, b: Any, p: Any, s: Any, row: int, side: int, half: Any, node: Any, w1: float, w2: float
) -> None:
    """Layers along axis 1 in a row of velocities."""
    disjoint()
    v0, v1, s11, s01, b0, b1, p01, p11 = v[0], v[1], s[1], s[2], b[0], b[1], p[1], p[3]
    a, e, f, g = half.a, half.b, node.a, node.b
    i = unsigned(row)
    first, stop, x = _run(v0, node, side)
    for j in range(first, stop):
        one = entry(g, x) * take(p01, i, x, 3) + entry(f, x) * _along(s01, i, j - _1, w1, w2)
        two = entry(e, x) * take(p11, i, x, 4) + entry(a, x) * _along(s11, i, j, w1, w2)
        put(p01, i, x, one, 3)
        put(p11, i, x, two, 4)
        put(v0, i, j, take(v0, i, j, 1) + get(b0, i, j) * one, 1)
        put(v1, i, j, take(v1, i, j, 2) + get(b1, i, j) * two, 2)
        x += _1


@njit(**_PART)
def _absorb_strain_columns(
    s: Any, c: Any, q: Any, v: Any, row: int, side: int, half: Any, node: Any, w1: float, w2: float
) -> None:
    """Layers along axis 1 in a row of stresses."""
    disjoint()
    v0, v1, q01, q11, a, e, f, g = v[0], v[1], q[1], q[3], half.a, half.b, node.a, node.b
    i = unsigned(row)
    first, stop, x = _run(v0, node, side)
    for j in range(first, stop):
        one = entry(g, x) * take(q11, i, x, 4) + entry(f, x) * _along(v1, i, j - _1, w1, w2)
        two = entry(e, x) * take(q01, i, x, 5) + entry(a, x) * _along(v0, i, j, w1, w2)
        put(q11, i, x, one, 4)
        put(q01, i, x, two, 5)
        _strain_along(s, c, i, j, one, two)
        x += _1


# Sources and receivers


@njit(**_PART)
def _here(points: Any, field: int, row: int) -> Any:
    """The entries of a row, of :func:`~adjoint.solvers.row_points.by_rows`."""
    return range(points[0][field, row], points[0][field, row + 1])


@njit(**_PART)
def _record_row(u: Any, points: Any, field: int, row: int, n: int) -> None:
    """Put aside what points take of a row: other rows of theirs may be another thread's."""
    _, columns, weights, _, _, parts = points
    for k in _here(points, field, row):
        value = weights[k, 0] * u[row, columns[k, 0]]
        for x in range(1, weights.shape[1]):
            value += weights[k, x] * u[row, columns[k, x]]
        parts[k, n % parts.shape[1]] = value


@njit(**_PART)
def _collect(points: Any, n: int) -> None:
    """Sum up what was put aside in step ``n``."""
    _, _, _, point, series, parts = points
    for k in range(len(point)):
        series[point[k], n] = 0
    for k in range(len(point)):
        series[point[k], n] += parts[k, n % parts.shape[1]]


@njit(**_PART)
def _inject_times_row(v: Any, b: Any, points: Any, field: int, row: int, n: int) -> None:
    """Add to a row what acts on its nodes, times a coefficient."""
    _, columns, weights, point, series = points
    for k in _here(points, field, row):
        for x in range(weights.shape[1]):
            j = columns[k, x]
            v[row, j] += b[row, j] * weights[k, x] * series[point[k], n]


@njit(**_PART)
def _inject_row(s: Any, points: Any, field: int, row: int, n: int) -> None:
    """Add to a row what acts on its nodes."""
    _, columns, weights, point, series = points
    for k in _here(points, field, row):
        for x in range(weights.shape[1]):
            s[row, columns[k, x]] += weights[k, x] * series[point[k], n]


@njit(**_PART)
def _reflect(half: Any, whole: Any, row: int, sign: int) -> None:
    """Continue two fields above a free surface by the images of one of its first rows.

    The surface is the first row of ``whole``; rows of ``half`` lie half a cell below.
    """
    image = 2 * GHOST - 1 - row
    for j in range(half.shape[1]):
        half[image, j] = sign * half[row, j]
        if image < GHOST - 1:
            whole[image + 1, j] = sign * whole[row, j]


# Forwards


@njit(**_PART)
def _velocities(
    n: int, row: int, v: Any, s: Any, b: Any, p: Any, geometry: Any, sources: Any, receivers: Any
) -> None:
    """A row of velocities, with layers and forces."""
    half0, half1, node0, node1, w, surface, width = geometry
    w01, w02, w11, w12 = w
    _velocity_row(v, s, b, row, width, w)
    if half0.slot[row] >= 0:
        _absorb_momentum(v, b, p, s, row, half0, node0, width, w01, w02)
    for side in range(2 if len(half1.lines) else 0):
        _absorb_momentum_columns(v, b, p, s, row, side, half1, node1, w11, w12)
    _inject_times_row(v[0], b[0], sources, 0, row, n)
    _inject_times_row(v[1], b[1], sources, 1, row, n)
    if surface and row < 2 * GHOST:
        _reflect(v[0], v[1], row, 1)
    _record_row(v[0], receivers, 0, row, n)
    _record_row(v[1], receivers, 1, row, n)


@njit(**_PART)
def _stresses(
    n: int, row: int, s: Any, v: Any, c: Any, q: Any, geometry: Any, sources: Any, receivers: Any
) -> None:
    """A row of stresses, with layers and moments."""
    half0, half1, node0, node1, w, surface, width = geometry
    w01, w02, w11, w12 = w
    _stress_row(s, v, c, row, width, w)
    if half0.slot[row] >= 0:
        _absorb_strain(s, c, q, v, row, half0, node0, width, w01, w02)
    for side in range(2 if len(half1.lines) else 0):
        _absorb_strain_columns(s, c, q, v, row, side, half1, node1, w11, w12)
    for x in range(3):
        _inject_row(s[x], sources, 2 + x, row, n)
    if surface and row < 2 * GHOST:
        _free(s, row)
    for x in range(3):
        _record_row(s[x], receivers, 2 + x, row, n)


@njit(**_PART)
def _free(s: Any, row: int) -> None:
    """Hold a row of stresses to a free surface, and continue them above it."""
    if row == GHOST:
        for j in range(s[0].shape[1]):
            s[0][row, j] = 0
    _reflect(s[2], s[0], row, -1)


@njit(**_PART)
def _keep(kept: Any, level: int, row: int, v: Any, p: Any, q: Any, geometry: Any) -> None:
    """Keep the layers' memory of a row, and velocities or what the layers took from those.

    Velocities beyond the ends are kept with those of the last rows.
    """
    u, strain, momentum = kept[:2], kept[2:6], kept[6:]
    rows = v[0].shape[0]
    _keep_layers(strain, level, row, q, geometry)
    if len(momentum[1]):
        _keep_layers(momentum, level, row, p, geometry)
    if len(u[0]):
        first, stop = row if row > GHOST else 0, row + 1 if row + 1 < rows - GHOST else rows
        for i in range(first, stop):
            _keep_row(u[0], level * rows + i, v[0], i)
            _keep_row(u[1], level * rows + i, v[1], i)


@njit(**_PART)
def _keep_layers(kept: Any, level: int, row: int, memory: Any, geometry: Any) -> None:
    """Keep the memory of both axes' layers in a row."""
    half0, rows = geometry[0], memory[1].shape[0]
    slot, lines = half0.slot[row], len(half0.lines)
    for x in range(0, 4, 2):
        if slot >= 0:
            _keep_row(kept[x], level * lines + slot, memory[x], slot)
        count = memory[x + 1].shape[1]
        stream(kept[x + 1], (level * rows + row) * count, memory[x + 1], row * count, count)


@njit(**_PART)
def _keep_row(kept: Any, k: int, u: Any, row: int) -> None:
    """Copy a row around the cache, but for the first and last columns, which share cache lines."""
    pitch = u.shape[1]
    stream(kept, k * pitch + GHOST, u, row * pitch + GHOST, pitch - 2 * GHOST)
    for j in range(GHOST):
        kept[k, j] = u[row, j]
        kept[k, pitch - 1 - j] = u[row, pitch - 1 - j]


@njit(**_PART)
def _positions(rows: Any, stages: int, turn: int) -> Any:
    """Where turns begin, as long as a stage has rows; stage ``k`` is ``LAG k`` rows behind."""
    start, stop = rows[0, 1], rows[0, 1]
    for k in range(stages):
        if rows[k, 0] < rows[k, 1]:
            first, last = rows[k, 0] + LAG * k, rows[k, 1] + LAG * k
            start, stop = (min(start, first), max(stop, last)) if stop > start else (first, last)
    return range(start, stop, turn)


@njit(**_PART)
def _turn(rows: Any, k: int, position: int, turn: int) -> Any:
    """The rows that a stage takes when it is its turn."""
    first = position - LAG * k
    return range(max(first, rows[k, 0]), min(first + turn, rows[k, 1]))


@njit(**_PART)
def _part(
    n: int, begin: int, phases: Any, x: int, t: int, stages: int, v: Any, s: Any, b: Any, c: Any,
    p: Any, q: Any, geometry: Any, sources: Any, receivers: Any, keeping: bool, kept: Any,
) -> None:  # fmt: skip
    """Take a part of a phase of :func:`advance`."""
    rows = phases[x, t]
    for r in _positions(rows, stages, TURN):
        for k in range(0, stages, 2):
            m = n + k // 2
            for row in _turn(rows, k, r, TURN):
                _velocities(m, row, v, s, b, p, geometry, sources, receivers)
            for row in _turn(rows, k + 1, r, TURN):
                _stresses(m, row, s, v, c, q, geometry, sources, receivers)
                if keeping:
                    _keep(kept, m - begin, row, v, p, q, geometry)


@njit(parallel=True, **_ENTRY)
def advance(
    first: int, last: int, begin: int, phases: Any, v: Any, s: Any, b: Any, c: Any, p: Any, q: Any,
    half0: Any, half1: Any, node0: Any, node1: Any, w: Any, surface: bool, width: int,
    sources: Any, receivers: Any, keeping: bool, kept: Any,
) -> None:  # fmt: skip
    """Take the steps ``first`` … ``last − 1``, or some of their rows.

    ``phases[x, t, k]`` are the rows in which part ``t`` takes half step ``k`` of a sweep; all parts
    of a phase may run at once. ``kept`` begins with step ``begin``, if there is any ``keeping``.
    """
    for n in range(first, last, phases.shape[2] // 2):
        stages = min(phases.shape[2], 2 * (last - n))
        for x in range(phases.shape[0]):
            for t in prange(phases.shape[1]):
                geometry = (half0, half1, node0, node1, w, surface, width)
                _part(n, begin, phases, x, t, stages, v, s, b, c, p, q, geometry, sources,
                      receivers, keeping, kept)  # fmt: skip
        for m in range(n, n + stages // 2):
            _collect(receivers, m)


# In reverse: the moduli's gradients, where the forward stresses are recovered


@njit(**_TERM)
def _change_normal(s: Any, past: Any, g: Any, i: int, j: int, d0: float, d1: float) -> None:
    """Change normal stresses, and add what this is times the sum and difference of past ones."""
    mean, rest = get(past[0], i, j) + get(past[1], i, j), get(past[0], i, j) - get(past[1], i, j)
    put(s[0], i, j, take(s[0], i, j, 1) + d0, 1)
    put(s[1], i, j, take(s[1], i, j, 2) + d1, 2)
    put(g[0], i, j, take(g[0], i, j, 4) + (d0 + d1) * mean, 4)
    put(g[1], i, j, take(g[1], i, j, 5) + (d0 - d1) * rest, 5)


@njit(**_TERM)
def _change_shear(s: Any, past: Any, g: Any, i: int, j: int, d: float) -> None:
    """The same of the shear stress."""
    put(s[2], i, j, take(s[2], i, j, 3) + d, 3)
    put(g[2], i, j, take(g[2], i, j, 6) + d * get(past[2], i, j), 6)


@njit(**_PART)
def _adjoint_normal_row(
    s: Any, v: Any, c: Any, past: Any, g: Any, row: int, width: int, w: Any
) -> None:
    """``_stress_row`` of normal stresses, with gradients."""
    disjoint()
    w01, w02, w11, w12 = w
    v0, v1, la, mu = v[0], v[1], c[0], c[1]
    i = unsigned(row)
    for j in _owned(width):
        e, f = _down(v0, i - _1, j, w01, w02), _along(v1, i, j - _1, w11, w12)
        both, twice = get(la, i, j) * (e + f), get(mu, i, j) + get(mu, i, j)
        _change_normal(s, past, g, i, j, both + twice * e, both + twice * f)


@njit(**_PART)
def _adjoint_shear_row(
    s: Any, v: Any, c: Any, past: Any, g: Any, row: int, width: int, w: Any
) -> None:
    """The same of the shear stress: both in one loop are more rows than a processor tracks."""
    disjoint()
    w01, w02, w11, w12 = w
    v0, v1, mm = v[0], v[1], c[2]
    i = unsigned(row)
    for j in _owned(width):
        twist = _down(v1, i, j, w01, w02) + _along(v0, i, j, w11, w12)
        _change_shear(s, past, g, i, j, get(mm, i, j) * twist)


@njit(**_PART)
def _receiver_gradients(
    g: Any, past: Any, c: Any, points: Any, row: int, bound: bool, n: int
) -> None:
    """Past stresses times what receivers of stresses change in a row."""
    _, columns, weights, point, series = points
    la, mu, mm = c[0], c[1], c[2]
    for field in range(3 if bound else 2, 5):
        for k in _here(points, field, row):
            for x in range(weights.shape[1]):
                j, value = columns[k, x], weights[k, x] * series[point[k], n]
                if field == 4:
                    g[2][row, j] += mm[row, j] * value * past[2][row, j]
                    continue
                sign = 1 if field == 2 else -1
                mean, rest = past[0][row, j] + past[1][row, j], past[0][row, j] - past[1][row, j]
                g[0][row, j] += 2 * (la[row, j] + mu[row, j]) * value * mean
                g[1][row, j] += sign * 2 * mu[row, j] * value * rest


@njit(**_PART)
def _source_gradients(g: Any, s: Any, points: Any, row: int, bound: bool, n: int) -> None:
    """Stresses times the moments in a row, with the opposite sign: no rate of strain is theirs."""
    _, columns, weights, point, series = points
    for field in range(3 if bound else 2, 5):
        for k in _here(points, field, row):
            for x in range(weights.shape[1]):
                j, value = columns[k, x], weights[k, x] * series[point[k], n]
                if field == 4:
                    g[2][row, j] += s[2][row, j] * value
                    continue
                sign = 1 if field == 2 else -1
                g[0][row, j] += (s[0][row, j] + s[1][row, j]) * value
                g[1][row, j] += sign * (s[0][row, j] - s[1][row, j]) * value


# In reverse: layers


@njit(**_PART)
def _remember(
    m: Any, n: Any, z: Any, y: Any, u: Any, v: Any, row: int, one: Any, two: Any, width: int
) -> None:
    """``µ ← b µ + u`` and ``z = a µ`` of two fields in a row of a layer."""
    disjoint()
    slot = one.slot[row]
    a, e, f, g = one.a[slot], one.b[slot], two.a[slot], two.b[slot]
    i, x = unsigned(row), unsigned(slot)
    for j in _owned(width):
        first = e * take(m, x, j, 1) + get(u, i, j)
        second = g * take(n, x, j, 2) + get(v, i, j)
        put(m, x, j, first, 1)
        put(n, x, j, second, 2)
        put(z, x, j, a * first, 3)
        put(y, x, j, f * second, 4)


@njit(**_PART)
def _near(slot: Any, row: int) -> Any:
    """Whether a row's differences reach a layer: of the next but one they take a node alone, and
    the first node of a layer has no damping."""
    return max(max(slot[row - 2], slot[row - 1]), max(slot[row], slot[row + 1])) >= 0


@njit(**_PART)
def _line(slot: Any, k: int, z: Any) -> Any:
    """Where a row is in ``z``, whose last row is zero, for rows where there is no layer."""
    return unsigned(slot[k] if slot[k] >= 0 else len(z) - 1)


@njit(**_TERM)
def _between(z: Any, x0: Any, x1: Any, x2: Any, x3: Any, j: Any, w1: float, w2: float) -> Any:
    """Difference between the second and third of four rows."""
    return w1 * (get(z, x2, j) - get(z, x1, j)) + w2 * (get(z, x3, j) - get(z, x0, j))


@njit(**_PART)
def _absorb_momentum_adjoint(
    v: Any, b: Any, kept: Any, m: int, grads: Any, z: Any, row: int, slot: Any, width: int,
    w1: float, w2: float,
) -> None:  # fmt: skip
    """``V += b ∂z`` along axis 0 in a row, with its part of the densities' gradients.

    Row ``m`` of what is kept has the forward velocities.
    """
    disjoint()
    v0, v1, b0, b1, u0, u1, g4, g5 = v[0], v[1], b[0], b[1], kept[0], kept[1], grads[3], grads[4]
    z0, z1 = z[0], z[1]
    i, m = unsigned(row), unsigned(m)
    x0, x1, x2, x3, x4 = (
        _line(slot, row - 2, z0), _line(slot, row - 1, z0), _line(slot, row, z0),
        _line(slot, row + 1, z0), _line(slot, row + 2, z0),
    )  # fmt: skip
    for j in _owned(width):
        one = get(b0, i, j) * _between(z0, x1, x2, x3, x4, j, w1, w2)
        two = get(b1, i, j) * _between(z1, x0, x1, x2, x3, j, w1, w2)
        put(v0, i, j, take(v0, i, j, 1) + one, 1)
        put(v1, i, j, take(v1, i, j, 2) + two, 2)
        put(g4, i, j, take(g4, i, j, 3) + get(u0, m, j) * one, 3)
        put(g5, i, j, take(g5, i, j, 4) + get(u1, m, j) * two, 4)


@njit(**_PART)
def _absorb_strain_adjoint(
    s: Any, c: Any, past: Any, g: Any, z: Any, row: int, slot: Any, width: int, w1: float, w2: float
) -> None:
    """``T += C ∂z`` along axis 0 in a row, with its part of the gradients if there is a past."""
    disjoint()
    z2, z3 = z[2], z[3]
    i = unsigned(row)
    x0, x1, x2, x3, x4 = (
        _line(slot, row - 2, z2), _line(slot, row - 1, z2), _line(slot, row, z2),
        _line(slot, row + 1, z2), _line(slot, row + 2, z2),
    )  # fmt: skip
    if len(past[0]):
        for j in _owned(width):
            one = _between(z2, x0, x1, x2, x3, j, w1, w2)
            both, twice = get(c[0], i, j) * one, get(c[1], i, j) + get(c[1], i, j)
            _change_normal(s, past, g, i, j, both + twice * one, both)
            two = _between(z3, x1, x2, x3, x4, j, w1, w2)
            _change_shear(s, past, g, i, j, get(c[2], i, j) * two)
    else:
        for j in _owned(width):
            one = _between(z2, x0, x1, x2, x3, j, w1, w2)
            _strain_down(s, c, i, j, one, _between(z3, x1, x2, x3, x4, j, w1, w2))


@njit(**_PART)
def _remember_columns(
    m: Any, n: Any, z: Any, line: int, u: Any, v: Any, row: int, side: int, one: Any, two: Any
) -> None:
    """``µ ← b µ + u`` and ``z = a µ`` of two fields in a layer's columns, ghosts included."""
    disjoint()
    a, e, f, g = one.a, one.b, two.a, two.b
    i, k, l, x = (  # noqa: E741
        unsigned(row), unsigned(line), unsigned(line + 1), unsigned(one.runs[0, 1] * side),
    )  # fmt: skip
    start, count = one.runs[side]
    for j in range(unsigned(start), unsigned(start + count)):
        first = entry(e, x) * take(m, i, x, 1) + get(u, i, j)
        second = entry(g, x) * take(n, i, x, 2) + get(v, i, j)
        put(m, i, x, first, 1)
        put(n, i, x, second, 2)
        put(z, k, j, entry(a, x) * first, 3)
        put(z, l, j, entry(f, x) * second, 4)
        x += _1


@njit(**_PART)
def _absorb_momentum_columns_adjoint(
    v: Any, b: Any, kept: Any, m: int, grads: Any, z: Any, line: int, row: int, side: int,
    strip: Any, w1: float, w2: float,
) -> None:  # fmt: skip
    """``V += b ∂z`` along axis 1 in a row, with its part of the densities' gradients."""
    disjoint()
    v0, v1, b0, b1, u0, u1, g4, g5 = v[0], v[1], b[0], b[1], kept[0], kept[1], grads[3], grads[4]
    i, m, k, l = (  # noqa: E741
        unsigned(row), unsigned(m), unsigned(line), unsigned(line + 1),
    )  # fmt: skip
    first, stop, _ = _run(v0, strip, side)
    for j in range(first, stop):
        one = get(b0, i, j) * _along(z, k, j - _1, w1, w2)
        two = get(b1, i, j) * _along(z, l, j, w1, w2)
        put(v0, i, j, take(v0, i, j, 1) + one, 1)
        put(v1, i, j, take(v1, i, j, 2) + two, 2)
        put(g4, i, j, take(g4, i, j, 3) + get(u0, m, j) * one, 3)
        put(g5, i, j, take(g5, i, j, 4) + get(u1, m, j) * two, 4)


@njit(**_PART)
def _absorb_strain_columns_adjoint(
    s: Any, c: Any, past: Any, g: Any, z: Any, line: int, row: int, side: int, strip: Any,
    w1: float, w2: float,
) -> None:  # fmt: skip
    """The same along axis 1."""
    disjoint()
    i, k, l = unsigned(row), unsigned(line), unsigned(line + 1)  # noqa: E741
    first, stop, _ = _run(s[0], strip, side)
    if len(past[0]):
        for j in range(first, stop):
            one = _along(z, k, j - _1, w1, w2)
            both, twice = get(c[0], i, j) * one, get(c[1], i, j) + get(c[1], i, j)
            _change_normal(s, past, g, i, j, both, both + twice * one)
            _change_shear(s, past, g, i, j, get(c[2], i, j) * _along(z, l, j, w1, w2))
    else:
        for j in range(first, stop):
            _strain_along(s, c, i, j, _along(z, k, j - _1, w1, w2), _along(z, l, j, w1, w2))


# In reverse: gradients, where velocities are kept


@njit(**_PART)
def _strain_gradients(g: Any, s: Any, kept: Any, m: int, row: int, width: int, w: Any) -> None:
    """Stresses times rates of strain in a row: of the moduli's sum and difference, and of shear.

    Row ``m`` of what is kept has the forward velocities.
    """
    disjoint()
    w01, w02, w11, w12 = w
    g1, g2, g3, s00, s11, s01, u0, u1 = g[0], g[1], g[2], s[0], s[1], s[2], kept[0], kept[1]
    i, m = unsigned(row), unsigned(m)
    for j in _owned(width):
        e, f = _down(u0, m - _1, j, w01, w02), _along(u1, m, j - _1, w11, w12)
        twist = _down(u1, m, j, w01, w02) + _along(u0, m, j, w11, w12)
        put(g1, i, j, take(g1, i, j, 1) + (get(s00, i, j) + get(s11, i, j)) * (e + f), 1)
        put(g2, i, j, take(g2, i, j, 2) + (get(s00, i, j) - get(s11, i, j)) * (e - f), 2)
        put(g3, i, j, take(g3, i, j, 3) + get(s01, i, j) * twist, 3)


@njit(**_PART)
def _layer_gradients(g: Any, s: Any, kept: Any, line: int, row: int, width: int) -> None:
    """The part of the layers' memory along axis 0, which is in a line of what is kept."""
    disjoint()
    g1, g2, g3, s00, s11, s01, q00, q10 = g[0], g[1], g[2], s[0], s[1], s[2], kept[2], kept[4]
    i, x = unsigned(row), unsigned(line)
    for j in _owned(width):
        e = get(q00, x, j)
        put(g1, i, j, take(g1, i, j, 1) + (get(s00, i, j) + get(s11, i, j)) * e, 1)
        put(g2, i, j, take(g2, i, j, 2) + (get(s00, i, j) - get(s11, i, j)) * e, 2)
        put(g3, i, j, take(g3, i, j, 3) + get(s01, i, j) * get(q10, x, j), 3)


@njit(**_PART)
def _layer_columns_gradients(
    g: Any, s: Any, kept: Any, m: int, row: int, side: int, strip: Any
) -> None:
    """The part of the layers' memory along axis 1."""
    disjoint()
    g1, g2, g3, s00, s11, s01, q01, q11 = g[0], g[1], g[2], s[0], s[1], s[2], kept[3], kept[5]
    i, m = unsigned(row), unsigned(m)
    first, stop, x = _run(s00, strip, side)
    for j in range(first, stop):
        f = get(q11, m, x)
        put(g1, i, j, take(g1, i, j, 1) + (get(s00, i, j) + get(s11, i, j)) * f, 1)
        put(g2, i, j, take(g2, i, j, 2) - (get(s00, i, j) - get(s11, i, j)) * f, 2)
        put(g3, i, j, take(g3, i, j, 3) + get(s01, i, j) * get(q01, m, x), 3)
        x += _1


@njit(**_PART)
def _adjoint_velocity_down_row(
    v: Any, s: Any, b: Any, u: Any, m: int, g: Any, row: int, width: int, w: Any
) -> None:
    """``v₀ += b ∇·σ`` in a row, and ``u₀`` times this, which is of the densities' gradients."""
    disjoint()
    w01, w02, w11, w12 = w
    v0, s00, s01, b0, u0, g4 = v[0], s[0], s[2], b[0], u[0], g[3]
    i, m = unsigned(row), unsigned(m)
    for j in _owned(width):
        d = _down(s00, i, j, w01, w02) + _along(s01, i, j - _1, w11, w12)
        change = get(b0, i, j) * d
        put(v0, i, j, take(v0, i, j, 1) + change, 1)
        put(g4, i, j, take(g4, i, j, 2) + get(u0, m, j) * change, 2)


@njit(**_PART)
def _adjoint_velocity_along_row(
    v: Any, s: Any, b: Any, u: Any, m: int, g: Any, row: int, width: int, w: Any
) -> None:
    """The same of ``v₁``: both in one loop are more rows than a processor keeps track of."""
    disjoint()
    w01, w02, w11, w12 = w
    v1, s11, s01, b1, u1, g5 = v[1], s[1], s[2], b[1], u[1], g[4]
    i, m = unsigned(row), unsigned(m)
    for j in _owned(width):
        d = _down(s01, i - _1, j, w01, w02) + _along(s11, i, j, w11, w12)
        change = get(b1, i, j) * d
        put(v1, i, j, take(v1, i, j, 1) + change, 1)
        put(g5, i, j, take(g5, i, j, 2) + get(u1, m, j) * change, 2)


# In reverse: the forward run's fields, if they are recovered: what steps added is taken away


@njit(**_PART)
def _release_strain(s: Any, c: Any, kept: Any, line: int, row: int, width: int) -> None:
    """Take away from stresses what the layers along axis 0 gave, a line of what is kept."""
    disjoint()
    q00, q10 = kept[2], kept[4]
    i, x = unsigned(row), unsigned(line)
    for j in _owned(width):
        _strain_down(s, c, i, j, -get(q00, x, j), -get(q10, x, j))


@njit(**_PART)
def _release_strain_columns(
    s: Any, c: Any, kept: Any, m: int, row: int, side: int, strip: Any
) -> None:
    """The same of the layers along axis 1."""
    disjoint()
    q01, q11 = kept[3], kept[5]
    i, m = unsigned(row), unsigned(m)
    first, stop, x = _run(s[0], strip, side)
    for j in range(first, stop):
        _strain_along(s, c, i, j, -get(q11, m, x), -get(q01, m, x))
        x += _1


@njit(**_PART)
def _release_momentum(v: Any, b: Any, kept: Any, line: int, row: int, width: int) -> None:
    """Take away from velocities what the layers along axis 0 gave."""
    disjoint()
    v0, v1, b0, b1, p00, p10 = v[0], v[1], b[0], b[1], kept[6], kept[8]
    i, x = unsigned(row), unsigned(line)
    for j in _owned(width):
        put(v0, i, j, take(v0, i, j, 1) - get(b0, i, j) * get(p00, x, j), 1)
        put(v1, i, j, take(v1, i, j, 2) - get(b1, i, j) * get(p10, x, j), 2)


@njit(**_PART)
def _release_momentum_columns(
    v: Any, b: Any, kept: Any, m: int, row: int, side: int, strip: Any
) -> None:
    """The same of the layers along axis 1."""
    disjoint()
    v0, v1, b0, b1, p01, p11 = v[0], v[1], b[0], b[1], kept[7], kept[9]
    i, m = unsigned(row), unsigned(m)
    first, stop, x = _run(v0, strip, side)
    for j in range(first, stop):
        put(v0, i, j, take(v0, i, j, 1) - get(b0, i, j) * get(p01, m, x), 1)
        put(v1, i, j, take(v1, i, j, 2) - get(b1, i, j) * get(p11, m, x), 2)
        x += _1


@njit(**_PART)
def _recover_stresses(
    n: int, rows: Any, s: Any, v: Any, c: Any, kept: Any, level: int, g: Any, t: Any, geometry: Any,
    sources: Any,
) -> None:  # fmt: skip
    """Take rows of ``_stresses`` back, with gradients; the sources have the opposite sign."""
    half0, half1, _, node1, w, surface, width = geometry
    back = (-w[0], -w[1], -w[2], -w[3])
    for row in rows:
        _stress_row(s, v, c, row, width, back)
        if half0.slot[row] >= 0:
            line = level * len(half0.lines) + half0.slot[row]
            _release_strain(s, c, kept, line, row, width)
        for side in range(2 if len(half1.lines) else 0):
            m = level * v[0].shape[0] + row
            _release_strain_columns(s, c, kept, m, row, side, node1)
        for x in range(3):
            _inject_row(s[x], sources, 2 + x, row, n)
        _source_gradients(g, t, sources, row, surface and row == GHOST, n)
        if surface and row < 2 * GHOST:
            _free(s, row)


@njit(**_PART)
def _recover_velocities(
    n: int, rows: Any, v: Any, s: Any, b: Any, kept: Any, level: int, geometry: Any, sources: Any
) -> None:
    """Take rows of ``_velocities`` back."""
    half0, half1, _, node1, w, surface, width = geometry
    back = (-w[0], -w[1], -w[2], -w[3])
    for row in rows:
        _velocity_row(v, s, b, row, width, back)
        if half0.slot[row] >= 0:
            line = level * len(half0.lines) + half0.slot[row]
            _release_momentum(v, b, kept, line, row, width)
        for side in range(2 if len(half1.lines) else 0):
            m = level * v[0].shape[0] + row
            _release_momentum_columns(v, b, kept, m, row, side, node1)
        _inject_times_row(v[0], b[0], sources, 0, row, n)
        _inject_times_row(v[1], b[1], sources, 1, row, n)
        if surface and row < 2 * GHOST:
            _reflect(v[0], v[1], row, 1)


# In reverse: sources and receivers


@njit(**_PART)
def _receive_normal_row(
    s: Any, t: Any, la: Any, mu: Any, points: Any, field: int, row: int, n: int
) -> None:
    """Add to a normal stress and, through the moduli, to both of the scaled ones."""
    _, columns, weights, point, series = points
    for k in _here(points, field, row):
        for x in range(weights.shape[1]):
            j, value = columns[k, x], weights[k, x] * series[point[k], n]
            s[row, j] += (la[row, j] + mu[row, j] + mu[row, j]) * value
            t[row, j] += la[row, j] * value


@njit(**_PART)
def _receive_velocity_row(
    v: Any, b: Any, u: Any, m: int, g: Any, points: Any, field: int, row: int, n: int
) -> None:
    """Add the traces' cotangents to a velocity, which has the opposite sign."""
    _, columns, weights, point, series = points
    for k in _here(points, field, row):
        for x in range(weights.shape[1]):
            j = columns[k, x]
            d = b[row, j] * weights[k, x] * series[point[k], n]
            v[row, j] -= d
            g[row, j] -= u[m, j] * d


@njit(**_PART)
def _record_normal_row(
    s: Any, t: Any, la: Any, mu: Any, points: Any, field: int, row: int, n: int
) -> None:
    """Put aside a normal stress from the scaled ones."""
    _, columns, weights, _, _, parts = points
    for k in _here(points, field, row):
        value = weights[k, 0] * 0
        for x in range(weights.shape[1]):
            if weights[k, x] != 0:
                j = columns[k, x]
                mean = (s[row, j] + t[row, j]) / (la[row, j] + mu[row, j])
                value += weights[k, x] * (mean + (s[row, j] - t[row, j]) / mu[row, j]) / 4
        parts[k, n % parts.shape[1]] = value


@njit(**_PART)
def _record_shear_row(s: Any, c: Any, points: Any, field: int, row: int, n: int) -> None:
    """Put aside the shear stress from the scaled one."""
    _, columns, weights, _, _, parts = points
    for k in _here(points, field, row):
        value = weights[k, 0] * 0
        for x in range(weights.shape[1]):
            if weights[k, x] != 0:
                value += weights[k, x] * s[row, columns[k, x]] / c[row, columns[k, x]]
        parts[k, n % parts.shape[1]] = value


# In reverse: steps


@njit(**_PART)
def _begin_row(
    n: int, row: int, s: Any, c: Any, past: Any, g: Any, q: Any, z: Any, geometry: Any,
    receivers: Any, sources: Any,
) -> None:  # fmt: skip
    """Make a row of stresses ready for step ``n``: receive traces' cotangents, record sources.

    Of another rank's row, which comes complete, only the layers' memory is needed.
    """
    half0, node0, surface, width = geometry[0], geometry[2], geometry[5], geometry[6]
    if GHOST <= row < s[0].shape[0] - GHOST:
        _receive_normal_row(s[0], s[1], c[0], c[1], receivers, 2, row, n)
        _receive_normal_row(s[1], s[0], c[0], c[1], receivers, 3, row, n)
        _inject_times_row(s[2], c[2], receivers, 4, row, n)
        if len(past[0]):
            _receiver_gradients(g, past, c, receivers, row, surface and row == GHOST, n)
        if surface and row < 2 * GHOST:
            _free(s, row)
        _record_normal_row(s[0], s[1], c[0], c[1], sources, 2, row, n)
        _record_normal_row(s[1], s[0], c[0], c[1], sources, 3, row, n)
        _record_shear_row(s[2], c[2], sources, 4, row, n)
    if node0.slot[row] >= 0:
        _remember(q[0], q[2], z[0], z[1], s[0], s[2], row, node0, half0, width)


@njit(**_PART)
def _add_gradients(
    rows: Any, base: int, level: int, g: Any, s: Any, kept: Any, geometry: Any
) -> None:
    """The moduli's gradients in rows; row ``base + row`` of what is kept has the velocities."""
    half0, half1, _, node1, w, _, width = geometry
    for row in rows:
        _strain_gradients(g, s, kept, base + row, row, width, w)
        if half0.slot[row] >= 0:
            line = level * len(half0.lines) + half0.slot[row]
            _layer_gradients(g, s, kept, line, row, width)
        for side in range(2 if len(half1.lines) else 0):
            _layer_columns_gradients(g, s, kept, level * s[0].shape[0] + row, row, side, node1)


@njit(**_PART)
def _adjoint_velocities(
    n: int, rows: Any, v: Any, s: Any, b: Any, kept: Any, base: int, g: Any, q: Any, z: Any,
    geometry: Any, lines: Any, line: int, receivers: Any, sources: Any,
) -> None:  # fmt: skip
    """Rows of the transpose of ``_stresses``, with the densities' gradients.

    What goes through all rows with one loop before it does with the next needs less of the cache.
    """
    _, half1, node0, node1, w, surface, width = geometry
    w01, w02, w11, w12 = w
    for row in rows:
        _adjoint_velocity_down_row(v, s, b, kept, base + row, g, row, width, w)
    for row in rows:
        m = base + row
        # What is loaded with a shift had better be stored long before.
        sides = 2 if len(half1.lines) else 0
        for side in range(sides):
            _remember_columns(q[1], q[3], lines, line, s[2], s[1], row, side, half1, node1)
        _adjoint_velocity_along_row(v, s, b, kept, m, g, row, width, w)
        if _near(node0.slot, row):
            _absorb_momentum_adjoint(v, b, kept, m, g, z, row, node0.slot, width, w01, w02)
        for side in range(sides):
            _absorb_momentum_columns_adjoint(v, b, kept, m, g, lines, line, row, side, node1,
                                             w11, w12)  # fmt: skip
        _receive_velocity_row(v[0], b[0], kept[0], m, g[3], receivers, 0, row, n)
        _receive_velocity_row(v[1], b[1], kept[1], m, g[4], receivers, 1, row, n)
        if surface and row < 2 * GHOST:
            _reflect(v[0], v[1], row, 1)
        _record_row(v[0], sources, 0, row, n)
        _record_row(v[1], sources, 1, row, n)


@njit(**_PART)
def _adjoint_stresses(
    rows: Any, s: Any, v: Any, c: Any, past: Any, g: Any, p: Any, z: Any, geometry: Any, lines: Any,
    line: int,
) -> None:  # fmt: skip
    """Rows of the transpose of ``_velocities``, with the gradients if there is a past."""
    half0, half1, _, node1, w, _, width = geometry
    w01, w02, w11, w12 = w
    sides = 2 if len(half1.lines) else 0
    for row in rows:
        for side in range(sides):
            _remember_columns(p[3], p[1], lines, line, v[1], v[0], row, side, half1, node1)
        if len(past[0]):
            _adjoint_normal_row(s, v, c, past, g, row, width, w)
            _adjoint_shear_row(s, v, c, past, g, row, width, w)
        else:
            _stress_row(s, v, c, row, width, w)
        if _near(half0.slot, row):
            _absorb_strain_adjoint(s, c, past, g, z, row, half0.slot, width, w01, w02)
        for side in range(sides):
            _absorb_strain_columns_adjoint(s, c, past, g, lines, line, row, side, node1, w11, w12)


@njit(**_PART)
def _prefetch_rows(rows: Any, kept: Any, base: int, recovered: bool) -> None:
    """Have what is kept of the rows to come brought into the cache."""
    for x in (3, 5, 7, 9) if recovered else (0, 1, 3, 5):
        pitch = kept[x].shape[1]
        for row in rows:
            prefetch(kept[x], (base + row + AHEAD) * pitch, pitch)


@njit(**_PART)
def _within(rows: Any, height: int) -> Any:
    """Those rows that are this rank's."""
    return range(max(rows.start, GHOST), min(rows.stop, height - GHOST))


@njit(**_PART)
def _part_back(
    top: int, begin: int, phases: Any, x: int, t: int, stages: int, v: Any, s: Any, b: Any, c: Any,
    kept: Any, past: Any, undone: Any, g: Any, p: Any, q: Any, z: Any, geometry: Any,
    receivers: Any, sources: Any, lines: Any,
) -> None:  # fmt: skip
    """Take a part of a phase of :func:`reverse`."""
    half0, node0, width = geometry[0], geometry[2], geometry[6]
    extent, line, height = phases[x, t], 2 * t, s[0].shape[0]
    recovered = len(past[0]) > 0
    for r in _positions(extent, stages, TURN_BACK):
        for k in range(0, stages, 2):
            n = top - k // 2
            level, rows = n - begin, _turn(extent, k, r, TURN_BACK)
            own = _within(rows, height)
            if k > 0:
                _adjoint_stresses(own, s, v, c, past, g, p, z, geometry, lines, line)
            if n >= begin:
                for row in rows:
                    _begin_row(n, row, s, c, past, g, q, z, geometry, receivers, sources)
            if k > 0 and recovered:
                _recover_velocities(n + 1, own, kept, past, b, kept, level + 1, geometry, undone)
            if k + 1 == stages:
                continue
            rows = _turn(extent, k + 1, r, TURN_BACK)
            own, base = _within(rows, height), 0 if recovered else level * height
            _prefetch_rows(own, kept, level * height, recovered)
            if not recovered:
                _add_gradients(own, base, level, g, s, kept, geometry)
            _adjoint_velocities(n, own, v, s, b, kept, base, g, q, z, geometry, lines, line,
                                receivers, sources)  # fmt: skip
            if recovered:
                _recover_stresses(n, own, past, kept, c, kept, level, g, s, geometry, undone)
            for row in rows:
                if half0.slot[row] >= 0:
                    _remember(p[0], p[2], z[2], z[3], v[0], v[1], row, half0, node0, width)


@njit(parallel=True, **_ENTRY)
def reverse(
    last: int, first: int, begin: int, phases: Any, v: Any, s: Any, b: Any, c: Any, kept: Any,
    past: Any, undone: Any, g: Any, p: Any, q: Any, z: Any,
    half0: Any, half1: Any, node0: Any, node1: Any, w: Any, surface: bool, width: int,
    receivers: Any, sources: Any, lines: Any,
) -> None:  # fmt: skip
    """Take the steps ``last − 1`` … ``first`` back, or some of their rows.

    Half steps are numbered from the stresses that are made ready for the first velocities: number
    0 of a sweep is the last of the one before. The first of ``phases`` is there to begin with, and
    only run once. ``kept`` begins with step ``begin``: velocities, and the layers' memory.

    Where ``past`` has the stresses after step ``last − 1``, the velocities are those after that
    step alone. Both are taken back with the rest; ``undone`` are the sources with the opposite
    sign. Then ``g`` has rates of stress in place of rates of strain.
    """
    steps = phases.shape[2] // 2
    for top in range(last - 1, first - 1, -steps):
        stages = min(phases.shape[2], 2 * (top - first + 1) + 1)
        for x in range(0 if top == last - 1 else 1, phases.shape[0]):
            for t in prange(phases.shape[1]):
                geometry = (half0, half1, node0, node1, w, surface, width)
                _part_back(top, begin, phases, x, t, stages, v, s, b, c, kept, past, undone, g, p,
                           q, z, geometry, receivers, sources, lines)  # fmt: skip
        for n in range(top - stages // 2 + 1, top + 1):
            _collect(sources, n)
