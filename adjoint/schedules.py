"""Which states of a time loop are kept, and which steps are taken again."""

from __future__ import annotations

import re
from collections.abc import Callable
from math import comb
from typing import Any, NamedTuple

#: Makes a schedule of the package ``checkpoint_schedules`` for a number of blocks.
MakeSchedule = Callable[[int], Any]

STORAGES = ("memory", "disk", "both")

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


class Plan(NamedTuple):
    """What a time loop does to have what its reverse sweep needs.

    Attributes
    ----------
    schedule : callable
        Makes the schedule of a run, from the number of its blocks.
    block : int
        Steps that are reversed together.
    blocks : int
        Blocks of a run.
    replayed : int
        Runs of which nothing is kept: their steps are taken once more before they are reversed.
    memory_snapshots, disk_snapshots : int
        Most states that are kept at once.
    recomputed : int
        Steps that are taken again, of all runs.
    cost : float
        All forward steps that a derivative takes, in units of the steps of the runs.
    bytes : int
        Memory per process for states and what reversing needs, the most of any rank.
    """

    schedule: MakeSchedule
    block: int
    blocks: int
    replayed: int
    memory_snapshots: int
    disk_snapshots: int
    recomputed: int
    cost: float
    bytes: int

    def __str__(self) -> str:
        parts = [f"{self.blocks} blocks of {self.block} steps" if self.blocks > 1 else "all steps"]
        if self.memory_snapshots:
            parts.append(f"{self.memory_snapshots} snapshots in memory")
        if self.disk_snapshots:
            parts.append(f"{self.disk_snapshots} snapshots on disk")
        if self.replayed:
            parts.append(f"{self.replayed} runs replayed")
        parts.append(f"{self.recomputed} steps recomputed")
        parts.append(f"{self.cost:.2f} forward runs and one reverse")
        return f"{', '.join(parts)}; {self.bytes / 1e6:.1f} MB a process"


class Sizes(NamedTuple):
    """Memory that a loop's parts take, in bytes, the most of any rank.

    Attributes
    ----------
    snapshot : int
        Of a state.
    kept : list of int
        Of what reversing ``blocks[i]`` steps needs.
    blocks : list of int
    """

    snapshot: int
    kept: list[int]
    blocks: list[int]


def parse_bytes(memory: int | float | str) -> int:
    """Return a number of bytes: ``4e9``, ``"4GB"``, ``"512 MiB"``.

    Raises
    ------
    ValueError
        Where it is none.
    """
    if isinstance(memory, str):
        match = re.fullmatch(
            r"\s*([0-9.]+(?:e[0-9]+)?)\s*([KMGT]?)(i?)B?\s*", memory, re.IGNORECASE
        )
        if not match:
            raise ValueError(f"TimeLoop: memory is {memory!r}, expected bytes or a text like '4GB'")
        number, unit, binary = match.groups()
        scale = _UNITS[unit.upper()]
        if binary:
            scale = 2 ** (10 * "KMGT".index(unit.upper()) + 10) if unit else 1
        memory = float(number) * scale
    if not 0 < memory < float("inf"):
        raise ValueError(f"TimeLoop: memory is {memory!r}, expected a positive number of bytes")
    return int(memory)


def candidate_blocks(steps: int) -> list[int]:
    """Return the lengths of blocks that are worth a comparison."""
    blocks = {1, steps}
    number = 1
    while number < steps:
        blocks.add(-(-steps // number))
        number = max(number + 1, number * 33 // 32)
    return sorted(blocks)


def all_in_memory(steps: int, runs: int, size: int) -> Plan:
    """Keep everything: nothing is recomputed."""
    from checkpoint_schedules import SingleMemoryStorageSchedule

    def schedule(blocks: int) -> Any:
        return SingleMemoryStorageSchedule()

    return Plan(schedule, steps, 1, 0, 0, 0, 0, 1.0, runs * size)


def follow(schedule: MakeSchedule, steps: int, runs: int, block: int, sizes: Sizes) -> Plan:
    """Return what a schedule chosen by the user takes."""
    blocks = -(-steps // block)
    taken, memory, disk, kept = _count(schedule(blocks), blocks)
    size = memory * sizes.snapshot + kept * sizes.kept[sizes.blocks.index(block)]
    recomputed = max(min(taken * block, taken * steps) - steps, 0)
    return Plan(schedule, block, blocks, 0, runs * memory, runs * disk, runs * recomputed,
                1 + recomputed / steps, runs * size)  # fmt: skip


def plan(steps: int, runs: int, budget: int, storage: str, sizes: Sizes) -> Plan:
    """Return the plan that recomputes least within a budget.

    Parameters
    ----------
    steps, runs : int
    budget : int
        Bytes per process.
    storage : str
        Where snapshots go: ``"memory"``, ``"disk"``, or ``"both"``, which fills the memory first.
    sizes : Sizes

    Raises
    ------
    ValueError
        Where not even one step fits.
    """
    best: Plan | None = None
    whole = sizes.kept[sizes.blocks.index(steps)]
    if runs * whole <= budget:
        return all_in_memory(steps, runs, whole)
    for block, kept in zip(sizes.blocks, sizes.kept):
        # Either all runs share the memory between forward and reverse sweep, or the last one has
        # all of it and the others are replayed.
        for share, replayed in ((runs, 0), (1, runs - 1)):
            found = _plan_run(steps, block, kept, budget // share, storage, sizes.snapshot)
            if found is None:
                continue
            taken, memory, disk, schedule = found
            blocks = -(-steps // block)
            extra = runs * (taken - steps) + replayed * steps
            size = share * (min(memory, blocks) * sizes.snapshot + kept)
            option = Plan(schedule, block, blocks, replayed, share * memory, share * disk, extra,
                          1 + extra / (steps * runs), size)  # fmt: skip
            if best is None or (option.cost, option.disk_snapshots, option.bytes) < (
                best.cost, best.disk_snapshots, best.bytes,
            ):  # fmt: skip
                best = option
    if best is None:
        least = sizes.kept[0] + (sizes.snapshot if storage != "disk" else 0)
        raise ValueError(
            f"TimeLoop: memory is {budget} bytes, expected at least {least} bytes a process: a "
            "snapshot and what reversing one step needs"
        )
    return best


def _plan_run(
    steps: int, block: int, kept: int, budget: int, storage: str, snapshot: int
) -> tuple[int, int, int, MakeSchedule] | None:
    """Return steps taken, snapshots in memory and on disk, and the schedule of one run."""
    from checkpoint_schedules import MultistageCheckpointSchedule, SingleMemoryStorageSchedule

    blocks = -(-steps // block)
    room = budget - kept
    if room < 0:
        return None
    if blocks == 1:
        return steps, 0, 0, lambda n: SingleMemoryStorageSchedule()
    memory = 0 if storage == "disk" else min(int(room // snapshot), blocks - 1)
    disk = 0 if storage == "memory" else blocks - 1 - memory
    if memory + disk < 1:
        return None
    taken = binomial_steps(blocks, memory + disk) * block
    # The last block may be shorter, and is taken once.
    taken -= blocks * block - steps
    return taken, memory, disk, lambda n: MultistageCheckpointSchedule(n, memory, disk)


def binomial_steps(blocks: int, snapshots: int) -> int:
    """Return how often blocks are taken forward in all, at least, with so many snapshots.

    References
    ----------
    Griewank, Walther (2000). Algorithm 799: Revolve. DOI 10.1145/347837.347846
    """
    if blocks == 1:
        return 1
    repetitions = 1
    while comb(snapshots + repetitions, snapshots) < blocks:
        repetitions += 1
    return blocks + repetitions * blocks - comb(snapshots + repetitions, repetitions - 1)


def _count(schedule: Any, blocks: int) -> tuple[int, int, int, int]:
    """Return how many blocks a schedule advances, and the most it keeps of each kind."""
    from checkpoint_schedules import EndReverse, Forward, Move, Reverse, StorageType

    taken = 0
    present: dict[StorageType, set[int]] = {StorageType.RAM: set(), StorageType.DISK: set()}
    kept: set[int] = set()
    most = [0, 0, 1]
    for action in schedule:
        if isinstance(action, Forward):
            last = min(action.n1, blocks)
            taken += last - action.n0
            if action.write_ics:
                present[action.storage].add(action.n0)
            if action.write_adj_deps and action.storage is not StorageType.DISK:
                kept.update(range(action.n0, last))
            if action.n1 >= blocks and schedule.max_n is None:
                schedule.finalize(blocks)
        elif isinstance(action, Move):
            present[action.from_storage].discard(action.n)
        elif isinstance(action, Reverse):
            kept -= set(range(action.n0, action.n1))
        elif isinstance(action, EndReverse):
            break
        if schedule.is_exhausted:
            break
        counts = (len(present[StorageType.RAM]), len(present[StorageType.DISK]), len(kept))
        most = [max(a, b) for a, b in zip(most, counts)]
    return taken, most[0], most[1], most[2]
