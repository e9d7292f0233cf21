"""Compiled steps of the acoustic wave in three dimensions, forwards and in reverse.

Fields are padded by ``GHOST`` nodes on all sides, and by columns without use behind those of the
patch (see :mod:`~adjoint.solvers.padding`). A field is an array of rows along axis 2, plane after
plane and level after level: its row ``(i, j)`` is number ``i lines + j`` of a level, a neighbour
along axis 1 is the next row and one along axis 0 lies ``lines`` rows further on. So axes 0 and 1
differ by how far rows are apart, and share their functions. Index ``k`` of a half point stands for
the point between ``k`` and ``k + 1``. See :mod:`~adjoint.solvers.acoustic` for what is computed.

A step goes through blocks of lines, and in each through all planes: a block's fluxes along axis 0
of the last four half planes fit the cache next to a processor, with the planes of the field that
they are made of. Threads share the blocks. Fluxes along axis 1 next to a border between blocks are
computed on both sides of it, and what layers remember of them is taken from one level to another:
so it does not matter when.

A sweep takes one step, and not two as in two dimensions: blocks would have to leave wide gaps for
the second. All is in one file because Numba's cache does not see changes in others.
"""

from __future__ import annotations

from typing import Any

from numba import njit, prange

from .disjoint import disjoint, entry, get, put, take
from .streaming import prefetch, stream
from .unsigned import unsigned

#: Ghost layers: a flux at a half point takes two nodes on either side, and the divergence of fluxes
#: two half points on either side of a node.
GHOST = 3

#: Half planes, or half lines, of fluxes that a node takes.
RING = 4

#: Rows between those that a step takes and those that it has brought into the cache.
AHEAD = 2

#: Of what a row is made of: inlined, for the arrays' descriptions are long lists of arguments. They
#: count no references, for threads would write to the counts in turns; so they can make no arrays.
_PART: dict[str, Any] = {
    "fastmath": {"contract"}, "error_model": "numpy", "forceinline": True, "_nrt": False,
}  # fmt: skip

#: Of what takes a block.
_BLOCK: dict[str, Any] = {"fastmath": {"contract"}, "error_model": "numpy", "_nrt": False}

#: Of what is called once a step, and may make arrays.
_STEP: dict[str, Any] = {"fastmath": {"contract"}, "error_model": "numpy"}

#: Of what is part of a loop's expressions: inlined before anything is compiled, see ``disjoint``.
_TERM: dict[str, Any] = {"error_model": "numpy", "inline": "always"}

#: Of what is called from outside.
_ENTRY: dict[str, Any] = {**_STEP, "cache": True}

_1, _2 = unsigned(1), unsigned(2)


def rows_of_work(block: int) -> int:
    """Return the rows of work memory that a thread takes for blocks of so many lines.

    Rings of fluxes and of what is differentiated, along axes 0 and 1, and a row of each along
    axis 2.
    """
    return 2 * RING * block + 2 * RING + 2


@njit(**_PART)
def _owned(width: int) -> Any:
    """The owned columns of a padded row."""
    return range(unsigned(GHOST), unsigned(GHOST + width))


@njit(**_PART)
def _ring(ring: Any, k: int) -> Any:
    """Where half plane or line ``k`` is in a ring that starts in a row, with rows apart."""
    return unsigned(ring[0] + k % RING * ring[1])


@njit(**_TERM)
def _across(u: Any, x: int, s: int, j: int, w1: float, w2: float) -> Any:
    """Difference behind row ``x``, where the next row is ``s`` further on; all unsigned."""
    return w1 * (get(u, x + s, j) - get(u, x, j)) + w2 * (get(u, x + s + s, j) - get(u, x - s, j))


@njit(**_TERM)
def _along(u: Any, i: int, j: int, w1: float, w2: float) -> Any:
    """Difference at half point ``j`` of a row."""
    return w1 * (get(u, i, j + _1) - get(u, i, j)) + w2 * (get(u, i, j + _2) - get(u, i, j - _1))


@njit(**_TERM)
def _sum_along(c2: Any, i: int, j: int) -> Any:
    """Twice the coefficient at half point ``j`` of a row."""
    return get(c2, i, j) + get(c2, i, j + _1)


@njit(**_TERM)
def _divergence(ring: Any, k0: int, k1: int, k2: int, k3: int, j: int, v1: float, v2: float) -> Any:
    """Difference of fluxes in four rows of a ring."""
    near, far = get(ring, k2, j) - get(ring, k1, j), get(ring, k3, j) - get(ring, k0, j)
    return v1 * near + v2 * far


# Fluxes p = C ∂u


@njit(**_PART)
def _flux_across(
    work: Any, r: Any, psi: Any, memory: Any, kept: Any, u: Any, now: int, row: int, apart: int,
    c2: Any, k: int, half: Any, width: int, w1: float, w2: float,
) -> None:  # fmt: skip
    """A row of fluxes along axis 0 or 1; in a layer ``ψ ← b ψ + a ∂u`` and ``p = C (∂u + ψ)``.

    ``k`` is the row's index along that axis. ``memory`` tells from which rows on ``ψ`` lies before
    and after, and is kept, if that is not negative, and how far apart its lines are.
    """
    disjoint()
    x, i, s, slot = unsigned(now + row), unsigned(row), unsigned(apart), half.slot[k]
    if slot < 0:
        for j in _owned(width):
            square = get(c2, i, j) + get(c2, i + s, j)
            put(work, r, j, square * _across(u, x, s, j, w1, w2), 1)
    else:
        a, b, line = half.a[slot], half.b[slot], slot * memory[3]
        before, after = unsigned(memory[0] + line), unsigned(memory[1] + line)
        for j in _owned(width):
            d = _across(u, x, s, j, w1, w2)
            value = b * get(psi, before, j) + a * d
            put(psi, after, j, value, 2)
            put(work, r, j, (get(c2, i, j) + get(c2, i + s, j)) * (d + value), 1)
        if memory[2] >= 0:
            keep = unsigned(memory[2] + line)
            for j in _owned(width):
                put(kept, keep, j, take(psi, after, j, 2), 3)


@njit(**_PART)
def _flux_along(
    work: Any, r: Any, u: Any, now: int, row: int, c2: Any, width: int, w1: float, w2: float
) -> None:
    """The fluxes in a row, at the half points two before to two after the owned nodes."""
    disjoint()
    x, i = unsigned(now + row), unsigned(row)
    for j in range(unsigned(GHOST - 2), unsigned(GHOST + width + 1)):
        put(work, r, j, _sum_along(c2, i, j) * _along(u, x, j, w1, w2), 1)


@njit(**_PART)
def _absorb_fluxes(
    work: Any, r: Any, psi: Any, kept: Any, keep: int, u: Any, now: int, row: int, c2: Any,
    half: Any, w1: float, w2: float,
) -> None:  # fmt: skip
    """Add the layers' part to the fluxes in a row."""
    disjoint()
    x, i, slot = unsigned(now + row), unsigned(row), unsigned(0)
    for side in range(2):
        k = unsigned(half.runs[side, 0])
        for j in range(k, k + unsigned(half.runs[side, 1])):
            d = _along(u, x, j, w1, w2)
            value = entry(half.b, slot) * take(psi, i, slot, 1) + entry(half.a, slot) * d
            put(psi, i, slot, value, 1)
            put(work, r, j, take(work, r, j, 2) + _sum_along(c2, i, j) * value, 2)
            slot += _1
    if keep >= 0:
        t = unsigned(keep)
        for j in range(unsigned(len(half.lines))):
            put(kept, t, j, take(psi, i, j, 1), 3)


# Steps u ← 2 u − u⁻ + ∇·p


@njit(**_PART)
def _leap(
    u: Any, x: Any, y: Any, work: Any, ring0: Any, i: int, ring1: Any, j: int, r: Any, width: int,
    weights: Any,
) -> None:  # fmt: skip
    """A row of the field, in place of the field before, from rows of fluxes along all axes."""
    disjoint()
    a0, a1, a2, a3 = _ring(ring0, i - 2), _ring(ring0, i - 1), _ring(ring0, i), _ring(ring0, i + 1)
    b0, b1, b2, b3 = _ring(ring1, j - 2), _ring(ring1, j - 1), _ring(ring1, j), _ring(ring1, j + 1)
    _, _, v01, v02, _, _, v11, v12, _, _, v21, v22 = weights
    for c in _owned(width):
        change = _divergence(work, a0, a1, a2, a3, c, v01, v02)
        change += _divergence(work, b0, b1, b2, b3, c, v11, v12)
        change += _along(work, r, c - _1, v21, v22)
        put(u, y, c, get(u, x, c) + get(u, x, c) - take(u, y, c, 1) + change, 1)


@njit(**_PART)
def _absorb_across(
    u: Any, y: Any, phi: Any, memory: Any, work: Any, ring: Any, k: int, node: Any, width: int,
    v1: float, v2: float,
) -> None:  # fmt: skip
    """Add a layer's part to the divergence along axis 0 or 1 in a row: ``φ ← b φ + a ∂p``."""
    disjoint()
    slot = node.slot[k]
    if slot < 0:
        return
    a, b, s = node.a[slot], node.b[slot], unsigned(memory[0] + slot * memory[1])
    k0, k1, k2, k3 = _ring(ring, k - 2), _ring(ring, k - 1), _ring(ring, k), _ring(ring, k + 1)
    for j in _owned(width):
        value = b * take(phi, s, j, 1) + a * _divergence(work, k0, k1, k2, k3, j, v1, v2)
        put(phi, s, j, value, 1)
        put(u, y, j, take(u, y, j, 2) + value, 2)


@njit(**_PART)
def _absorb_along(
    u: Any, y: Any, phi: Any, row: int, work: Any, r: Any, node: Any, width: int,
    v1: float, v2: float,
) -> None:  # fmt: skip
    """Add the layers' part to the divergence along a row, at the owned nodes."""
    disjoint()
    i, slot = unsigned(row), 0
    for side in range(2):
        start, count = node.runs[side, 0], node.runs[side, 1]
        k = max(start, GHOST)
        stop = max(min(start + count, width + GHOST), k)
        s = unsigned(slot + k - start)
        for j in range(unsigned(k), unsigned(stop)):
            d = _along(work, r, j - _1, v1, v2)
            value = entry(node.b, s) * take(phi, i, s, 1) + entry(node.a, s) * d
            put(phi, i, s, value, 1)
            put(u, y, j, take(u, y, j, 2) + value, 2)
            s += _1
        slot += count


@njit(**_STEP)
def _record(u: Any, level: int, nodes: Any, weights: Any, traces: Any, n: int) -> None:
    """``traces[:, n] = `` the values of ``u`` at points."""
    flat = u.reshape(-1)
    first = level * u.shape[1]
    for r in range(nodes.shape[0]):
        value = weights[r, 0] * flat[first + nodes[r, 0]]
        for k in range(1, nodes.shape[1]):
            value += weights[r, k] * flat[first + nodes[r, k]]
        traces[r, n] = value


@njit(**_PART)
def _act(u: Any, new: int, row: int, points: Any, n: int) -> None:
    """The transpose of ``_record`` in a row."""
    starts, columns, weights, point, series = points
    for k in range(starts[0, row], starts[0, row + 1]):
        for tap in range(columns.shape[1]):
            u[new + row, columns[k, tap]] += weights[k, tap] * series[point[k], n]


@njit(**_PART)
def _keep(kept: Any, level: int, u: Any, now: int, i: int, j: int, planes: int, lines: int) -> None:
    """Keep a row of a field, the first and last with the ghosts beside them.

    A row is stored from its first owned node, where a cache line begins, up to the next one's.
    """
    pitch, rows = u.shape[1], planes * lines
    first = 0 if i == GHOST else i
    last = planes if i == planes - GHOST - 1 else i + 1
    begin = 0 if j == GHOST else j
    end = lines if j == lines - GHOST - 1 else j + 1
    for plane in range(first, last):
        row, stop = plane * lines + begin, plane * lines + end
        count = (stop - row) * pitch - (GHOST if stop == rows else 0)
        to = (level * rows + row) * pitch + GHOST
        stream(kept, to, u, (now + row) * pitch + GHOST, count)


@njit(**_BLOCK)
def _advance_block(
    begin: int, end: int, odd: int, n: int, level: int, keep: bool, u: Any, psi0: Any, psi1: Any,
    psi2: Any, phi0: Any, phi1: Any, phi2: Any, kept: Any, kept0: Any, kept1: Any, kept2: Any,
    c2: Any, half0: Any, half1: Any, half2: Any, node0: Any, node1: Any, node2: Any, weights: Any,
    sources: Any, work: Any, base: int, shape: Any,
) -> None:  # fmt: skip
    """Take the lines ``begin`` … ``end − 1`` of all planes a step further."""
    planes, lines, width = shape[0], shape[1], shape[2] - 2 * GHOST
    w01, w02, v01, v02, w11, w12, v11, v12, w21, w22, v21, v22 = weights
    now, new = (1 - odd) * planes * lines, odd * planes * lines
    pitch = u.shape[1]
    n0, n1, block = len(half0.lines), len(half1.lines), end - begin
    ring1, r = (base + 2 * RING * block, 1), unsigned(base + 2 * RING * (block + 1))
    for k in range(GHOST - 2, planes - GHOST + 1):
        i = k - 1
        memory1 = ((odd * planes + i) * n1, ((1 - odd) * planes + i) * n1,
                   (level * planes + i) * n1 if keep else -1, 1)  # fmt: skip
        for j in range(begin, end):
            ring0 = (base + j - begin, block)
            memory0 = (odd * n0 * lines + j, (1 - odd) * n0 * lines + j,
                       level * n0 * lines + j if keep else -1, lines)  # fmt: skip
            ahead = (k - 1) * lines + j + AHEAD
            prefetch(u, (now + ahead + 3 * lines) * pitch, pitch)
            prefetch(c2, (ahead + 2 * lines) * pitch, pitch)
            prefetch(u, (new + ahead) * pitch, pitch)
            _flux_across(work, _ring(ring0, k), psi0, memory0, kept0, u, now, k * lines + j, lines,
                         c2, k, half0, width, w01, w02)  # fmt: skip
            if i < GHOST:
                continue
            row = i * lines + j
            for m in range(j - 2 if j == begin else j + 1, j + 2):
                _flux_across(work, _ring(ring1, m), psi1, memory1, kept1, u, now, i * lines + m, 1,
                             c2, m, half1, width, w11, w12)  # fmt: skip
            _flux_along(work, r, u, now, row, c2, width, w21, w22)
            if len(half2.lines):
                at = level * planes * lines + row if keep else -1
                _absorb_fluxes(work, r, psi2, kept2, at, u, now, row, c2, half2, w21, w22)
            y = unsigned(new + row)
            _leap(u, unsigned(now + row), y, work, ring0, i, ring1, j, r, width, weights)
            _absorb_across(u, y, phi0, (j, lines), work, ring0, i, node0, width, v01, v02)
            _absorb_across(u, y, phi1, (i * len(node1.lines), 1), work, ring1, j, node1, width,
                           v11, v12)  # fmt: skip
            if len(node2.lines):
                _absorb_along(u, y, phi2, row, work, r, node2, width, v21, v22)
            _act(u, new, row, sources, n)
            if keep:
                _keep(kept, level, u, now, i, j, planes, lines)


@njit(**_PART)
def _share(t: int, threads: int, lines: int) -> tuple[int, int]:
    """The lines that a thread takes."""
    height = lines - 2 * GHOST
    return GHOST + height * t // threads, GHOST + height * (t + 1) // threads


@njit(parallel=True, **_ENTRY)
def advance(
    n: int, odd: int, u: Any, psi0: Any, psi1: Any, psi2: Any, phi0: Any, phi1: Any, phi2: Any,
    kept: Any, kept0: Any, kept1: Any, kept2: Any, level: int, c2: Any, half0: Any, half1: Any,
    half2: Any, node0: Any, node1: Any, node2: Any, weights: Any, receivers: Any, sources: Any,
    work: Any, shape: Any, threads: int, block: int,
) -> None:  # fmt: skip
    """Take step ``n``.

    ``u``, ``psi0`` and ``psi1`` have two levels that are used in turns: the field before is level
    ``odd`` of ``u``, and what layers remember that of ``psi``. Unless ``kept`` has no rows, its
    ``level`` becomes the field that the step begins with and that of ``kept0`` to ``kept2`` what
    layers remember behind it. ``half0`` to ``node2`` are the strips of each axis, ``weights`` the
    coefficients of fluxes and of their divergence, ``shape`` is that of the padded patch, and
    ``block`` how many lines are taken at a time.
    """
    nodes, r_weights, traces = receivers
    room = len(work) // threads
    _record(u, (1 - odd) * shape[0] * shape[1], nodes, r_weights, traces, n)
    for t in prange(threads):
        begin, stop = _share(t, threads, shape[1])
        while begin < stop:
            end = min(begin + block, stop)
            _advance_block(begin, end, odd, n, level, len(kept) > 0, u, psi0, psi1, psi2, phi0,
                           phi1, phi2, kept, kept0, kept1, kept2, c2, half0, half1, half2, node0,
                           node1, node2, weights, sources, work, t * room, shape)  # fmt: skip
            begin = end


# In reverse


@njit(**_PART)
def _adjoint_node(
    work: Any, r: Any, lam: Any, x: Any, phi: Any, memory: Any, node: Any, k: int, width: int
) -> None:
    """``φ ← b φ + λ`` and ``z = λ + a φ`` in a row of a layer, ``z = λ`` in another."""
    disjoint()
    slot = node.slot[k]
    if slot < 0:
        for j in _owned(width):
            put(work, r, j, get(lam, x, j), 1)
    else:
        a, b, line = node.a[slot], node.b[slot], slot * memory[2]
        before, after = unsigned(memory[0] + line), unsigned(memory[1] + line)
        for j in _owned(width):
            value = b * get(phi, before, j) + get(lam, x, j)
            put(phi, after, j, value, 2)
            put(work, r, j, get(lam, x, j) + a * value, 1)


@njit(**_PART)
def _adjoint_flux_across(
    work: Any, ring: Any, z: Any, mu: Any, of_mu: Any, phi: Any, of_phi: Any, psi: Any, kept: int,
    lam: Any, now: int, u: Any, field: int, row: int, apart: int, c2: Any, total: Any, at: int,
    k: int, begin: bool, half: Any, node: Any, width: int, w1: float, w2: float,
) -> None:  # fmt: skip
    """A row of fluxes ``C ∂λ`` along axis 0 or 1, with ``∂λ ∂u`` added to a row of the gradient.

    In a layer ``μ ← b μ + C ∂z``, the flux is ``C ∂z + a μ``, and the product ``∂z (∂u + ψ)``.
    ``k`` is the row's index along the axis, ``at`` the row of the gradient; ``of_mu`` and
    ``of_phi`` tell from which rows on ``μ`` and ``φ`` lie before and after, and how far apart.
    """
    disjoint()
    r, i, s = _ring(ring, k), unsigned(row), unsigned(apart)
    x, f, g, slot = unsigned(now + row), unsigned(field + row), unsigned(at), half.slot[k]
    if slot < 0:
        for j in _owned(width):
            d = _across(lam, x, s, j, w1, w2)
            put(work, r, j, (get(c2, i, j) + get(c2, i + s, j)) * d, 1)
            put(total, g, j, take(total, g, j, 2) + d * _across(u, f, s, j, w1, w2), 2)
    else:
        for m in range(k - 1 if begin or half.slot[k - 1] < 0 else k + 2, k + 3):
            _adjoint_node(work, _ring(z, m), lam, unsigned(now + row + (m - k) * apart), phi,
                          of_phi, node, m, width)  # fmt: skip
        z0, z1, z2, z3 = _ring(z, k - 1), _ring(z, k), _ring(z, k + 1), _ring(z, k + 2)
        a, b, line = half.a[slot], half.b[slot], slot * of_mu[2]
        before, after = unsigned(of_mu[0] + line), unsigned(of_mu[1] + line)
        m = unsigned(kept + line)
        for j in _owned(width):
            d = _divergence(work, z0, z1, z2, z3, j, w1, w2)
            p = (get(c2, i, j) + get(c2, i + s, j)) * d
            value = b * get(mu, before, j) + p
            put(mu, after, j, value, 3)
            put(work, r, j, p + a * value, 1)
            rate = _across(u, f, s, j, w1, w2) + get(psi, m, j)
            put(total, g, j, take(total, g, j, 2) + d * rate, 2)


@njit(**_PART)
def _adjoint_along(
    work: Any, r: Any, lam: Any, now: int, u: Any, field: int, c2: Any, total: Any, row: int,
    half: Any, width: int, w1: float, w2: float,
) -> None:  # fmt: skip
    """``C ∂λ`` and, added to the gradient, ``∂λ ∂u`` at the half points between the layers."""
    disjoint()
    x, f, i = unsigned(now + row), unsigned(field + row), unsigned(row)
    begin, end = GHOST - 2, GHOST + width + 1
    if half.runs[0, 1]:
        begin = half.runs[0, 0] + half.runs[0, 1]
    if half.runs[1, 1]:
        end = max(half.runs[1, 0], begin)
    for j in range(unsigned(begin), unsigned(end)):
        d = _along(lam, x, j, w1, w2)
        put(work, r, j, _sum_along(c2, i, j) * d, 1)
        put(total, i, j, take(total, i, j, 2) + d * _along(u, f, j, w1, w2), 2)


@njit(**_PART)
def _absorb_adjoint_nodes(
    work: Any, r: Any, phi: Any, slot: int, lam: Any, now: int, row: int, half: Any, node: Any,
    side: int,
) -> None:  # fmt: skip
    """``φ ← b φ + λ`` and ``z = λ + a φ`` in the columns of a layer and those beside it."""
    disjoint()
    x, i, s = unsigned(now + row), unsigned(row), unsigned(slot)
    begin, count = half.runs[side, 0], half.runs[side, 1]
    for j in range(unsigned(begin - 1), unsigned(begin + count + 2)):
        put(work, r, j, get(lam, x, j), 1)
    begin, count = node.runs[side, 0], node.runs[side, 1]
    for j in range(unsigned(begin), unsigned(begin + count)):
        value = entry(node.b, s) * take(phi, i, s, 2) + get(lam, x, j)
        put(phi, i, s, value, 2)
        put(work, r, j, get(lam, x, j) + entry(node.a, s) * value, 1)
        s += _1


@njit(**_PART)
def _absorb_adjoint_fluxes(
    work: Any, r: Any, z: Any, mu: Any, slot: int, u: Any, field: int, psi: Any, kept: int, c2: Any,
    total: Any, row: int, half: Any, side: int, w1: float, w2: float,
) -> None:  # fmt: skip
    """``μ ← b μ + C ∂z``, the flux ``C ∂z + a μ``, and ``∂z (∂u + ψ)`` in a layer's columns."""
    disjoint()
    f, m, i, s = unsigned(field + row), unsigned(kept + row), unsigned(row), unsigned(slot)
    begin, count = half.runs[side, 0], half.runs[side, 1]
    for j in range(unsigned(begin), unsigned(begin + count)):
        d = _along(work, z, j, w1, w2)
        p = _sum_along(c2, i, j) * d
        value = entry(half.b, s) * take(mu, i, s, 3) + p
        put(mu, i, s, value, 3)
        put(work, r, j, p + entry(half.a, s) * value, 1)
        rate = _along(u, f, j, w1, w2) + get(psi, m, s)
        put(total, i, j, take(total, i, j, 2) + d * rate, 2)
        s += _1


@njit(**_BLOCK)
def _reverse_block(
    begin: int, end: int, odd: int, n: int, level: int, lam: Any, mu0: Any, mu1: Any, mu2: Any,
    phi0: Any, phi1: Any, phi2: Any, kept: Any, kept0: Any, kept1: Any, kept2: Any, c2: Any,
    half0: Any, half1: Any, half2: Any, node0: Any, node1: Any, node2: Any, weights: Any,
    receivers: Any, work: Any, base: int, shape: Any,
    total0: Any, total1: Any, total2: Any,
) -> None:  # fmt: skip
    """Take the lines ``begin`` … ``end − 1`` of all planes a step back."""
    planes, lines, width = shape[0], shape[1], shape[2] - 2 * GHOST
    w01, w02, _, _, w11, w12, _, _, w21, w22, _, _ = weights
    now, new, field = (1 - odd) * planes * lines, odd * planes * lines, level * planes * lines
    n0, n1, m0, m1 = (len(half0.lines), len(half1.lines), len(node0.lines),
                      len(node1.lines))  # fmt: skip
    block, even = end - begin, 1 - odd
    ring1, z1 = (base + 2 * RING * block, 1), (base + 2 * RING * block + RING, 1)
    r, line = unsigned(base + 2 * RING * (block + 1)), unsigned(base + 2 * RING * (block + 1) + 1)
    for k in range(GHOST - 2, planes - GHOST + 1):
        i = k - 1
        of_mu1 = ((odd * planes + i) * n1, (even * planes + i) * n1, 1)
        of_phi1 = ((odd * planes + i) * m1, (even * planes + i) * m1, 1)
        for j in range(begin, end):
            ring0, z0 = (base + j - begin, block), (base + RING * block + j - begin, block)
            of_mu0 = (odd * n0 * lines + j, even * n0 * lines + j, lines)
            of_phi0 = (odd * m0 * lines + j, even * m0 * lines + j, lines)
            _adjoint_flux_across(work, ring0, z0, mu0, of_mu0, phi0, of_phi0, kept0,
                                 level * n0 * lines + j, lam, now, kept, field, k * lines + j,
                                 lines, c2, total0, k * lines + j, k, k == GHOST - 2, half0,
                                 node0, width, w01, w02)  # fmt: skip
            if i < GHOST:
                continue
            row = i * lines + j
            for m in range(j - 2 if j == begin else j + 1, j + 2):
                # What another block adds goes into a row that is never looked at.
                at = i * lines + m if m > begin or begin == GHOST else 0
                _adjoint_flux_across(work, ring1, z1, mu1, of_mu1, phi1, of_phi1, kept1,
                                     (level * planes + i) * n1, lam, now, kept, field,
                                     i * lines + m, 1, c2, total1, at, m, m == begin - 2, half1,
                                     node1, width, w11, w12)  # fmt: skip
            _adjoint_along(work, r, lam, now, kept, field, c2, total2, row, half2, width,
                           w21, w22)  # fmt: skip
            at_half, at_node = 0, 0
            for side in range(2):
                if half2.runs[side, 1]:
                    _absorb_adjoint_nodes(work, line, phi2, at_node, lam, now, row, half2,
                                          node2, side)  # fmt: skip
                    _absorb_adjoint_fluxes(work, r, line, mu2, at_half, kept, field, kept2, field,
                                           c2, total2, row, half2, side, w21, w22)  # fmt: skip
                at_half += half2.runs[side, 1]
                at_node += node2.runs[side, 1]
            _leap(lam, unsigned(now + row), unsigned(new + row), work, ring0, i, ring1, j, r, width,
                  weights)  # fmt: skip
            _act(lam, new, row, receivers, n)


@njit(parallel=True, **_ENTRY)
def reverse(
    n: int, odd: int, lam: Any, mu0: Any, mu1: Any, mu2: Any, phi0: Any, phi1: Any, phi2: Any,
    kept: Any, kept0: Any, kept1: Any, kept2: Any, level: int, c2: Any, half0: Any, half1: Any,
    half2: Any, node0: Any, node1: Any, node2: Any, weights: Any, receivers: Any, sources: Any,
    work: Any, shape: Any, threads: int, block: int, total0: Any, total1: Any, total2: Any,
) -> None:  # fmt: skip
    """Take step ``n`` back.

    All but ``mu2`` and ``phi2`` have two levels that are used in turns. ``kept`` is what
    ``advance`` has kept, at ``level``; here ``sources`` are recorded, and ``receivers`` act.
    ``total0`` to ``total2`` are the sums of ``∂λ ∂u`` at the half points of each axis.
    """
    nodes, s_weights, wavelets = sources
    room = len(work) // threads
    _record(lam, (1 - odd) * shape[0] * shape[1], nodes, s_weights, wavelets, n)
    for t in prange(threads):
        begin, stop = _share(t, threads, shape[1])
        while begin < stop:
            end = min(begin + block, stop)
            _reverse_block(begin, end, odd, n, level, lam, mu0, mu1, mu2, phi0, phi1, phi2, kept,
                           kept0, kept1, kept2, c2, half0, half1, half2, node0, node1, node2,
                           weights, receivers, work, t * room, shape, total0, total1,
                           total2)  # fmt: skip
            begin = end
