"""Collective calls that do not fit together are reported with both sides, and do not hang."""

from __future__ import annotations

from typing import Any

import pytest
from mpi4py import MPI

from adjoint.comm import (
    Allgather,
    Allreduce,
    Alltoall,
    Barrier,
    Bcast,
    CartesianGrid,
    Gather,
    HaloExchange,
    Recv,
    Reduce,
    Scatter,
    Send,
    rank,
    size,
)
from tests.recorder import Program, Recorder, X, require_report


def collectives(a: Any, b: Any) -> Program:
    """Rank 1 calls ``b``, the others ``a``."""
    return lambda do: do(b if rank() == 1 else a, X)


def another_order(do: Recorder) -> None:
    first, second = Allreduce(), Bcast(0)
    for operator in (second, first) if rank() == 1 else (first, second):
        do(operator, X)


def fewer_steps(do: Recorder) -> None:
    for _ in range(2 if rank() == 1 else 3):
        do(Allreduce(), X)


def no_steps_at_all(do: Recorder) -> None:
    if rank() != 1:
        do(Allreduce(), X)


def one_step_more(do: Recorder) -> None:
    do(Bcast(0), X)
    if rank() == 1:
        do(Gather(1), X)


def only_the_root_broadcasts(do: Recorder) -> None:
    if rank() == 0:
        do(Bcast(0), X)


def message_across_a_collective(do: Recorder) -> None:
    if rank() == 0:
        do(Recv(1, 3))
        do(Allreduce(), X)
    else:
        do(Allreduce(), X)
        if rank() == 1:
            do(Send(0), X)


def halo_on_one_rank_more(do: Recorder) -> None:
    halo = HaloExchange(CartesianGrid((8, 8)), 1)
    for _ in range(2 if rank() == 1 else 1):
        do(halo, X)


def halo_against_reduction(do: Recorder) -> None:
    halo = HaloExchange(CartesianGrid((8, 8)), 1)
    do(halo if rank() == 1 else Allreduce(), X)


def two_halos_in_another_order(do: Recorder) -> None:
    grid = CartesianGrid((8, 8))
    narrow, wide = HaloExchange(grid, 1), HaloExchange(grid, 2)
    for halo in (wide, narrow) if rank() == 1 else (narrow, wide):
        do(halo, X)


def halo_of_more_fields(do: Recorder) -> None:
    do(HaloExchange(CartesianGrid((8, 8)), 1), *[X] * (2 if rank() == 1 else 1))


def another_communicator(do: Recorder) -> None:
    other = MPI.COMM_WORLD.Dup()
    do(Allreduce(other), X)
    do(Allreduce(MPI.COMM_WORLD if rank() == 1 else other), X)


def communicators_in_another_order(do: Recorder) -> None:
    first, second = Allreduce(MPI.COMM_WORLD.Dup()), Allreduce(MPI.COMM_WORLD.Dup())
    for operator in (second, first) if rank() == 1 else (first, second):
        do(operator, X)


def one_member_of_a_group(do: Recorder) -> None:
    group = MPI.COMM_WORLD.Split(int(rank() > 1))
    total = Allreduce(group)
    if rank() != 1:
        do(total, X)


def groups_that_wait_for_each_other(do: Recorder) -> None:
    """Ranks 0 and 1 sum before the message between them on one side, and after it on the other."""
    pair = MPI.COMM_WORLD.Split(int(rank() > 1))
    total = Allreduce(pair)
    if rank() == 0:
        do(total, X)
        do(Send(1), X)
    elif rank() == 1:
        do(Recv(0, 3))
        do(total, X)


FAULTS: list[tuple[Program, str]] = [
    (collectives(Bcast(0), Bcast(1)) if size() > 1 else no_steps_at_all,
     r"rank 0, record 0: Bcast\(root=0\) meets rank 1, record 0: Bcast\(root=1\)"),
    (collectives(Gather(0), Gather(1)) if size() > 1 else no_steps_at_all,
     r"rank 0, record 0: Gather\(root=0.*\) meets rank 1, record 0: Gather\(root=1.*\)"),
    (collectives(Scatter(1), Scatter(0)) if size() > 1 else no_steps_at_all,
     r"rank 0, record 0: Scatter\(root=1.*\) meets rank 1, record 0: Scatter\(root=0.*\)"),
    (collectives(Bcast(0), Reduce(0)), r"Bcast\(root=0\) meets rank 1, record 0: Reduce\(root=0\)"),
    (collectives(Allreduce(), Reduce(0)), r"rank 0, record 0: Allreduce\(\) meets rank 1.*Reduce"),
    (collectives(Scatter(0), Gather(0)), r"rank 0, record 0: Scatter.*meets rank 1.*: Gather"),
    (collectives(Alltoall(), Allgather()), r"rank 0, record 0: Alltoall.*meets rank 1.*: Allg"),
    (collectives(Barrier(), Allreduce()), r"rank 0, record 0: Barrier.*meets rank 1.*: Allreduce"),
    (another_order, r"rank 0, record 0: Allreduce\(\) meets rank 1, record 0: Bcast\(root=0\)"),
    (fewer_steps, r"rank 0, record 2: Allreduce\(\) waits for rank 1, which does not come: "
                  r"its last is rank 1, record 1: Allreduce\(\)$"),
    (no_steps_at_all, r"rank 0, record 0: Allreduce\(\) waits for rank 1, which does not come: "
                      r"it recorded no communication$"),
    (one_step_more, r"rank 1, record 1: Gather\(root=1.*\) waits for rank 0, which does not come: "
                    r"its last is rank 0, record 0: Bcast\(root=0\)$"),
    (only_the_root_broadcasts, r"rank 0, record 0: Bcast\(root=0\) waits for rank 1, which does"),
    (message_across_a_collective, r"rank 0, record 0: Recv\(source=1.*stops at rank 1.*Allreduce"),
    (halo_on_one_rank_more, r"HaloExchange.* waits for rank 0, which does not come: its last"),
    (halo_against_reduction, r"Allreduce\(\) .*rank 1.*HaloExchange"),
    (two_halos_in_another_order, r"rank 0, record 0: HaloExchange.*rank 1, record 0: HaloExchange"),
    (halo_of_more_fields, r"rank 0, record 0: HaloExchange of 1 .*meets rank 1.*Exchange of 2 "),
    (another_communicator, r"rank 0, record 1: Allreduce\(\) waits for rank 1, which does not"),
    (communicators_in_another_order, r"rank 0, record 0: Allreduce\(\) waits for rank 1, which "
                                     r"does not come: it stops at rank 1, record 0: Allred"),
    (one_member_of_a_group, r"rank 0, record 0: Allreduce\(\) waits for rank 1, which does not"),
    (groups_that_wait_for_each_other, r"rank 0, record 0: Allreduce\(\) waits for rank 1, which "
                                      r"does not come: it stops at rank 1, record 0: Recv"),
]  # fmt: skip


@pytest.mark.parallel([2, 3])
@pytest.mark.parametrize(("program", "message"), FAULTS)
def test_a_faulty_program_is_reported_on_all_ranks(program: Program, message: str) -> None:
    require_report(program, message)
