"""The check of recorded communication: what it lets pass, when it is made, and who must come."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

from adjoint import Tape, communicator
from adjoint.checkpoint import TimeLoop
from adjoint.comm import (
    Allreduce,
    Barrier,
    Bcast,
    CartesianGrid,
    CommunicationError,
    HaloExchange,
    Irecv,
    Isend,
    Recv,
    Send,
    SendRecv,
    Wait,
    check_records,
    rank,
    size,
)
from adjoint.comm.records import events_of
from tests.pendulums import Pendulums

X = np.ones(3)


@pytest.mark.parallel([1, 2, 3])
def test_right_programs_pass() -> None:
    halo = HaloExchange(CartesianGrid((8, 8)), 1)
    half = MPI.COMM_WORLD.Split(rank() % 2, rank())
    dest, source = (rank() + 1) % size(), (rank() - 1) % size()
    with Tape() as tape:
        x = tape.watch(X)
        receiving = Irecv(source, (3,), tag=1)()
        y = SendRecv(dest, source)(Bcast(0)(x))
        sending = Isend(dest, tag=1)(y)
        y = y + Allreduce(half)(Wait()(receiving))
        Wait()(sending)
        Barrier()()
        padded = halo(tape.watch(np.ones(halo.grid.patch_shape)))
        if size() > 1 and rank() == 0:
            Send(1, tag=3)(y)
        if rank() == 1:
            y = y * Recv(0, 3, tag=3)()
        loss = Allreduce()(y.sum() + padded.sum())
    tape.check_communication()
    assert np.isfinite(tape.gradient(loss, [x])[0]).all()
    half.Free()


@pytest.mark.parallel([3])
def test_a_time_loop_concerns_the_ranks_of_its_propagator() -> None:
    """The other rank goes on to what all do together."""
    some = MPI.COMM_WORLD.Split(int(rank() == 1), rank())
    with Tape() as tape:
        y = x = tape.watch(X)
        if rank() != 1:
            y = TimeLoop(Pendulums(some, 3, 2))(x, np.zeros((2, 3)))
        loss = Allreduce()(Bcast(1)(x).sum() + y.sum())
    tape.check_communication()
    gradient = tape.gradient(loss, [x])[0]
    np.testing.assert_allclose(MPI.COMM_WORLD.allgather(gradient)[1], size() + 1)
    some.Free()


@pytest.mark.parallel([2])
def test_the_first_reverse_sweep_of_a_program_is_checked() -> None:
    fresh = MPI.COMM_WORLD.Dup()
    with Tape(comm=fresh) as tape:
        x = tape.watch(X)
        loss = Allreduce(fresh)(x).sum()
        if rank() == 1:
            # A collective that rank 0 made outside its tape.
            Allreduce(fresh)(X)
    if rank() == 0:
        Allreduce(fresh)(X)
    with pytest.raises(CommunicationError, match=r"rank 1, record 2: Allreduce\(\) waits for rank"):
        tape.gradient(loss, [x])
    fresh.Free()


@pytest.mark.parallel([2, 3])
@pytest.mark.parametrize("late", [0, -1])
def test_a_rank_that_does_not_come_is_named_and_may_come_later(late: int) -> None:
    late %= size()
    fresh = MPI.COMM_WORLD.Dup()
    communicator(fresh)
    with Tape(comm=fresh) as tape:
        pass
    if rank() == late:
        time.sleep(0.5)
    start = time.monotonic()
    with pytest.raises(CommunicationError) as caught:
        check_records(tape, patience=0.2)
    assert time.monotonic() - start < 2
    found = MPI.COMM_WORLD.allgather(str(caught.value))
    if late:
        assert len(set(found)) == 1
        assert found[0].startswith(
            f"rank {late} did not come to compare records with rank 0 in 0.2"
        )
    else:
        others = "rank 1" if size() == 2 else "ranks 1, 2"
        assert found[0].startswith(f"rank 0 came to compare its records after {others} had waited")
        assert found[1].startswith("rank 0 did not come to compare records with rank 1 in 0.2 s")
    # Nothing is left of it in the next one.
    check_records(tape)
    fresh.Free()


@pytest.mark.parallel([2])
def test_an_operator_that_cannot_describe_itself() -> None:
    class Broken(Allreduce):
        def message(self, inputs: Any, outputs: Any) -> Any:
            raise ArithmeticError("no words")

    with Tape() as tape:
        if rank() == 1:
            tape.record(Broken(), (X,), (X,), (X,))
    with pytest.raises(CommunicationError, match="rank 1: ArithmeticError: no words"):
        tape.check_communication()


@pytest.mark.parallel([3])
def test_what_a_rank_brings_does_not_grow_with_the_ranks() -> None:
    """Rank 0 gets it from each of them."""
    some = MPI.COMM_WORLD.Split(int(rank() == 1), rank())
    with Tape() as tape:
        x = tape.watch(X)
        Allreduce()(x)
        Allreduce(some)(x)
    members = [event.group[0] for event in events_of(tape, communicator())]
    assert members[0] == range(size())
    assert members[1] == ((1,) if rank() == 1 else (0, 2))
    some.Free()
