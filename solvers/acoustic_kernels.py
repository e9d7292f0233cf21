"""Compiled steps of the acoustic wave: forwards and in reverse, memory swept once.

Fields are padded by ``GHOST`` nodes on all sides, and by columns without use behind the first
``columns`` (see :mod:`~adjoint.solvers.padding`). Index ``k`` of a half point stands for the point
between lines ``k`` and ``k + 1``. See :mod:`~adjoint.solvers.acoustic` for what is computed.

Two rows are taken at a time where that saves loads, of which a processor can do fewer than of sums.
Indices of inner loops are :mod:`~adjoint.solvers.unsigned`. All is in one file because Numba's
cache does not see changes in others.
"""

from __future__ import annotations

from typing import Any

from numba import njit, prange

from .unsigned import unsigned

#: Ghost layers: a flux at a half point takes two nodes on either side, and the divergence of fluxes
#: two half points on either side of a node.
GHOST = 3

#: Rows of fluxes that two rows of nodes take.
RING = 5

#: Rows of work memory that a thread takes.
ROWS = 2 * RING + 5

#: Of what a step is made of: inlined, for the arrays' descriptions are long lists of arguments.
_PART: dict[str, Any] = {"fastmath": {"contract"}, "error_model": "numpy", "forceinline": True}

#: Of what is called from outside.
_ENTRY: dict[str, Any] = {"fastmath": {"contract"}, "error_model": "numpy", "cache": True}

_1, _2, _3, _4 = (unsigned(k) for k in (1, 2, 3, 4))


@njit(**_PART)
def _owned(width: int) -> Any:
    """The owned columns of a padded row."""
    return range(unsigned(GHOST), unsigned(GHOST + width))


@njit(**_PART)
def _down(u: Any, k: int, j: int, w1: float, w2: float) -> Any:
    """Difference at half point ``k`` of axis 0, with ``k`` and ``j`` unsigned."""
    return w1 * (u[k + _1, j] - u[k, j]) + w2 * (u[k + _2, j] - u[k - _1, j])


@njit(**_PART)
def _along(u: Any, i: int, j: int, w1: float, w2: float) -> Any:
    """Difference at half point ``j`` of a row."""
    return w1 * (u[i, j + _1] - u[i, j]) + w2 * (u[i, j + _2] - u[i, j - _1])


# Fluxes p = C ∂u


@njit(**_PART)
def _flux_down(
    ring: Any, strip: Any, slot: Any, u: Any, c2: Any, k: int, width: int, w1: float, w2: float
) -> None:
    """A row of fluxes along axis 0: a layer's, or computed here."""
    r, i = unsigned(k % RING), unsigned(k)
    if slot[k] >= 0:
        s = unsigned(slot[k])
        for j in _owned(width):
            ring[r, j] = strip[s, j]
    else:
        for j in _owned(width):
            ring[r, j] = (c2[i, j] + c2[i + _1, j]) * _down(u, i, j, w1, w2)


@njit(**_PART)
def _layer_flux(
    strip: Any, s: int, before: Any, after: Any, u: Any, c2: Any, half: Any, width: int,
    w1: float, w2: float,
) -> None:  # fmt: skip
    """A row of fluxes in a layer: ``ψ ← b ψ + a ∂u`` and ``p = C (∂u + ψ)``."""
    a, b = half.a[s], half.b[s]
    i, s = unsigned(half.lines[s]), unsigned(s)
    for j in _owned(width):
        d = _down(u, i, j, w1, w2)
        psi = b * before[s, j] + a * d
        after[s, j] = psi
        strip[s, j] = (c2[i, j] + c2[i + _1, j]) * (d + psi)


@njit(**_PART)
def _flux_along(
    along: Any, r: int, u: Any, c2: Any, i: int, width: int, w1: float, w2: float
) -> None:
    """The fluxes in a row, at the half points two before to two after the owned nodes."""
    r, i = unsigned(r), unsigned(i)
    for j in range(unsigned(GHOST - 2), unsigned(GHOST + width + 1)):
        along[r, j] = (c2[i, j] + c2[i, j + _1]) * _along(u, i, j, w1, w2)


@njit(**_PART)
def _absorb_fluxes(
    psi: Any, along: Any, r: int, u: Any, c2: Any, i: int, half: Any, w1: float, w2: float
) -> None:
    """Add the layers' part to the fluxes in a row."""
    r, i = unsigned(r), unsigned(i)
    slot = unsigned(0)
    for side in range(2):
        k = unsigned(half.runs[side, 0])
        for j in range(k, k + unsigned(half.runs[side, 1])):
            value = half.b[slot] * psi[i, slot] + half.a[slot] * _along(u, i, j, w1, w2)
            psi[i, slot] = value
            along[r, j] += (c2[i, j] + c2[i, j + _1]) * value
            slot += _1


# Steps u ← 2 u − u⁻ + ∇·p


@njit(**_PART)
def _leap(
    new: Any, u: Any, ring: Any, along: Any, r: int, i: int, width: int,
    v01: float, v02: float, v11: float, v12: float,
) -> None:  # fmt: skip
    """A row of the field, in place of the field before, from four rows of fluxes and its own."""
    k0, k1 = unsigned((i - 2) % RING), unsigned((i - 1) % RING)
    k2, k3 = unsigned(i % RING), unsigned((i + 1) % RING)
    r, i = unsigned(r), unsigned(i)
    for j in _owned(width):
        down = v01 * (ring[k2, j] - ring[k1, j]) + v02 * (ring[k3, j] - ring[k0, j])
        change = down + _along(along, r, j - _1, v11, v12)
        new[i, j] = u[i, j] + u[i, j] - new[i, j] + change


@njit(**_PART)
def _leap_pair(
    new: Any, u: Any, c2: Any, ring: Any, along: Any, i: int, width: int,
    w1: float, w2: float, v01: float, v02: float, v11: float, v12: float,
) -> None:  # fmt: skip
    """Two rows of the field, with the two rows of fluxes that are new to them."""
    k0, k1, k2 = unsigned((i - 2) % RING), unsigned((i - 1) % RING), unsigned(i % RING)
    k3, k4 = unsigned((i + 1) % RING), unsigned((i + 2) % RING)
    r0, r1, i0 = unsigned(0), unsigned(1), unsigned(i)
    i1, i2, i3, i4 = i0 + _1, i0 + _2, i0 + _3, i0 + _4
    for j in _owned(width):
        x0, x1, x2, x3, square = u[i0, j], u[i1, j], u[i2, j], u[i3, j], c2[i2, j]
        p1, p2 = ring[k1, j], ring[k2, j]
        p3 = (c2[i1, j] + square) * (w1 * (x2 - x1) + w2 * (x3 - x0))
        p4 = (square + c2[i3, j]) * (w1 * (x3 - x2) + w2 * (u[i4, j] - x1))
        change0 = v01 * (p2 - p1) + v02 * (p3 - ring[k0, j])
        change1 = v01 * (p3 - p2) + v02 * (p4 - p1)
        ring[k3, j] = p3
        ring[k4, j] = p4
        new[i0, j] = x0 + x0 - new[i0, j] + (change0 + _along(along, r0, j - _1, v11, v12))
        new[i1, j] = x1 + x1 - new[i1, j] + (change1 + _along(along, r1, j - _1, v11, v12))


@njit(**_PART)
def _leap_rows(
    new: Any, u: Any, c2: Any, ring: Any, strip: Any, slot: Any, along: Any, i: int, count: int,
    width: int, weights: Any,
) -> None:  # fmt: skip
    """One or two rows of the field, with the rows of fluxes that are new to them."""
    w1, w2, v01, v02, _, _, v11, v12 = weights
    if count == 2 and slot[i + 1] < 0 and slot[i + 2] < 0:
        _leap_pair(new, u, c2, ring, along, i, width, w1, w2, v01, v02, v11, v12)
        return
    for r in range(count):
        _flux_down(ring, strip, slot, u, c2, i + r + 1, width, w1, w2)
        _leap(new, u, ring, along, r, i + r, width, v01, v02, v11, v12)


@njit(**_PART)
def _absorb_down(
    new: Any, phi: Any, ring: Any, i: int, node: Any, width: int, v1: float, v2: float
) -> None:
    """Add a layer's part to the divergence along axis 0 in a row: ``φ ← b φ + a ∂p``."""
    s = node.slot[i]
    a, b = node.a[s], node.b[s]
    k0, k1 = unsigned((i - 2) % RING), unsigned((i - 1) % RING)
    k2, k3 = unsigned(i % RING), unsigned((i + 1) % RING)
    s, i = unsigned(s), unsigned(i)
    for j in _owned(width):
        d = v1 * (ring[k2, j] - ring[k1, j]) + v2 * (ring[k3, j] - ring[k0, j])
        value = b * phi[s, j] + a * d
        phi[s, j] = value
        new[i, j] += value


@njit(**_PART)
def _absorb_along(
    new: Any, phi: Any, along: Any, r: int, i: int, node: Any, width: int, v1: float, v2: float
) -> None:
    """Add the layers' part to the divergence along a row, at the owned nodes."""
    r, i = unsigned(r), unsigned(i)
    slot = 0
    for side in range(2):
        start, count = node.runs[side]
        k = max(start, GHOST)
        stop = max(min(start + count, width + GHOST), k)
        s = unsigned(slot + k - start)
        for j in range(unsigned(k), unsigned(stop)):
            value = node.b[s] * phi[i, s] + node.a[s] * _along(along, r, j - _1, v1, v2)
            phi[i, s] = value
            new[i, j] += value
            s += _1
        slot += count


@njit(**_PART)
def _images(u: Any) -> None:
    """Continue ``u`` oddly above a free surface, on which it is zero."""
    u[GHOST, :] = 0
    for k in range(1, GHOST + 1):
        for j in range(u.shape[1]):
            u[GHOST - k, j] = -u[GHOST + k, j]


@njit(**_PART)
def _record(u: Any, nodes: Any, weights: Any, traces: Any, n: int) -> None:
    """``traces[:, n] = `` the values of ``u`` at points."""
    flat = u.reshape(-1)
    for r in range(nodes.shape[0]):
        value = weights[r, 0] * flat[nodes[r, 0]]
        for k in range(1, nodes.shape[1]):
            value += weights[r, k] * flat[nodes[r, k]]
        traces[r, n] = value


@njit(**_PART)
def _inject(u: Any, nodes: Any, weights: Any, series: Any, n: int) -> None:
    """The transpose of ``_record``: spread values at points over the nodes."""
    flat = u.reshape(-1)
    for r in range(nodes.shape[0]):
        for k in range(nodes.shape[1]):
            flat[nodes[r, k]] += weights[r, k] * series[r, n]


@njit(parallel=True, **_ENTRY)
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
    height, width = u.shape[1] - 2 * GHOST, columns - 2 * GHOST
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
            _layer_flux(strip, s, before0, after0, now, c2, half0, width, w01, w02)
        for t in prange(threads):
            low = GHOST + height * t // threads
            stop = GHOST + height * (t + 1) // threads
            ring, along = rows[t, :RING], rows[t, RING : RING + 2]
            for i in range(low, stop, 2):
                count = min(2, stop - i)
                if i == low:
                    for k in range(i - 2, i + 1):
                        _flux_down(ring, strip, half0.slot, now, c2, k, width, w01, w02)
                for r in range(count):
                    if levels > 2:
                        new[i + r, :] = old[i + r]
                    if memory > 1:
                        after1[i + r, :] = before1[i + r]
                    _flux_along(along, r, now, c2, i + r, width, w11, w12)
                    if len(half1.lines):
                        _absorb_fluxes(after1, along, r, now, c2, i + r, half1, w11, w12)
                _leap_rows(new, now, c2, ring, strip, half0.slot, along, i, count, width, weights)
                for r in range(count):
                    if node0.slot[i + r] >= 0:
                        _absorb_down(new, phi0, ring, i + r, node0, width, v01, v02)
                    if len(node1.lines):
                        _absorb_along(new, phi1, along, r, i + r, node1, width, v11, v12)
        _inject(new, s_nodes, s_weights, wavelets, n)
        if surface:
            new[GHOST, :] = 0


# In reverse


@njit(**_PART)
def _layer_adjoint(z: Any, s: int, phi: Any, lam: Any, node: Any, width: int) -> None:
    """``φ ← b φ + λ`` and ``z = λ + a φ`` in a row of a layer."""
    a, b = node.a[s], node.b[s]
    i, s = unsigned(node.lines[s]), unsigned(s)
    for j in _owned(width):
        value = b * phi[s, j] + lam[i, j]
        phi[s, j] = value
        z[s, j] = lam[i, j] + a * value


@njit(**_PART)
def _layer_row(k: int, slot: Any, z: Any, lam: Any, width: int) -> Any:
    """The owned nodes of a row of ``z``, which outside of a layer is ``λ``."""
    row = z[slot[k]] if slot[k] >= 0 else lam[k]
    return row[GHOST : GHOST + width]


@njit(**_PART)
def _layer_adjoint_flux(
    flux: Any, product: Any, mu: Any, psi: Any, z0: Any, z1: Any, z2: Any, z3: Any,
    u: Any, c2: Any, k: int, a: float, b: float, w1: float, w2: float,
) -> None:  # fmt: skip
    """``μ ← b μ + C ∂z``, the flux ``C ∂z + a μ``, and ``∂z (∂u + ψ)`` in a row of a layer."""
    i = unsigned(k)
    for c in range(unsigned(len(flux))):
        j = c + unsigned(GHOST)
        d = w1 * (z2[c] - z1[c]) + w2 * (z3[c] - z0[c])
        p = (c2[i, j] + c2[i + _1, j]) * d
        value = b * mu[c] + p
        mu[c] = value
        flux[c] = p + a * value
        product[c] = d * (_down(u, i, j, w1, w2) + psi[c])


@njit(**_PART)
def _absorb_adjoint(line: Any, phi: Any, lam: Any, i: int, node: Any, width: int) -> None:
    """``φ ← b φ + λ`` and ``z = λ + a φ`` at the layers' nodes of a row, ``λ`` at the others."""
    i = unsigned(i)
    for j in range(unsigned(width + 2 * GHOST)):
        line[unsigned(0), j] = lam[i, j]
    s = unsigned(0)
    for side in range(2):
        k = unsigned(node.runs[side, 0])
        for j in range(k, k + unsigned(node.runs[side, 1])):
            value = node.b[s] * phi[i, s] + lam[i, j]
            phi[i, s] = value
            line[unsigned(0), j] += node.a[s] * value
            s += _1


@njit(**_PART)
def _adjoint_along(
    along: Any, across: Any, r: int, z: Any, row: int, u: Any, c2: Any, i: int, width: int,
    w1: float, w2: float,
) -> None:  # fmt: skip
    """``C ∂z`` and ``∂z ∂u`` at the half points of a row."""
    r, row, i = unsigned(r), unsigned(row), unsigned(i)
    for j in range(unsigned(GHOST - 2), unsigned(GHOST + width + 1)):
        d = _along(z, row, j, w1, w2)
        along[r, j] = (c2[i, j] + c2[i, j + _1]) * d
        across[r, j] = d * _along(u, i, j, w1, w2)


@njit(**_PART)
def _absorb_adjoint_fluxes(
    mu: Any, along: Any, across: Any, r: int, line: Any, psi: Any, i: int, half: Any,
    w1: float, w2: float,
) -> None:  # fmt: skip
    """``μ ← b μ + C ∂z``, the flux ``C ∂z + a μ``, and the layers' part of ``∂z (∂u + ψ)``."""
    r, i = unsigned(r), unsigned(i)
    s = unsigned(0)
    for side in range(2):
        k = unsigned(half.runs[side, 0])
        for j in range(k, k + unsigned(half.runs[side, 1])):
            value = half.b[s] * mu[i, s] + along[r, j]
            mu[i, s] = value
            along[r, j] += half.a[s] * value
            across[r, j] += _along(line, unsigned(0), j, w1, w2) * psi[i, s]
            s += _1


@njit(**_PART)
def _product_down(
    products: Any, energy: Any, slot: Any, z: Any, u: Any, k: int, width: int,
    w1: float, w2: float,
) -> None:  # fmt: skip
    """A row of ``∂z ∂u`` along axis 0: a layer's, or computed here."""
    r, i = unsigned(k % RING), unsigned(k)
    if slot[k] >= 0:
        s = unsigned(slot[k])
        for j in _owned(width):
            products[r, j] = energy[s, j]
    else:
        for j in _owned(width):
            products[r, j] = _down(z, i, j, w1, w2) * _down(u, i, j, w1, w2)


@njit(**_PART)
def _add(gradient: Any, products: Any, across: Any, r: int, i: int, width: int) -> None:
    """Add to a row of nodes what its half points have."""
    k1, k2 = unsigned((i - 1) % RING), unsigned(i % RING)
    r, i = unsigned(r), unsigned(i)
    for j in _owned(width):
        gradient[i, j] += products[k1, j] + products[k2, j] + (across[r, j - _1] + across[r, j])


@njit(**_PART)
def _add_pair(
    gradient: Any, products: Any, across: Any, z: Any, u: Any, i: int, width: int,
    w1: float, w2: float,
) -> None:  # fmt: skip
    """Add to two rows of nodes, with the two rows of products that are new to them."""
    k1, k2 = unsigned((i - 1) % RING), unsigned(i % RING)
    k3, k4 = unsigned((i + 1) % RING), unsigned((i + 2) % RING)
    r0, r1, i0 = unsigned(0), unsigned(1), unsigned(i)
    i1, i2, i3, i4 = i0 + _1, i0 + _2, i0 + _3, i0 + _4
    for j in _owned(width):
        y1, y2, y3, x1, x2, x3 = z[i1, j], z[i2, j], z[i3, j], u[i1, j], u[i2, j], u[i3, j]
        d3 = w1 * (y2 - y1) + w2 * (y3 - z[i0, j])
        d4 = w1 * (y3 - y2) + w2 * (z[i4, j] - y1)
        e2 = products[k2, j]
        e3 = d3 * (w1 * (x2 - x1) + w2 * (x3 - u[i0, j]))
        e4 = d4 * (w1 * (x3 - x2) + w2 * (u[i4, j] - x1))
        gradient[i0, j] += products[k1, j] + e2 + (across[r0, j - _1] + across[r0, j])
        gradient[i1, j] += e2 + e3 + (across[r1, j - _1] + across[r1, j])
        products[k3, j] = e3
        products[k4, j] = e4


@njit(**_PART)
def _add_rows(
    gradient: Any, products: Any, energy: Any, slot: Any, across: Any, z: Any, u: Any, i: int,
    count: int, width: int, w1: float, w2: float,
) -> None:  # fmt: skip
    """Add to one or two rows of nodes, with the rows of products that are new to them."""
    if count == 2 and slot[i + 1] < 0 and slot[i + 2] < 0:
        _add_pair(gradient, products, across, z, u, i, width, w1, w2)
        return
    for r in range(count):
        _product_down(products, energy, slot, z, u, i + r + 1, width, w1, w2)
        _add(gradient, products, across, r, i + r, width)


@njit(**_PART)
def _add_ends(
    gradient: Any, products: Any, across: Any, r: int, i: int, height: int, width: int, ends: Any
) -> None:
    """Add what the velocity of the grid's last nodes has beyond its ends, where it is continued."""
    low, high, left, right = ends
    last = GHOST + width - 1
    if i == GHOST and low:
        _add_end(gradient, products, i, (i - 1) % RING, (i - 2) % RING, width)
    if i == GHOST + height - 1 and high:
        _add_end(gradient, products, i, i % RING, (i + 1) % RING, width)
    if left:
        gradient[i, GHOST] += across[r, GHOST - 1] + across[r, GHOST - 2] + across[r, GHOST - 2]
    if right:
        gradient[i, last] += across[r, last] + across[r, last + 1] + across[r, last + 1]


@njit(**_PART)
def _add_end(gradient: Any, products: Any, i: int, near: int, far: int, width: int) -> None:
    i, near, far = unsigned(i), unsigned(near), unsigned(far)
    for j in _owned(width):
        gradient[i, j] += products[near, j] + products[far, j] + products[far, j]


@njit(parallel=True, **_ENTRY)
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
    w01, w02, _, _, w11, w12, _, _ = weights
    r_nodes, r_weights, traces = receivers
    s_nodes, s_weights, wavelets = sources
    threads = rows.shape[0]
    height, width = u.shape[1] - 2 * GHOST, columns - 2 * GHOST
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
        for s in prange(len(node0.lines)):
            _layer_adjoint(z, s, phi0, now, node0, width)
        for s in prange(len(half0.lines)):
            k, a, b = half0.lines[s], GHOST, GHOST + width
            _layer_adjoint_flux(
                strip[s, a:b], energy[s, a:b], mu0[s, a:b], memory0[s, a:b],
                _layer_row(k - 1, node0.slot, z, now, width),
                _layer_row(k, node0.slot, z, now, width),
                _layer_row(k + 1, node0.slot, z, now, width),
                _layer_row(k + 2, node0.slot, z, now, width),
                field, c2, k, half0.a[s], half0.b[s], w01, w02,
            )  # fmt: skip
        for t in prange(threads):
            low = GHOST + height * t // threads
            stop = GHOST + height * (t + 1) // threads
            ring, products = rows[t, :RING], rows[t, RING : 2 * RING]
            along, across = rows[t, 2 * RING : 2 * RING + 2], rows[t, 2 * RING + 2 : 2 * RING + 4]
            line = rows[t, 2 * RING + 4 :]
            for i in range(low, stop, 2):
                count = min(2, stop - i)
                if i == low:
                    for k in range(i - 2, i + 1):
                        _flux_down(ring, strip, half0.slot, now, c2, k, width, w01, w02)
                        _product_down(products, energy, half0.slot, now, field, k, width, w01, w02)
                for r in range(count):
                    k = i + r
                    if len(node1.lines):
                        _absorb_adjoint(line, phi1, now, k, node1, width)
                        _adjoint_along(along, across, r, line, 0, field, c2, k, width, w11, w12)
                        _absorb_adjoint_fluxes(mu1, along, across, r, line, memory1, k, half1,
                                               w11, w12)  # fmt: skip
                    else:
                        _adjoint_along(along, across, r, now, k, field, c2, k, width, w11, w12)
                _leap_rows(new, now, c2, ring, strip, half0.slot, along, i, count, width, weights)
                _add_rows(gradient, products, energy, half0.slot, across, now, field, i, count,
                          width, w01, w02)  # fmt: skip
                for r in range(count):
                    _add_ends(gradient, products, across, r, i + r, height, width, ends)
        _inject(new, r_nodes, r_weights, traces, n)
        if surface:
            new[GHOST, :] = 0
