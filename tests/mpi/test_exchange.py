"""Exchanges of vector entries against what all ranks know of each other."""

from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI

from adjoint.solvers.exchange import Exchange
from adjoint.world import communicator


@pytest.mark.parallel([2, 3, 4])
def test_fetch_and_its_transpose_whatever_the_order_of_ranks() -> None:
    """Rank r sends to rank q its entries 0 … q, and one that all get."""
    comm = communicator()
    me, size = comm.rank, comm.size
    others = [q for q in range(size - 1, -1, -1) if q != me]  # not in the order of ranks
    positions = {q: np.array([*range(q + 1), size]) for q in others}
    exchange = Exchange(comm, size + 1, positions, dict.fromkeys(others, me + 2))
    x = np.arange(size + 1) + 100.0 * me
    came = [np.array([*range(me + 1), size]) + 100.0 * q for q in reversed(others)]
    np.testing.assert_array_equal(exchange.fetch(x), np.concatenate([x, *came]))

    random = np.random.default_rng(me).standard_normal(exchange.length + exchange.received)
    left = comm.allreduce(float(exchange.fetch(x) @ random), MPI.SUM)
    kept = random.copy()
    right = comm.allreduce(float(x @ exchange.add_back(random)), MPI.SUM)
    np.testing.assert_array_equal(random, kept)
    assert left == pytest.approx(right, rel=1e-13)
    back = exchange.add_back(np.ones(exchange.length + exchange.received))
    copies = [1 + sum(q >= i for q in others) for i in range(size)]
    np.testing.assert_array_equal(back, [*copies, size])
