"""Compiled steps of the acoustic wave: forwards and in reverse, memory swept once.

Fields are padded by ``GHOST`` nodes on all sides, and by columns without use behind the first
``columns`` (see :mod:`~adjoint.solvers.padding`): what is computed there is never read. Index ``k``
of a half point stands for the point between lines ``k`` and ``k + 1``. See
:mod:`~adjoint.solvers.acoustic` for what is computed.

Rows are taken as slices of equal length, all indexed by the same variable: indexing whole arrays by
``[i, j + 1]`` would test each index for wrapping around, which forbids vector instructions.
"""

from __future__ import annotations

from typing import Any

from numba import njit, prange

#: Ghost layers: a flux at a half point takes two nodes on either side, and the divergence of fluxes
#: two half points on either side of a node.
GHOST = 3

_OPTIONS: dict[str, Any] = {"cache": True, "fastmath": {"contract"}, "error_model": "numpy"}


@njit(**_OPTIONS)
def _difference(out: Any, u0: Any, u1: Any, u2: Any, u3: Any, w1: float, w2: float) -> None:
    """Difference at half points, from lines on either side of them."""
    for j in range(len(out)):
        out[j] = w1 * (u2[j] - u1[j]) + w2 * (u3[j] - u0[j])


@njit(**_OPTIONS)
def _times_difference(out: Any, u0: Any, u1: Any, u2: Any, u3: Any, w1: float, w2: float) -> None:
    for j in range(len(out)):
        out[j] *= w1 * (u2[j] - u1[j]) + w2 * (u3[j] - u0[j])


@njit(**_OPTIONS)
def _times_sum(out: Any, a: Any, b: Any) -> None:
    for j in range(len(out)):
        out[j] *= a[j] + b[j]


@njit(**_OPTIONS)
def _flux(out: Any, d: Any, a: Any, b: Any) -> None:
    for j in range(len(out)):
        out[j] = (a[j] + b[j]) * d[j]


@njit(**_OPTIONS)
def _remember(memory: Any, d: Any, b: float, a: float) -> None:
    """A layer's recursion in a line across which its coefficients are the same."""
    for j in range(len(memory)):
        memory[j] = b * memory[j] + a * d[j]


@njit(**_OPTIONS)
def _add_to(out: Any, more: Any) -> None:
    for j in range(len(out)):
        out[j] += more[j]


@njit(**_OPTIONS)
def _add_times(out: Any, a: float, more: Any) -> None:
    for j in range(len(out)):
        out[j] += a * more[j]


@njit(**_OPTIONS)
def _own(row: Any) -> Any:
    """The owned nodes of a padded row."""
    return row[GHOST : len(row) - GHOST]


@njit(**_OPTIONS)
def _absorb_fluxes(
    memory: Any, along: Any, u: Any, c2: Any, runs: Any, a: Any, b: Any, w1: float, w2: float
) -> None:
    """Add a layer's part to the fluxes along a row."""
    s = 0
    for side in range(2):
        k, n = runs[side]
        m, x, y = memory[s : s + n], a[s : s + n], b[s : s + n]
        u0, u1, u2, u3 = u[k - 1 :], u[k:], u[k + 1 :], u[k + 2 :]
        for j in range(n):
            m[j] = y[j] * m[j] + x[j] * (w1 * (u2[j] - u1[j]) + w2 * (u3[j] - u0[j]))
        f, c0, c1 = along[k : k + n], c2[k : k + n], c2[k + 1 : k + 1 + n]
        for j in range(n):
            f[j] += (c0[j] + c1[j]) * m[j]
        s += n


@njit(**_OPTIONS)
def _absorb_divergence(
    memory: Any, out: Any, along: Any, runs: Any, a: Any, b: Any, v1: float, v2: float
) -> None:
    """Add a layer's part to the divergence of the fluxes along a row, at the owned nodes."""
    slot = 0
    for side in range(2):
        start, count = runs[side]
        k = max(start, GHOST)
        n = max(min(start + count, len(out) - GHOST) - k, 0)
        s = slot + k - start
        m, x, y = memory[s : s + n], a[s : s + n], b[s : s + n]
        p0, p1, p2, p3 = (
            along[k - 2 : k - 2 + n],
            along[k - 1 : k - 1 + n],
            along[k:],
            along[k + 1 :],
        )
        o = out[k : k + n]
        for j in range(n):
            m[j] = y[j] * m[j] + x[j] * (v1 * (p2[j] - p1[j]) + v2 * (p3[j] - p0[j]))
        for j in range(n):
            o[j] += m[j]
        slot += count


@njit(**_OPTIONS)
def _absorb_adjoint(memory: Any, line: Any, u: Any, runs: Any, a: Any, b: Any) -> None:
    """``φ ← b φ + λ`` and ``r = λ + a φ`` at the layers' nodes of a row."""
    s = 0
    for side in range(2):
        k, n = runs[side]
        m, x, y = memory[s : s + n], a[s : s + n], b[s : s + n]
        r, lam = line[k : k + n], u[k : k + n]
        for j in range(n):
            m[j] = y[j] * m[j] + lam[j]
        for j in range(n):
            r[j] += x[j] * m[j]
        s += n


@njit(**_OPTIONS)
def _absorb_adjoint_fluxes(
    memory: Any, along: Any, energy: Any, d: Any, psi: Any, runs: Any, a: Any, b: Any
) -> None:
    """``μ ← b μ + C d``, the flux ``C d + a μ``, and the layers' part of ``energy``, in a row."""
    s = 0
    for side in range(2):
        k, n = runs[side]
        m, x, y = memory[s : s + n], a[s : s + n], b[s : s + n]
        f, e, h, p = along[k : k + n], energy[k : k + n], d[k : k + n], psi[s : s + n]
        for j in range(n):
            m[j] = y[j] * m[j] + f[j]
        for j in range(n):
            f[j] += x[j] * m[j]
        for j in range(n):
            e[j] += h[j] * p[j]
        s += n


@njit(**_OPTIONS)
def _direct_flux0(u: Any, c2: Any, k: int, p: Any, w1: float, w2: float) -> None:
    """``p = C ∂u`` at half point ``k`` of axis 0, in one sweep."""
    n = len(p) - 2 * GHOST
    out = p[GHOST : GHOST + n]
    u0, u1 = u[k - 1, GHOST : GHOST + n], u[k, GHOST : GHOST + n]
    u2, u3 = u[k + 1, GHOST : GHOST + n], u[k + 2, GHOST : GHOST + n]
    a, b = c2[k, GHOST : GHOST + n], c2[k + 1, GHOST : GHOST + n]
    for j in range(n):
        out[j] = (a[j] + b[j]) * (w1 * (u2[j] - u1[j]) + w2 * (u3[j] - u0[j]))


@njit(**_OPTIONS)
def _direct_flux1(u: Any, c2: Any, p: Any, w1: float, w2: float) -> None:
    """``p = C ∂u`` at the half points of a row, in one sweep."""
    n = len(p) - 3
    out = p[1 : 1 + n]
    u0, u1, u2, u3 = u[0:n], u[1 : 1 + n], u[2 : 2 + n], u[3 : 3 + n]
    a, b = c2[1 : 1 + n], c2[2 : 2 + n]
    for j in range(n):
        out[j] = (a[j] + b[j]) * (w1 * (u2[j] - u1[j]) + w2 * (u3[j] - u0[j]))


@njit(inline="always", **_OPTIONS)
def _divergence(p0: Any, p1: Any, p2: Any, p3: Any, j: int, w1: float, w2: float) -> Any:
    return w1 * (p2[j] - p1[j]) + w2 * (p3[j] - p0[j])


@njit(**_OPTIONS)
def _leap(
    out: Any, u: Any, old: Any, p0: Any, p1: Any, p2: Any, p3: Any, q: Any,
    v01: float, v02: float, v11: float, v12: float,
) -> None:  # fmt: skip
    """``out = 2 u − old + ∇·p`` in a row, from four rows of fluxes and those along the row."""
    n = len(u) - 2 * GHOST
    o, c, b = out[GHOST : GHOST + n], u[GHOST : GHOST + n], old[GHOST : GHOST + n]
    f0, f1 = p0[GHOST : GHOST + n], p1[GHOST : GHOST + n]
    f2, f3 = p2[GHOST : GHOST + n], p3[GHOST : GHOST + n]
    q0, q1 = q[GHOST - 2 : GHOST - 2 + n], q[GHOST - 1 : GHOST - 1 + n]
    q2, q3 = q[GHOST : GHOST + n], q[GHOST + 1 : GHOST + 1 + n]
    for j in range(n):
        r0 = _divergence(f0, f1, f2, f3, j, v01, v02)
        r1 = _divergence(q0, q1, q2, q3, j, v11, v12)
        o[j] = c[j] + c[j] - b[j] + (r0 + r1)


@njit(**_OPTIONS)
def _leap_in_place(
    out: Any, u: Any, p0: Any, p1: Any, p2: Any, p3: Any, q: Any,
    v01: float, v02: float, v11: float, v12: float,
) -> None:  # fmt: skip
    """``_leap`` with ``out`` in the place of ``old``: no vector instructions are used for arrays
    that turn out to be the same."""
    n = len(u) - 2 * GHOST
    o, c = out[GHOST : GHOST + n], u[GHOST : GHOST + n]
    f0, f1 = p0[GHOST : GHOST + n], p1[GHOST : GHOST + n]
    f2, f3 = p2[GHOST : GHOST + n], p3[GHOST : GHOST + n]
    q0, q1 = q[GHOST - 2 : GHOST - 2 + n], q[GHOST - 1 : GHOST - 1 + n]
    q2, q3 = q[GHOST : GHOST + n], q[GHOST + 1 : GHOST + 1 + n]
    for j in range(n):
        r0 = _divergence(f0, f1, f2, f3, j, v01, v02)
        r1 = _divergence(q0, q1, q2, q3, j, v11, v12)
        o[j] = c[j] + c[j] - o[j] + (r0 + r1)


@njit(**_OPTIONS)
def _images(u: Any) -> None:
    """Continue ``u`` oddly above a free surface, on which it is zero."""
    u[GHOST, :] = 0
    for k in range(1, GHOST + 1):
        for j in range(u.shape[1]):
            u[GHOST - k, j] = -u[GHOST + k, j]


@njit(**_OPTIONS)
def _record(u: Any, nodes: Any, weights: Any, traces: Any, n: int) -> None:
    """``traces[:, n] = `` the values of ``u`` at points."""
    flat = u.reshape(-1)
    for r in range(nodes.shape[0]):
        value = weights[r, 0] * flat[nodes[r, 0]]
        for k in range(1, nodes.shape[1]):
            value += weights[r, k] * flat[nodes[r, k]]
        traces[r, n] = value


@njit(**_OPTIONS)
def _inject(u: Any, nodes: Any, weights: Any, series: Any, n: int) -> None:
    """The transpose of ``_record``: spread values at points over the nodes."""
    flat = u.reshape(-1)
    for r in range(nodes.shape[0]):
        for k in range(nodes.shape[1]):
            flat[nodes[r, k]] += weights[r, k] * series[r, n]


@njit(parallel=True, **_OPTIONS)
def advance(
    first: int, last: int, offset: int, u: Any, psi0: Any, psi1: Any, phi0: Any, phi1: Any,
    c2: Any, half0: Any, half1: Any, node0: Any, node1: Any, weights: Any, surface: bool,
    receivers: Any, sources: Any, strip: Any, rows: Any, columns: int,
) -> None:  # fmt: skip
    """Take the steps ``first`` … ``last − 1``.

    ``u[k]`` and ``psi[k]`` are levels that are used in turns: in place with two levels of ``u`` and
    one of ``psi``, and with more of them all that the steps go through is kept.
    """
    w01, w02, v01, v02, w11, w12, v11, v12 = weights
    r_nodes, r_weights, traces = receivers
    s_nodes, s_weights, wavelets = sources
    levels, memory = u.shape[0], psi0.shape[0]
    threads = rows.shape[0]
    height = u.shape[1] - 2 * GHOST
    for n in range(first, last):
        step = n - first + offset
        now, old = u[(step + 1) % levels], u[step % levels]
        new = u[(step + 2) % levels]
        before0, after0 = psi0[step % memory], psi0[(step + 1) % memory]
        before1, after1 = psi1[step % memory], psi1[(step + 1) % memory]
        if surface:
            _images(now)
        _record(now, r_nodes, r_weights, traces, n)
        for s in prange(len(half0.lines)):
            k, flux, psi = half0.lines[s], _own(strip[s]), _own(after0[s])
            _difference(flux, _own(now[k - 1]), _own(now[k]), _own(now[k + 1]), _own(now[k + 2]),
                        w01, w02)  # fmt: skip
            if memory > 1:
                psi[:] = _own(before0[s])
            _remember(psi, flux, half0.b[s], half0.a[s])
            _add_to(flux, psi)
            _times_sum(flux, _own(c2[k]), _own(c2[k + 1]))
        for t in prange(threads):
            begin, end = height * t // threads, height * (t + 1) // threads
            work = rows[t]
            along = work[4]
            for i in range(begin + GHOST, end + GHOST):
                for k in range(i - 2 if i == begin + GHOST else i + 1, i + 2):
                    if half0.slot[k] >= 0:
                        work[k % 4, :] = strip[half0.slot[k]]
                    else:
                        _direct_flux0(now, c2, k, work[k % 4, :columns], w01, w02)
                _direct_flux1(now[i], c2[i], along, w11, w12)
                row = now[i]
                if memory > 1:
                    after1[i, :] = before1[i]
                _absorb_fluxes(after1[i], along, row, c2[i], half1.runs, half1.a, half1.b, w11, w12)
                p0, p1 = work[(i - 2) % 4], work[(i - 1) % 4]
                p2, p3 = work[i % 4], work[(i + 1) % 4]
                out, centre = new[i, :columns], now[i, :columns]
                if levels == 2:
                    _leap_in_place(out, centre, p0, p1, p2, p3, along, v01, v02, v11, v12)
                else:
                    _leap(out, centre, old[i], p0, p1, p2, p3, along, v01, v02, v11, v12)
                if node0.slot[i] >= 0:
                    s = node0.slot[i]
                    phi, work_row = _own(phi0[s]), _own(work[5])
                    _difference(work_row, _own(p0), _own(p1), _own(p2), _own(p3), v01, v02)
                    _remember(phi, work_row, node0.b[s], node0.a[s])
                    _add_to(_own(out), phi)
                _absorb_divergence(phi1[i], out, along, node1.runs, node1.a, node1.b, v11, v12)
        _inject(new, s_nodes, s_weights, wavelets, n)
        if surface:
            new[GHOST, :] = 0


@njit(parallel=True, **_OPTIONS)
def reverse(
    first: int, last: int, offset: int, lam: Any, mu0: Any, mu1: Any, phi0: Any, phi1: Any,
    u: Any, psi0: Any, psi1: Any, kept: int,
    c2: Any, gradient: Any, half0: Any, half1: Any, node0: Any, node1: Any, weights: Any,
    surface: bool, ends: Any, receivers: Any, sources: Any, strip: Any, energy: Any,
    rows: Any, columns: int,
) -> None:  # fmt: skip
    """Take the steps ``last − 1`` … ``first`` back.

    ``lam`` has two levels that are used in turns; ``u[k]`` and ``psi[k]`` are what ``advance`` has
    kept, with step ``first`` at level ``kept``. ``ends`` tells at which ends of the axes the grid
    ends.
    """
    w01, w02, v01, v02, w11, w12, v11, v12 = weights
    r_nodes, r_weights, traces = receivers
    s_nodes, s_weights, wavelets = sources
    threads = rows.shape[0]
    height, width = u.shape[1] - 2 * GHOST, columns - 2 * GHOST
    low, high, left, right = ends
    nodes0 = len(node0.lines)
    for n in range(last - 1, first - 1, -1):
        step = last - 1 - n + offset
        now, new = lam[(step + 1) % 2], lam[step % 2]
        field = u[n - first + kept + 1]
        memory0, memory1 = psi0[n - first + kept + 1], psi1[n - first + kept + 1]
        if surface:
            _images(now)
        _record(now, s_nodes, s_weights, wavelets, n)
        # z = λ + a φ in the rows of a layer, which are those behind its fluxes in ``strip``.
        z = strip[len(half0.lines) :]
        for s in prange(nodes0):
            row, phi, r = _own(now[node0.lines[s]]), _own(phi0[s]), _own(z[s])
            phi *= node0.b[s]
            _add_to(phi, row)
            r[:] = row
            _add_times(r, node0.a[s], phi)
        for s in prange(len(half0.lines)):
            k, flux, e, mu = half0.lines[s], _own(strip[s]), _own(energy[s]), _own(mu0[s])
            z0 = z[node0.slot[k - 1]] if node0.slot[k - 1] >= 0 else now[k - 1]
            z1 = z[node0.slot[k]] if node0.slot[k] >= 0 else now[k]
            z2 = z[node0.slot[k + 1]] if node0.slot[k + 1] >= 0 else now[k + 1]
            z3 = z[node0.slot[k + 2]] if node0.slot[k + 2] >= 0 else now[k + 2]
            _difference(flux, _own(z0), _own(z1), _own(z2), _own(z3), w01, w02)
            _difference(e, _own(field[k - 1]), _own(field[k]), _own(field[k + 1]),
                        _own(field[k + 2]), w01, w02)  # fmt: skip
            _add_to(e, _own(memory0[s]))
            _times(e, flux)
            _times_sum(flux, _own(c2[k]), _own(c2[k + 1]))
            mu *= half0.b[s]
            _add_to(mu, flux)
            _add_times(flux, half0.a[s], mu)
        for t in prange(threads):
            begin, end = height * t // threads, height * (t + 1) // threads
            work = rows[t]
            along, line, d, e1 = work[8], work[9], work[10], work[11]
            for i in range(begin + GHOST, end + GHOST):
                for k in range(i - 2 if i == begin + GHOST else i + 1, i + 2):
                    if half0.slot[k] >= 0:
                        work[k % 4, :] = strip[half0.slot[k]]
                        work[4 + k % 4, :] = energy[half0.slot[k]]
                    else:
                        _paired0(now, field, c2, k, work[k % 4, :columns],
                                 work[4 + k % 4, :columns], w01, w02)  # fmt: skip
                row = now[i]
                if len(node1.lines):
                    line[:] = row
                    _absorb_adjoint(phi1[i], line, row, node1.runs, node1.a, node1.b)
                    _paired1(line, field[i], c2[i], along, e1, d, w11, w12)
                    _absorb_adjoint_fluxes(
                        mu1[i], along, e1, d, memory1[i], half1.runs, half1.a, half1.b
                    )
                else:
                    _paired1(row, field[i], c2[i], along, e1, d, w11, w12)
                p0, p1 = work[(i - 2) % 4], work[(i - 1) % 4]
                p2, p3 = work[i % 4], work[(i + 1) % 4]
                _leap_in_place(new[i, :columns], now[i, :columns], p0, p1, p2, p3, along,
                               v01, v02, v11, v12)  # fmt: skip
                grad = gradient[i, :columns]
                _add(grad, work[4 + (i - 1) % 4], work[4 + i % 4], e1)
                # The velocity of the last node holds also beyond the grid's end.
                if i == GHOST and low:
                    near, far = work[4 + (i - 1) % 4], work[4 + (i - 2) % 4]
                    for j in range(GHOST, len(grad) - GHOST):
                        grad[j] += near[j] + 2 * far[j]
                if i == height + GHOST - 1 and high:
                    near, far = work[4 + i % 4], work[4 + (i + 1) % 4]
                    for j in range(GHOST, len(grad) - GHOST):
                        grad[j] += near[j] + 2 * far[j]
                if left:
                    grad[GHOST] += e1[GHOST - 1] + 2 * e1[GHOST - 2]
                if right:
                    grad[GHOST + width - 1] += e1[GHOST + width - 1] + 2 * e1[GHOST + width]
        _inject(new, r_nodes, r_weights, traces, n)
        if surface:
            new[GHOST, :] = 0


@njit(**_OPTIONS)
def _paired0(z: Any, u: Any, c2: Any, k: int, flux: Any, energy: Any, w1: float, w2: float) -> None:
    """``flux = C ∂z`` and ``energy = ∂z ∂u`` at half point ``k`` of axis 0."""
    p, e = _own(flux), _own(energy)
    _difference(e, _own(z[k - 1]), _own(z[k]), _own(z[k + 1]), _own(z[k + 2]), w1, w2)
    _flux(p, e, _own(c2[k]), _own(c2[k + 1]))
    _times_difference(e, _own(u[k - 1]), _own(u[k]), _own(u[k + 1]), _own(u[k + 2]), w1, w2)


@njit(**_OPTIONS)
def _paired1(z: Any, u: Any, c2: Any, flux: Any, energy: Any, d: Any, w1: float, w2: float) -> None:
    """``d = ∂z``, ``flux = C d`` and ``energy = d ∂u`` at the half points of a row."""
    n = len(flux) - 3
    h, e = d[1 : 1 + n], energy[1 : 1 + n]
    _difference(h, z[0:n], z[1 : 1 + n], z[2 : 2 + n], z[3 : 3 + n], w1, w2)
    _flux(flux[1 : 1 + n], h, c2[1 : 1 + n], c2[2 : 2 + n])
    _difference(e, u[0:n], u[1 : 1 + n], u[2 : 2 + n], u[3 : 3 + n], w1, w2)
    _times(e, h)


@njit(**_OPTIONS)
def _times(out: Any, d: Any) -> None:
    for j in range(len(out)):
        out[j] *= d[j]


@njit(**_OPTIONS)
def _add(gradient: Any, above: Any, below: Any, along: Any) -> None:
    """Add to a row of nodes what its half points have."""
    n = len(gradient) - 2 * GHOST
    g = gradient[GHOST : GHOST + n]
    a, b = above[GHOST : GHOST + n], below[GHOST : GHOST + n]
    c, d = along[GHOST - 1 : GHOST - 1 + n], along[GHOST : GHOST + n]
    for j in range(n):
        g[j] += a[j] + b[j] + c[j] + d[j]
