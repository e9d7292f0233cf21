"""Points sorted by rows, for sweeps that must be done with a row when they leave it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..variable import Array
from .acquisition import TAPS
from .padding import Padding


class RowPoints(NamedTuple):
    """What points of several fields take of a patch's rows: an entry for each row of a point.

    Attributes
    ----------
    starts : numpy.ndarray of int64, shape (fields, rows + 1)
        Where the entries of each field's rows start.
    columns : numpy.ndarray of int64, shape (entries, TAPS)
    weights : numpy.ndarray, shape (entries, TAPS)
        Zero where a column is not taken; in no entry all of them.
    point : numpy.ndarray of int64, shape (entries,)
        The row of ``series`` that belongs to the point.
    series : numpy.ndarray, shape (points, steps)
    """

    starts: Array
    columns: Array
    weights: Array
    point: Array
    series: Array


def by_rows(
    nodes: Sequence[Array],
    weights: Sequence[Array],
    index: Sequence[Array],
    series: Array,
    padding: Padding,
) -> RowPoints:
    """Return the points of several fields, sorted by rows.

    Parameters
    ----------
    nodes, weights : sequence of numpy.ndarray, shape (points, TAPS ** axes)
        Of each field, as in :class:`~adjoint.solvers.acquisition.Points`: for nodes of other ranks,
        node 0 with the weight zero.
    index : sequence of numpy.ndarray of int64, shape (points,)
        Of each field, the rows of ``series`` that belong to the points.
    series : numpy.ndarray, shape (points, steps)
    padding : Padding
        Of the patch.
    """
    rows_each = nodes[0].shape[1] // TAPS
    counts = [rows_each * len(rows) for rows in index]
    field = np.repeat(np.arange(len(nodes)), counts)
    place = np.concatenate(nodes).reshape(-1, TAPS)
    weight = np.concatenate(weights).reshape(-1, TAPS)
    point = np.repeat(np.concatenate(index), rows_each)
    taken = np.flatnonzero((weight != 0).any(axis=1))
    place, weight = place[taken], weight[taken]
    row = (place // padding.pitch).max(axis=1)  # a node of another rank counts as the very first
    line = field[taken] * padding.rows + row
    order = np.argsort(line, kind="stable")
    bounds = np.arange(len(nodes))[:, None] * padding.rows + np.arange(padding.rows + 1)
    return RowPoints(
        np.searchsorted(line[order], bounds),
        place[order] % padding.pitch,
        weight[order],
        point[taken][order],
        series,
    )
