"""Values between the nodes of a distributed grid, in any number of dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from ..comm import CartesianGrid
from ..variable import Array
from ..world import agreed
from .pattern import Pattern


class Sensors:
    """Points at which a field is measured: interpolation from nodes, and its transpose.

    Linear along each axis: of second order, exact on nodes, and never beyond the values around it.

    Parameters
    ----------
    name : str
        What messages call the points.
    grid : CartesianGrid
    spacing : sequence of float
        Distance of nodes along each axis, in metres.
    positions : array_like, shape (points, ndim)
        In metres from the grid's first node, the same on all ranks.

    Attributes
    ----------
    owned : numpy.ndarray of int64
        The points whose nearest node is in this rank's patch.
    pattern : Pattern
        Of the matrix ``P`` that has the owned points as rows and the grid's nodes as columns.
    values : numpy.ndarray of float64

    Raises
    ------
    ValueError
        On all ranks: positions of a wrong shape, not finite, off the grid, or not those of rank 0.
    """

    def __init__(
        self, name: str, grid: CartesianGrid, spacing: Sequence[float], positions: Any
    ) -> None:
        with agreed(grid.comm):
            cells = _cells(name, grid, spacing, positions)
        expected = grid.comm.bcast(cells, 0)
        with agreed(grid.comm):
            if not np.array_equal(cells, expected):
                raise ValueError(f"{name} are not those of rank 0, expected the same on all ranks")
        last = np.asarray(grid.shape) - 1
        nearest = np.clip(np.rint(cells), 0, last).astype(np.int64)
        self.owned = np.flatnonzero(_ranks_of(grid, nearest) == grid.rank)
        cells = cells[self.owned]
        base = np.clip(np.floor(cells), 0, np.maximum(last - 1, 0)).astype(np.int64)
        share = cells - base
        firsts = np.concatenate([[0], np.cumsum(grid.counts)])
        rows, columns, weights = [], [], []
        for corner in product((0, 1), repeat=grid.ndim):
            weight = np.where(corner, share, 1 - share).prod(axis=1)
            used = np.flatnonzero(weight)
            rows.append(used)
            columns.append(_numbers(grid, firsts, base[used] + corner))
            weights.append(weight[used])
        entries = np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))
        stripe = csr_matrix(entries, shape=(len(self.owned), int(firsts[-1])))
        columns_here = grid.counts[grid.rank]
        self.pattern, self.values = Pattern.from_scipy(stripe, columns_here, grid.comm)


def _cells(name: str, grid: CartesianGrid, spacing: Sequence[float], positions: Any) -> Array:
    """Return positions in cells from the first node."""
    places: Array = np.asarray(positions, np.float64)
    if places.ndim != 2 or places.shape[1] != grid.ndim:
        raise ValueError(
            f"{name} has shape {places.shape}, expected (points, {grid.ndim}): in metres from the "
            "grid's first node"
        )
    cells: Array = places / np.asarray(spacing)
    within = (cells >= -1e-9) & (cells <= np.asarray(grid.shape) - 1 + 1e-9)  # not so for nan
    if not within.all():
        point = int(np.flatnonzero(~within.all(axis=1))[0])
        ends = ", ".join(f"0 to {(n - 1) * h:g}" for n, h in zip(grid.shape, spacing))
        raise ValueError(
            f"{name}: point {point} at {tuple(places[point].tolist())} m is off the grid's nodes, "
            f"expected {ends} m"
        )
    return cells


def _ranks_of(grid: CartesianGrid, nodes: Array) -> Array:
    ranks: Array = np.ravel_multi_index(tuple(grid.coords_at(nodes).T), grid.dims)
    return ranks


def _numbers(grid: CartesianGrid, firsts: Array, nodes: Array) -> Array:
    """Return the global numbers of nodes, given by their indices."""
    numbers = np.empty(len(nodes), np.int64)
    ranks = _ranks_of(grid, nodes)
    for rank in np.unique(ranks):
        start, stop = grid.patch(rank)
        here = ranks == rank
        shape = tuple(b - a for a, b in zip(start, stop))
        numbers[here] = firsts[rank] + np.ravel_multi_index(tuple((nodes[here] - start).T), shape)
    return numbers
