"""Plans are as good as they can be, made at once, and say when a budget is too small."""

from __future__ import annotations

import time

import checkpoint_schedules
import pytest

from adjoint.schedules import Plan, Sizes, binomial, candidate_blocks, first_step, plan


def planned(
    steps: int, budget: int, runs: int = 1, storage: str = "memory", snapshot: int = 42,
    step: int = 26, more: int = 0,
) -> Plan:  # fmt: skip
    """Plan with so many bytes for a snapshot, for each step kept, and more for each block."""
    blocks = candidate_blocks(steps, runs, budget, snapshot, step + more, steps * step + more)
    return plan(steps, runs, budget, storage, Sizes(snapshot, {n: step * n + more for n in blocks}))


@pytest.mark.parametrize("blocks", range(1, 40))
def test_the_binomial_formula(blocks: int) -> None:
    for snapshots in range(1, max(blocks, 2)):
        extra, rounds = binomial(blocks, snapshots)
        assert blocks + extra == checkpoint_schedules.optimal_steps_binomial(blocks, snapshots)
        schedule = checkpoint_schedules.MultistageCheckpointSchedule(blocks, snapshots, 0)
        taken = [0] * blocks
        for action in schedule:
            if isinstance(action, checkpoint_schedules.Forward):
                for n in range(action.n0, action.n1):
                    taken[n] += 1
        assert max(taken) - 1 <= rounds


def test_the_first_block_is_the_short_one() -> None:
    assert [first_step(n, 4, 10) for n in range(4)] == [0, 2, 6, 10]
    assert [first_step(n, 5, 10) for n in range(3)] == [0, 5, 10]
    assert [first_step(n, 23, 10) for n in range(2)] == [0, 10]


@pytest.mark.parametrize(("steps", "budget"), [(30, 300), (30, 180), (31, 700), (24, 110)])
def test_no_other_blocks_are_better(steps: int, budget: int) -> None:
    """Against all lengths of blocks, counting the schedule's steps one by one."""
    least = None
    for block in range(1, steps + 1):
        room = (budget - 26 * block) // 42
        blocks = -(-steps // block)
        if blocks == 1 or room < 1:
            continue
        taken = 0
        for action in checkpoint_schedules.MultistageCheckpointSchedule(blocks, room, 0):
            if isinstance(action, checkpoint_schedules.Forward):
                taken += sum(
                    first_step(n + 1, block, steps) - first_step(n, block, steps)
                    for n in range(action.n0, action.n1)
                )
        least = taken if least is None else min(least, taken)
    found = planned(steps, budget)
    assert least is not None
    assert steps + found.recomputed == least
    assert found.bytes <= budget


@pytest.mark.parametrize(
    ("steps", "budget", "runs", "cost"),
    [
        (2000, 2000 * 26, 1, 1.0),  # all fits
        (2000, 1800 * 26 + 42, 1, 1.1),  # all but a tenth, and a snapshot
        (2000, 5300, 1, 1.91),  # eleven blocks
        (20000, 5300, 1, 2.7),
        (2000, 8 * 2000 * 26, 10, 1.21),
        (2000, 2000 * 26, 100, 1.99),
        (5000, 10_000, 16, 2.85),
    ],
)  # fmt: skip
def test_costs(steps: int, budget: int, runs: int, cost: float) -> None:
    start = time.perf_counter()
    found = planned(steps, budget, runs)
    assert time.perf_counter() - start < 10
    assert found.cost <= cost
    assert found.cost == 1 + found.recomputed / (steps * runs)
    assert found.bytes <= budget


def test_more_memory_never_costs_more() -> None:
    costs = [planned(200, budget, 3, more=20).cost for budget in range(88, 17_000, 97)]
    assert costs == sorted(costs, reverse=True)
    assert costs[0] > 10
    assert costs[-1] == 1


def test_the_disk_stands_in_for_memory() -> None:
    memory, both, disk = (planned(500, 300, storage=s) for s in ("memory", "both", "disk"))
    assert memory.cost > both.cost >= disk.cost
    assert both.cost < 2
    assert not memory.disk_snapshots
    assert both.disk_snapshots
    assert not disk.memory_snapshots


@pytest.mark.parametrize(
    ("steps", "storage", "least", "what"),
    [(9, "memory", 68, "a snapshot and what"), (9, "both", 26, "what"), (9, "disk", 26, "what"),
     (1, "memory", 26, "what")],
)  # fmt: skip
def test_the_least_budget(steps: int, storage: str, least: int, what: str) -> None:
    message = (
        f"^TimeLoop: memory is {least - 1} bytes, expected at least {least} bytes a process: "
        f"{what} reversing one step needs$"
    )
    with pytest.raises(ValueError, match=message):
        planned(steps, least - 1, 2, storage)
    assert planned(steps, least, 2, storage).bytes == least


def test_steps_that_keep_nothing_fit_any_budget() -> None:
    found = planned(9, 1, runs=2, step=0)
    assert (found.bytes, found.recomputed, found.memory_snapshots) == (0, 0, 0)
