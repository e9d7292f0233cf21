"""Compiled steps of the acoustic wave: forwards and in reverse, several of them in a sweep.

Fields are padded by ``GHOST`` nodes on all sides, and by columns without use behind the first
``columns`` (see :mod:`~adjoint.solvers.padding`). Index ``k`` of a half point stands for the point
between lines ``k`` and ``k + 1``. See :mod:`~adjoint.solvers.acoustic` for what is computed.

A step reads and writes each field once, for which a large grid's have to come from memory. So the
next steps follow in the same sweep, each ``LAG`` rows behind the one before, and they take turns of
``TURN`` rows: what they take is still in the cache, and the rows that they overwrite are no longer
needed. A thread's share of the rows ends where its neighbour's begins; there step ``k`` of a sweep
leaves ``k GAP`` rows on both sides, which are filled in when all threads have come to their ends.
A border with another rank's rows is one of these, filled in step by step as ghosts have been
exchanged. What layers remember at half points along axis 0 is needed on both sides of a border and
computed on both, from one level to another: so it does not matter when.

Two rows are taken at a time, which saves loads, of which a processor can do fewer than of sums.
Indices of inner loops are :mod:`~adjoint.solvers.unsigned`. Levels of a field lie one behind the
other in a single array of rows, so that a level is an offset and no slice. All is in one file
because Numba's cache does not see changes in others. The loops of a sweep stand in one function:
with the rows of a turn, or a thread's share, in functions of their own, as the elastic wave has
them, a step in reverse was measured to take up to a tenth longer.
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

#: Steps in a sweep at most.
STEPS = 6

#: Rows that a step takes before the next one of a sweep does: even.
TURN = 8

#: Rows between a step and the next in a sweep: what a step of two rows reaches, and even.
LAG = 4

#: Rows on either side of a border that the second step of a sweep leaves, and each later one more
#: than the one before: even, and so many that what layers remember of the rows that a step reaches,
#: three further on, is none of what the one before reaches beyond the border, which may come to it
#: later.
GAP = 6

#: Rows between those that a step takes and those that it has brought into the cache.
AHEAD = 7

#: Rows of fluxes that two rows of nodes take.
RING = 5

#: Rows of work memory that a thread takes: rings of two kinds for each step, and three rows.
ROWS = 2 * STEPS * RING + 3

#: Of what a step is made of: inlined, for the arrays' descriptions are long lists of arguments.
#: They count no references, for threads would write to the counts in turns in each row; so they can
#: make no arrays.
_PART: dict[str, Any] = {
    "fastmath": {"contract"}, "error_model": "numpy", "forceinline": True, "_nrt": False,
}  # fmt: skip

#: Of what is called once a step, and may make arrays.
_STEP: dict[str, Any] = {**_PART, "_nrt": True}

#: Of what is part of a loop's expressions: inlined before anything is compiled, see ``disjoint``.
_TERM: dict[str, Any] = {"error_model": "numpy", "inline": "always"}

#: Of what is called from outside.
_ENTRY: dict[str, Any] = {"fastmath": {"contract"}, "error_model": "numpy", "cache": True}

_1, _2, _3, _4 = (unsigned(k) for k in (1, 2, 3, 4))


@njit(**_PART)
def _owned(width: int) -> Any:
    """The owned columns of a padded row."""
    return range(unsigned(GHOST), unsigned(GHOST + width))


@njit(**_TERM)
def _down(u: Any, k: int, j: int, w1: float, w2: float) -> Any:
    """Difference behind row ``k``, with ``k`` and ``j`` unsigned."""
    return w1 * (get(u, k + _1, j) - get(u, k, j)) + w2 * (get(u, k + _2, j) - get(u, k - _1, j))


@njit(**_TERM)
def _along(u: Any, i: int, j: int, w1: float, w2: float) -> Any:
    """Difference at half point ``j`` of a row."""
    return w1 * (get(u, i, j + _1) - get(u, i, j)) + w2 * (get(u, i, j + _2) - get(u, i, j - _1))


@njit(**_TERM)
def _sum_down(c2: Any, i: int, j: int) -> Any:
    """Twice the coefficient behind row ``i``."""
    return get(c2, i, j) + get(c2, i + _1, j)


@njit(**_TERM)
def _sum_along(c2: Any, i: int, j: int) -> Any:
    """Twice the coefficient at half point ``j`` of a row."""
    return get(c2, i, j) + get(c2, i, j + _1)


@njit(**_STEP)
def _flat(levels: Any) -> Any:
    """All levels of an array as one array of rows."""
    return levels.reshape(levels.shape[0] * levels.shape[1], levels.shape[2])


# Which rows are taken when


@njit(**_PART)
def _rows(
    fill: int, stage: int, task: int, threads: int, height: int, neighbours: Any
) -> tuple[int, int]:
    """The rows that a task takes in step ``stage`` of a sweep.

    Tasks are shares of the rows at first, and when gaps are filled in, borders: number ``k`` lies
    before share ``k``. ``neighbours`` tells whether rows of other ranks are before the first and
    behind the last share.
    """
    begin, end, gap = GHOST, GHOST + height, GAP * stage
    low = begin + height * task // threads
    before, behind = task > 0 or neighbours[0], task < threads - 1 or neighbours[1]
    if not fill:
        stop = begin + height * (task + 1) // threads
        return low + gap * before, stop - gap * behind
    if not before or (task == threads and not behind):
        return low, low
    return max(low - gap, begin), min(low + gap, end)


@njit(**_PART)
def _turns(part: Any, stages: int, task: int, threads: int, height: int, neighbours: Any) -> Any:
    """Where turns begin, of which step ``k`` takes the rows ``k LAG`` before."""
    fill, low, high = part
    start, stop = 0, 0
    for stage in range(low, min(high, stages)):
        first, last = _rows(fill, stage, task, threads, height, neighbours)
        if first < last:
            first, last = first + stage * LAG, last + stage * LAG
            start, stop = (min(start, first), max(stop, last)) if stop else (first, last)
    return range(start, stop, TURN)


@njit(**_PART)
def _here(points: Any, row: int) -> Any:
    """The entries of a row, of :func:`~adjoint.solvers.row_points.by_rows`."""
    return range(points[0][0, row], points[0][0, row + 1])


@njit(**_PART)
def _ring(stage: int, k: int) -> Any:
    """Where half row ``k`` of a step is in a ring."""
    return unsigned(stage * RING + k % RING)


# Fluxes p = C ∂u


@njit(**_PART)
def _flux_down(
    ring: Any, stage: int, psi: Any, memory: Any, kept: Any, u: Any, now: int, c2: Any, k: int,
    half: Any, width: int, w1: float, w2: float,
) -> None:  # fmt: skip
    """A row of fluxes along axis 0; in a layer ``ψ ← b ψ + a ∂u`` and ``p = C (∂u + ψ)``.

    ``memory`` tells at which rows the levels of ``ψ`` before and after begin, and in which row of
    ``kept`` to keep it, if not before the first.
    """
    disjoint()
    r, i, x = _ring(stage, k), unsigned(k), unsigned(now + k)
    if half.slot[k] < 0:
        for j in _owned(width):
            put(ring, r, j, _sum_down(c2, i, j) * _down(u, x, j, w1, w2), 1)
    else:
        slot = half.slot[k]
        a, b = half.a[slot], half.b[slot]
        before, after = unsigned(memory[0] + slot), unsigned(memory[1] + slot)
        for j in _owned(width):
            d = _down(u, x, j, w1, w2)
            value = b * get(psi, before, j) + a * d
            put(psi, after, j, value, 2)
            put(ring, r, j, _sum_down(c2, i, j) * (d + value), 1)
        if memory[2] >= 0:
            keep = unsigned(memory[2] + slot)
            for j in _owned(width):
                kept[keep, j] = psi[after, j]


@njit(**_PART)
def _flux_along(
    along: Any, r: int, u: Any, now: int, c2: Any, i: int, width: int, w1: float, w2: float
) -> None:
    """The fluxes in a row, at the half points two before to two after the owned nodes."""
    disjoint()
    r, x, i = unsigned(r), unsigned(now + i), unsigned(i)
    for j in range(unsigned(GHOST - 2), unsigned(GHOST + width + 1)):
        put(along, r, j, _sum_along(c2, i, j) * _along(u, x, j, w1, w2), 1)


@njit(**_PART)
def _absorb_fluxes(
    psi: Any, along: Any, r: int, u: Any, now: int, c2: Any, i: int, half: Any,
    w1: float, w2: float,
) -> None:  # fmt: skip
    """Add the layers' part to the fluxes in a row."""
    disjoint()
    r, x, i = unsigned(r), unsigned(now + i), unsigned(i)
    slot = unsigned(0)
    for side in range(2):
        k = unsigned(half.runs[side, 0])
        for j in range(k, k + unsigned(half.runs[side, 1])):
            d = _along(u, x, j, w1, w2)
            value = entry(half.b, slot) * take(psi, i, slot, 1) + entry(half.a, slot) * d
            put(psi, i, slot, value, 1)
            put(along, r, j, take(along, r, j, 2) + _sum_along(c2, i, j) * value, 2)
            slot += _1


# Steps u ← 2 u − u⁻ + ∇·p


@njit(**_TERM)
def _divergence(ring: Any, k0: int, k1: int, k2: int, k3: int, j: int, v1: float, v2: float) -> Any:
    """Difference of fluxes in four rows of a ring."""
    near, far = get(ring, k2, j) - get(ring, k1, j), get(ring, k3, j) - get(ring, k0, j)
    return v1 * near + v2 * far


@njit(**_PART)
def _leap(
    u: Any, now: int, new: int, ring: Any, stage: int, along: Any, r: int, i: int, width: int,
    v01: float, v02: float, v11: float, v12: float,
) -> None:  # fmt: skip
    """A row of the field, in place of the field before, from four rows of fluxes and its own."""
    disjoint()
    k0, k1, k2, k3 = (_ring(stage, i - 2), _ring(stage, i - 1), _ring(stage, i),
                      _ring(stage, i + 1))  # fmt: skip
    r, x, y = unsigned(r), unsigned(now + i), unsigned(new + i)
    for j in _owned(width):
        down = _divergence(ring, k0, k1, k2, k3, j, v01, v02)
        change = down + _along(along, r, j - _1, v11, v12)
        put(u, y, j, get(u, x, j) + get(u, x, j) - take(u, y, j, 1) + change, 1)


@njit(**_PART)
def _leap_pair(
    u: Any, now: int, new: int, c2: Any, ring: Any, stage: int, along: Any, i: int, width: int,
    w1: float, w2: float, v01: float, v02: float, v11: float, v12: float,
) -> None:  # fmt: skip
    """Two rows of the field, with the two rows of fluxes that are new to them."""
    disjoint()
    k0, k1, k2 = _ring(stage, i - 2), _ring(stage, i - 1), _ring(stage, i)
    k3, k4 = _ring(stage, i + 1), _ring(stage, i + 2)
    r0, r1, c = unsigned(0), unsigned(1), unsigned(i)
    x, y = unsigned(now + i), unsigned(new + i)
    for j in _owned(width):
        x0, x1 = get(u, x, j), get(u, x + _1, j)
        x2, x3 = get(u, x + _2, j), get(u, x + _3, j)
        square = get(c2, c + _2, j)
        p1, p2 = get(ring, k1, j), get(ring, k2, j)
        p3 = (get(c2, c + _1, j) + square) * (w1 * (x2 - x1) + w2 * (x3 - x0))
        p4 = (square + get(c2, c + _3, j)) * (w1 * (x3 - x2) + w2 * (get(u, x + _4, j) - x1))
        change0 = v01 * (p2 - p1) + v02 * (p3 - get(ring, k0, j))
        change1 = v01 * (p3 - p2) + v02 * (p4 - p1)
        change0 += _along(along, r0, j - _1, v11, v12)
        change1 += _along(along, r1, j - _1, v11, v12)
        put(ring, k3, j, p3, 1)
        put(ring, k4, j, p4, 2)
        put(u, y, j, x0 + x0 - take(u, y, j, 3) + change0, 3)
        put(u, y + _1, j, x1 + x1 - take(u, y + _1, j, 4) + change1, 4)


@njit(**_PART)
def _absorb_down(
    u: Any, new: int, phi: Any, ring: Any, stage: int, i: int, node: Any, width: int,
    v1: float, v2: float,
) -> None:  # fmt: skip
    """Add a layer's part to the divergence along axis 0 in a row: ``φ ← b φ + a ∂p``."""
    disjoint()
    s = node.slot[i]
    a, b = node.a[s], node.b[s]
    k0, k1, k2, k3 = (_ring(stage, i - 2), _ring(stage, i - 1), _ring(stage, i),
                      _ring(stage, i + 1))  # fmt: skip
    s, y = unsigned(s), unsigned(new + i)
    for j in _owned(width):
        d = _divergence(ring, k0, k1, k2, k3, j, v1, v2)
        value = b * take(phi, s, j, 1) + a * d
        put(phi, s, j, value, 1)
        put(u, y, j, take(u, y, j, 2) + value, 2)


@njit(**_PART)
def _absorb_along(
    u: Any, new: int, phi: Any, along: Any, r: int, i: int, node: Any, width: int,
    v1: float, v2: float,
) -> None:  # fmt: skip
    """Add the layers' part to the divergence along a row, at the owned nodes."""
    disjoint()
    r, y, i = unsigned(r), unsigned(new + i), unsigned(i)
    slot = 0
    for side in range(2):
        start, count = node.runs[side, 0], node.runs[side, 1]
        k = max(start, GHOST)
        stop = max(min(start + count, width + GHOST), k)
        s = unsigned(slot + k - start)
        for j in range(unsigned(k), unsigned(stop)):
            d = _along(along, r, j - _1, v1, v2)
            value = entry(node.b, s) * take(phi, i, s, 1) + entry(node.a, s) * d
            put(phi, i, s, value, 1)
            put(u, y, j, take(u, y, j, 2) + value, 2)
            s += _1
        slot += count


@njit(**_PART)
def _images(u: Any, now: int) -> None:
    """Continue ``u`` oddly above a free surface, on which it is zero."""
    top = now + GHOST
    for k in range(1, GHOST + 1):
        for j in range(u.shape[1]):
            u[top - k, j] = -u[top + k, j]


@njit(**_PART)
def _record(u: Any, now: int, i: int, points: Any, n: int) -> None:
    """Put aside what points take of a row: other rows of theirs may be another thread's."""
    _, columns, weights, _, _, parts = points
    for k in _here(points, i):
        value = weights[k, 0] * u[now + i, columns[k, 0]]
        for tap in range(1, columns.shape[1]):
            value += weights[k, tap] * u[now + i, columns[k, tap]]
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
def _finish(u: Any, new: int, i: int, points: Any, n: int, surface: bool) -> None:
    """The transpose of ``_record`` in a row, and the free surface."""
    _, columns, weights, point, series = points
    for k in _here(points, i):
        for tap in range(columns.shape[1]):
            u[new + i, columns[k, tap]] += weights[k, tap] * series[point[k], n]
    if surface and i == GHOST:
        for j in range(u.shape[1]):
            u[new + i, j] = 0


@njit(**_PART)
def _keep_columns(kept: Any, at: int, psi: Any, i: int) -> None:
    """Keep what the layers' columns of a row remember."""
    disjoint()
    t, i = unsigned(at), unsigned(i)
    for s in range(unsigned(psi.shape[1])):
        put(kept, t, s, get(psi, i, s), 1)


@njit(**_PART)
def _keep(kept: Any, level: int, u: Any, now: int, low: int, stop: int, height: int) -> None:
    """Keep rows of a field, the first and last with the ghosts beside them.

    A row is stored from its first owned node, where a cache line begins, up to the next one's.
    """
    rows, pitch = height + 2 * GHOST, u.shape[1]
    if low == GHOST:
        low = 0
    if stop == GHOST + height:
        stop = rows
    for i in range(low, stop):
        count = pitch if i < rows - 1 else pitch - GHOST
        stream(kept, (level * rows + i) * pitch + GHOST, u, (now + i) * pitch + GHOST, count)


@njit(parallel=True, **_ENTRY)
def advance(
    first: int, last: int, offset: int, parts: Any, steps: int, neighbours: Any,
    u: Any, psi0: Any, psi1: Any, phi0: Any, phi1: Any,
    kept_u: Any, kept_psi0: Any, kept_psi1: Any, kept_from: int,
    c2: Any, half0: Any, half1: Any, node0: Any, node1: Any, weights: Any, surface: bool,
    receivers: Any, sources: Any, work: Any, columns: int,
) -> None:  # fmt: skip
    """Take the steps ``first`` … ``last − 1``, at most ``steps`` in a sweep.

    ``u`` and ``psi0`` have two levels that are used in turns. Unless they have no levels,
    ``kept_u[k]`` becomes the field that a step begins with and ``kept_psi[k]`` what layers
    remember behind it, with step ``first`` at ``k = kept_from``. A sweep has ``parts``
    ``(fill, low, high)``: steps ``low`` … ``high − 1`` of it in shares, or about borders; those
    after an exchange of ghosts are in a call of their own.
    """
    w01, w02, v01, v02, w11, w12, v11, v12 = weights
    threads, keep = work.shape[0] - 1, kept_u.shape[0] > 0
    rows, lines = u.shape[1], psi0.shape[1]
    height, width = rows - 2 * GHOST, columns - 2 * GHOST
    field, memory0, levels = _flat(u), _flat(psi0), _flat(kept_u)
    levels0, levels1 = _flat(kept_psi0), _flat(kept_psi1)
    for begin in range(first, last, steps):
        stages, phase = min(steps, last - begin), begin - first + offset
        for x in range(len(parts)):
            part = parts[x, 0], parts[x, 1], parts[x, 2]
            if surface and not part[1]:
                _images(u[(phase + 1) % 2], 0)
            for t in prange(threads + part[0]):
                ring, along = work[t, : STEPS * RING], work[t, 2 * STEPS * RING :]
                for turn in _turns(part, stages, t, threads, height, neighbours):
                    for stage in range(part[1], min(part[2], stages)):
                        start, end = _rows(part[0], stage, t, threads, height, neighbours)
                        row, n, odd = turn - stage * LAG, begin + stage, (phase + stage) % 2
                        now, new, level = (1 - odd) * rows, odd * rows, n - first + kept_from
                        memory = odd * lines, (1 - odd) * lines, level * lines if keep else -1
                        for i in range(max(row, start), min(row + TURN, end), 2):
                            count = min(2, end - i)
                            if stage and surface and i == start == GHOST:
                                _images(field, now)
                            pair = count == 2 and half0.slot[i + 1] < 0 and half0.slot[i + 2] < 0
                            new_row = i - 2 if i == start else i + 1
                            for k in range(new_row, i + 1 if pair else i + 1 + count):
                                _flux_down(ring, stage, memory0, memory, levels0, field, now, c2, k,
                                           half0, width, w01, w02)  # fmt: skip
                            for r in range(count):
                                _record(field, now, i + r, receivers, n)
                                _flux_along(along, r, field, now, c2, i + r, width, w11, w12)
                                if len(half1.lines):
                                    _absorb_fluxes(psi1, along, r, field, now, c2, i + r, half1,
                                                   w11, w12)  # fmt: skip
                                    if keep:
                                        _keep_columns(levels1, level * rows + i + r, psi1, i + r)
                            if pair:
                                _leap_pair(field, now, new, c2, ring, stage, along, i, width,
                                           w01, w02, v01, v02, v11, v12)  # fmt: skip
                            else:
                                for r in range(count):
                                    _leap(field, now, new, ring, stage, along, r, i + r, width,
                                          v01, v02, v11, v12)  # fmt: skip
                                    if node0.slot[i + r] >= 0:
                                        _absorb_down(field, new, phi0, ring, stage, i + r, node0,
                                                     width, v01, v02)  # fmt: skip
                            for r in range(count):
                                if len(node1.lines):
                                    _absorb_along(field, new, phi1, along, r, i + r, node1, width,
                                                  v11, v12)  # fmt: skip
                                _finish(field, new, i + r, sources, n, surface)
                            if keep:
                                _keep(levels, level, field, now, i, i + count, height)
            for stage in range(part[1], min(part[2], stages) if part[0] else 1):
                _collect(receivers, begin + stage)


# In reverse


@njit(**_PART)
def _adjoint_node_row(
    z: Any, stage: int, lam: Any, now: int, k: int, phi: Any, before: int, after: int, node: Any,
    width: int,
) -> None:  # fmt: skip
    """``φ ← b φ + λ`` and ``z = λ + a φ`` in a row of a layer, ``z = λ`` in another."""
    disjoint()
    r, x = _ring(stage, k), unsigned(now + k)
    slot = node.slot[k]
    if slot < 0:
        for j in _owned(width):
            put(z, r, j, get(lam, x, j), 1)
    else:
        a, b = node.a[slot], node.b[slot]
        s, t = unsigned(before + slot), unsigned(after + slot)
        for j in _owned(width):
            value = b * get(phi, s, j) + get(lam, x, j)
            put(phi, t, j, value, 2)
            put(z, r, j, get(lam, x, j) + a * value, 1)


@njit(**_PART)
def _adjoint_flux_down(
    ring: Any, z: Any, stage: int, odd: int, mu: Any, phi: Any, lam: Any, now: int, u: Any,
    field: int, psi: Any, memory: int, c2: Any, total: Any, k: int, begin: bool, at: int,
    half: Any, node: Any, width: int, w1: float, w2: float,
) -> None:  # fmt: skip
    """A row of fluxes ``C ∂λ`` along axis 0, with ``∂λ ∂u`` added to a row of the gradient.

    In a layer ``μ ← b μ + C ∂z``, the flux is ``C ∂z + a μ``, and the product ``∂z (∂u + ψ)``.
    ``at`` is the row of the gradient.
    """
    disjoint()
    r, i, x, f = _ring(stage, k), unsigned(k), unsigned(now + k), unsigned(field + k)
    g, slot = unsigned(at), half.slot[k]
    if slot < 0:
        for j in _owned(width):
            d = _down(lam, x, j, w1, w2)
            put(ring, r, j, _sum_down(c2, i, j) * d, 1)
            put(total, g, j, take(total, g, j, 2) + d * _down(u, f, j, w1, w2), 2)
    else:
        lines = len(node.lines)
        for row in range(k - 1 if begin or half.slot[k - 1] < 0 else k + 2, k + 3):
            _adjoint_node_row(z, stage, lam, now, row, phi, odd * lines, (1 - odd) * lines, node,
                              width)  # fmt: skip
        z0, z1, z2, z3 = _ring(stage, k - 1), r, _ring(stage, k + 1), _ring(stage, k + 2)
        a, b, lines = half.a[slot], half.b[slot], len(half.lines)
        s, t = unsigned(odd * lines + slot), unsigned((1 - odd) * lines + slot)
        m = unsigned(memory + slot)
        for j in _owned(width):
            d = _divergence(z, z0, z1, z2, z3, j, w1, w2)
            p = _sum_down(c2, i, j) * d
            value = b * get(mu, s, j) + p
            put(mu, t, j, value, 3)
            put(ring, r, j, p + a * value, 1)
            rate = _down(u, f, j, w1, w2) + get(psi, m, j)
            put(total, g, j, take(total, g, j, 2) + d * rate, 2)


@njit(**_PART)
def _adjoint_along(
    along: Any, r: int, lam: Any, now: int, u: Any, field: int, c2: Any, total: Any, i: int,
    half: Any, width: int, w1: float, w2: float,
) -> None:  # fmt: skip
    """``C ∂λ`` and, added to the gradient, ``∂λ ∂u`` at the half points between the layers."""
    disjoint()
    r, x, f, i = unsigned(r), unsigned(now + i), unsigned(field + i), unsigned(i)
    begin, end = GHOST - 2, GHOST + width + 1
    if half.runs[0, 1]:
        begin = half.runs[0, 0] + half.runs[0, 1]
    if half.runs[1, 1]:
        end = max(half.runs[1, 0], begin)
    for j in range(unsigned(begin), unsigned(end)):
        d = _along(lam, x, j, w1, w2)
        put(along, r, j, _sum_along(c2, i, j) * d, 1)
        put(total, i, j, take(total, i, j, 2) + d * _along(u, f, j, w1, w2), 2)


@njit(**_PART)
def _absorb_adjoint_nodes(
    line: Any, phi: Any, slot: int, lam: Any, now: int, i: int, half: Any, node: Any, side: int
) -> None:
    """``φ ← b φ + λ`` and ``z = λ + a φ`` in the columns of a layer and those beside it."""
    disjoint()
    x, i, zero, s = unsigned(now + i), unsigned(i), unsigned(0), unsigned(slot)
    begin, count = half.runs[side, 0], half.runs[side, 1]
    for j in range(unsigned(begin - 1), unsigned(begin + count + 2)):
        put(line, zero, j, get(lam, x, j), 1)
    begin, count = node.runs[side, 0], node.runs[side, 1]
    for j in range(unsigned(begin), unsigned(begin + count)):
        value = entry(node.b, s) * take(phi, i, s, 2) + get(lam, x, j)
        put(phi, i, s, value, 2)
        put(line, zero, j, get(lam, x, j) + entry(node.a, s) * value, 1)
        s += _1


@njit(**_PART)
def _absorb_adjoint_fluxes(
    along: Any, line: Any, r: int, mu: Any, slot: int, u: Any, field: int, psi: Any, memory: int,
    c2: Any, total: Any, i: int, half: Any, side: int, w1: float, w2: float,
) -> None:  # fmt: skip
    """``μ ← b μ + C ∂z``, the flux ``C ∂z + a μ``, and ``∂z (∂u + ψ)`` in a layer's columns."""
    disjoint()
    f, m, zero, s = unsigned(field + i), unsigned(memory + i), unsigned(0), unsigned(slot)
    r, i = unsigned(r), unsigned(i)
    begin, count = half.runs[side, 0], half.runs[side, 1]
    for j in range(unsigned(begin), unsigned(begin + count)):
        d = _along(line, zero, j, w1, w2)
        p = _sum_along(c2, i, j) * d
        value = entry(half.b, s) * take(mu, i, s, 3) + p
        put(mu, i, s, value, 3)
        put(along, r, j, p + entry(half.a, s) * value, 1)
        rate = _along(u, f, j, w1, w2) + get(psi, m, s)
        put(total, i, j, take(total, i, j, 2) + d * rate, 2)
        s += _1


@njit(**_PART)
def _absorb_adjoint_along(
    along: Any, line: Any, r: int, mu: Any, phi: Any, lam: Any, now: int, u: Any, field: int,
    psi: Any, memory: int, c2: Any, total: Any, i: int, half: Any, node: Any, w1: float, w2: float,
) -> None:  # fmt: skip
    """The layers' columns of a row."""
    at_half, at_node = 0, 0
    for side in range(2):
        if half.runs[side, 1]:
            _absorb_adjoint_nodes(line, phi, at_node, lam, now, i, half, node, side)
            _absorb_adjoint_fluxes(along, line, r, mu, at_half, u, field, psi, memory, c2, total,
                                   i, half, side, w1, w2)  # fmt: skip
        at_half, at_node = at_half + half.runs[side, 1], at_node + node.runs[side, 1]


@njit(**_PART)
def _adjoint_leap_pair(
    lam: Any, now: int, new: int, u: Any, field: int, c2: Any, total: Any, ring: Any, stage: int,
    along: Any, i: int, width: int, w1: float, w2: float, v01: float, v02: float, v11: float,
    v12: float,
) -> None:  # fmt: skip
    """``_leap_pair``, with its two rows of ``∂λ ∂u`` added to the gradient."""
    disjoint()
    k0, k1, k2 = _ring(stage, i - 2), _ring(stage, i - 1), _ring(stage, i)
    k3, k4 = _ring(stage, i + 1), _ring(stage, i + 2)
    r0, r1, c = unsigned(0), unsigned(1), unsigned(i)
    x, y, f = unsigned(now + i), unsigned(new + i), unsigned(field + i)
    for j in _owned(width):
        x0, x1 = get(lam, x, j), get(lam, x + _1, j)
        x2, x3 = get(lam, x + _2, j), get(lam, x + _3, j)
        square = get(c2, c + _2, j)
        p1, p2 = get(ring, k1, j), get(ring, k2, j)
        d3 = w1 * (x2 - x1) + w2 * (x3 - x0)
        d4 = w1 * (x3 - x2) + w2 * (get(lam, x + _4, j) - x1)
        p3 = (get(c2, c + _1, j) + square) * d3
        p4 = (square + get(c2, c + _3, j)) * d4
        change0 = v01 * (p2 - p1) + v02 * (p3 - get(ring, k0, j))
        change1 = v01 * (p3 - p2) + v02 * (p4 - p1)
        change0 += _along(along, r0, j - _1, v11, v12)
        change1 += _along(along, r1, j - _1, v11, v12)
        put(ring, k3, j, p3, 1)
        put(ring, k4, j, p4, 2)
        put(lam, y, j, x0 + x0 - take(lam, y, j, 3) + change0, 3)
        put(lam, y + _1, j, x1 + x1 - take(lam, y + _1, j, 4) + change1, 4)
        y1, y2, y3 = get(u, f + _1, j), get(u, f + _2, j), get(u, f + _3, j)
        e3 = w1 * (y2 - y1) + w2 * (y3 - get(u, f, j))
        e4 = w1 * (y3 - y2) + w2 * (get(u, f + _4, j) - y1)
        put(total, c + _1, j, take(total, c + _1, j, 5) + d3 * e3, 5)
        put(total, c + _2, j, take(total, c + _2, j, 6) + d4 * e4, 6)


@njit(parallel=True, **_ENTRY)
def reverse(
    first: int, last: int, offset: int, parts: Any, steps: int, neighbours: Any,
    lam: Any, mu0: Any, mu1: Any, phi0: Any, phi1: Any,
    kept_u: Any, kept_psi0: Any, kept_psi1: Any, kept_from: int,
    c2: Any, half0: Any, half1: Any, node0: Any, node1: Any, weights: Any, surface: bool,
    receivers: Any, sources: Any, work: Any, columns: int, totals: Any,
) -> None:  # fmt: skip
    """Take the steps ``last − 1`` … ``first`` back, at most ``steps`` in a sweep.

    ``lam``, ``mu0`` and ``phi0`` have two levels that are used in turns. ``kept`` is what
    ``advance`` has kept, with step ``first`` at ``kept_from``; here sources are recorded, and
    receivers act. ``totals`` are the sums of ``∂λ ∂u`` at the half points of either axis.
    """
    w01, w02, v01, v02, w11, w12, v11, v12 = weights
    threads, rows, pitch = work.shape[0] - 1, lam.shape[1], lam.shape[2]
    height, width = rows - 2 * GHOST, columns - 2 * GHOST
    field, memory0, memory1, kept, kept0 = (_flat(lam), _flat(mu0), _flat(phi0), _flat(kept_u),
                                            _flat(kept_psi0))  # fmt: skip
    kept1 = _flat(kept_psi1)
    for begin in range(last - 1, first - 1, -steps):
        stages, phase = min(steps, begin + 1 - first), last - 1 - begin + offset
        for x in range(len(parts)):
            part = parts[x, 0], parts[x, 1], parts[x, 2]
            if surface and not part[1]:
                _images(lam[(phase + 1) % 2], 0)
            for t in prange(threads + part[0]):
                ring, z = work[t, : STEPS * RING], work[t, STEPS * RING : 2 * STEPS * RING]
                along, line = work[t, 2 * STEPS * RING :], work[t, 2 * STEPS * RING + 2 :]
                for turn in _turns(part, stages, t, threads, height, neighbours):
                    for stage in range(part[1], min(part[2], stages)):
                        start, end = _rows(part[0], stage, t, threads, height, neighbours)
                        row, n, odd = turn - stage * LAG, begin - stage, (phase + stage) % 2
                        now, new, level = (1 - odd) * rows, odd * rows, n - first + kept_from
                        u, psi = level * rows, level * kept_psi0.shape[1]
                        for i in range(max(row, start), min(row + TURN, end), 2):
                            count = min(2, end - i)
                            prefetch(kept, (u + i + AHEAD) * pitch, count * pitch)
                            if stage and surface and i == start == GHOST:
                                _images(field, now)
                            pair = count == 2 and half0.slot[i + 1] < 0 and half0.slot[i + 2] < 0
                            new_row = i - 2 if i == start else i + 1
                            for k in range(new_row, i + 1 if pair else i + 1 + count):
                                # What another share adds goes into a row that is never looked at.
                                at = k if k > start or start == GHOST else 0
                                _adjoint_flux_down(ring, z, stage, odd, memory0, memory1, field,
                                                   now, kept, u, kept0, psi, c2, totals[0], k,
                                                   k == start - 2, at, half0, node0, width,
                                                   w01, w02)  # fmt: skip
                            for r in range(count):
                                _record(field, now, i + r, sources, n)
                                _adjoint_along(along, r, field, now, kept, u, c2, totals[1], i + r,
                                               half1, width, w11, w12)  # fmt: skip
                                _absorb_adjoint_along(along, line, r, mu1, phi1, field, now, kept,
                                                      u, kept1, u, c2, totals[1], i + r, half1,
                                                      node1, w11, w12)  # fmt: skip
                            if pair:
                                _adjoint_leap_pair(field, now, new, kept, u, c2, totals[0], ring,
                                                   stage, along, i, width, w01, w02, v01, v02,
                                                   v11, v12)  # fmt: skip
                            else:
                                for r in range(count):
                                    _leap(field, now, new, ring, stage, along, r, i + r, width,
                                          v01, v02, v11, v12)  # fmt: skip
                            for r in range(count):
                                _finish(field, new, i + r, receivers, n, surface)
            for stage in range(part[1], min(part[2], stages) if part[0] else 1):
                _collect(sources, begin - stage)
