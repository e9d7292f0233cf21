"""Which message answers which in the reverse sweep, and who is compared with whom before it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

from adjoint import Tape, communicator
from adjoint.comm import (
    Allgather,
    Allreduce,
    Alltoall,
    Barrier,
    Bcast,
    CommunicationError,
    Gather,
    Irecv,
    Isend,
    Recv,
    Scatter,
    Send,
    SendRecv,
    Wait,
    rank,
    size,
)
from adjoint.testing import check_vjp, dot_test

# Different in every entry and message, so that cotangents that are mixed up are seen.
A, B = np.array([1.0, 2.0]), np.array([3.0, 4.0])


def send_order(which: str, a: Any, b: Any) -> None:
    if which == "both waited for in order":
        first, second = Isend(1)(a), Isend(1)(b)
        Wait()(first), Wait()(second)
    elif which == "the second waited for first":
        first, second = Isend(1)(a), Isend(1)(b)
        Wait()(second), Wait()(first)
    elif which == "a blocking one in between":
        first = Isend(1)(a)
        Send(1)(b)
        Wait()(first)
    else:
        Send(1)(a), Send(1)(b)


def receive_order(which: str) -> Any:
    if which == "both waited for in order":
        first, second = Irecv(0, 2)(), Irecv(0, 2)()
        return Wait()(first), Wait()(second)
    if which == "the second waited for first":
        first, second = Irecv(0, 2)(), Irecv(0, 2)()
        late = Wait()(second)
        return Wait()(first), late
    if which == "a blocking one in between":
        first = Irecv(0, 2)()
        late = Recv(0, 2)()
        return Wait()(first), late
    return Recv(0, 2)(), Recv(0, 2)()


ORDERS = [
    "both waited for in order",
    "the second waited for first",
    "a blocking one in between",
    "blocking",
]


@pytest.mark.parallel([2, 3])
@pytest.mark.parametrize("received", ORDERS)
@pytest.mark.parametrize("sent", ORDERS)
def test_cotangents_come_back_to_their_own_message(sent: str, received: str) -> None:
    with Tape(persistent=True) as tape:
        a, b = tape.watch(A), tape.watch(B)
        outputs: Any = ()
        if rank() == 0:
            send_order(sent, a, b)
        elif rank() == 1:
            outputs = receive_order(received)
        Barrier()()
    tape.check_communication()
    if rank() == 1:
        np.testing.assert_array_equal(outputs[0].value, A)
        np.testing.assert_array_equal(outputs[1].value, B)
    for _ in range(2):
        found = tape.vjp(outputs, [10 * A, 10 * B] if rank() == 1 else [], [a, b])
        expected = [10 * A, 10 * B] if rank() == 0 else [0 * A, 0 * B]
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parallel([2])
def test_messages_of_different_sizes_waited_for_in_another_order() -> None:
    def program(x: Any) -> Any:
        if rank() == 0:
            first, second = Isend(1)(x * x), Isend(1)(x[:1] * 3)
            Wait()(first), Wait()(second)
            return x
        first, second = Irecv(0, 3)(), Irecv(0, 1)()
        late = Wait()(second)
        return Wait()(first) * x + late

    x = np.array([1.0, 2.0, 3.0])
    dot_test(program, x)
    check_vjp(program, x)


@pytest.mark.parallel([2, 3])
def test_shifts_both_ways_with_one_tag() -> None:
    dest, source = (rank() + 1) % size(), (rank() - 1) % size()

    def program(x: Any) -> Any:
        return SendRecv(dest, source)(x * x) * SendRecv(source, dest)(3 * x)

    check_vjp(program, rank() + A)
    dot_test(program, rank() + A)


@pytest.mark.parallel([2, 3])
def test_requests_that_were_started_before_the_tape_are_constants() -> None:
    dest, source = (rank() + 1) % size(), (rank() - 1) % size()
    receiving, sending = Irecv(source, 2)(), Isend(dest)(rank() + A)
    with Tape(persistent=True) as tape:
        x = tape.watch(B)
        y = Wait()(receiving) * x
        Wait()(sending)
    tape.check_communication()
    np.testing.assert_array_equal(tape.jvp([y], [x], [B])[0], (source + A) * B)
    np.testing.assert_array_equal(tape.vjp([y], [B], [x])[0], (source + A) * B)
    # Nothing was left under way: what comes next is not caught by a forgotten receive.
    np.testing.assert_array_equal(SendRecv(dest, source)(rank() + B), source + B)


@pytest.mark.parallel([2, 3])
@pytest.mark.parametrize("operator", ["alltoall", "scatter"])
def test_counts_may_differ_from_rank_to_rank(operator: str) -> None:
    fresh = MPI.COMM_WORLD.Dup()
    if operator == "alltoall":
        counts = [(rank() + i) % 3 for i in range(size())]
        function, x = Alltoall(counts, fresh), np.arange(float(sum(counts)))
    else:
        function = Scatter(0, [3] * size() if rank() == 0 else None, fresh)  # type: ignore[assignment]
        x = np.arange(3.0 * size())
    with Tape(comm=fresh) as tape:
        v = tape.watch(x)
        y = function(v)
    tape.check_communication()
    (found,) = tape.vjp([y], [y.value], [v])
    np.testing.assert_array_equal(found, x if operator == "alltoall" or rank() == 0 else 0 * x)
    fresh.Free()


@pytest.mark.parallel([2])
def test_communicators_are_told_apart_whatever_is_used_first() -> None:
    first, second = MPI.COMM_WORLD.Dup(), MPI.COMM_WORLD.Dup()
    communicator(first), communicator(second)
    with Tape() as tape:
        x = tape.watch(A)
        if rank() == 0:
            Send(1, comm=first)(x)
            Send(1, comm=second)(x[:1])
        else:
            Recv(0, 1, comm=second)()
            Recv(0, 2, comm=first)()
    tape.check_communication()
    first.Free()
    second.Free()


@pytest.mark.parallel([3])
def test_a_tape_for_fewer_ranks_than_an_operator() -> None:
    part = MPI.COMM_WORLD.Split(int(rank() == 2), rank())
    with Tape(comm=part) as tape:
        Allreduce()(tape.watch(A))
    with pytest.raises(CommunicationError, match=r"record 0, Allreduce\(\), is on a communicator"):
        tape.check_communication()
    part.Free()


@pytest.mark.parallel([2, 3])
@pytest.mark.parametrize(
    "others", [Bcast, Allreduce, Barrier, Alltoall], ids=lambda operator: str(operator.__name__)
)
@pytest.mark.parametrize("one", [Gather, Allgather], ids=lambda operator: str(operator.__name__))
def test_every_operator_meets_every_other(one: Any, others: Any) -> None:
    operator = one() if rank() == 1 else others()
    with pytest.raises(
        CommunicationError, match=rf"0 calls {others.__name__}.*1 calls {one.__name__}"
    ):
        operator() if isinstance(operator, Barrier) else operator(A)
    assert Allreduce()(np.array(1.0)) == size()


@pytest.mark.parallel([1])
def test_a_send_outside_of_a_tape_returns_nothing() -> None:
    receiving = Irecv(0, 2)()
    assert Send(0)(A) is None
    np.testing.assert_array_equal(Wait()(receiving), A)
