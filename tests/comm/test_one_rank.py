"""Every communication operator on one rank, where it is an identity, zero or a copy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from adjoint import Tape
from adjoint.comm import (
    Allgather,
    Allreduce,
    Alltoall,
    Barrier,
    Bcast,
    CartesianGrid,
    Gather,
    GatherField,
    HaloExchange,
    Irecv,
    Isend,
    Recv,
    Redistribute,
    Reduce,
    ReduceScatter,
    Scatter,
    ScatterField,
    Send,
    SendRecv,
    Wait,
)
from adjoint.testing import check_jvp, check_vjp, dot_test

X = np.random.default_rng(0).uniform(1, 2, (4, 3))


def by_requests(x: Any) -> Any:
    receiving, sending = Irecv(0, x.shape, x.dtype)(), Isend(0)(x)
    y = Wait()(receiving)
    Wait()(sending)
    return y


def by_blocking_calls(x: Any) -> Any:
    sending = Isend(0, tag=1)(x)
    y = Recv(0, x.shape, x.dtype, tag=1)()
    Wait()(sending)
    receiving = Irecv(0, x.shape, x.dtype, tag=2)()
    Send(0, tag=2)(y)
    return Wait()(receiving)


def by_half_an_exchange_at_a_time(x: Any) -> Any:
    """At the other end of each message is another operator; all have one count of messages."""
    receiving = Irecv(0, x.shape, x.dtype, tag=3)()
    nothing = SendRecv(0, None, tag=3)(x)
    sending = Isend(0, tag=3)(Wait()(receiving))
    y = SendRecv(None, 0, tag=3)(nothing)
    Wait()(sending)
    return y


def in_two_messages(x: Any) -> Any:
    receiving = Irecv(0, np.shape(x))(), Irecv(0, np.shape(x), tag=1)()
    sending = Isend(0)(x)
    Send(0, tag=1)(x)
    Wait()(sending)
    Wait()(receiving[0])
    return Wait()(receiving[1])


def past_a_barrier(x: Any) -> Any:
    assert Barrier()() is None
    return Allreduce()(x)


def in_two_halves(x: Any) -> Any:
    halo = HaloExchange(GRID, 1)
    return halo.finish(halo.start(x))


GRID = CartesianGrid((4, 3))
RING = CartesianGrid((4, 3), periodic=True)

#: What each function of X must give.
EXPECTED: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "Allgather": (Allgather(), X),
    "Allreduce": (Allreduce(), X),
    "Alltoall": (Alltoall(), X),
    "Alltoall with counts": (Alltoall([4]), X),
    "Barrier": (past_a_barrier, X),
    "Bcast": (Bcast(), X),
    "Gather": (Gather(), X),
    "Reduce": (Reduce(), X),
    "ReduceScatter": (ReduceScatter(), X),
    "Scatter": (Scatter(), X),
    "SendRecv with itself": (SendRecv(0, 0), X),
    "SendRecv with nobody": (SendRecv(None, None), 0 * X),
    "Isend, Irecv, Wait": (by_requests, X),
    "Send, Recv": (by_blocking_calls, X),
    "SendRecv, Isend, Irecv": (by_half_an_exchange_at_a_time, X),
    "GatherField": (GatherField(GRID), X),
    "ScatterField": (ScatterField(GRID), X),
    "Redistribute": (Redistribute(GRID, RING), X),
    "Redistribute to a part": (Redistribute(GRID, ((1, 0), (4, 2))), X[1:, :2]),
    "HaloExchange": (HaloExchange(GRID, (1, 2)), np.pad(X, ((1, 1), (2, 2)))),
    "HaloExchange in two halves": (in_two_halves, np.pad(X, 1)),
    "HaloExchange of a torus": (
        HaloExchange(RING, (1, 2), corners=True),
        np.pad(X, ((1, 1), (2, 2)), "wrap"),
    ),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", EXPECTED)
def test_values_and_derivatives(name: str, dtype: Any) -> None:
    function, expected = EXPECTED[name]
    x = X.astype(dtype)
    y = function(x)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, expected.astype(dtype))
    dot_test(function, x)
    check_jvp(function, x)
    check_vjp(function, x)
    with Tape() as tape:
        v = tape.watch(x)
        y = function(v)
    tape.check_communication()
    assert y.dtype == dtype
    w = np.arange(expected.size, dtype=dtype).reshape(expected.shape)
    (found,) = tape.vjp([y], [w], [v])
    # Linear maps that copy entries: the transpose sums w over the copies of each.
    numbers = 1.0 + np.arange(X.size).reshape(X.shape)
    copies = np.rint(function(numbers)).astype(int).ravel()
    np.testing.assert_array_equal(
        found.ravel(), np.bincount(copies, w.ravel(), X.size + 1)[1:].astype(dtype)
    )


@pytest.mark.parametrize("operator", [Allgather, Gather], ids=lambda o: str(o.__name__))
def test_a_number_becomes_one_entry(operator: Any) -> None:
    np.testing.assert_array_equal(operator()(np.array(2.5)), [2.5])
    dot_test(operator(), np.array(2.5))


@pytest.mark.parametrize("x", [2.5, [2.5], [[1.0, 2.0], [3.0, 4.0]]], ids=str)
@pytest.mark.parametrize(
    "function",
    [Allgather(), Allreduce(), Alltoall(), Bcast(), Gather(), Reduce(), ReduceScatter(),
     Scatter(), SendRecv(0, 0), in_two_messages],
)  # fmt: skip
def test_numbers_and_lists_are_taken_as_arrays(function: Any, x: Any) -> None:
    """In both sweeps too, which pass through the call whatever it depends on."""
    if np.ndim(x) == 0 and isinstance(function, Alltoall | ReduceScatter | Scatter):
        return  # these cut an axis
    with Tape(persistent=True) as tape:
        v = tape.watch(np.ones(2))
        y = function(x)
        loss = Reduce()(v.sum())
    tape.check_communication()
    np.testing.assert_array_equal(np.reshape(y.value, np.shape(x)), x)
    np.testing.assert_array_equal(tape.gradient(loss, [v])[0], np.ones(2))
    np.testing.assert_array_equal(tape.jvp([y, loss], [v], [np.ones(2)])[0], 0 * y.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Bcast(1), r"Bcast: root is 1, expected a rank from 0 to 0"),
        (lambda: Send(-1), r"Send: dest is -1, expected a rank from 0 to 0"),
        (lambda: Recv(0, tag=-1), r"Recv: tag is -1, expected a number from 0 to \d+"),
        (lambda: ReduceScatter([3])(X), r"ReduceScatter: counts is \(3,\), expected 1 numbers"),
        (lambda: Alltoall()(np.array(1.0)), r"Alltoall: the input has shape \(\), expected at"),
        (lambda: Scatter()(np.arange(4)), r"Scatter: the input has dtype int64, expected float32"),
        (lambda: GatherField(GRID)(X[1:]), r"GatherField: patch has shape \(3, 3\), expected"),
    ],
)
def test_bad_input(call: Callable[[], Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        call()
