"""The check that nobody asked for: before the first sweep, with the ranks that come to it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

from adjoint import Operator, Tape, communicator
from adjoint.comm import (
    Allreduce,
    Bcast,
    CommunicationError,
    Recv,
    Reduce,
    Send,
    check_records,
    rank,
    records,
    size,
)

X = np.array([1.0, 2.0, 3.0])


@pytest.fixture
def fresh() -> Iterator[MPI.Comm]:
    """A communicator that has seen no sweep."""
    comm = MPI.COMM_WORLD.Dup()
    communicator(comm)
    yield comm
    comm.Free()


def message(comm: MPI.Comm, source: int, dest: int, shape: int = 3) -> tuple[Any, float]:
    """Send a message and sweep, on two ranks alone; return the gradient and the seconds it took."""
    with Tape(comm=comm) as tape:
        x = tape.watch(X)
        if rank() == source:
            Send(dest, comm=comm)(x * x)
            outputs = []
        else:
            outputs = [Recv(source, shape, comm=comm)()]
    start = time.monotonic()
    (gradient,) = tape.vjp(outputs, [X] * len(outputs), [x])
    return gradient, time.monotonic() - start


def same(found: str | None) -> str | None:
    """Return what all ranks say."""
    everywhere = MPI.COMM_WORLD.allgather(found)
    assert len(set(everywhere)) == 1, everywhere
    return everywhere[0]


def outcome(tape: Tape) -> str | None:
    try:
        records.check_first(tape)
    except CommunicationError as error:
        return str(error)
    return None


def record(comm: MPI.Comm, operator: Any) -> Tape:
    """Record a collective call without making it."""
    with Tape(comm=comm) as tape:
        tape.record(operator, (X,), (X,), (X,))
    return tape


@pytest.mark.parallel([3, 4])
def test_a_rank_that_nobody_needs_is_not_waited_for(fresh: MPI.Comm) -> None:
    if rank() in (0, 1):
        for repeated in range(2):
            gradient, seconds = message(fresh, 0, 1)
            assert seconds < (0.3 if repeated else 2.0)
            np.testing.assert_array_equal(gradient, 2 * X * X if rank() == 0 else 0 * X)


@pytest.mark.parallel([3])
def test_a_program_without_rank_0(fresh: MPI.Comm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "LIMIT", 0.5)
    if rank() > 0:
        for repeated in range(2):
            gradient, seconds = message(fresh, 1, 2)
            assert seconds < (0.3 if repeated else 2.0)
            np.testing.assert_array_equal(gradient, 2 * X * X if rank() == 1 else 0 * X)
    MPI.COMM_WORLD.Barrier()
    # Rank 0 comes much later, and the messages of the others' attempt are met by nobody.
    with Tape(comm=fresh) as tape:
        x = tape.watch(X)
        loss = Allreduce(fresh)(x).sum()
    start = time.monotonic()
    np.testing.assert_array_equal(tape.gradient(loss, [x])[0], np.ones(3))
    assert time.monotonic() - start < 0.5
    check_records(Tape(comm=fresh))


@pytest.mark.parallel([3])
def test_what_cannot_be_proven_is_no_fault(
    fresh: MPI.Comm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rank 0 records a message to rank 2, which takes its time."""
    monkeypatch.setattr(records, "LIMIT", 0.3)
    with Tape(comm=fresh) as tape:
        if rank() == 0:
            Send(2, comm=fresh)(tape.watch(X))
        elif rank() == 2:
            Recv(0, 3, comm=fresh)()
            time.sleep(0.8)
    start = time.monotonic()
    tape.vjp([], [], [])
    assert time.monotonic() - start < (0.3 if rank() == 2 else 2)


@pytest.mark.parallel([3, 4])
def test_what_is_wrong_whatever_the_others_recorded(
    fresh: MPI.Comm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "LIMIT", 0.3)
    last = size() - 1
    tape = record(fresh, (Reduce if rank() == 1 else Bcast)(0, fresh))
    if rank() == last:
        time.sleep(1)
    start = time.monotonic()
    found = outcome(tape)
    seconds = time.monotonic() - start
    text = same(found)
    assert text is not None
    assert text.startswith("rank 0, record 0: Bcast(root=0) meets rank 1, record 0: Reduce(root=0)")
    assert seconds < (0.2 if rank() == last else 2)
    assert outcome(tape) is None  # once


@pytest.mark.parallel([2, 3, 4])
def test_all_ranks_decide_alike_however_late_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "LIMIT", 0.05)
    random = np.random.default_rng([rank(), size()])
    for _ in range(12):
        comm = MPI.COMM_WORLD.Dup()
        tape = record(comm, Bcast(0, comm) if rank() < 1 else Reduce(0, comm))
        MPI.COMM_WORLD.Barrier()
        time.sleep(random.uniform(0, 0.12))
        assert "they do not match" in (same(outcome(tape)) or "they do not match")
        comm.Free()


@pytest.mark.parallel([2, 3])
def test_what_was_said_on_a_communicator_that_has_been_freed_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ranks come in vain on the first of two; MPICH then gives its messages to the second."""
    monkeypatch.setattr(records, "LIMIT", 0.3)
    for absent in (0, 1):
        for come in (rank() != absent, True):
            comm = MPI.COMM_WORLD.Dup()
            tape = record(comm, Bcast(0, comm) if rank() != 1 else Reduce(0, comm))
            found = outcome(tape) if come else None
            MPI.COMM_WORLD.Barrier()
            comm.Free()
        assert "do not match" in str(same(found))


@pytest.mark.parallel([2, 3])
def test_what_a_rank_does_by_itself_concerns_nobody(fresh: MPI.Comm) -> None:
    for _ in range(2 if rank() == 1 else 0):
        with Tape(comm=fresh) as tape:
            x = tape.watch(X)
            loss = Allreduce(MPI.COMM_SELF)(x).sum()
        start = time.monotonic()
        np.testing.assert_array_equal(tape.vjp([loss], [1.0], [x])[0], np.ones(3))
        assert time.monotonic() - start < 0.3
    # It does not count as the first sweep either.
    tape = record(fresh, (Bcast if rank() == 1 else Reduce)(0, fresh))
    assert "do not match" in str(same(outcome(tape)))


@pytest.mark.parallel([2, 3])
def test_operators_that_do_not_describe_themselves_are_left_alone(fresh: MPI.Comm) -> None:
    """A user's operator may be a message between two ranks, recorded by them alone."""

    class Handed(Operator):
        communicates = True

        def forward(self, x: Any) -> Any:
            return fresh.sendrecv(x, 1 - rank(), source=1 - rank())

        def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
            return (fresh.sendrecv(cotangents[0], 1 - rank(), source=1 - rank()),)

    with Tape(comm=fresh) as tape:
        x = tape.watch(X)
        y = Handed()(x) if rank() < 2 else x
        loss = Allreduce(fresh)(y).sum()
    (gradient,) = tape.gradient(loss, [x])
    np.testing.assert_array_equal(gradient, np.ones(3))
    if rank() < 2:
        with Tape(comm=fresh) as tape:
            Handed()(x)
    if size() == 3:  # the check on demand takes them for collective calls
        with pytest.raises(CommunicationError, match=r"Handed waits for rank 2, which does not"):
            tape.check_communication()
