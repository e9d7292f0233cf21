"""Sources and receivers between the nodes of a distributed grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..comm import CartesianGrid
from ..comm.channel import new_channel
from ..spans import sent, span
from ..variable import Array
from .exchange import slices
from .padding import row_pitch
from .waves import AXES

#: For ranks with any: the rank, and its rows.
Parts = list[tuple[int, slice]]

#: Nodes along each axis from which a value is interpolated.
TAPS = 4


def ricker(times: Any, peak_frequency: float, delay: float | None = None) -> Array:
    """Return a Ricker wavelet.

    Parameters
    ----------
    times : array_like
        In seconds.
    peak_frequency : float
        Of its spectrum, in hertz.
    delay : float, optional
        When it peaks, in seconds; by default ``1.2 / peak_frequency``, which starts it near zero.

    Returns
    -------
    numpy.ndarray of float64, shape of ``times``
        ``(1 − 2φ²) exp(−φ²)`` with ``φ = π f (t − delay)``.

    References
    ----------
    Ricker (1953). The form and laws of propagation of seismic wavelets. DOI 10.1190/1.1437843
    """
    shift = 1.2 / peak_frequency if delay is None else delay
    phase = (np.pi * peak_frequency * (np.asarray(times, dtype=np.float64) - shift)) ** 2
    wavelet: Array = (1 - 2 * phase) * np.exp(-phase)
    return wavelet


class Points:
    """Positions on a distributed grid: interpolation from its nodes, and its transpose.

    Cubic Lagrange interpolation along each axis, which is of fourth order and exact on nodes. The
    nodes taken are all inside the grid.

    Parameters
    ----------
    name : str
        What messages call the points: ``"AcousticWave: receivers"``.
    grid : CartesianGrid
    spacing : tuple of float
        Distance of nodes along each axis, in metres.
    positions : array_like, shape (points, axes) or (runs, points, axes)
        ``(z, x)`` or ``(z, y, x)`` in metres from the first node; for each run, or the same for
        all.
    runs : int
    ghost : int
        Ghost layers of the arrays that are interpolated, which are laid out by
        :class:`~adjoint.solvers.padding.Padding`.
    margins : sequence of (int, int)
        Nodes at the low and the high end of each axis in which no point may lie.
    shift : float or tuple of float
        Where the field's samples are, in cells from the nodes: 0 or ½ along each axis.
    dtype : dtype_like
        Of the weights and of the arrays.

    Attributes
    ----------
    count : int
        Points of a run.
    index : list of numpy.ndarray of int64
        For each run, the points that are interpolated from nodes of this rank's patch.
    nodes : list of numpy.ndarray of int64, shape (n, TAPS ** axes)
        For each run, the nodes of these points in the flattened padded patch; 0 for other ranks'.
    weights : list of numpy.ndarray, shape (n, TAPS ** axes)
        Their weights; zero for nodes of other ranks.
    owned : numpy.ndarray of int64
        The points whose nearest node in the first run is in this rank's patch.

    Raises
    ------
    ValueError
        Wrong shapes, or a point off the grid or in a margin. To be agreed by the caller.
    """

    def __init__(
        self,
        name: str,
        grid: CartesianGrid,
        spacing: Sequence[float],
        positions: Any,
        runs: int,
        ghost: int,
        margins: Sequence[Sequence[int]],
        shift: float | Sequence[float] = 0.0,
        dtype: DTypeLike = np.float64,
    ) -> None:
        places = np.asarray(positions, dtype=np.float64)
        if places.ndim == 2:
            places = np.broadcast_to(places, (runs, *places.shape))
        axes = grid.ndim
        if places.ndim != 3 or places.shape[0] != runs or places.shape[2] != axes:
            raise ValueError(
                f"{name} has shape {np.shape(positions)}, expected (points, {axes}) or ({runs}, "
                f"points, {axes}): ({', '.join(AXES[axes])}) in metres"
            )
        if runs < 1:
            raise ValueError(f"{name} has shape {np.shape(positions)}, expected one shot or more")
        self.count = places.shape[1]
        cells = places / np.asarray(spacing)
        _inside(name, grid, spacing, cells, margins)
        base, weights = _interpolation(grid.shape, cells - np.asarray(shift))
        self._grid = grid
        self._base = base
        self.index, self.nodes, self.weights = [], [], []
        start, stop = np.reshape(grid.start, (axes, 1)), np.reshape(grid.stop, (axes, 1))
        padded = [n + 2 * ghost for n in grid.patch_shape]
        padded[-1] = row_pitch(padded[-1], dtype)
        apart = np.cumprod([1, *padded[:0:-1]])[::-1]
        for run in range(runs):
            lines = base[run][:, :, None] + np.arange(TAPS)  # (points, axes, taps)
            here = _outer(np.logical_and, (lines >= start) & (lines < stop))
            found = np.flatnonzero(here.any(axis=1))
            w = _outer(np.multiply, weights[run]) * here
            flat = _outer(np.add, (lines - start + ghost) * apart[:, None])
            self.index.append(found)
            self.nodes.append(np.ascontiguousarray(np.where(here, flat, 0)[found]))
            self.weights.append(np.ascontiguousarray(w[found], dtype=dtype))
        nearest = np.rint(cells[0]).astype(np.int64)
        self._owners = _ranks_of(grid, grid.coords_at(nearest))
        self.owned = np.flatnonzero(self._owners == grid.rank)

    def collection(self) -> TraceCollection:
        """Return the exchange that sums parts of traces at the points' owners."""
        grid = self._grid
        users = []
        for base in self._base:
            users.append((grid.coords_at(base), grid.coords_at(base + TAPS - 1)))
        return TraceCollection(grid, self.owned, self._owners, self.index, users)


class TraceCollection:
    """Sums what ranks have of a trace at its owner, in one exchange for all runs.

    A point is interpolated from nodes of several ranks. Each of these records its part of the
    trace; the owner of the point returns their sum. The transpose hands the owner's cotangent to
    all of them.
    """

    def __init__(
        self,
        grid: CartesianGrid,
        owned: Array,
        owners: Array,
        index: list[Array],
        users: list[tuple[Array, Array]],
    ) -> None:
        self._comm, self._tag = new_channel(grid.comm)
        self.runs = len(index)
        self.owned = owned
        self._rows = np.cumsum([0, *(len(i) for i in index)])
        # Rows are (run, point). Of mine, in the order of the ranks that they are sent to; of those
        # that I get, in the order of the ranks that they come from: both by run and point within.
        points = np.concatenate([*index, np.empty(0, np.int64)]).astype(np.int64)
        to = owners[points]
        self._send = np.argsort(to, kind="stable")
        self._receivers = _parts(to)
        found = []
        for run, (low, high) in enumerate(users):
            low, high = low[owned], high[owned]
            for step in np.ndindex(*((high - low).max(axis=0, initial=0) + 1)):
                slot = np.flatnonzero((low + step <= high).all(axis=1))
                user = _ranks_of(grid, low[slot] + step)
                found.append(np.stack([user, np.full(len(slot), run), slot]))
        user, of_run, slot = np.concatenate(found, axis=1)
        order = np.lexsort((slot, of_run, user))
        self._senders = _parts(user)
        self._receive_rows = (of_run * len(owned) + slot)[order]

    def rows(self, run: int) -> slice:
        """Return where the parts of a run's traces stand among all of this rank's parts."""
        return slice(self._rows[run], self._rows[run + 1])

    def new_parts(self, steps: int, dtype: DTypeLike) -> Array:
        """Return room for this rank's parts of traces, zero: (parts, steps)."""
        return np.zeros((self._rows[-1], steps), dtype)

    def forward(self, parts: Array) -> Array:
        """Return the traces of this rank's points, (runs, owned points, steps)."""
        steps = parts.shape[1]
        came = np.empty((len(self._receive_rows), steps), parts.dtype)
        self._exchange(parts[self._send], self._receivers, came, self._senders)
        traces = np.zeros((self.runs * len(self.owned), steps), parts.dtype)
        np.add.at(traces, self._receive_rows, came)
        return traces.reshape(self.runs, len(self.owned), steps)

    def adjoint(self, traces: Array) -> Array:
        """Return the cotangents of this rank's parts, (parts, steps)."""
        steps = traces.shape[2]
        rows = traces.reshape(-1, steps)[self._receive_rows]
        came = np.empty((len(self._send), steps), traces.dtype)
        self._exchange(rows, self._senders, came, self._receivers)
        parts = np.empty_like(came)
        parts[self._send] = came
        return parts

    def _exchange(self, out: Array, to: Parts, into: Array, from_: Parts) -> None:
        """Send rows to the ranks that take part in a trace, and receive theirs, and no others."""
        from mpi4py import MPI

        comm, tag = self._comm, self._tag
        if comm.size == 1:
            into[...] = out
            return
        out = np.ascontiguousarray(out)
        requests = [comm.Irecv(into[part], rank, tag) for rank, part in from_]
        requests += [comm.Isend(out[part], rank, tag) for rank, part in to]
        sent(sum(out[part].nbytes for rank, part in to if rank != comm.rank))
        with span("wait"):
            MPI.Request.Waitall(requests)


def _parts(ranks: Array) -> Parts:
    """Return the rows of each rank, once they are sorted by it."""
    found, counts = np.unique(ranks, return_counts=True)
    return slices(dict(zip(found.tolist(), counts.tolist())))


def _inside(
    name: str,
    grid: CartesianGrid,
    spacing: Sequence[float],
    cells: Array,
    margins: Sequence[Sequence[int]],
) -> None:
    """Raise if a point is not finite, off the grid, or in a margin."""
    if not np.isfinite(cells).all():
        raise ValueError(f"{name} has positions that are not finite")
    low = np.array([m[0] for m in margins], dtype=np.float64)
    high = np.array([n - 1 - m[1] for n, m in zip(grid.shape, margins)], dtype=np.float64)
    last = np.asarray(grid.shape) - 1
    # A place divided by the spacing may be off a node by rounding.
    for first, end, where in (
        (0, last, "outside of the grid"), (low, high, "inside an absorbing layer")
    ):  # fmt: skip
        bad = ((cells < first - 1e-9) | (cells > end + 1e-9)).any(axis=2)
        if bad.any():
            run, point = (int(i) for i in np.argwhere(bad)[0])
            place = ", ".join(f"{c * h:g}" for c, h in zip(cells[run, point], spacing))
            limits = ", ".join(f"{a * h:g} to {b * h:g} m" for a, b, h in zip(low, high, spacing))
            axes = AXES[grid.ndim]
            raise ValueError(
                f"{name}: point {point} at ({', '.join(axes)}) = ({place}) m is {where}, "
                f"expected {', '.join(axes[:-1])} and {axes[-1]} in {limits}"
            )


def _interpolation(shape: tuple[int, ...], cells: Array) -> tuple[Array, Array]:
    """Return the first of the nodes that each point takes along each axis, and all weights.

    An axis has ``TAPS`` nodes or more.
    """
    last = np.asarray(shape) - TAPS
    base = np.clip(np.floor(cells).astype(np.int64) - 1, 0, last)
    t = (cells - base)[..., None]
    taps = np.arange(TAPS, dtype=np.float64)
    weights = np.ones((*cells.shape, TAPS))
    for k in range(TAPS):
        for m in range(TAPS):
            if m != k:
                weights[..., k] *= (t[..., 0] - taps[m]) / (taps[k] - taps[m])
    return base, weights


def _outer(product: np.ufunc, factors: Array) -> Array:
    """Return the products of all choices of one tap an axis, (points, taps ** axes)."""
    points, axes, taps = factors.shape
    found = factors[:, 0]
    for axis in range(1, axes):
        found = product(found[:, :, None], factors[:, axis, None, :])
        found = found.reshape(points, taps ** (axis + 1))
    return found


def _ranks_of(grid: CartesianGrid, coords: Array) -> Array:
    ranks: Array = np.ravel_multi_index(tuple(np.moveaxis(coords, -1, 0)), grid.dims)
    return ranks
