"""Who sends which parts of traces to whom, worked out for many ranks in one process."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

from adjoint import communicator
from adjoint.comm import Blocks
from adjoint.solvers.acquisition import Points, TraceCollection


class Patch(Blocks):
    """A grid as one of its ranks sees it, and how often it is asked for another rank."""

    def __init__(self, shape: tuple[int, int], dims: tuple[int, int], rank: int) -> None:
        self.questions = 0
        super().__init__(shape, dims)
        self.rank = rank
        self.comm = communicator(MPI.COMM_SELF)
        self.start, self.stop = self.patch(rank)
        self.patch_shape = tuple(b - a for a, b in zip(self.start, self.stop))

    def patch(self, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        self.questions += 1
        return super().patch(rank)

    def coords_of(self, rank: int) -> tuple[int, ...]:
        self.questions += 1
        return super().coords_of(rank)


def plan(grid: Any, places: Any, runs: int) -> tuple[Points, TraceCollection]:
    points = Points("points", grid, (1.0, 1.0), places, runs, 2, ((0, 0), (0, 0)))
    return points, points.collection()


@pytest.mark.parametrize("dims", [(1, 1), (3, 4), (6, 2)])
def test_what_one_rank_sends_is_what_the_other_expects(dims: tuple[int, int]) -> None:
    """The owner's rows are those of the run and the point that each part belongs to."""
    runs, shape = 3, (23, 21)
    places = np.random.default_rng(0).uniform(0, 20, (runs, 40, 2))
    plans = [plan(Patch(shape, dims, r), places, runs) for r in range(dims[0] * dims[1])]
    expected: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for rank, (points, parts) in enumerate(plans):
        of_rows = [(run, int(p)) for run in range(runs) for p in points.index[run]]
        for owner, rows in parts._receivers:
            expected[rank, owner] = [of_rows[i] for i in parts._send[rows]]
    found = {
        (user, owner): [
            (int(row) // len(parts.owned), int(parts.owned[row % len(parts.owned)]))
            for row in parts._receive_rows[rows]
        ]
        for owner, (_, parts) in enumerate(plans)
        for user, rows in parts._senders
    }
    assert found == expected
    weights = sum(float(np.sum(w)) for points, _ in plans for w in points.weights)
    assert weights == pytest.approx(runs * 40)


def test_a_plan_does_not_ask_for_every_rank() -> None:
    grid = Patch((640, 640), (64, 64), 100)
    places = np.random.default_rng(1).uniform(0, 600, (2, 50, 2))
    plan(grid, places, 2)
    assert grid.questions < 50
