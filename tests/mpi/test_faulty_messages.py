"""Messages and requests that do not fit together are reported with both sides, and do not hang."""

from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI

from adjoint.comm import Irecv, Isend, Recv, Send, SendRecv, rank, size
from tests.recorder import Program, Recorder, X, require_report


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


def another_receiver(do: Recorder) -> None:
    """The last rank sends to itself what rank 0 waits for."""
    last = size() - 1
    if rank() == last:
        do(Send(last), X)
    elif rank() == 0:
        do(Recv(last, 3))


def fewer_receives(do: Recorder) -> None:
    if rank() == 0:
        do(Send(1), X)
        do(Send(1), X)
    elif rank() == 1:
        do(Recv(0, 3))


def fewer_sends(do: Recorder) -> None:
    if rank() == 0:
        do(Send(1), X)
    elif rank() == 1:
        do(Recv(0, 3))
        do(Recv(0, 3))


def sizes_in_another_order(do: Recorder) -> None:
    if rank() == 0:
        do(Send(1), X)
        do(Send(1), np.ones(4))
    elif rank() == 1:
        do(Recv(0, 4))
        do(Recv(0, 3))


def message_on_another_communicator(do: Recorder) -> None:
    one, other = MPI.COMM_WORLD.Dup(), MPI.COMM_WORLD.Dup()
    sends, receives = Send(size() - 1, comm=one), Recv(0, 3, comm=other)
    if rank() == 0:
        do(sends, X)
    elif rank() == size() - 1:
        do(receives)


def both_receive_first(do: Recorder) -> None:
    if rank() < 2:
        do(Recv(1 - rank(), 3))
        do(Send(1 - rank()), X)


def a_ring_of_receives_first(do: Recorder) -> None:
    do(Recv((rank() - 1) % size(), 3))
    do(Send((rank() + 1) % size()), X)


def a_ring_that_one_leaves(do: Recorder) -> None:
    if rank() != 1:
        do(SendRecv((rank() + 1) % size(), (rank() - 1) % size()), X)


def exchanges_with_other_tags(do: Recorder) -> None:
    do(SendRecv((rank() + 1) % size(), (rank() - 1) % size(), tag=int(rank() == 1)), X)


def exchange_of_another_size(do: Recorder) -> None:
    x = np.ones(5) if rank() == 1 else X
    do(SendRecv((rank() + 1) % size(), (rank() - 1) % size()), x)


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


def request_of_another_dtype(do: Recorder) -> None:
    if rank() == 0:
        do.wait(do.start(Isend(1), X.astype(np.float32)))
    elif rank() == 1:
        do.wait(do.start(Irecv(0, (3,))))


def request_with_another_tag(do: Recorder) -> None:
    if rank() == 0:
        do.wait(do.start(Isend(1, tag=5), X))
    elif rank() == 1:
        do.wait(do.start(Irecv(0, (3,), tag=6)))


def request_that_nobody_receives(do: Recorder) -> None:
    if rank() == 0:
        do.wait(do.start(Isend(1, tag=7), X))


def both_wait_before_they_send(do: Recorder) -> None:
    if rank() < 2:
        do.wait(do.start(Irecv(1 - rank(), (3,))))
        do.wait(do.start(Isend(1 - rank()), X))


def receive_that_another_overtakes(do: Recorder) -> None:
    if rank() == 0:
        do(Send(1), X)
    elif rank() == 1:
        request = do.start(Irecv(0, (3,)))
        do(Recv(0, 3))
        do.wait(request)


def shift_in_another_direction(do: Recorder) -> None:
    step = -1 if rank() == 1 else 1
    do(SendRecv((rank() + step) % size(), (rank() - step) % size()), X)


FAULTS: list[tuple[Program, str]] = [
    (missing_receive, r"rank 0, record 0: Send\(dest=1, tag=0\) sends to rank 1 \(tag 0\), which "
                      r"does not receive it: it recorded no communication$"),
    (missing_send, r"rank 1, record 0: Recv\(source=0.*waits for a message from rank 0 \(tag 0\), "
                   r"which does not send it: it recorded no communication$"),
    (swapped_tags, r"rank 1, record 0: Recv.*from rank 0 \(tag 2\), which does not send it"),
    (another_size, r"rank 1.*expects 4 values of float64 from rank 0.*sends 3 values of float64"),
    (another_dtype, r"expects 3 values of float64 from rank 0.*Send.*sends 3 values of float32"),
    (another_partner, r"rank 1, record 0: Recv\(source=1.*waits for a message from rank 1"),
    (another_receiver, r"rank 0, record 0: Recv\(source=[12].*not send it: its last is rank [12],"),
    (fewer_receives, r"rank 0, record 1: Send\(dest=1.*not receive it: its last is rank 1, rec"),
    (fewer_sends, r"rank 1, record 1: Recv\(source=0.*not send it: its last is rank 0, record 0"),
    (sizes_in_another_order, r"rank 1, record 0: Recv.*expects 4 values.*rank 0, record 0.*ends 3"),
    (message_on_another_communicator, r"rank [12], record 0: Recv\(source=0.*does not send it: its "
                                      r"last is rank 0, record 0: Send"),
    (both_receive_first, r"rank 0, record 0: Recv.*rank 1.*it stops at rank 1, record 0: Recv"),
    (a_ring_of_receives_first, r"rank 0, record 0: Recv.*it stops at rank [12], record 0: Recv"),
    (a_ring_that_one_leaves, r"SendRecv.*rank 1"),
    (exchanges_with_other_tags, r"rank \d, record 0: SendRecv.* waits for a message from rank \d "
                                r"\(tag [01]\), which does not send it: .*record 0: SendRecv"),
    (exchange_of_another_size, r"SendRecv.*expects 3 values of float64 from rank 1 .*sends 5 v|"
                               r"rank 1.*expects 5 values of float64 from rank 0.*sends 3 v"),
    (never_waited_for, r"Irecv\(source=0.* is never waited for|sends to rank 1"),
    (waits_for_nothing_sent, r"rank 1, record 1: Wait for Irecv.*waits for a message from rank 0"),
    (request_of_another_size, r"rank 1, record 0: Irecv.*expects 3 values.*sends 5 values"),
    (request_of_another_dtype, r"rank 1, record 0: Irecv.*expects 3.*float64.*rank 0.*3 .*float32"),
    (request_with_another_tag, r"rank 1, record 1: Wait for Irecv.*from rank 0 \(tag 6\), which "
                               r"does not send it: its last is rank 0, record 1: Wait for Isend"),
    (request_that_nobody_receives, r"rank 0, record 0: Isend\(dest=1, tag=7\) sends to rank 1 "
                                   r"\(tag 7\), which does not receive it: it recorded no comm"),
    (both_wait_before_they_send, r"rank 0, record 1: Wait for Irecv.*rank 1 \(tag 0\), which does "
                                 r"not send it: it stops at rank 1, record 1: Wait for Irecv"),
    (receive_that_another_overtakes, r"rank 1, record 1: Recv.*waits for a message from rank 0"),
    (shift_in_another_direction if size() > 2 else both_receive_first,
     r"(SendRecv|Recv).*which does not send it"),
]  # fmt: skip


@pytest.mark.parallel([2, 3])
@pytest.mark.parametrize(("program", "message"), FAULTS)
def test_a_faulty_program_is_reported_on_all_ranks(program: Program, message: str) -> None:
    require_report(program, message)
