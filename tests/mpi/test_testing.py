"""The checks treat the program on all ranks as one function and agree on the verdict."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from adjoint import Operator, communicator
from adjoint.strategies import arrays, on_all_ranks, spmd
from adjoint.testing import check_jvp, check_vjp, dot_test, taylor_test


class WrongOnOneRank(Operator):
    """``y = x²``, whose derivatives are wrong on the last rank alone."""

    def forward(self, x: Any) -> Any:
        return x**2

    def _factor(self) -> float:
        comm = communicator()
        return 2.001 if comm.rank == comm.size - 1 else 2.0

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        return self._factor() * inputs[0] * tangents[0]

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        return (2.0 * inputs[0] * cotangents[0],)


@pytest.mark.parallel([1, 2, 3])
def test_a_fault_on_one_rank_fails_on_all() -> None:
    x = np.linspace(1, 2, 3 + communicator().rank)
    last = communicator().size - 1
    with pytest.raises(AssertionError, match="dot_test of WrongOnOneRank"):
        dot_test(WrongOnOneRank(), x)
    with pytest.raises(AssertionError, match=f"check_jvp of WrongOnOneRank: Jv on rank {last} ="):
        check_jvp(WrongOnOneRank(), x)
    check_vjp(WrongOnOneRank(), x)


@pytest.mark.parallel([1, 2, 3])
def test_ranks_may_have_no_data() -> None:
    x = np.ones(0 if communicator().rank == 0 else 2)
    for check in (dot_test, check_jvp, check_vjp):
        check(np.exp, x)


@pytest.mark.parallel([1, 2, 3])
def test_a_result_of_some_ranks_may_be_a_constant() -> None:
    rank = communicator().rank
    for check in (dot_test, check_jvp, check_vjp):
        check(lambda x: np.exp(x) if rank == 0 else np.ones(2), np.ones(3))


@pytest.mark.parallel([2, 3])
def test_ranks_draw_the_same_examples_with_data_of_their_own() -> None:
    comm = communicator()

    @spmd
    @given(n=st.integers(), x=arrays((3,)), y=arrays((3,), different=False))
    @on_all_ranks
    def drawn(n: int, x: Any, y: Any) -> None:
        assert len(set(comm.allgather(n))) == 1
        assert len({tuple(v) for v in comm.allgather(x.tolist())}) == comm.size
        assert len({tuple(v) for v in comm.allgather(y.tolist())}) == 1

    drawn()


@pytest.mark.parallel([2, 3])
def test_a_property_that_fails_on_one_rank_fails_on_all_with_the_smallest_example() -> None:
    @spmd
    @given(n=st.integers(0, 1000))
    @on_all_ranks
    def fails(n: int) -> None:
        assert communicator().rank != 1 or n < 17, f"n = {n}"

    with pytest.raises(AssertionError, match=r"rank 1: n = 17"):
        fails()


@pytest.mark.parallel([1, 2, 3])
def test_an_example_that_one_rank_cannot_use_is_used_by_none() -> None:
    tried = []

    @spmd
    @given(n=st.integers(0, 100))
    @on_all_ranks
    def even(n: int) -> None:
        assume(communicator().rank > 0 or n % 2 == 0)
        tried.append(n)

    even()
    assert tried


@pytest.mark.parallel([1, 2, 3])
def test_taylor_of_the_loss_on_the_first_rank() -> None:
    rates = taylor_test(lambda x: (np.exp(x) * x).sum(), np.linspace(0, 1, 4))
    assert rates.min() > 1.95
    assert len(set(communicator().allgather(tuple(rates)))) == 1
