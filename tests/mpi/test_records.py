"""Programs whose ranks do not fit together are reported with both sides, and do not hang."""

from __future__ import annotations

import time
from collections.abc import Callable
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
    Reduce,
    Request,
    Send,
    SendRecv,
    Wait,
    check_records,
    rank,
    size,
)
from adjoint.variable import Spec
from tests.pendulums import Pendulums

X = np.ones(3)


class Recorder:
    """Records calls without making them, so that faulty programs can be recorded at all."""

    def __init__(self) -> None:
        self.tape = Tape()
        self.tape.__enter__()
        self.requests = 0

    def __call__(self, operator: Any, *inputs: Any) -> None:
        outputs: Any = tuple(X for _ in inputs)
        if isinstance(operator, Recv):
            outputs = np.zeros(operator.shape)
        elif isinstance(operator, Send):
            outputs = None
        self.tape.record(operator, inputs, inputs, outputs)

    def start(self, operator: Any, *inputs: Any) -> Any:
        """Record the start of a request, and return it as ``Wait`` takes it."""
        request = object.__new__(Request)
        request.comm, request.text, request.number = operator.comm, repr(operator), self.requests
        request.peer = operator.dest if inputs else operator.source
        request.tag, request.sends = operator.tag, bool(inputs)
        request.spec = Spec((3,), np.dtype(float))
        self.requests += 1
        self.tape.record(operator, inputs, inputs, request)
        return request

    def wait(self, request: Any) -> None:
        outputs = None if request.sends else X
        self.tape.record(Wait(), (request,), (request,), outputs)


def collectives(a: Any, b: Any) -> Callable[[Recorder], None]:
    """Rank 1 calls ``b``, the others ``a``."""
    return lambda do: do(b if rank() == 1 else a, X)


def missing_receive(do: Recorder) -> None:
    if rank() == 0:
        do(Send(1), X)


def missing_send(do: Recorder) -> None:
    if rank() == 1:
        do(Recv(0, 3))


def swapped_tags(do: Recorder) -> None:
    if rank() == 0:
        do(Send(1, tag=1), X)
    elif rank() == 1:
        do(Recv(0, 3, tag=2))


def another_size(do: Recorder) -> None:
    if rank() == 0:
        do(Send(1), X)
    elif rank() == 1:
        do(Recv(0, 4))


def another_dtype(do: Recorder) -> None:
    if rank() == 0:
        do(Send(1), X.astype(np.float32))
    elif rank() == 1:
        do(Recv(0, 3))


def another_partner(do: Recorder) -> None:
    if rank() == 0:
        do(Send(1), X)
    elif rank() == 1:
        do(Recv(1, 3))


def another_order(do: Recorder) -> None:
    first, second = Allreduce(), Bcast(0)
    for operator in (second, first) if rank() == 1 else (first, second):
        do(operator, X)


def fewer_steps(do: Recorder) -> None:
    for _ in range(2 if rank() == 1 else 3):
        do(Allreduce(), X)


def both_receive_first(do: Recorder) -> None:
    if rank() < 2:
        do(Recv(1 - rank(), 3))
        do(Send(1 - rank()), X)


def message_across_a_collective(do: Recorder) -> None:
    if rank() == 0:
        do(Recv(1, 3))
        do(Allreduce(), X)
    else:
        do(Allreduce(), X)
        if rank() == 1:
            do(Send(0), X)


def never_waited_for(do: Recorder) -> None:
    if rank() == 0:
        do(Send(1), X)
    elif rank() == 1:
        do.start(Irecv(0, (3,)))


def waits_for_nothing_sent(do: Recorder) -> None:
    if rank() == 1:
        do.wait(do.start(Irecv(0, (3,))))


def request_of_another_size(do: Recorder) -> None:
    if rank() == 0:
        do.wait(do.start(Isend(1), np.ones(5)))
    elif rank() == 1:
        do.wait(do.start(Irecv(0, (3,))))


def receive_that_another_overtakes(do: Recorder) -> None:
    if rank() == 0:
        do(Send(1), X)
    elif rank() == 1:
        request = do.start(Irecv(0, (3,)))
        do(Recv(0, 3))
        do.wait(request)


def a_ring_that_one_leaves(do: Recorder) -> None:
    if rank() != 1:
        do(SendRecv((rank() + 1) % size(), (rank() - 1) % size()), X)


def shift_in_another_direction(do: Recorder) -> None:
    step = -1 if rank() == 1 else 1
    do(SendRecv((rank() + step) % size(), (rank() - step) % size()), X)


def halo_on_one_rank_more(do: Recorder) -> None:
    halo = HaloExchange(CartesianGrid((8, 8)), 1)
    for _ in range(2 if rank() == 1 else 1):
        do(halo, X)


def halo_against_reduction(do: Recorder) -> None:
    halo = HaloExchange(CartesianGrid((8, 8)), 1)
    do(halo if rank() == 1 else Allreduce(), X)


def another_communicator(do: Recorder) -> None:
    other = MPI.COMM_WORLD.Dup()
    do(Allreduce(other), X)
    do(Allreduce(MPI.COMM_WORLD if rank() == 1 else other), X)


FAULTS: list[tuple[Callable[[Recorder], None], str]] = [
    (collectives(Bcast(0), Bcast(1)) if size() > 1 else missing_send,
     r"rank 0, record 0: Bcast\(root=0\) meets rank 1, record 0: Bcast\(root=1\)"),
    (collectives(Bcast(0), Reduce(0)), r"Bcast\(root=0\) meets rank 1, record 0: Reduce\(root=0\)"),
    (collectives(Allreduce(), Reduce(0)), r"rank 0, record 0: Allreduce\(\) meets rank 1.*Reduce"),
    (missing_receive, r"rank 0, record 0: Send\(dest=1, tag=0\) sends to rank 1 \(tag 0\), which "
                      r"does not receive it: it recorded no communication$"),
    (missing_send, r"rank 1, record 0: Recv\(source=0.*waits for a message from rank 0 \(tag 0\), "
                   r"which does not send it: it recorded no communication$"),
    (swapped_tags, r"rank 1, record 0: Recv.*from rank 0 \(tag 2\), which does not send it"),
    (another_size, r"rank 1.*expects 4 values of float64 from rank 0.*sends 3 values of float64"),
    (another_dtype, r"expects 3 values of float64 from rank 0.*Send.*sends 3 values of float32"),
    (another_partner, r"rank 1, record 0: Recv\(source=1.*waits for a message from rank 1"),
    (another_order, r"rank 0, record 0: Allreduce\(\) meets rank 1, record 0: Bcast\(root=0\)"),
    (fewer_steps, r"rank 0, record 2: Allreduce\(\) waits for rank 1, which does not come: "
                  r"its last is rank 1, record 1: Allreduce\(\)$"),
    (both_receive_first, r"rank 0, record 0: Recv.*rank 1.*it stops at rank 1, record 0: Recv"),
    (message_across_a_collective, r"rank 0, record 0: Recv\(source=1.*stops at rank 1.*Allreduce"),
    (never_waited_for, r"Irecv\(source=0.* is never waited for|sends to rank 1"),
    (waits_for_nothing_sent, r"rank 1, record 1: Wait for Irecv.*waits for a message from rank 0"),
    (request_of_another_size, r"rank 1, record 0: Irecv.*expects 3 values.*sends 5 values"),
    (receive_that_another_overtakes, r"rank 1, record 1: Recv.*waits for a message from rank 0"),
    (a_ring_that_one_leaves, r"SendRecv.*rank 1"),
    (halo_on_one_rank_more, r"HaloExchange.* waits for rank 0, which does not come: its last"),
    (halo_against_reduction, r"Allreduce\(\) .*rank 1.*HaloExchange"),
    (another_communicator, r"rank 0, record 1: Allreduce\(\) waits for rank 1, which does not"),
]  # fmt: skip


@pytest.mark.parallel([2, 3])
@pytest.mark.parametrize("fault", range(len(FAULTS)))
def test_a_faulty_program_is_reported_on_all_ranks(fault: int) -> None:
    program, message = FAULTS[fault]
    recorder = Recorder()
    try:
        program(recorder)
    finally:
        recorder.tape.__exit__(None, None, None)
    start = time.monotonic()
    with pytest.raises(CommunicationError, match=message) as caught:
        recorder.tape.check_communication()
    assert time.monotonic() - start < 5
    assert len(set(MPI.COMM_WORLD.allgather(str(caught.value)))) == 1


@pytest.mark.parallel([3])
def test_a_ring_with_one_rank_in_another_direction() -> None:
    recorder = Recorder()
    try:
        shift_in_another_direction(recorder)
    finally:
        recorder.tape.__exit__(None, None, None)
    with pytest.raises(CommunicationError, match=r"SendRecv.*which does not send it"):
        check_records(recorder.tape)


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
