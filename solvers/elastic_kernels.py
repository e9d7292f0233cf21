"""Compiled steps of the elastic wave: forwards and in reverse, memory swept once.

Fields are padded by ``GHOST`` lines on all sides, and by columns without use at the end of a row
(see :mod:`~adjoint.solvers.padding`). ``v0[i, j]`` is at ``(i + ½, j)``, ``v1`` at ``(i, j + ½)``,
``s00`` and ``s11`` at ``(i, j)``, ``s01`` at ``(i + ½, j + ½)``. See
:mod:`~adjoint.solvers.elastic` for what is computed.

A step has two halves. Velocities need the stresses two rows further down, as they were; stresses
need the velocities two rows further down, as they are. So stresses follow velocities at a distance
of two rows in the same sweep: what the first half loads is still in the cache. A thread leaves the
stresses of the two rows at either end of its share, which need its neighbour's velocities, to the
second half of the step; and where other ranks' columns are needed, all of them (``fused`` is false
then).

Indices of inner loops are :mod:`~adjoint.solvers.unsigned`. All is in one file because Numba's
cache does not see changes in others.
"""

from __future__ import annotations

from typing import Any

from numba import njit, prange

from .unsigned import unsigned

#: Ghost layers: differences take two lines on either side.
GHOST = 2

#: Of what a step is made of: inlined, for the arrays' descriptions are long lists of arguments.
_PART: dict[str, Any] = {"fastmath": {"contract"}, "error_model": "numpy", "forceinline": True}

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
def _stress_row(s: Any, v: Any, c: Any, row: int, free: bool, w: Any) -> None:
    """``σ += λ tr(ε) + 2 µ ε`` in a row, with ``ε₀₀ = 0`` where it is free.

    There ``λ`` is zero and ``2 µ`` what a stress-free surface leaves.
    """
    w01, w02, w11, w12 = w
    s00, s11, s01, v0, v1, la, mu, mm = s[0], s[1], s[2], v[0], v[1], c[0], c[1], c[2]
    i = unsigned(row)
    for j in _owned(s00):
        e, f = _down(v0, i - _1, j, w01, w02), _along(v1, i, j - _1, w11, w12)
        both, twice = la[i, j] * (e + f), mu[i, j] + mu[i, j]
        s00[i, j] += both + twice * e
        s11[i, j] += both + twice * f
        s01[i, j] += mm[i, j] * (_down(v1, i, j, w01, w02) + _along(v0, i, j, w11, w12))
    if free:
        s00[row, :] = 0


# Layers along axis 0, in rows


@njit(**_PART)
def _absorb(
    out: Any, c: Any, before: Any, after: Any, u: Any, row: int, k: int, strip: Any,
    w1: float, w2: float,
) -> None:  # fmt: skip
    """``ψ ← b ψ + a ∂u`` and ``out += c ψ`` in a row, with the difference behind row ``k``."""
    slot = strip.slot[row]
    a, b = strip.a[slot], strip.b[slot]
    s, i, k = unsigned(slot), unsigned(row), unsigned(k)
    for j in _owned(out):
        value = b * before[s, j] + a * _down(u, k, j, w1, w2)
        after[s, j] = value
        out[i, j] += c[i, j] * value


@njit(**_PART)
def _absorb_normal(
    out: Any, other: Any, c: Any, before: Any, after: Any, u: Any, row: int, strip: Any,
    w1: float, w2: float,
) -> None:  # fmt: skip
    """The same for the strain along axis 0, which changes both normal stresses."""
    slot = strip.slot[row]
    a, b, la, mu = strip.a[slot], strip.b[slot], c[0], c[1]
    s, i = unsigned(slot), unsigned(row)
    for j in _owned(out):
        value = b * before[s, j] + a * _down(u, i - _1, j, w1, w2)
        after[s, j] = value
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
    out: Any, c: Any, before: Any, after: Any, u: Any, row: int, back: int, strip: Any,
    w1: float, w2: float,
) -> None:  # fmt: skip
    """``ψ ← b ψ + a ∂u`` and ``out += c ψ``, with the difference ``back`` columns before."""
    i, back = unsigned(row), unsigned(back)
    for side in range(2):
        first, stop, s = _run(out, strip, side)
        for j in range(first, stop):
            d = _along(u, i, j - back, w1, w2)
            value = strip.b[s] * before[i, s] + strip.a[s] * d
            after[i, s] = value
            out[i, j] += c[i, j] * value
            s += _1


@njit(**_PART)
def _absorb_normal_columns(
    out: Any, other: Any, c: Any, before: Any, after: Any, u: Any, row: int, strip: Any,
    w1: float, w2: float,
) -> None:  # fmt: skip
    """The same for the strain along axis 1, which changes both normal stresses."""
    la, mu = c[0], c[1]
    i = unsigned(row)
    for side in range(2):
        first, stop, s = _run(out, strip, side)
        for j in range(first, stop):
            d = _along(u, i, j - _1, w1, w2)
            value = strip.b[s] * before[i, s] + strip.a[s] * d
            after[i, s] = value
            out[i, j] += (la[i, j] + mu[i, j] + mu[i, j]) * value
            other[i, j] += la[i, j] * value
            s += _1


# Sources and receivers


@njit(**_PART)
def _record(u: Any, points: Any, n: int) -> None:
    nodes, weights, series = points
    flat = u.reshape(-1)
    for r in range(nodes.shape[0]):
        value = weights[r, 0] * flat[nodes[r, 0]]
        for k in range(1, nodes.shape[1]):
            value += weights[r, k] * flat[nodes[r, k]]
        series[r, n] = value


@njit(**_PART)
def _inject(u: Any, points: Any, n: int) -> None:
    nodes, weights, series = points
    flat = u.reshape(-1)
    for r in range(nodes.shape[0]):
        for k in range(nodes.shape[1]):
            flat[nodes[r, k]] += weights[r, k] * series[r, n]


@njit(**_PART)
def _inject_times(u: Any, c: Any, points: Any, n: int) -> None:
    nodes, weights, series = points
    flat, factor = u.reshape(-1), c.reshape(-1)
    for r in range(nodes.shape[0]):
        for k in range(nodes.shape[1]):
            i = nodes[r, k]
            flat[i] += factor[i] * weights[r, k] * series[r, n]


@njit(**_PART)
def _receive_velocity(v: Any, b: Any, u: Any, g: Any, points: Any, n: int) -> None:
    """Add the traces' cotangents to a velocity, which has the opposite sign."""
    nodes, weights, series = points
    flat, factor, forward, total = v.reshape(-1), b.reshape(-1), u.reshape(-1), g.reshape(-1)
    for r in range(nodes.shape[0]):
        for k in range(nodes.shape[1]):
            i = nodes[r, k]
            d = factor[i] * weights[r, k] * series[r, n]
            flat[i] -= d
            total[i] -= forward[i] * d


@njit(**_PART)
def _force_row(v: Any, b: Any, force: Any, row: int, n: int) -> None:
    """Add to a row of velocities what forces act on its nodes, which are sorted by rows."""
    starts, columns, weights, source, series = force
    for k in range(starts[row], starts[row + 1]):
        j = columns[k]
        v[row, j] += b[row, j] * weights[k] * series[source[k], n]


@njit(**_PART)
def _even(u: Any, half: int) -> None:
    """Continue ``u`` evenly above a free surface, on which rows of whole numbers begin."""
    for k in range(1, GHOST + 1):
        u[GHOST - k, :] = u[GHOST + k - half, :]


@njit(**_PART)
def _odd(u: Any, half: int) -> None:
    if half == 0:
        u[GHOST, :] = 0
    for k in range(1, GHOST + 1):
        for j in range(u.shape[1]):
            u[GHOST - k, j] = -u[GHOST + k - half, j]


# Forwards


@njit(**_PART)
def _velocities(
    n: int, row: int, v: Any, old: Any, s: Any, b: Any, p: Any, geometry: Any, copy: bool,
    forces: Any,
) -> None:  # fmt: skip
    """A row of velocities, with layers and forces."""
    half0, half1, node0, node1, w, _ = geometry
    w01, w02, w11, w12 = w
    if copy:
        v[0][row, :] = old[0][row]
        v[1][row, :] = old[1][row]
    _velocity_row(v, s, b, row, w)
    if half0.slot[row] >= 0:
        _absorb(v[0], b[0], p[0], p[0], s[0], row, row, half0, w01, w02)
    if node0.slot[row] >= 0:
        _absorb(v[1], b[1], p[2], p[2], s[2], row, row - 1, node0, w01, w02)
    if len(half1.lines):
        _absorb_columns(v[0], b[0], p[1], p[1], s[2], row, 1, node1, w11, w12)
        _absorb_columns(v[1], b[1], p[3], p[3], s[1], row, 0, half1, w11, w12)
    _force_row(v[0], b[0], forces[0], row, n)
    _force_row(v[1], b[1], forces[1], row, n)


@njit(**_PART)
def _stresses(row: int, s: Any, v: Any, c: Any, q: Any, old: Any, geometry: Any) -> None:
    """A row of stresses, with layers; the layers' memory goes from ``old`` to ``q``."""
    half0, half1, node0, node1, w, surface = geometry
    w01, w02, w11, w12 = w
    _stress_row(s, v, c, row, surface and row == GHOST, w)
    if node0.slot[row] >= 0:
        _absorb_normal(s[0], s[1], c, old[0], q[0], v[0], row, node0, w01, w02)
    if half0.slot[row] >= 0:
        _absorb(s[2], c[2], old[2], q[2], v[1], row, row, half0, w01, w02)
    if len(half1.lines):
        _absorb_normal_columns(s[1], s[0], c, old[3], q[3], v[1], row, node1, w11, w12)
        _absorb_columns(s[2], c[2], old[1], q[1], v[0], row, 0, half1, w11, w12)


@njit(**_PART)
def _early(row: int, low: int, stop: int, fused: bool) -> bool:
    """Whether a row of stresses needs nothing but its thread's own velocities."""
    return fused and low + 2 <= row < stop - 2


@njit(parallel=True, **_ENTRY)
def _sweep(
    n: int, v: Any, old: Any, s: Any, b: Any, c: Any, p: Any, q: Any, q_old: Any,
    half0: Any, half1: Any, node0: Any, node1: Any, w: Any, surface: bool,
    copy: bool, fused: bool, force0: Any, force1: Any, threads: int,
) -> None:  # fmt: skip
    height = v[0].shape[0] - 2 * GHOST
    for t in prange(threads):
        geometry = (half0, half1, node0, node1, w, surface)
        forces = (force0, force1)
        low = GHOST + height * t // threads
        stop = GHOST + height * (t + 1) // threads
        for row in range(low, stop):
            _velocities(n, row, v, old, s, b, p, geometry, copy, forces)
            if _early(row - 2, low, stop, fused):
                _stresses(row - 2, s, v, c, q, q_old, geometry)


@njit(parallel=True, **_ENTRY)
def _rest(
    s: Any, v: Any, c: Any, q: Any, q_old: Any,
    half0: Any, half1: Any, node0: Any, node1: Any, w: Any, surface: bool, fused: bool, threads: int
) -> None:  # fmt: skip
    height = v[0].shape[0] - 2 * GHOST
    for t in prange(threads):
        geometry = (half0, half1, node0, node1, w, surface)
        low = GHOST + height * t // threads
        stop = GHOST + height * (t + 1) // threads
        for row in range(low, stop):
            if not _early(row, low, stop, fused):
                _stresses(row, s, v, c, q, q_old, geometry)


@njit(**_ENTRY)
def first_half(
    n: int, v: Any, old: Any, s: Any, b: Any, c: Any, p: Any, q: Any, q_old: Any, geometry: Any,
    copy: bool, fused: bool, forces: Any, threads: int,
) -> None:  # fmt: skip
    """All velocities, and the stresses that need no other rank's or thread's."""
    if geometry[5]:
        _odd(s[0], 0)
        _odd(s[2], 1)
    _sweep(n, v, old, s, b, c, p, q, q_old, *geometry, copy, fused, *forces, threads)


@njit(**_ENTRY)
def second_half(
    n: int, s: Any, v: Any, c: Any, q: Any, q_old: Any, geometry: Any, fused: bool, moments: Any,
    threads: int,
) -> None:  # fmt: skip
    """The other stresses, and moments."""
    surface = geometry[5]
    if surface:
        _even(v[0], 1)
        _even(v[1], 0)
    _rest(s, v, c, q, q_old, *geometry, fused, threads)
    _inject(s[0], moments[0], n)
    _inject(s[1], moments[1], n)
    _inject(s[2], moments[2], n)
    if surface:
        _odd(s[0], 0)


@njit(**_ENTRY)
def record(n: int, v: Any, s: Any, receivers: Any) -> None:
    """Record velocities and stresses at the receivers."""
    _record(v[0], receivers[0], n)
    _record(v[1], receivers[1], n)
    _record(s[0], receivers[2], n)
    _record(s[1], receivers[3], n)
    _record(s[2], receivers[4], n)


@njit(**_ENTRY)
def advance(
    first: int, last: int, v0: Any, v1: Any, s: Any, b: Any, c: Any, p: Any, q: Any,
    geometry: Any, forces: Any, moments: Any, receivers: Any, threads: int,
) -> None:  # fmt: skip
    """Take the steps ``first`` … ``last − 1`` on a rank without neighbours.

    ``v0[k]``, ``v1[k]`` and ``q[·][k]`` are levels that are used in turns: one, in place, or as
    many as there are steps, and one more.
    """
    levels = v0.shape[0]
    for n in range(first, last):
        k, m = (n - first) % levels, (n - first + 1) % levels
        now, then = (v0[m], v1[m]), (v0[k], v1[k])
        q_now = (q[0][m], q[1][m], q[2][m], q[3][m])
        q_then = (q[0][k], q[1][k], q[2][k], q[3][k])
        first_half(n, now, then, s, b, c, p, q_now, q_then, geometry, levels > 1, True, forces,
                   threads)  # fmt: skip
        second_half(n, s, now, c, q_now, q_then, geometry, True, moments, threads)
        record(n, now, s, receivers)


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
    out: Any, c: Any, u: Any, g: Any, z: Any, row: int, k: int, slot: Any, w1: float, w2: float
) -> None:
    """The same for a velocity, with its part of a density's gradient."""
    x0, x1, x2, x3 = _four(z, slot, k)
    i = unsigned(row)
    for j in _owned(out):
        d = c[i, j] * (w1 * (z[x2, j] - z[x1, j]) + w2 * (z[x3, j] - z[x0, j]))
        out[i, j] += d
        g[i, j] += u[i, j] * d


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
    out: Any, c: Any, u: Any, g: Any, z: Any, line: int, row: int, back: int, strip: Any,
    w1: float, w2: float,
) -> None:  # fmt: skip
    """The same for a velocity, with its part of a density's gradient."""
    i, line, back = unsigned(row), unsigned(line), unsigned(back)
    for side in range(2):
        first, stop = _reach(out, strip, side)
        for j in range(first, stop):
            d = c[i, j] * _along(z, line, j - back, w1, w2)
            out[i, j] += d
            g[i, j] += u[i, j] * d


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
def _strain_gradients(g: Any, s: Any, u: Any, k: Any, row: int, geometry: Any) -> None:
    """Stresses times rates of strain in a row: of the moduli's sum and difference, and of shear."""
    half0, half1, node0, node1, w, surface = geometry
    w01, w02, w11, w12 = w
    g1, g2, g3, s00, s11, s01, u0, u1 = g[0], g[1], g[2], s[0], s[1], s[2], u[0], u[1]
    i = unsigned(row)
    near, far = w01, w02
    if surface and row == GHOST:  # where there is no ε₀₀
        near, far = w01 - w01, w02 - w02
    for j in _owned(g1):
        e, f = _down(u0, i - _1, j, near, far), _along(u1, i, j - _1, w11, w12)
        g1[i, j] += (s00[i, j] + s11[i, j]) * (e + f)
        g2[i, j] += (s00[i, j] - s11[i, j]) * (e - f)
        g3[i, j] += s01[i, j] * (_down(u1, i, j, w01, w02) + _along(u0, i, j, w11, w12))
    if node0.slot[row] >= 0:
        x = unsigned(node0.slot[row])
        for j in _owned(g1):
            g1[i, j] += (s00[i, j] + s11[i, j]) * k[0][x, j]
            g2[i, j] += (s00[i, j] - s11[i, j]) * k[0][x, j]
    if half0.slot[row] >= 0:
        x = unsigned(half0.slot[row])
        for j in _owned(g3):
            g3[i, j] += s01[i, j] * k[2][x, j]
    for side in range(2 if len(half1.lines) else 0):
        first, stop, x = _run(g1, node1, side)
        for j in range(first, stop):
            g1[i, j] += (s00[i, j] + s11[i, j]) * k[3][i, x]
            g2[i, j] -= (s00[i, j] - s11[i, j]) * k[3][i, x]
            x += _1
        first, stop, x = _run(g3, half1, side)
        for j in range(first, stop):
            g3[i, j] += s01[i, j] * k[1][i, x]
            x += _1


@njit(**_PART)
def _adjoint_velocity_row(v: Any, s: Any, b: Any, u: Any, g: Any, row: int, w: Any) -> None:
    """``_velocity_row``, and forward velocities times what it changes: of the densities."""
    w01, w02, w11, w12 = w
    v0, v1, s00, s11, s01, b0, b1 = v[0], v[1], s[0], s[1], s[2], b[0], b[1]
    u0, u1, g4, g5 = u[0], u[1], g[3], g[4]
    i = unsigned(row)
    for j in _owned(v0):
        d0 = b0[i, j] * (_down(s00, i, j, w01, w02) + _along(s01, i, j - _1, w11, w12))
        v0[i, j] += d0
        g4[i, j] += u0[i, j] * d0
    for j in _owned(v1):
        d1 = b1[i, j] * (_down(s01, i - _1, j, w01, w02) + _along(s11, i, j, w11, w12))
        v1[i, j] += d1
        g5[i, j] += u1[i, j] * d1


# In reverse: steps


@njit(**_PART)
def _adjoint_velocities(
    row: int, v: Any, s: Any, b: Any, u: Any, kept: Any, g: Any, p: Any, q: Any, z: Any,
    geometry: Any, lines: Any,
) -> None:  # fmt: skip
    """A row of the transpose of ``_stresses``, with the gradients."""
    half0, half1, node0, node1, w, _ = geometry
    w01, w02, w11, w12 = w
    _strain_gradients(g, s, u, kept, row, geometry)
    _adjoint_velocity_row(v, s, b, u, g, row, w)
    if _near(node0.slot, row):
        _absorb_momentum_adjoint(v[0], b[0], u[0], g[3], z[0], row, row, node0.slot, w01, w02)
    if _near(half0.slot, row - 1):
        _absorb_momentum_adjoint(v[1], b[1], u[1], g[4], z[1], row, row - 1, half0.slot, w01, w02)
    if len(half1.lines):
        _remember_columns(q[1], lines, 0, s[2], row, half1)
        _absorb_momentum_columns_adjoint(v[0], b[0], u[0], g[3], lines, 0, row, 1, half1, w11, w12)
        _remember_columns(q[3], lines, 1, s[1], row, node1)
        _absorb_momentum_columns_adjoint(v[1], b[1], u[1], g[4], lines, 1, row, 0, node1, w11, w12)
    if half0.slot[row] >= 0:
        _remember(p[0], z[2], v[0], row, half0)
    if node0.slot[row] >= 0:
        _remember(p[2], z[3], v[1], row, node0)


@njit(**_PART)
def _adjoint_stresses(
    row: int, s: Any, v: Any, c: Any, p: Any, z: Any, geometry: Any, lines: Any
) -> None:
    """A row of the transpose of ``_velocities``."""
    half0, half1, node0, node1, w, surface = geometry
    w01, w02, w11, w12 = w
    _stress_row(s, v, c, row, surface and row == GHOST, w)
    if _near(half0.slot, row - 1):
        _absorb_normal_adjoint(s[0], s[1], c, z[2], row, half0.slot, w01, w02)
    if _near(node0.slot, row):
        _absorb_adjoint(s[2], c[2], z[3], row, row, node0.slot, w01, w02)
    if len(half1.lines):
        _remember_columns(p[3], lines, 0, v[1], row, half1)
        _absorb_normal_columns_adjoint(s[1], s[0], c, lines, 0, row, half1, w11, w12)
        _remember_columns(p[1], lines, 1, v[0], row, node1)
        _absorb_columns_adjoint(s[2], c[2], lines, 1, row, 0, node1, w11, w12)


@njit(parallel=True, **_ENTRY)
def _adjoint_sweep(
    v: Any, s: Any, b: Any, c: Any, u: Any, kept: Any, g: Any, p: Any, q: Any, z: Any,
    half0: Any, half1: Any, node0: Any, node1: Any, w: Any, surface: bool, fused: bool, rows: Any,
) -> None:  # fmt: skip
    threads, height = rows.shape[0], v[0].shape[0] - 2 * GHOST
    for x in prange(len(node0.lines)):
        _remember(q[0], z[0], s[0], node0.lines[x], node0)
    for x in prange(len(half0.lines)):
        _remember(q[2], z[1], s[2], half0.lines[x], half0)
    for t in prange(threads):
        geometry = (half0, half1, node0, node1, w, surface)
        low = GHOST + height * t // threads
        stop = GHOST + height * (t + 1) // threads
        for row in range(low, stop):
            _adjoint_velocities(row, v, s, b, u, kept, g, p, q, z, geometry, rows[t])
            if _early(row - 2, low, stop, fused):
                _adjoint_stresses(row - 2, s, v, c, p, z, geometry, rows[t])


@njit(parallel=True, **_ENTRY)
def _adjoint_rest(
    s: Any, v: Any, c: Any, p: Any, z: Any,
    half0: Any, half1: Any, node0: Any, node1: Any, w: Any, surface: bool, fused: bool, rows: Any
) -> None:  # fmt: skip
    threads, height = rows.shape[0], v[0].shape[0] - 2 * GHOST
    for t in prange(threads):
        geometry = (half0, half1, node0, node1, w, surface)
        low = GHOST + height * t // threads
        stop = GHOST + height * (t + 1) // threads
        for row in range(low, stop):
            if not _early(row, low, stop, fused):
                _adjoint_stresses(row, s, v, c, p, z, geometry, rows[t])


@njit(**_ENTRY)
def receive_adjoint(
    n: int, v: Any, s: Any, b: Any, c: Any, u: Any, gradients: Any, receivers: Any
) -> None:
    """The transpose of ``record``: add the traces' cotangents.

    What velocities change by has its part of the densities' gradients, as in the steps.
    """
    _inject_normal(s[0], s[1], c[0], c[1], receivers[2], n)
    _inject_normal(s[1], s[0], c[0], c[1], receivers[3], n)
    _inject_times(s[2], c[2], receivers[4], n)
    _receive_velocity(v[0], b[0], u[0], gradients[3], receivers[0], n)
    _receive_velocity(v[1], b[1], u[1], gradients[4], receivers[1], n)


@njit(**_PART)
def _inject_normal(s: Any, t: Any, la: Any, mu: Any, points: Any, n: int) -> None:
    """Add to a normal stress and, through the moduli, to both of the scaled ones."""
    nodes, weights, series = points
    x, y, a, b = s.reshape(-1), t.reshape(-1), la.reshape(-1), mu.reshape(-1)
    for r in range(nodes.shape[0]):
        for k in range(nodes.shape[1]):
            i = nodes[r, k]
            value = weights[r, k] * series[r, n]
            x[i] += (a[i] + b[i] + b[i]) * value
            y[i] += a[i] * value


@njit(**_PART)
def _record_normal(s: Any, t: Any, la: Any, mu: Any, points: Any, n: int) -> None:
    """Record a normal stress from the scaled ones."""
    nodes, weights, series = points
    x, y, a, b = s.reshape(-1), t.reshape(-1), la.reshape(-1), mu.reshape(-1)
    for r in range(nodes.shape[0]):
        value = weights[r, 0] * 0
        for k in range(nodes.shape[1]):
            i = nodes[r, k]
            if weights[r, k] != 0:
                mean = (x[i] + y[i]) / (a[i] + b[i])
                value += weights[r, k] * (mean + (x[i] - y[i]) / b[i]) / 4
        series[r, n] = value


@njit(**_PART)
def _record_quotient(s: Any, c: Any, points: Any, n: int) -> None:
    nodes, weights, series = points
    x, a = s.reshape(-1), c.reshape(-1)
    for r in range(nodes.shape[0]):
        value = weights[r, 0] * 0
        for k in range(nodes.shape[1]):
            i = nodes[r, k]
            if weights[r, k] != 0:
                value += weights[r, k] * x[i] / a[i]
        series[r, n] = value


@njit(**_ENTRY)
def first_half_adjoint(
    n: int, v: Any, s: Any, b: Any, c: Any, u: Any, kept: Any, gradients: Any, p: Any,
    q: Any, z: Any, geometry: Any, fused: bool, sources: Any, rows: Any,
) -> None:  # fmt: skip
    """The transpose of the stresses, with the gradients; and some of that of the velocities.

    ``u`` and ``kept`` are the velocities and the layers' memory after the step's forward
    counterpart.
    """
    if geometry[5]:
        _odd(s[0], 0)
        _odd(s[2], 1)
        _even(u[0], 1)
        _even(u[1], 0)
    _record_normal(s[0], s[1], c[0], c[1], sources[2], n)
    _record_normal(s[1], s[0], c[0], c[1], sources[3], n)
    _record_quotient(s[2], c[2], sources[4], n)
    _adjoint_sweep(v, s, b, c, u, kept, gradients, p, q, z, *geometry, fused, rows)
    _record(v[0], sources[0], n)
    _record(v[1], sources[1], n)


@njit(**_ENTRY)
def second_half_adjoint(
    s: Any, v: Any, c: Any, p: Any, z: Any, geometry: Any, fused: bool, rows: Any
) -> None:
    """The rest of the transpose of the velocities."""
    half0, _, node0, _, _, surface = geometry
    if surface:
        _even(v[0], 1)
        _even(v[1], 0)
    stop = v[0].shape[0] - GHOST
    for x in half0.lines:  # those of other ranks
        if x < GHOST or x >= stop:
            _remember(p[0], z[2], v[0], x, half0)
    for x in node0.lines:
        if x < GHOST or x >= stop:
            _remember(p[2], z[3], v[1], x, node0)
    _adjoint_rest(s, v, c, p, z, *geometry, fused, rows)


@njit(**_ENTRY)
def reverse(
    first: int, last: int, v: Any, s: Any, b: Any, c: Any, u0: Any, u1: Any, kept: Any,
    gradients: Any, p: Any, q: Any, z: Any, geometry: Any, sources: Any, receivers: Any, rows: Any,
) -> None:  # fmt: skip
    """Take the steps ``last − 1`` … ``first`` back on a rank without neighbours."""
    for n in range(last - 1, first - 1, -1):
        k = n - first
        u = u0[k + 1], u1[k + 1]
        receive_adjoint(n, v, s, b, c, u, gradients, receivers)
        first_half_adjoint(
            n, v, s, b, c, u,
            (kept[0][k + 1], kept[1][k + 1], kept[2][k + 1], kept[3][k + 1]),
            gradients, p, q, z, geometry, True, sources, rows,
        )  # fmt: skip
        second_half_adjoint(s, v, c, p, z, geometry, True, rows)
