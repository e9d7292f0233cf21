"""Exchanges of vector entries against what all ranks know of each other."""

from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI

from adjoint.solvers.exchange import Exchange, exchange_for, swap
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


@pytest.mark.parallel([1, 2, 3, 4])
def test_plans_are_made_from_what_each_rank_wants() -> None:
    """Two thirds of the others' entries; one rank has none itself."""
    comm = communicator()
    starts = np.cumsum([0, *[4, 0, 7, 3][: comm.size]])
    begin, end = starts[comm.rank : comm.rank + 2]
    numbers = np.arange(starts[-1])
    elsewhere = (numbers < begin) | (numbers >= end)
    wanted = numbers[elsewhere & ((numbers + comm.rank) % 3 > 0)]
    exchange = exchange_for(comm, starts, wanted)
    assert (exchange.length, exchange.received) == (end - begin, len(wanted))
    x = np.sqrt(numbers)
    np.testing.assert_array_equal(exchange.fetch(x[begin:end]), [*x[begin:end], *x[wanted]])
    everyones = comm.allgather(wanted)
    copies = np.bincount(np.concatenate(everyones), minlength=len(x))[begin:end]
    back = exchange.add_back(np.ones(exchange.length + exchange.received))
    np.testing.assert_array_equal(back, 1.0 + copies)
    sent = [sum((part >= begin) & (part < end)) * x.itemsize for part in everyones]
    assert exchange.sends == {rank: size for rank, size in enumerate(sent) if size}


@pytest.mark.parallel([1, 2, 3, 4])
def test_arrays_are_swapped() -> None:
    """Rank r sends rank q the numbers r … r + q − 1; rank 1 sends nothing."""
    comm = communicator()
    sent = {q: np.arange(comm.rank, comm.rank + q, dtype=np.int32) for q in range(comm.size)}
    came = swap(comm, {} if comm.rank == 1 else sent)
    assert sorted(came) == [r for r in range(comm.size) if r != 1 and comm.rank > 0]
    for r, numbers in came.items():
        assert numbers.dtype == np.int64
        np.testing.assert_array_equal(numbers, np.arange(r, r + comm.rank))
