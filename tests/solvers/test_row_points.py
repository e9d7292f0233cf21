"""Points sorted by rows take of each row what they take of the whole patch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

from adjoint.comm import CartesianGrid
from adjoint.solvers.acquisition import TAPS
from adjoint.solvers.padding import Padding
from adjoint.solvers.row_points import by_rows

Array = np.ndarray[Any, Any]


def field_of(points: int, padding: Padding, random: Any) -> tuple[Array, Array]:
    """Return nodes and weights of points, of which some nodes are another rank's."""
    shape = (*padding.shape[:-1], padding.pitch)
    taps = np.indices((TAPS,) * len(shape)).reshape(len(shape), -1)
    first = np.array([random.integers(n - TAPS + 1, size=points) for n in padding.shape])
    nodes = np.ravel_multi_index(tuple(first[:, :, None] + taps[:, None, :]), shape)
    weights = random.uniform(0.5, 1.5, nodes.shape)
    weights[random.random(weights.shape) < 0.2] = 0.0
    whole_rows = weights.reshape(points, taps.shape[1] // TAPS, TAPS)
    whole_rows[random.random(whole_rows.shape[:2]) < 0.3] = 0.0
    elsewhere = (weights == 0) & (random.random(weights.shape) < 0.5)
    return np.where(elsewhere, 0, nodes), weights


@pytest.mark.parametrize("shape", [(5, 7), (4, 3, 6)])
@pytest.mark.parametrize("counts", [(6, 0, 9), (1,), (0, 0)])
def test_each_row_has_its_entries(shape: tuple[int, ...], counts: tuple[int, ...]) -> None:
    padding = Padding(CartesianGrid(shape, MPI.COMM_SELF), 2, np.float64)
    random = np.random.default_rng(5)
    fields = [field_of(count, padding, random) for count in counts]
    numbers = random.permutation(sum(counts))
    index = np.split(numbers, np.cumsum(counts)[:-1])
    series = random.random((sum(counts), 3))
    found = by_rows(
        [nodes for nodes, _ in fields], [weights for _, weights in fields], index, series, padding
    )
    assert found.series is series
    assert found.starts.shape == (len(counts), padding.rows + 1)
    assert found.starts[0, 0] == 0 and found.starts[-1, -1] == len(found.point)
    assert found.columns.shape == found.weights.shape == (len(found.point), TAPS)
    assert found.weights.flags.c_contiguous
    assert (found.weights != 0).any(axis=1).all()
    for k, (nodes, weights) in enumerate(fields):
        expected, mine = (np.zeros((len(series), padding.rows, padding.pitch)) for _ in range(2))
        np.add.at(
            expected.reshape(len(series), padding.rows * padding.pitch),
            (index[k][:, None], nodes),
            weights,
        )
        for row in range(padding.rows):
            here = slice(found.starts[k, row], found.starts[k, row + 1])
            at = found.point[here, None], row, found.columns[here]
            np.add.at(mine, at, found.weights[here])
        np.testing.assert_array_equal(mine, expected)
