"""Compiled steps of the elastic wave: forwards and in reverse.

Fields are padded by ``GHOST`` lines on all sides, and by columns without use at the end of a row
(see :mod:`~adjoint.solvers.padding`). Both are computed as if they were owned: the coefficients are
zero there, so no field changes. ``v0[i, j]`` is at ``(i + ½, j)``, ``v1`` at
``(i, j + ½)``, ``s00`` and ``s11`` at ``(i, j)``, ``s01`` at ``(i + ½, j + ½)``. See
:mod:`~adjoint.solvers.elastic` for what is computed.

Rows are taken as slices of equal length, all indexed by the same variable, and a loop writes one
row only: so the compiler can rule out that rows overlap, and uses vector instructions.
"""

from __future__ import annotations

from typing import Any

from numba import njit, prange

#: Ghost layers: differences take two lines on either side.
GHOST = 2

_OPTIONS: dict[str, Any] = {"cache": True, "fastmath": {"contract"}, "error_model": "numpy"}


@njit(**_OPTIONS)
def _own(row: Any) -> Any:
    """The owned nodes of a padded row."""
    return row[GHOST : len(row) - GHOST]


@njit(**_OPTIONS)
def _advance_row(
    out: Any, c: Any, u0: Any, u1: Any, u2: Any, u3: Any, row: Any, half: int,
    w01: float, w02: float, w11: float, w12: float,
) -> None:  # fmt: skip
    """``out += c (∂₀u + ∂₁t)``, from four rows of ``u`` and a padded row of ``t``."""
    t0, t1, t2, t3 = _shifts(row, half)
    for j in range(len(out)):
        d = w01 * (u2[j] - u1[j]) + w02 * (u3[j] - u0[j])
        out[j] += c[j] * (d + (w11 * (t2[j] - t1[j]) + w12 * (t3[j] - t0[j])))


@njit(**_OPTIONS)
def _difference(out: Any, u0: Any, u1: Any, u2: Any, u3: Any, w1: float, w2: float) -> None:
    for j in range(len(out)):
        out[j] = w1 * (u2[j] - u1[j]) + w2 * (u3[j] - u0[j])


@njit(**_OPTIONS)
def _strain(out: Any, a: Any, b: Any, e: Any, f: Any) -> None:
    """``out += (a + 2b) e + a f``."""
    for j in range(len(out)):
        out[j] += a[j] * (e[j] + f[j]) + (b[j] + b[j]) * e[j]


@njit(**_OPTIONS)
def _add_product(out: Any, c: Any, d: Any) -> None:
    for j in range(len(out)):
        out[j] += c[j] * d[j]


@njit(**_OPTIONS)
def _add(out: Any, d: Any) -> None:
    for j in range(len(out)):
        out[j] += d[j]


@njit(**_OPTIONS)
def _remember(memory: Any, d: Any, b: float, a: float) -> None:
    for j in range(len(memory)):
        memory[j] = b * memory[j] + a * d[j]


@njit(**_OPTIONS)
def _shifts(row: Any, half: int) -> Any:
    """Four shifts of a row whose difference is at the nodes (0) or half a cell after them (1)."""
    n = len(row) - 2 * GHOST
    s = GHOST - 2 + half
    return row[s : s + n], row[s + 1 : s + 1 + n], row[s + 2 : s + 2 + n], row[s + 3 : s + 3 + n]


@njit(**_OPTIONS)
def _columns(memory: Any, d: Any, layer: Any) -> None:
    """The recursion in the layers' columns of a row ``d`` of differences, and its part of them."""
    slot = 0
    for side in range(2):
        start, count = layer.runs[side]
        k = max(start, GHOST)
        n = max(min(start + count, len(d) - GHOST) - k, 0)
        s = slot + k - start
        m, x, y, r = memory[s : s + n], layer.a[s : s + n], layer.b[s : s + n], d[k : k + n]
        for j in range(n):
            m[j] = y[j] * m[j] + x[j] * r[j]
        for j in range(n):
            r[j] += m[j]
        slot += count


@njit(**_OPTIONS)
def _columns_of(memory: Any, d: Any, layer: Any) -> None:
    """Add what was remembered of a row."""
    slot = 0
    for side in range(2):
        k, n = layer.runs[side]
        m, r = memory[slot : slot + n], d[k : k + n]
        for j in range(n):
            r[j] += m[j]
        slot += n


@njit(**_OPTIONS)
def _columns_memory(memory: Any, row: Any, layer: Any, half: int, w1: float, w2: float) -> None:
    """The recursion in the layers' columns, for the difference of ``row``."""
    slot = 0
    for side in range(2):
        start, count = layer.runs[side]
        k = max(start, GHOST)
        n = max(min(start + count, len(row) - GHOST) - k, 0)
        s = slot + k - start
        m, x, y = memory[s : s + n], layer.a[s : s + n], layer.b[s : s + n]
        o = k - 2 + half
        if n > 0:
            u0, u1, u2, u3 = row[o:], row[o + 1 :], row[o + 2 :], row[o + 3 :]
            for j in range(n):
                m[j] = y[j] * m[j] + x[j] * (w1 * (u2[j] - u1[j]) + w2 * (u3[j] - u0[j]))
        slot += count


@njit(**_OPTIONS)
def _add_columns(out: Any, c: Any, memory: Any, layer: Any) -> None:
    """``out += c ψ`` in the layers' columns."""
    slot = 0
    for side in range(2):
        start, count = layer.runs[side]
        k = max(start, GHOST)
        n = max(min(start + count, len(out) - GHOST) - k, 0)
        s = slot + k - start
        o, x, m = out[k : k + n], c[k : k + n], memory[s : s + n]
        for j in range(n):
            o[j] += x[j] * m[j]
        slot += count


@njit(**_OPTIONS)
def _adjoint_columns(memory: Any, row: Any, layer: Any, z: Any) -> None:
    """``μ ← b μ + u`` and ``z = a μ`` in the layers' columns of a row."""
    slot = 0
    for side in range(2):
        k, n = layer.runs[side]
        m, x, y = memory[slot : slot + n], layer.a[slot : slot + n], layer.b[slot : slot + n]
        u, r = row[k : k + n], z[k : k + n]
        for j in range(n):
            m[j] = y[j] * m[j] + u[j]
        for j in range(n):
            r[j] = x[j] * m[j]
        slot += n


@njit(**_OPTIONS)
def _add_column_differences(
    out: Any, c: Any, z: Any, layer: Any, half: int, w1: float, w2: float
) -> None:
    """``out += c ∂z`` where ``z`` is not zero around; each column once."""
    end = GHOST
    for side in range(2):
        start, count = layer.runs[side]
        if count == 0:
            continue
        k = max(start - 2, end)
        n = max(min(start + count + 2, len(out) - GHOST) - k, 0)
        if n > 0:
            s = k - 2 + half
            o, x = out[k : k + n], c[k : k + n]
            z0, z1, z2, z3 = z[s:], z[s + 1 :], z[s + 2 :], z[s + 3 :]
            for j in range(n):
                o[j] += x[j] * (w1 * (z2[j] - z1[j]) + w2 * (z3[j] - z0[j]))
            end = k + n


@njit(**_OPTIONS)
def _record(u: Any, points: Any, n: int) -> None:
    nodes, weights, series = points
    flat = u.reshape(-1)
    for r in range(nodes.shape[0]):
        value = weights[r, 0] * flat[nodes[r, 0]]
        for k in range(1, nodes.shape[1]):
            value += weights[r, k] * flat[nodes[r, k]]
        series[r, n] = value


@njit(**_OPTIONS)
def _inject(u: Any, points: Any, n: int) -> None:
    nodes, weights, series = points
    flat = u.reshape(-1)
    for r in range(nodes.shape[0]):
        for k in range(nodes.shape[1]):
            flat[nodes[r, k]] += weights[r, k] * series[r, n]


@njit(**_OPTIONS)
def _inject_times(u: Any, c: Any, points: Any, n: int, sign: int) -> None:
    nodes, weights, series = points
    flat, factor = u.reshape(-1), c.reshape(-1)
    for r in range(nodes.shape[0]):
        for k in range(nodes.shape[1]):
            i = nodes[r, k]
            flat[i] += sign * factor[i] * weights[r, k] * series[r, n]


@njit(**_OPTIONS)
def _even(u: Any, half: int) -> None:
    """Continue ``u`` evenly above a free surface, on which rows of whole numbers begin."""
    for k in range(1, GHOST + 1):
        u[GHOST - k, :] = u[GHOST + k - half, :]


@njit(**_OPTIONS)
def _odd(u: Any, half: int) -> None:
    if half == 0:
        u[GHOST, :] = 0
    for k in range(1, GHOST + 1):
        for j in range(u.shape[1]):
            u[GHOST - k, j] = -u[GHOST + k - half, j]


@njit(parallel=True, **_OPTIONS)
def velocities(
    v0: Any, v1: Any, old0: Any, old1: Any, s00: Any, s11: Any, s01: Any, b0: Any, b1: Any,
    p00: Any, p01: Any, p10: Any, p11: Any, half0: Any, half1: Any, node0: Any, node1: Any,
    w: Any, surface: bool, copy: bool, rows: Any,
) -> None:  # fmt: skip
    """``v += b ∇·σ``."""
    w01, w02, w11, w12 = w
    if surface:
        _odd(s00, 0)
        _odd(s01, 1)
    threads, height = rows.shape[0], v0.shape[0] - 2 * GHOST
    absorbing = len(half1.lines) > 0
    for t in prange(threads):
        d = _own(rows[t, 0])
        for i in range(GHOST + height * t // threads, GHOST + height * (t + 1) // threads):
            if copy:
                v0[i, :] = old0[i]
                v1[i, :] = old1[i]
            a0, a1 = _own(s00[i - 1]), _own(s00[i])
            a2, a3 = _own(s00[i + 1]), _own(s00[i + 2])
            out, c = _own(v0[i]), _own(b0[i])
            _advance_row(out, c, a0, a1, a2, a3, s01[i], 0, w01, w02, w11, w12)
            if half0.slot[i] >= 0:
                s = half0.slot[i]
                _difference(d, a0, a1, a2, a3, w01, w02)
                _remember(_own(p00[s]), d, half0.b[s], half0.a[s])
                _add_product(out, c, _own(p00[s]))
            a0, a1 = _own(s01[i - 2]), _own(s01[i - 1])
            a2, a3 = _own(s01[i]), _own(s01[i + 1])
            out, c = _own(v1[i]), _own(b1[i])
            _advance_row(out, c, a0, a1, a2, a3, s11[i], 1, w01, w02, w11, w12)
            if node0.slot[i] >= 0:
                s = node0.slot[i]
                _difference(d, a0, a1, a2, a3, w01, w02)
                _remember(_own(p10[s]), d, node0.b[s], node0.a[s])
                _add_product(out, c, _own(p10[s]))
            if absorbing:
                _columns_memory(p01[i], s01[i], node1, 0, w11, w12)
                _add_columns(v0[i], b0[i], p01[i], node1)
                _columns_memory(p11[i], s11[i], half1, 1, w11, w12)
                _add_columns(v1[i], b1[i], p11[i], half1)


@njit(parallel=True, **_OPTIONS)
def stresses(
    s00: Any, s11: Any, s01: Any, v0: Any, v1: Any, la: Any, mu: Any, mm: Any,
    q00: Any, q01: Any, q10: Any, q11: Any, old00: Any, old01: Any, old10: Any, old11: Any,
    half0: Any, half1: Any, node0: Any, node1: Any, w: Any, surface: bool, copy: bool, rows: Any,
) -> None:  # fmt: skip
    """``σ += λ tr(ε) + 2 µ ε`` with the rates of strain ``ε``."""
    w01, w02, w11, w12 = w
    if surface:
        _even(v0, 1)
        _even(v1, 0)
    threads, height = rows.shape[0], v0.shape[0] - 2 * GHOST
    absorbing = len(half1.lines) > 0
    for t in prange(threads):
        padded_e, padded_f = rows[t, 0], rows[t, 1]
        e, f = _own(padded_e), _own(padded_f)
        for i in range(GHOST + height * t // threads, GHOST + height * (t + 1) // threads):
            if copy:
                q01[i, :] = old01[i]
                q11[i, :] = old11[i]
            _difference(e, _own(v0[i - 2]), _own(v0[i - 1]), _own(v0[i]), _own(v0[i + 1]), w01, w02)
            t0, t1, t2, t3 = _shifts(v1[i], 0)
            _difference(f, t0, t1, t2, t3, w11, w12)
            if node0.slot[i] >= 0:
                s = node0.slot[i]
                m = _own(q00[s])
                if copy:
                    m[:] = _own(old00[s])
                _remember(m, e, node0.b[s], node0.a[s])
                _add(e, m)
            if absorbing:
                _columns(q11[i], padded_f, node1)
            if surface and i == GHOST:
                e[:] = 0  # ``la`` is zero here, and ``2 mu`` is what a stress-free surface leaves
            _strain(_own(s00[i]), _own(la[i]), _own(mu[i]), e, f)
            _strain(_own(s11[i]), _own(la[i]), _own(mu[i]), f, e)
            a0, a1 = _own(v1[i - 1]), _own(v1[i])
            a2, a3 = _own(v1[i + 1]), _own(v1[i + 2])
            out, c = _own(s01[i]), _own(mm[i])
            _advance_row(out, c, a0, a1, a2, a3, v0[i], 1, w01, w02, w11, w12)
            if half0.slot[i] >= 0:
                s = half0.slot[i]
                m = _own(q10[s])
                if copy:
                    m[:] = _own(old10[s])
                _difference(e, a0, a1, a2, a3, w01, w02)
                _remember(m, e, half0.b[s], half0.a[s])
                _add_product(out, c, m)
            if absorbing:
                _columns_memory(q01[i], v0[i], half1, 1, w11, w12)
                _add_columns(s01[i], mm[i], q01[i], half1)


@njit(parallel=True, **_OPTIONS)
def adjoint_velocities(
    v0: Any, v1: Any, s00: Any, s11: Any, s01: Any, b0: Any, b1: Any,
    u0: Any, u1: Any, old0: Any, old1: Any, k00: Any, k01: Any, k10: Any, k11: Any,
    g1: Any, g2: Any, g3: Any, g4: Any, g5: Any,
    q00: Any, q01: Any, q10: Any, q11: Any, z00: Any, z10: Any,
    half0: Any, half1: Any, node0: Any, node1: Any, w: Any, surface: bool, rows: Any,
) -> None:  # fmt: skip
    """The transpose of ``stresses``, and the gradients.

    ``u`` and ``k`` are the velocities and the layers' memory after the step's forward counterpart,
    ``old`` are the velocities before.
    """
    w01, w02, w11, w12 = w
    if surface:
        _odd(s00, 0)
        _odd(s01, 1)
        _even(u0, 1)
        _even(u1, 0)
    threads, height = rows.shape[0], v0.shape[0] - 2 * GHOST
    absorbing = len(half1.lines) > 0
    for s in prange(len(node0.lines)):
        m, z = _own(q00[s]), _own(z00[s])
        m *= node0.b[s]
        _add(m, _own(s00[node0.lines[s]]))
        for j in range(len(z)):
            z[j] = node0.a[s] * m[j]
    for s in prange(len(half0.lines)):
        m, z = _own(q10[s]), _own(z10[s])
        m *= half0.b[s]
        _add(m, _own(s01[half0.lines[s]]))
        for j in range(len(z)):
            z[j] = half0.a[s] * m[j]
    for t in prange(threads):
        padded_e, padded_f = rows[t, 0], rows[t, 1]
        z01, z11 = rows[t, 2], rows[t, 3]
        e, f = _own(padded_e), _own(padded_f)
        for i in range(GHOST + height * t // threads, GHOST + height * (t + 1) // threads):
            # Gradients: stresses times rates of strain.
            _difference(e, _own(u0[i - 2]), _own(u0[i - 1]), _own(u0[i]), _own(u0[i + 1]), w01, w02)
            t0, t1, t2, t3 = _shifts(u1[i], 0)
            _difference(f, t0, t1, t2, t3, w11, w12)
            if node0.slot[i] >= 0:
                _add(e, _own(k00[node0.slot[i]]))
            if absorbing:
                _columns_of(k11[i], padded_f, node1)
            if surface and i == GHOST:
                e[:] = 0
            _gradient_sum(_own(g1[i]), _own(s00[i]), _own(s11[i]), e, f)
            _gradient_difference(_own(g2[i]), _own(s00[i]), _own(s11[i]), e, f)
            a0, a1 = _own(u1[i - 1]), _own(u1[i])
            a2, a3 = _own(u1[i + 1]), _own(u1[i + 2])
            _advance_row(_own(g3[i]), _own(s01[i]), a0, a1, a2, a3, u0[i], 1,
                         w01, w02, w11, w12)  # fmt: skip
            if half0.slot[i] >= 0:
                _add_product(_own(g3[i]), _own(s01[i]), _own(k10[half0.slot[i]]))
            if absorbing:
                _add_columns(g3[i], s01[i], k01[i], half1)
            # The velocities.
            a0, a1 = _own(s00[i - 1]), _own(s00[i])
            a2, a3 = _own(s00[i + 1]), _own(s00[i + 2])
            out, c = _own(v0[i]), _own(b0[i])
            _advance_row(out, c, a0, a1, a2, a3, s01[i], 0, w01, w02, w11, w12)
            x0, x1 = node0.slot[i - 1], node0.slot[i]
            x2, x3 = node0.slot[i + 1], node0.slot[i + 2]
            if max(max(x0, x1), max(x2, x3)) >= 0:  # where there is no layer, the last row is zero
                _difference(e, _own(z00[x0]), _own(z00[x1]), _own(z00[x2]), _own(z00[x3]), w01, w02)
                _add_product(out, c, e)
            a0, a1 = _own(s01[i - 2]), _own(s01[i - 1])
            a2, a3 = _own(s01[i]), _own(s01[i + 1])
            out, c = _own(v1[i]), _own(b1[i])
            _advance_row(out, c, a0, a1, a2, a3, s11[i], 1, w01, w02, w11, w12)
            x0, x1 = half0.slot[i - 2], half0.slot[i - 1]
            x2, x3 = half0.slot[i], half0.slot[i + 1]
            if max(max(x0, x1), max(x2, x3)) >= 0:
                _difference(e, _own(z10[x0]), _own(z10[x1]), _own(z10[x2]), _own(z10[x3]), w01, w02)
                _add_product(out, c, e)
            if absorbing:
                _adjoint_columns(q01[i], s01[i], half1, z01)
                _add_column_differences(v0[i], b0[i], z01, half1, 0, w11, w12)
                _adjoint_columns(q11[i], s11[i], node1, z11)
                _add_column_differences(v1[i], b1[i], z11, node1, 1, w11, w12)
            _gradient_change(_own(g4[i]), _own(v0[i]), _own(u0[i]), _own(old0[i]))
            _gradient_change(_own(g5[i]), _own(v1[i]), _own(u1[i]), _own(old1[i]))


@njit(**_OPTIONS)
def _gradient_sum(g: Any, s: Any, t: Any, e: Any, f: Any) -> None:
    for j in range(len(g)):
        g[j] += (s[j] + t[j]) * (e[j] + f[j])


@njit(**_OPTIONS)
def _gradient_difference(g: Any, s: Any, t: Any, e: Any, f: Any) -> None:
    for j in range(len(g)):
        g[j] += (s[j] - t[j]) * (e[j] - f[j])


@njit(**_OPTIONS)
def _gradient_change(g: Any, v: Any, new: Any, old: Any) -> None:
    for j in range(len(g)):
        g[j] += v[j] * (new[j] - old[j])


@njit(parallel=True, **_OPTIONS)
def adjoint_stresses(
    s00: Any, s11: Any, s01: Any, v0: Any, v1: Any, la: Any, mu: Any, mm: Any,
    p00: Any, p01: Any, p10: Any, p11: Any, z00: Any, z10: Any,
    half0: Any, half1: Any, node0: Any, node1: Any, w: Any, surface: bool, rows: Any,
) -> None:  # fmt: skip
    """The transpose of ``velocities``."""
    w01, w02, w11, w12 = w
    if surface:
        _even(v0, 1)
        _even(v1, 0)
    threads, height = rows.shape[0], v0.shape[0] - 2 * GHOST
    absorbing = len(half1.lines) > 0
    for s in prange(len(half0.lines)):
        m, z = _own(p00[s]), _own(z00[s])
        m *= half0.b[s]
        _add(m, _own(v0[half0.lines[s]]))
        for j in range(len(z)):
            z[j] = half0.a[s] * m[j]
    for s in prange(len(node0.lines)):
        m, z = _own(p10[s]), _own(z10[s])
        m *= node0.b[s]
        _add(m, _own(v1[node0.lines[s]]))
        for j in range(len(z)):
            z[j] = node0.a[s] * m[j]
    for t in prange(threads):
        padded_e, padded_f = rows[t, 0], rows[t, 1]
        z11, z01, d = rows[t, 2], rows[t, 3], _own(rows[t, 4])
        e, f = _own(padded_e), _own(padded_f)
        for i in range(GHOST + height * t // threads, GHOST + height * (t + 1) // threads):
            _difference(e, _own(v0[i - 2]), _own(v0[i - 1]), _own(v0[i]), _own(v0[i + 1]), w01, w02)
            t0, t1, t2, t3 = _shifts(v1[i], 0)
            _difference(f, t0, t1, t2, t3, w11, w12)
            x0, x1 = half0.slot[i - 2], half0.slot[i - 1]
            x2, x3 = half0.slot[i], half0.slot[i + 1]
            if max(max(x0, x1), max(x2, x3)) >= 0:
                _difference(d, _own(z00[x0]), _own(z00[x1]), _own(z00[x2]), _own(z00[x3]), w01, w02)
                _add(e, d)
            if absorbing:
                _adjoint_columns(p11[i], v1[i], half1, z11)
                ones = rows[t, 5]
                _add_column_differences(padded_f, ones, z11, half1, 0, w11, w12)
            if surface and i == GHOST:
                e[:] = 0
            _strain(_own(s00[i]), _own(la[i]), _own(mu[i]), e, f)
            _strain(_own(s11[i]), _own(la[i]), _own(mu[i]), f, e)
            a0, a1 = _own(v1[i - 1]), _own(v1[i])
            a2, a3 = _own(v1[i + 1]), _own(v1[i + 2])
            out, c = _own(s01[i]), _own(mm[i])
            _advance_row(out, c, a0, a1, a2, a3, v0[i], 1, w01, w02, w11, w12)
            x0, x1 = node0.slot[i - 1], node0.slot[i]
            x2, x3 = node0.slot[i + 1], node0.slot[i + 2]
            if max(max(x0, x1), max(x2, x3)) >= 0:
                _difference(d, _own(z10[x0]), _own(z10[x1]), _own(z10[x2]), _own(z10[x3]), w01, w02)
                _add_product(out, c, d)
            if absorbing:
                _adjoint_columns(p01[i], v0[i], node1, z01)
                _add_column_differences(s01[i], mm[i], z01, node1, 1, w11, w12)


@njit(**_OPTIONS)
def step_velocities(n: int, v: Any, old: Any, s: Any, b: Any, p: Any, geometry: Any, copy: bool,
                    sources: Any, rows: Any) -> None:  # fmt: skip
    """First half of a step: velocities, with forces."""
    half0, half1, node0, node1, w, surface = geometry
    velocities(v[0], v[1], old[0], old[1], s[0], s[1], s[2], b[0], b[1], p[0], p[1], p[2], p[3],
               half0, half1, node0, node1, w, surface, copy, rows)  # fmt: skip
    _inject_times(v[0], b[0], sources[0], n, 1)
    _inject_times(v[1], b[1], sources[1], n, 1)


@njit(**_OPTIONS)
def step_stresses(n: int, s: Any, v: Any, c: Any, q: Any, old: Any, geometry: Any, copy: bool,
                  sources: Any, rows: Any) -> None:  # fmt: skip
    """Second half of a step: stresses, with moments."""
    half0, half1, node0, node1, w, surface = geometry
    stresses(s[0], s[1], s[2], v[0], v[1], c[0], c[1], c[2], q[0], q[1], q[2], q[3],
             old[0], old[1], old[2], old[3], half0, half1, node0, node1, w, surface, copy,
             rows)  # fmt: skip
    _inject(s[0], sources[2], n)
    _inject(s[1], sources[3], n)
    _inject(s[2], sources[4], n)
    if surface:
        _odd(s[0], 0)


@njit(**_OPTIONS)
def record(n: int, v: Any, s: Any, receivers: Any) -> None:
    """Record velocities and stresses at the receivers."""
    _record(v[0], receivers[0], n)
    _record(v[1], receivers[1], n)
    _record(s[0], receivers[2], n)
    _record(s[1], receivers[3], n)
    _record(s[2], receivers[4], n)


@njit(**_OPTIONS)
def advance(first: int, last: int, v0: Any, v1: Any, s: Any, b: Any, c: Any, p: Any, q: Any,
            geometry: Any, sources: Any, receivers: Any, rows: Any) -> None:  # fmt: skip
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
        step_velocities(n, now, then, s, b, p, geometry, levels > 1, sources, rows)
        step_stresses(n, s, now, c, q_now, q_then, geometry, levels > 1, sources, rows)
        record(n, now, s, receivers)


@njit(**_OPTIONS)
def receive_adjoint(n: int, v: Any, s: Any, b: Any, c: Any, receivers: Any) -> None:
    """The transpose of ``record``: add the traces' cotangents."""
    _inject_normal(s[0], s[1], c[0], c[1], receivers[2], n)
    _inject_normal(s[1], s[0], c[0], c[1], receivers[3], n)
    _inject_times(s[2], c[2], receivers[4], n, 1)
    _inject_times(v[0], b[0], receivers[0], n, -1)
    _inject_times(v[1], b[1], receivers[1], n, -1)


@njit(**_OPTIONS)
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


@njit(**_OPTIONS)
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


@njit(**_OPTIONS)
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


@njit(**_OPTIONS)
def step_adjoint_velocities(
    n: int, v: Any, s: Any, b: Any, c: Any, u: Any, old: Any, kept: Any, gradients: Any, q: Any,
    z: Any, geometry: Any, sources: Any, rows: Any,
) -> None:  # fmt: skip
    """The transpose of ``step_stresses``, with the gradients."""
    half0, half1, node0, node1, w, surface = geometry
    if surface:
        _odd(s[0], 0)
    _record_normal(s[0], s[1], c[0], c[1], sources[2], n)
    _record_normal(s[1], s[0], c[0], c[1], sources[3], n)
    _record_quotient(s[2], c[2], sources[4], n)
    adjoint_velocities(
        v[0], v[1], s[0], s[1], s[2], b[0], b[1], u[0], u[1], old[0], old[1],
        kept[0], kept[1], kept[2], kept[3], gradients[0], gradients[1], gradients[2], gradients[3],
        gradients[4], q[0], q[1], q[2], q[3], z[0], z[1], half0, half1, node0, node1, w, surface,
        rows,
    )  # fmt: skip
    _record(v[0], sources[0], n)
    _record(v[1], sources[1], n)


@njit(**_OPTIONS)
def step_adjoint_stresses(s: Any, v: Any, c: Any, p: Any, z: Any, geometry: Any, rows: Any) -> None:
    """The transpose of ``step_velocities``."""
    half0, half1, node0, node1, w, surface = geometry
    adjoint_stresses(s[0], s[1], s[2], v[0], v[1], c[0], c[1], c[2], p[0], p[1], p[2], p[3],
                     z[2], z[3], half0, half1, node0, node1, w, surface, rows)  # fmt: skip


@njit(**_OPTIONS)
def reverse(
    first: int, last: int, v: Any, s: Any, b: Any, c: Any, u0: Any, u1: Any, kept: Any,
    gradients: Any, p: Any, q: Any, z: Any, geometry: Any, sources: Any, receivers: Any, rows: Any,
) -> None:  # fmt: skip
    """Take the steps ``last − 1`` … ``first`` back on a rank without neighbours."""
    for n in range(last - 1, first - 1, -1):
        k = n - first
        receive_adjoint(n, v, s, b, c, receivers)
        step_adjoint_velocities(
            n, v, s, b, c, (u0[k + 1], u1[k + 1]), (u0[k], u1[k]),
            (kept[0][k + 1], kept[1][k + 1], kept[2][k + 1], kept[3][k + 1]),
            gradients, q, z, geometry, sources, rows,
        )  # fmt: skip
        step_adjoint_stresses(s, v, c, p, z, geometry, rows)
