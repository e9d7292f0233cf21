"""Messages between two ranks, blocking and not, forwards and backwards."""

from __future__ import annotations

import gc
import time
from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

from adjoint import Tape
from adjoint.comm import (
    Allreduce,
    CommunicationError,
    Irecv,
    Isend,
    Recv,
    Request,
    Send,
    SendRecv,
    Wait,
    keeping,
    rank,
    size,
)
from adjoint.comm.tags import reversed_tag
from adjoint.testing import check_jvp, check_vjp, dot_test

X = np.array([1.0, 2.0])


def mine(shape: tuple[int, ...], dtype: Any = np.float64) -> Any:
    return np.random.default_rng(rank()).uniform(1, 2, shape).astype(dtype)


def check(function: Any, *inputs: Any) -> None:
    dot_test(function, *inputs)
    check_jvp(function, *inputs)
    check_vjp(function, *inputs)


def neighbours() -> tuple[int, int]:
    return (rank() + 1) % size(), (rank() - 1) % size()


@pytest.mark.parallel([2, 3, 4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0,)], ids=str)
def test_send_and_receive(shape: tuple[int, ...], dtype: Any) -> None:
    last = size() - 1

    def program(x: Any) -> Any:
        if rank() == 0:
            Send(last, tag=5)(x * x)
            return x
        if rank() == last:
            return Recv(0, shape, dtype, tag=5)() * x
        return x

    x = mine(shape, dtype)
    check(program, x)
    if rank() == last:
        first = np.random.default_rng(0).uniform(1, 2, shape).astype(dtype)
        MPI.COMM_WORLD.Barrier()
        np.testing.assert_allclose(program(x), first**2 * x, rtol=1e-6)
    else:
        MPI.COMM_WORLD.Barrier()
        program(x)


@pytest.mark.parallel([1, 2, 3, 4])
def test_a_shift_along_a_ring_is_undone_by_its_adjoint() -> None:
    dest, source = neighbours()
    x = mine((2, 3))
    shift = SendRecv(dest, source)
    everyone = MPI.COMM_WORLD.allgather(x)
    np.testing.assert_array_equal(shift(x), everyone[source])
    check(lambda v: shift(v * v) * v, x)
    with Tape() as tape:
        v = tape.watch(x)
        y = shift(v)
    (back,) = tape.vjp([y], [y.value], [v])
    np.testing.assert_array_equal(back, x)


@pytest.mark.parallel([1, 2, 3])
def test_an_open_line_receives_zeros_at_its_end() -> None:
    dest = rank() + 1 if rank() + 1 < size() else None
    source = rank() - 1 if rank() else None
    x = mine((2,))
    y = SendRecv(dest, source)(x)
    expected = np.random.default_rng(rank() - 1).uniform(1, 2, 2) if rank() else np.zeros(2)
    np.testing.assert_array_equal(y, expected)
    check(SendRecv(dest, source), x)


@pytest.mark.parallel([1, 2, 3, 4])
@pytest.mark.parametrize("receive_first", [True, False])
def test_requests_with_work_in_between(receive_first: bool) -> None:
    dest, source = neighbours()

    def program(x: Any) -> Any:
        if receive_first:
            receiving = Irecv(source, (3,))()
            sending = Isend(dest)(x * x)
        else:
            sending = Isend(dest)(x * x)
            receiving = Irecv(source, (3,))()
        y = np.sin(x)
        z = Wait()(receiving) * y
        Wait()(sending)
        return z

    x = mine((3,))
    check(program, x)
    other = np.random.default_rng(source).uniform(1, 2, 3)
    np.testing.assert_allclose(program(x), other**2 * np.sin(x))


@pytest.mark.parallel([2, 3])
def test_answers_to_one_tag_may_cross() -> None:
    """The receiver waits in the other order, so the reverse sweep sends in that of the sender."""
    last = size() - 1

    def program(x: Any) -> Any:
        if rank() == 0:
            requests = [Isend(last, tag=3)(k * x) for k in (2.0, 5.0)]
            for request in requests:
                Wait()(request)
        elif rank() == last:
            one, other = Irecv(0, 2, tag=3)(), Irecv(0, 2, tag=3)()
            y = Wait()(other)
            return y * x + Wait()(one) ** 2
        return x * 1.0

    x = mine((2,))
    check(program, x)
    first = MPI.COMM_WORLD.bcast(x)
    expected = 5 * first * x + (2 * first) ** 2 if rank() == last else x
    np.testing.assert_allclose(program(x), expected)


@pytest.mark.parallel([2, 3])
def test_the_tags_of_answers_are_those_of_no_other_message() -> None:
    highest: Any = MPI.COMM_WORLD.Get_attr(MPI.TAG_UB)
    many = (highest - 1) // 32768  # answers to each of 32,768 tags
    numbers = [*range(1000), *range(max(many - 1000, 1000), many)]
    tags = [reversed_tag(tag, n) for tag in (0, 1, 7, 32766) for n in numbers]
    assert len({*tags}) == len(tags)
    assert min(tags) >= 0 and max(tags) < highest - 1


@pytest.mark.parallel([2])
def test_what_is_sent_to_a_neighbour_may_be_changed_afterwards() -> None:
    x = np.full(200_000, 1.0 + rank())
    if rank() == 0:
        SendRecv(1, None)(x)
        x[:] = 7
    else:
        time.sleep(0.1)
        np.testing.assert_array_equal(SendRecv(None, 0)(x), 1)


@pytest.mark.parallel([2, 3])
def test_requests_mix_with_blocking_messages() -> None:
    last = size() - 1

    def program(x: Any) -> Any:
        if rank() == 0:
            request = Isend(last)(x[::2])
            y = 3 * x
            Wait()(request)
            return y
        if rank() == last:
            return Recv(0, 2)() * x[:2]
        return x

    check(program, mine((4,)))


@pytest.mark.parallel([2, 3])
def test_messages_overlap_in_the_reverse_sweep_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the reversed starts and completions lies the adjoint of the work in between."""
    from adjoint.ops import Sin

    order: list[str] = []

    class NotedSin(Sin):
        def vjp(self, *arguments: Any) -> Any:
            order.append("work")
            return super().vjp(*arguments)

    reverse, wait = Request.reversed, Request.wait

    def noted_reversed(request: Request, *cotangents: Any) -> Request:
        order.append("start")
        return reverse(request, *cotangents)

    def noted_wait(request: Request) -> Any:
        order.append("complete")
        return wait(request)

    dest, source = neighbours()
    with Tape() as tape:
        x = tape.watch(mine((3,)))
        receiving, sending = Irecv(source, (3,))(), Isend(dest)(x)
        y = NotedSin()(x)
        z = Wait()(receiving)
        Wait()(sending)
        loss = Allreduce()((z * y).sum())
    monkeypatch.setattr(Request, "reversed", noted_reversed)
    monkeypatch.setattr(Request, "wait", noted_wait)
    tape.gradient(loss, [x])
    assert order == ["start", "start", "work", "complete", "complete"]


@pytest.mark.parallel([2])
def test_what_is_sent_may_be_changed_before_it_is_waited_for() -> None:
    x = np.full(100_000, rank() + 1.0)
    receiving = Irecv(1 - rank(), x.shape)()
    sending = Isend(1 - rank())(x)
    x[:] = -1
    np.testing.assert_array_equal(Wait()(receiving), 2.0 - rank())
    Wait()(sending)


@pytest.mark.parallel([2])
def test_a_request_that_is_never_waited_for() -> None:
    with pytest.raises(RuntimeError, match=r"closed before these were waited for: Isend\(dest="):
        with Tape():
            request = Isend(1 - rank())(np.ones(2))
            other = Irecv(1 - rank(), 2)()
            Wait()(other)
    Wait()(request)
    with pytest.raises(CommunicationError, match=r"Isend\(dest=.* was waited for before"):
        Wait()(request)
    with pytest.raises(TypeError, match="Wait: got a ndarray, expected what Isend or Irecv"):
        Wait()(np.ones(2))


@pytest.mark.parallel([2])
@pytest.mark.parametrize("length", [100, 1000, 200_000])
def test_the_memory_of_a_dropped_request_is_not_used_again(length: int) -> None:
    """A message that comes after its request was dropped is written where nothing else is."""
    world = MPI.COMM_WORLD

    def drop() -> None:
        with pytest.raises(RuntimeError, match=r"closed before these were waited for: Irecv\("):
            with Tape():
                Irecv(1 - rank(), length)()
        with pytest.raises(RuntimeError, match=r"closed before these were waited for: Isend\("):
            with Tape():
                Isend(1 - rank(), tag=1)(np.full(length, rank() + 1.0))

    drop()
    gc.collect()
    held = [np.size(memory) for _, memory in keeping._kept]
    # Of the same size as what was dropped, so that it would lie where that was.
    others = [np.full(length, 7.0) for _ in range(20)]
    world.Barrier()
    Send(1 - rank())(np.zeros(length))
    # What was sent by the other rank's dropped request comes whole.
    np.testing.assert_array_equal(Recv(1 - rank(), length, tag=1)(), 2.0 - rank())
    world.Barrier()
    assert all((x == 7).all() for x in others)
    assert length in held


@pytest.mark.parallel([2])
def test_what_is_sent_comes_whole_where_what_is_received_has_another_size() -> None:
    length = 200_000  # so long that it waits for the receiver
    if rank() == 0:
        with pytest.raises(CommunicationError, match="a message of 24 bytes from rank 1"):
            SendRecv(1, 1)(np.full(length, 5.0))
        others = [np.full(length, 7.0) for _ in range(20)]  # where that lay, if it were freed
        MPI.COMM_WORLD.Barrier()
        assert all((x == 7).all() for x in others)
    else:
        Send(0)(np.ones(3))
        MPI.COMM_WORLD.Barrier()
        np.testing.assert_array_equal(Recv(0, length)(), 5.0)


@pytest.mark.parallel([1, 2])
def test_tags_out_of_range() -> None:
    highest = MPI.COMM_WORLD.Get_attr(MPI.TAG_UB) - 2
    for operator in (Send, Recv, Isend, Irecv):
        for tag in (-1, highest + 1, 2**40, 1.5, None):
            text = rf"{operator.__name__}: tag is {tag}, expected a number from 0 to {highest}"
            with pytest.raises(ValueError, match=text):
                operator(0, tag=tag)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"SendRecv: tag is -1, expected"):
        SendRecv(0, 0, tag=-1)
    check(SendRecv(rank(), rank(), tag=highest), X)


@pytest.mark.parallel([2])
def test_a_message_of_another_size() -> None:
    if rank() == 0:
        Send(1)(np.ones(3))
        Send(1, tag=3)(np.ones(200_000))  # so long that it waits for the receiver
        sending = Isend(1, tag=1)(np.ones(3))
        another = Isend(1, tag=2)(np.ones(3))
        Wait()(sending)
        Wait()(another)
    else:
        text = r"got a message of 24 bytes from rank 0 \(tag 0\), expected 32 bytes: shape \(4,\)"
        with pytest.raises(CommunicationError, match=text):
            Recv(0, 4)()
        with pytest.raises(CommunicationError, match="a message of 1600000 bytes from rank 0"):
            Recv(0, 4, tag=3)()
        receiving = Irecv(0, 4, tag=1)()
        with pytest.raises(CommunicationError, match="a message of 24 bytes from rank 0"):
            Wait()(receiving)
        receiving = Irecv(0, 2, tag=2)()
        with pytest.raises(CommunicationError, match="more than 16 bytes from rank 0"):
            Wait()(receiving)


@pytest.mark.parallel([1, 2])
def test_bad_arguments() -> None:
    text = rf"Send: dest is {size()}, expected a rank from 0 to {size() - 1}"
    with pytest.raises(ValueError, match=text):
        Send(size())
    with pytest.raises(ValueError, match="Irecv: source is -1"):
        Irecv(-1, (2,))
    with pytest.raises(TypeError, match="Recv: the input has dtype int64, expected float32 or"):
        Recv(0, (2,), int)
    with pytest.raises(TypeError, match="Send: the input has dtype int64, expected float32 or"):
        Send(0)(np.arange(3))
