"""Compiled steps of the elastic wave: forwards and in reverse, several in one sweep over memory.

Fields are padded by ``GHOST`` lines on all sides, and by columns without use at the end of a row
(see :mod:`~adjoint.solvers.padding`). ``v0[i, j]`` is at ``(i + ½, j)``, ``v1`` at ``(i, j + ½)``,
``s00`` and ``s11`` at ``(i, j)``, ``s01`` at ``(i + ½, j + ½)``. See
:mod:`~adjoint.solvers.elastic` for what is computed.

A step has two halves, velocities from stresses and stresses from velocities, each of which needs
the other's results up to two rows further down. The halves of several steps follow each other
through the rows at that distance (see :mod:`~adjoint.solvers.wavefront`): while one half works on
row ``r``, the next one works on row ``r − 2``, and so on, all in place. What a half overwrites is
then needed by none before it, and what the first one loads is still in the cache for the last.
So all that belongs to a half is done row by row: layers, sources, images above a free surface, and
recording, before the next half overwrites the row.

Indices of inner loops are :mod:`~adjoint.solvers.unsigned`. All is in one file because Numba's
cache does not see changes in others; and there are two functions to be compiled, :func:`advance`
and :func:`reverse`, for the compiler takes the parts of each anew.
"""

from __future__ import annotations

from typing import Any

from numba import njit, prange

from .unsigned import unsigned

#: Ghost layers: differences take two lines on either side.
GHOST = 2

#: Rows by which a half step follows the one before.
LAG = 2

#: Of what a step is made of: inlined, for the arrays' descriptions are long lists of arguments.
#: Without reference counts, which threads would write to in turns in every row; so no arrays are made.
_PART: dict[str, Any] = {
    "fastmath": {"contract"}, "error_model": "numpy", "forceinline": True, "_nrt": False,
}  # fmt: skip

#: Of what is called from outside.
_ENTRY: dict[str, Any] = {"fastmath": {"contract"}, "error_model": "numpy", "cache": True}

_1, _2 = unsigned(1), unsigned(2)


@njit(**_PART)
def _owned(u: Any) -> Any:
    """The columns of a padded array that are computed: the owned ones, and unused ones."""
    return range(unsigned(GHOST), unsigned(u.shape[1] - GHOST))


@njit(**_PART)
def _down(u: Any, k: int, j: int, w1: float, w2: float) -> Any:
    """Difference between rows ``k`` and ``k + 1``; ``k`` and ``j`` are unsigned."""
    return w1 * (u[k + _1, j] - u[k, j]) + w2 * (u[k + _2, j] - u[k - _1, j])


@njit(**_PART)
def _along(u: Any, i: int, j: int, w1: float, w2: float) -> Any:
    """Difference between columns ``j`` and ``j + 1`` of a row."""
    return w1 * (u[i, j + _1] - u[i, j]) + w2 * (u[i, j + _2] - u[i, j - _1])


# The steps in the interior, which are their own transposes


@njit(**_PART)
def _velocity_row(v: Any, s: Any, b: Any, row: int, w: Any) -> None:
    """``v += b ∇·σ`` in a row."""
    w01, w02, w11, w12 = w
    v0, v1, s00, s11, s01, b0, b1 = v[0], v[1], s[0], s[1], s[2], b[0], b[1]
    i = unsigned(row)
    for j in _owned(v0):
        d0 = _down(s00, i, j, w01, w02) + _along(s01, i, j - _1, w11, w12)
        d1 = _down(s01, i - _1, j, w01, w02) + _along(s11, i, j, w11, w12)
        v0[i, j] += b0[i, j] * d0
        v1[i, j] += b1[i, j] * d1


@njit(**_PART)
def _stress_row(s: Any, v: Any, c: Any, row: int, w: Any) -> None:
    """``σ += λ tr(ε) + 2 µ ε`` in a row."""
    w01, w02, w11, w12 = w
    s00, s11, s01, v0, v1, la, mu, mm = s[0], s[1], s[2], v[0], v[1], c[0], c[1], c[2]
    i = unsigned(row)
    for j in _owned(s00):
        e, f = _down(v0, i - _1, j, w01, w02), _along(v1, i, j - _1, w11, w12)
        both, twice = la[i, j] * (e + f), mu[i, j] + mu[i, j]
        s00[i, j] += both + twice * e
        s11[i, j] += both + twice * f
        s01[i, j] += mm[i, j] * (_down(v1, i, j, w01, w02) + _along(v0, i, j, w11, w12))


# Layers along axis 0, in rows


@njit(**_PART)
def _absorb(
    out: Any, c: Any, memory: Any, u: Any, row: int, k: int, strip: Any,
    w1: float, w2: float,
) -> None:  # fmt: skip
    """``ψ ← b ψ + a ∂u`` and ``out += c ψ`` in a row, with the difference behind row ``k``."""
    slot = strip.slot[row]
    a, b = strip.a[slot], strip.b[slot]
    s, i, k = unsigned(slot), unsigned(row), unsigned(k)
    for j in _owned(out):
        value = b * memory[s, j] + a * _down(u, k, j, w1, w2)
        memory[s, j] = value
        out[i, j] += c[i, j] * value


@njit(**_PART)
def _absorb_normal(
    out: Any, other: Any, c: Any, memory: Any, u: Any, row: int, strip: Any,
    w1: float, w2: float,
) -> None:  # fmt: skip
    """The same for the strain along axis 0, which changes both normal stresses."""
    slot = strip.slot[row]
    a, b, la, mu = strip.a[slot], strip.b[slot], c[0], c[1]
    s, i = unsigned(slot), unsigned(row)
    for j in _owned(out):
        value = b * memory[s, j] + a * _down(u, i - _1, j, w1, w2)
        memory[s, j] = value
        out[i, j] += (la[i, j] + mu[i, j] + mu[i, j]) * value
        other[i, j] += la[i, j] * value


# Layers along axis 1, in columns


@njit(**_PART)
def _run(u: Any, strip: Any, side: int) -> tuple[Any, Any, Any]:
    """First and last owned column in a layer, and where the first stands among its lines."""
    start, count = strip.runs[side]
    first = max(start, GHOST)
    stop = max(min(start + count, u.shape[1] - GHOST), first)
    slot = first - start + (strip.runs[0, 1] if side else 0)
    return unsigned(first), unsigned(stop), unsigned(max(slot, 0))


@njit(**_PART)
def _absorb_columns(
    out: Any, c: Any, memory: Any, u: Any, row: int, back: int, strip: Any,
    w1: float, w2: float,
) -> None:  # fmt: skip
    """``ψ ← b ψ + a ∂u`` and ``out += c ψ``, with the difference ``back`` columns before."""
    i, back = unsigned(row), unsigned(back)
    for side in range(2):
        first, stop, s = _run(out, strip, side)
        for j in range(first, stop):
            d = _along(u, i, j - back, w1, w2)
            value = strip.b[s] * memory[i, s] + strip.a[s] * d
            memory[i, s] = value
            out[i, j] += c[i, j] * value
            s += _1


@njit(**_PART)
def _absorb_normal_columns(
    out: Any, other: Any, c: Any, memory: Any, u: Any, row: int, strip: Any,
    w1: float, w2: float,
) -> None:  # fmt: skip
    """The same for the strain along axis 1, which changes both normal stresses."""
    la, mu = c[0], c[1]
    i = unsigned(row)
    for side in range(2):
        first, stop, s = _run(out, strip, side)
        for j in range(first, stop):
            d = _along(u, i, j - _1, w1, w2)
            value = strip.b[s] * memory[i, s] + strip.a[s] * d
            memory[i, s] = value
            out[i, j] += (la[i, j] + mu[i, j] + mu[i, j]) * value
            other[i, j] += la[i, j] * value
            s += _1


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
def _force_row(v: Any, b: Any, points: Any, field: int, row: int, n: int) -> None:
    """Add to a row of velocities what forces act on its nodes."""
    _, columns, weights, point, series = points
    for k in _here(points, field, row):
        for x in range(weights.shape[1]):
            j = columns[k, x]
            v[row, j] += b[row, j] * weights[k, x] * series[point[k], n]


@njit(**_PART)
def _moment_row(s: Any, points: Any, field: int, row: int, n: int) -> None:
    """Add the moments' stress to a row."""
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
    half0, half1, node0, node1, w, surface = geometry
    w01, w02, w11, w12 = w
    _velocity_row(v, s, b, row, w)
    if half0.slot[row] >= 0:
        _absorb(v[0], b[0], p[0], s[0], row, row, half0, w01, w02)
    if node0.slot[row] >= 0:
        _absorb(v[1], b[1], p[2], s[2], row, row - 1, node0, w01, w02)
    if len(half1.lines):
        _absorb_columns(v[0], b[0], p[1], s[2], row, 1, node1, w11, w12)
        _absorb_columns(v[1], b[1], p[3], s[1], row, 0, half1, w11, w12)
    _force_row(v[0], b[0], sources, 0, row, n)
    _force_row(v[1], b[1], sources, 1, row, n)
    if surface and row < 2 * GHOST:
        _reflect(v[0], v[1], row, 1)
    _record_row(v[0], receivers, 0, row, n)
    _record_row(v[1], receivers, 1, row, n)


@njit(**_PART)
def _stresses(
    n: int, row: int, s: Any, v: Any, c: Any, q: Any, geometry: Any, sources: Any, receivers: Any
) -> None:
    """A row of stresses, with layers and moments."""
    half0, half1, node0, node1, w, surface = geometry
    w01, w02, w11, w12 = w
    _stress_row(s, v, c, row, w)
    if node0.slot[row] >= 0:
        _absorb_normal(s[0], s[1], c, q[0], v[0], row, node0, w01, w02)
    if half0.slot[row] >= 0:
        _absorb(s[2], c[2], q[2], v[1], row, row, half0, w01, w02)
    if len(half1.lines):
        _absorb_normal_columns(s[1], s[0], c, q[3], v[1], row, node1, w11, w12)
        _absorb_columns(s[2], c[2], q[1], v[0], row, 0, half1, w11, w12)
    for x in range(3):
        _moment_row(s[x], sources, 2 + x, row, n)
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
def _keep(kept: Any, level: int, row: int, v: Any, q: Any, geometry: Any) -> None:
    """Keep a row of velocities, those beyond the ends with the last ones, and layers' memory."""
    half0, node0 = geometry[0], geometry[2]
    rows = v[0].shape[0]
    first, stop = row if row > GHOST else 0, row + 1 if row + 1 < rows - GHOST else rows
    for i in range(first, stop):
        _copy_row(kept[0], level * rows + i, v[0], i)
        _copy_row(kept[1], level * rows + i, v[1], i)
    if node0.slot[row] >= 0:
        _copy_row(kept[2], level * len(q[0]) + node0.slot[row], q[0], node0.slot[row])
    if half0.slot[row] >= 0:
        _copy_row(kept[4], level * len(q[2]) + half0.slot[row], q[2], half0.slot[row])
    _copy_row(kept[3], level * rows + row, q[1], row)
    _copy_row(kept[5], level * rows + row, q[3], row)


@njit(**_PART)
def _copy_row(into: Any, k: int, u: Any, row: int) -> None:
    i, k = unsigned(row), unsigned(k)
    for j in range(unsigned(u.shape[1])):
        into[k, j] = u[i, j]


@njit(**_PART)
def _positions(rows: Any, stages: int) -> Any:
    """The positions at which a stage has a row; stage ``k`` is ``2 k`` rows behind the first."""
    start, stop = rows[0, 1], rows[0, 1]
    for k in range(stages):
        if rows[k, 0] < rows[k, 1]:
            first, last = rows[k, 0] + LAG * k, rows[k, 1] + LAG * k
            start, stop = (min(start, first), max(stop, last)) if stop > start else (first, last)
    return range(start, stop)


@njit(**_PART)
def _part(
    n: int, begin: int, phases: Any, x: int, t: int, stages: int, v: Any, s: Any, b: Any, c: Any,
    p: Any, q: Any, geometry: Any, sources: Any, receivers: Any, kept: Any,
) -> None:  # fmt: skip
    """Take a part of a phase of :func:`advance`."""
    rows = phases[x, t]
    for r in _positions(rows, stages):
        for k in range(0, stages, 2):
            row, m = r - LAG * k, n + k // 2
            if rows[k, 0] <= row < rows[k, 1]:
                _velocities(m, row, v, s, b, p, geometry, sources, receivers)
            row -= LAG
            if rows[k + 1, 0] <= row < rows[k + 1, 1]:
                _stresses(m, row, s, v, c, q, geometry, sources, receivers)
                if len(kept[0]):
                    _keep(kept, m - begin, row, v, q, geometry)


@njit(parallel=True, **_ENTRY)
def advance(
    first: int, last: int, begin: int, phases: Any, v: Any, s: Any, b: Any, c: Any, p: Any, q: Any,
    half0: Any, half1: Any, node0: Any, node1: Any, w: Any, surface: bool,
    sources: Any, receivers: Any, kept: Any,
) -> None:  # fmt: skip
    """Take the steps ``first`` … ``last − 1``, or some of their rows.

    ``phases[x, t, k]`` are the rows in which part ``t`` takes half step ``k`` of a sweep; all parts
    of a phase may run at once. ``kept`` begins with step ``begin``, or is empty.
    """
    for n in range(first, last, phases.shape[2] // 2):
        stages = min(phases.shape[2], 2 * (last - n))
        for x in range(phases.shape[0]):
            for t in prange(phases.shape[1]):
                geometry = (half0, half1, node0, node1, w, surface)
                _part(n, begin, phases, x, t, stages, v, s, b, c, p, q, geometry, sources,
                      receivers, kept)  # fmt: skip
        for m in range(n, n + stages // 2):
            _collect(receivers, m)


# In reverse: layers


@njit(**_PART)
def _remember(memory: Any, z: Any, u: Any, row: int, strip: Any) -> None:
    """``µ ← b µ + u`` and ``z = a µ`` in a row of a layer."""
    slot = strip.slot[row]
    a, b = strip.a[slot], strip.b[slot]
    s, i = unsigned(slot), unsigned(row)
    for j in _owned(u):
        value = b * memory[s, j] + u[i, j]
        memory[s, j] = value
        z[s, j] = a * value


@njit(**_PART)
def _near(slot: Any, k: int) -> Any:
    """Whether one of four rows around a half point is in a layer."""
    return max(max(slot[k - 1], slot[k]), max(slot[k + 1], slot[k + 2])) >= 0


@njit(**_PART)
def _four(z: Any, slot: Any, k: int) -> tuple[Any, Any, Any, Any]:
    """Rows of ``z`` around a half point; its last row, which is zero, where there is no layer."""
    x0, x1, x2, x3 = slot[k - 1], slot[k], slot[k + 1], slot[k + 2]
    last = len(z) - 1
    return (
        unsigned(x0 if x0 >= 0 else last), unsigned(x1 if x1 >= 0 else last),
        unsigned(x2 if x2 >= 0 else last), unsigned(x3 if x3 >= 0 else last),
    )  # fmt: skip


@njit(**_PART)
def _absorb_adjoint(
    out: Any, c: Any, z: Any, row: int, k: int, slot: Any, w1: float, w2: float
) -> None:
    """``out += c ∂z`` in a row, with the difference behind row ``k``."""
    x0, x1, x2, x3 = _four(z, slot, k)
    i = unsigned(row)
    for j in _owned(out):
        out[i, j] += c[i, j] * (w1 * (z[x2, j] - z[x1, j]) + w2 * (z[x3, j] - z[x0, j]))


@njit(**_PART)
def _absorb_momentum_adjoint(
    out: Any, c: Any, u: Any, m: int, g: Any, z: Any, row: int, k: int, slot: Any,
    w1: float, w2: float,
) -> None:  # fmt: skip
    """The same for a velocity, with its part of a density's gradient.

    Row ``m`` of ``u`` holds the forward velocities.
    """
    x0, x1, x2, x3 = _four(z, slot, k)
    i, m = unsigned(row), unsigned(m)
    for j in _owned(out):
        d = c[i, j] * (w1 * (z[x2, j] - z[x1, j]) + w2 * (z[x3, j] - z[x0, j]))
        out[i, j] += d
        g[i, j] += u[m, j] * d


@njit(**_PART)
def _absorb_normal_adjoint(
    out: Any, other: Any, c: Any, z: Any, row: int, slot: Any, w1: float, w2: float
) -> None:
    """The same for the strain along axis 0, which changes both normal stresses."""
    x0, x1, x2, x3 = _four(z, slot, row - 1)
    la, mu = c[0], c[1]
    i = unsigned(row)
    for j in _owned(out):
        d = w1 * (z[x2, j] - z[x1, j]) + w2 * (z[x3, j] - z[x0, j])
        out[i, j] += (la[i, j] + mu[i, j] + mu[i, j]) * d
        other[i, j] += la[i, j] * d


@njit(**_PART)
def _remember_columns(memory: Any, z: Any, line: int, u: Any, row: int, strip: Any) -> None:
    """``µ ← b µ + u`` and ``z = a µ`` in the layers' columns of a row, ghosts included."""
    i, line, s = unsigned(row), unsigned(line), unsigned(0)
    for side in range(2):
        start = unsigned(strip.runs[side, 0])
        for j in range(start, start + unsigned(strip.runs[side, 1])):
            value = strip.b[s] * memory[i, s] + u[i, j]
            memory[i, s] = value
            z[line, j] = strip.a[s] * value
            s += _1


@njit(**_PART)
def _reach(u: Any, strip: Any, side: int) -> tuple[Any, Any]:
    """Owned columns whose differences reach into a layer; each belongs to one side only."""
    start, count = strip.runs[side]
    first, stop = max(start - 2, GHOST), min(start + count + 2, u.shape[1] - GHOST)
    if side and strip.runs[0, 1]:
        first = max(first, strip.runs[0, 0] + strip.runs[0, 1] + 2)
    return unsigned(first), unsigned(max(stop, first) if count else first)


@njit(**_PART)
def _absorb_columns_adjoint(
    out: Any, c: Any, z: Any, line: int, row: int, back: int, strip: Any, w1: float, w2: float
) -> None:
    """``out += c ∂z`` in a row, with the difference ``back`` columns before."""
    i, line, back = unsigned(row), unsigned(line), unsigned(back)
    for side in range(2):
        first, stop = _reach(out, strip, side)
        for j in range(first, stop):
            out[i, j] += c[i, j] * _along(z, line, j - back, w1, w2)


@njit(**_PART)
def _absorb_momentum_columns_adjoint(
    out: Any, c: Any, u: Any, m: int, g: Any, z: Any, line: int, row: int, back: int, strip: Any,
    w1: float, w2: float,
) -> None:  # fmt: skip
    """The same for a velocity, with its part of a density's gradient."""
    i, m, line, back = unsigned(row), unsigned(m), unsigned(line), unsigned(back)
    for side in range(2):
        first, stop = _reach(out, strip, side)
        for j in range(first, stop):
            d = c[i, j] * _along(z, line, j - back, w1, w2)
            out[i, j] += d
            g[i, j] += u[m, j] * d


@njit(**_PART)
def _absorb_normal_columns_adjoint(
    out: Any, other: Any, c: Any, z: Any, line: int, row: int, strip: Any, w1: float, w2: float
) -> None:
    """The same for the strain along axis 1, which changes both normal stresses."""
    la, mu = c[0], c[1]
    i, line = unsigned(row), unsigned(line)
    for side in range(2):
        first, stop = _reach(out, strip, side)
        for j in range(first, stop):
            d = _along(z, line, j - _1, w1, w2)
            out[i, j] += (la[i, j] + mu[i, j] + mu[i, j]) * d
            other[i, j] += la[i, j] * d


# In reverse: gradients


@njit(**_PART)
def _strain_gradients(g: Any, s: Any, kept: Any, level: int, row: int, geometry: Any) -> None:
    """Stresses times rates of strain in a row: of the moduli's sum and difference, and of shear."""
    half0, half1, node0, node1, w, surface = geometry
    w01, w02, w11, w12 = w
    g1, g2, g3, s00, s11, s01 = g[0], g[1], g[2], s[0], s[1], s[2]
    u0, u1, k00, k01, k10, k11 = kept
    i, m = unsigned(row), unsigned(level * s00.shape[0] + row)
    near, far = w01, w02
    if surface and row == GHOST:  # where there is no ε₀₀
        near, far = w01 - w01, w02 - w02
    for j in _owned(g1):
        e, f = _down(u0, m - _1, j, near, far), _along(u1, m, j - _1, w11, w12)
        g1[i, j] += (s00[i, j] + s11[i, j]) * (e + f)
        g2[i, j] += (s00[i, j] - s11[i, j]) * (e - f)
        g3[i, j] += s01[i, j] * (_down(u1, m, j, w01, w02) + _along(u0, m, j, w11, w12))
    if node0.slot[row] >= 0:
        x = unsigned(level * len(node0.lines) + node0.slot[row])
        for j in _owned(g1):
            g1[i, j] += (s00[i, j] + s11[i, j]) * k00[x, j]
            g2[i, j] += (s00[i, j] - s11[i, j]) * k00[x, j]
    if half0.slot[row] >= 0:
        x = unsigned(level * len(half0.lines) + half0.slot[row])
        for j in _owned(g3):
            g3[i, j] += s01[i, j] * k10[x, j]
    for side in range(2 if len(half1.lines) else 0):
        first, stop, x = _run(g1, node1, side)
        for j in range(first, stop):
            g1[i, j] += (s00[i, j] + s11[i, j]) * k11[m, x]
            g2[i, j] -= (s00[i, j] - s11[i, j]) * k11[m, x]
            x += _1
        first, stop, x = _run(g3, half1, side)
        for j in range(first, stop):
            g3[i, j] += s01[i, j] * k01[m, x]
            x += _1


@njit(**_PART)
def _adjoint_velocity_row(
    v: Any, s: Any, b: Any, kept: Any, m: int, g: Any, row: int, w: Any
) -> None:
    """``_velocity_row``, and forward velocities times what it changes: of the densities."""
    w01, w02, w11, w12 = w
    v0, v1, s00, s11, s01, b0, b1 = v[0], v[1], s[0], s[1], s[2], b[0], b[1]
    u0, u1, g4, g5 = kept[0], kept[1], g[3], g[4]
    i, m = unsigned(row), unsigned(m)
    for j in _owned(v0):
        d0 = b0[i, j] * (_down(s00, i, j, w01, w02) + _along(s01, i, j - _1, w11, w12))
        v0[i, j] += d0
        g4[i, j] += u0[m, j] * d0
    for j in _owned(v1):
        d1 = b1[i, j] * (_down(s01, i - _1, j, w01, w02) + _along(s11, i, j, w11, w12))
        v1[i, j] += d1
        g5[i, j] += u1[m, j] * d1


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
    n: int, row: int, s: Any, c: Any, q: Any, z: Any, geometry: Any, receivers: Any, sources: Any
) -> None:
    """Make a row of stresses ready for step ``n``: receive traces' cotangents, record sources.

    Of another rank's row, which comes complete, only the layers' memory is needed.
    """
    half0, node0, surface = geometry[0], geometry[2], geometry[5]
    if GHOST <= row < s[0].shape[0] - GHOST:
        _receive_normal_row(s[0], s[1], c[0], c[1], receivers, 2, row, n)
        _receive_normal_row(s[1], s[0], c[0], c[1], receivers, 3, row, n)
        _force_row(s[2], c[2], receivers, 4, row, n)
        if surface and row < 2 * GHOST:
            _free(s, row)
        _record_normal_row(s[0], s[1], c[0], c[1], sources, 2, row, n)
        _record_normal_row(s[1], s[0], c[0], c[1], sources, 3, row, n)
        _record_shear_row(s[2], c[2], sources, 4, row, n)
    if node0.slot[row] >= 0:
        _remember(q[0], z[0], s[0], row, node0)
    if half0.slot[row] >= 0:
        _remember(q[2], z[1], s[2], row, half0)


@njit(**_PART)
def _adjoint_velocities(
    n: int, row: int, v: Any, s: Any, b: Any, kept: Any, level: int, g: Any, p: Any, q: Any, z: Any,
    geometry: Any, lines: Any, line: int, receivers: Any, sources: Any,
) -> None:  # fmt: skip
    """A row of the transpose of ``_stresses``, with the gradients."""
    half0, half1, node0, node1, w, surface = geometry
    w01, w02, w11, w12 = w
    rows = v[0].shape[0]
    if GHOST <= row < rows - GHOST:
        m = level * rows + row
        _strain_gradients(g, s, kept, level, row, geometry)
        _adjoint_velocity_row(v, s, b, kept, m, g, row, w)
        if _near(node0.slot, row):
            _absorb_momentum_adjoint(v[0], b[0], kept[0], m, g[3], z[0], row, row, node0.slot,
                                     w01, w02)  # fmt: skip
        if _near(half0.slot, row - 1):
            _absorb_momentum_adjoint(v[1], b[1], kept[1], m, g[4], z[1], row, row - 1, half0.slot,
                                     w01, w02)  # fmt: skip
        if len(half1.lines):
            _remember_columns(q[1], lines, line, s[2], row, half1)
            _absorb_momentum_columns_adjoint(v[0], b[0], kept[0], m, g[3], lines, line, row, 1,
                                             half1, w11, w12)  # fmt: skip
            _remember_columns(q[3], lines, line + 1, s[1], row, node1)
            _absorb_momentum_columns_adjoint(v[1], b[1], kept[1], m, g[4], lines, line + 1, row, 0,
                                             node1, w11, w12)  # fmt: skip
        _receive_velocity_row(v[0], b[0], kept[0], m, g[3], receivers, 0, row, n)
        _receive_velocity_row(v[1], b[1], kept[1], m, g[4], receivers, 1, row, n)
        if surface and row < 2 * GHOST:
            _reflect(v[0], v[1], row, 1)
        _record_row(v[0], sources, 0, row, n)
        _record_row(v[1], sources, 1, row, n)
    if half0.slot[row] >= 0:
        _remember(p[0], z[2], v[0], row, half0)
    if node0.slot[row] >= 0:
        _remember(p[2], z[3], v[1], row, node0)


@njit(**_PART)
def _adjoint_stresses(
    row: int, s: Any, v: Any, c: Any, p: Any, z: Any, geometry: Any, lines: Any, line: int
) -> None:
    """A row of the transpose of ``_velocities``."""
    half0, half1, node0, node1, w, _ = geometry
    w01, w02, w11, w12 = w
    _stress_row(s, v, c, row, w)
    if _near(half0.slot, row - 1):
        _absorb_normal_adjoint(s[0], s[1], c, z[2], row, half0.slot, w01, w02)
    if _near(node0.slot, row):
        _absorb_adjoint(s[2], c[2], z[3], row, row, node0.slot, w01, w02)
    if len(half1.lines):
        _remember_columns(p[3], lines, line, v[1], row, half1)
        _absorb_normal_columns_adjoint(s[1], s[0], c, lines, line, row, half1, w11, w12)
        _remember_columns(p[1], lines, line + 1, v[0], row, node1)
        _absorb_columns_adjoint(s[2], c[2], lines, line + 1, row, 0, node1, w11, w12)


@njit(**_PART)
def _part_back(
    top: int, begin: int, phases: Any, x: int, t: int, stages: int, v: Any, s: Any, b: Any, c: Any,
    kept: Any, g: Any, p: Any, q: Any, z: Any, geometry: Any, receivers: Any, sources: Any,
    lines: Any,
) -> None:  # fmt: skip
    """Take a part of a phase of :func:`reverse`."""
    rows, line, height = phases[x, t], 2 * t, s[0].shape[0]
    for r in _positions(rows, stages):
        for k in range(0, stages, 2):
            row, n = r - LAG * k, top - k // 2
            if rows[k, 0] <= row < rows[k, 1]:
                if k > 0 and GHOST <= row < height - GHOST:
                    _adjoint_stresses(row, s, v, c, p, z, geometry, lines, line)
                if n >= begin:
                    _begin_row(n, row, s, c, q, z, geometry, receivers, sources)
            row -= LAG
            if k + 1 < stages and rows[k + 1, 0] <= row < rows[k + 1, 1]:
                _adjoint_velocities(n, row, v, s, b, kept, n - begin, g, p, q, z, geometry, lines,
                                    line, receivers, sources)  # fmt: skip


@njit(parallel=True, **_ENTRY)
def reverse(
    last: int, first: int, begin: int, phases: Any, v: Any, s: Any, b: Any, c: Any, kept: Any,
    g: Any, p: Any, q: Any, z: Any,
    half0: Any, half1: Any, node0: Any, node1: Any, w: Any, surface: bool,
    receivers: Any, sources: Any, lines: Any,
) -> None:  # fmt: skip
    """Take the steps ``last − 1`` … ``first`` back, or some of their rows.

    Half steps are numbered from the stresses that are made ready for the first velocities: number
    0 of a sweep is the last of the one before. The first of ``phases`` is there to begin with, and
    only run once. ``kept`` begins with step ``begin``.
    """
    steps = phases.shape[2] // 2
    for top in range(last - 1, first - 1, -steps):
        stages = min(phases.shape[2], 2 * (top - first + 1) + 1)
        for x in range(0 if top == last - 1 else 1, phases.shape[0]):
            for t in prange(phases.shape[1]):
                geometry = (half0, half1, node0, node1, w, surface)
                _part_back(top, begin, phases, x, t, stages, v, s, b, c, kept, g, p, q, z, geometry,
                           receivers, sources, lines)  # fmt: skip
        for n in range(top - stages // 2 + 1, top + 1):
            _collect(sources, n)
