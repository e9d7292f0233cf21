"""Which states of a time loop are kept, and which steps are taken again."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
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
        Steps that are reversed together; fewer in the first block.
    blocks : int
        Blocks of a run.
    replayed : int
        Runs of which nothing is kept: their steps are taken once more before they are reversed.
        They are the first ones.
    memory_snapshots, disk_snapshots : int
        Most states that are kept at once.
    recomputed : int
        Steps that are taken again, of all runs.
    cost : float
        All forward steps that a derivative takes, in units of the steps of the runs.
    bytes : int
        Memory per process for states and what reversing needs, the most of any rank.
    backwards : bool
        Whether the state is taken back along with its cotangent.
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
    backwards: bool = False

    def __str__(self) -> str:
        parts = ["all steps"]
        if self.blocks > 1:
            parts = [f"{self.blocks} blocks of {_several(self.block, 'step')}"]
        if self.memory_snapshots:
            parts.append(f"{_several(self.memory_snapshots, 'snapshot')} in memory")
        if self.disk_snapshots:
            parts.append(f"{_several(self.disk_snapshots, 'snapshot')} on disk")
        if self.replayed:
            parts.append(f"{_several(self.replayed, 'run')} replayed")
        parts.append(f"{self.recomputed} steps recomputed")
        back = ", one backwards" if self.backwards else ""
        parts.append(f"{self.cost:.2f} forward runs{back} and one reverse")
        return f"{', '.join(parts)}; {self.bytes / 1e6:.1f} MB a process"


def _several(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


class Sizes(NamedTuple):
    """Memory that a loop's parts take, in bytes, the most of any rank.

    Attributes
    ----------
    snapshot : int
        Of a state.
    kept : dict of int to int
        Of what reversing a block needs, by the number of its steps.
    """

    snapshot: int
    kept: dict[int, int]


def parse_bytes(memory: int | float | str) -> int:
    """Return a number of bytes: ``4e9``, ``"4GB"``, ``"512 MiB"``.

    Raises
    ------
    ValueError
        Where it is none.
    """
    if isinstance(memory, str):
        number = r"(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?"
        match = re.fullmatch(rf"\s*({number})\s*([KMGT]?)(i?)B?\s*", memory, re.IGNORECASE)
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


def first_step(block: int, length: int, steps: int) -> int:
    """Return the step that a block begins with.

    Blocks are equally long but for the first: it is the one that is taken most often, so it is
    the one to be short.
    """
    blocks = -(-steps // length)
    return max(block * length - (blocks * length - steps), 0)


def shares(runs: int, budget: int, whole: int) -> list[int]:
    """Return into how many parts a budget may be divided: runs kept at once, of all runs.

    Parameters
    ----------
    runs, budget : int
    whole : int
        Bytes that keeping all steps of a run takes.
    """
    found = {runs, min(max(budget // max(whole, 1), 1), runs)} | {
        2**k for k in range(runs.bit_length())
    }
    return sorted(found)


def candidate_blocks(
    steps: int, runs: int, budget: int, snapshot: int, one: int, whole: int
) -> list[int]:
    """Return the lengths of blocks that are worth a comparison.

    Parameters
    ----------
    steps, runs, budget : int
    snapshot, one, whole : int
        Bytes of a state, and of what reversing one step and all steps needs.

    Notes
    -----
    These are equal parts of a run, and the longest blocks that leave room for so many snapshots if
    what a block needs grows evenly with its steps.
    """
    found = {1, steps}
    for number in _spread(steps):
        found.add(-(-steps // number))
    slope = max((whole - one) / max(steps - 1, 1), 1e-9)
    for share in shares(runs, budget, whole):
        part = budget // share
        for snapshots in (0, *_spread(min(part // max(snapshot, 1), steps))):
            # Less a millionth: rounding up would leave no room.
            longest = int(1 + (part - snapshots * snapshot - one) / slope * (1 - 1e-6) + 1e-6)
            found.update(b for b in (longest, longest + 1) if 1 <= b <= steps)
    return sorted(found)


def _spread(most: int) -> Iterator[int]:
    """Yield numbers from 1 to ``most``, all small ones and ever fewer large ones."""
    number = 1
    while number <= most:
        yield number
        number = max(number + 1, number * 33 // 32)


def all_in_memory(steps: int, runs: int, size: int) -> Plan:
    """Keep everything: nothing is recomputed."""
    from checkpoint_schedules import SingleMemoryStorageSchedule

    def schedule(blocks: int) -> Any:
        return SingleMemoryStorageSchedule()

    return Plan(schedule, steps, 1, 0, 0, 0, 0, 1.0, runs * size)


def follow(schedule: MakeSchedule, steps: int, runs: int, block: int, sizes: Sizes) -> Plan:
    """Return what a schedule chosen by the user takes.

    Raises
    ------
    ValueError
        Where it does not reverse every block once.
    """
    use = usage(schedule(-(-steps // block)), block, steps)
    recomputed = use.taken - steps
    size = use.memory * sizes.snapshot + use.kept * sizes.kept[block]
    return Plan(schedule, block, -(-steps // block), 0, runs * use.memory, runs * use.disk,
                runs * recomputed, 1 + recomputed / steps, runs * size)  # fmt: skip


class _Option(NamedTuple):
    """A way to go through a run, sorted by its cost."""

    least: int  # steps taken again, or fewer
    disk: int
    size: int
    block: int
    memory: int
    share: int


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

    Notes
    -----
    Runs share the memory between forward and reverse sweep; where that makes the shares too small,
    nothing is kept of some of them, and they are replayed when the others are done.
    """
    whole = sizes.kept[steps]
    if runs * whole <= budget:
        return all_in_memory(steps, runs, whole)
    options = sorted(
        option
        for share in shares(runs, budget, whole)
        for block, kept in sizes.kept.items()
        if (option := _option(steps, runs, share, block, kept, budget // share, storage, sizes))
    )
    if not options:
        least, what = sizes.kept[1], "what reversing one step needs"
        if storage == "memory" and steps > 1:
            least, what = sizes.snapshot + least, "a snapshot and " + what
        if whole < least:
            least, what = whole, "what reversing all steps needs"
        raise ValueError(
            f"TimeLoop: memory is {budget} bytes, expected at least {least} bytes a process: {what}"
        )
    best: Plan | None = None
    for option in options:
        # How often the first block is taken is known for sure only from the schedule itself.
        if best is not None and option.least >= best.recomputed:
            break
        found = _plan_of(option, steps, runs)
        if best is None or found.recomputed < best.recomputed:
            best = found
    assert best is not None
    return best


def _option(
    steps: int, runs: int, share: int, block: int, kept: int, budget: int, storage: str,
    sizes: Sizes,
) -> _Option | None:  # fmt: skip
    """Return what blocks of a length cost in a run that may use so much, if they fit."""
    blocks = -(-steps // block)
    if kept > budget:
        return None
    memory = 0
    if storage != "disk":
        memory = min((budget - kept) // max(sizes.snapshot, 1), blocks - 1)
    disk = 0 if storage == "memory" else blocks - 1 - memory
    if blocks > 1 and memory + disk < 1:
        return None
    extra, rounds = binomial(blocks, memory + disk)
    # No block is taken more than once more than there are rounds.
    least = extra * block - rounds * (blocks * block - steps)
    size = share * (memory * sizes.snapshot + kept)
    return _Option(runs * least + (runs - share) * steps, disk, size, block, memory, share)


def _plan_of(option: _Option, steps: int, runs: int) -> Plan:
    from checkpoint_schedules import MultistageCheckpointSchedule, SingleMemoryStorageSchedule

    _, disk, size, block, memory, share = option
    blocks = -(-steps // block)

    def schedule(number: int) -> Any:
        if number == 1:
            return SingleMemoryStorageSchedule()
        return MultistageCheckpointSchedule(number, memory, disk)

    taken = usage(schedule(blocks), block, steps).taken
    recomputed = runs * (taken - steps) + (runs - share) * steps
    return Plan(schedule, block, blocks, runs - share, share * memory, share * disk, recomputed,
                1 + recomputed / (steps * runs), size)  # fmt: skip


def binomial(blocks: int, snapshots: int) -> tuple[int, int]:
    """Return how many blocks the best schedule takes again, and how often one of them at most.

    Parameters
    ----------
    blocks, snapshots : int

    Notes
    -----
    With ``s`` snapshots, each block taken again at most ``r`` times, ``β(s, r) = (s + r)!/(s! r!)``
    blocks can be reversed; of ``β(s, r − 1) < n ≤ β(s, r)`` blocks, ``r n − β(s + 1, r − 1)`` are
    taken again (Griewank and Walther, DOI 10.1145/347837.347846).
    """
    if blocks == 1:
        return 0, 0
    rounds = 1
    if snapshots == 1:
        rounds = blocks - 1
    while comb(snapshots + rounds, rounds) < blocks:
        rounds += 1
    return rounds * blocks - comb(snapshots + rounds, rounds - 1), rounds


class Usage(NamedTuple):
    """What a schedule does to one run: steps it takes, and the most it keeps at once."""

    taken: int
    memory: int
    disk: int
    kept: int


def usage(schedule: Any, block: int, steps: int) -> Usage:
    """Go through a schedule for a run in blocks of so many steps.

    Raises
    ------
    ValueError
        Where it does not reverse every block once, from the last to the first.
    """
    from checkpoint_schedules import Copy, EndReverse, Forward, Move, Reverse, StorageType

    blocks = left = -(-steps // block)
    taken = 0
    memory: set[int] = set()
    disk: set[int] = set()
    work: set[int] = set()  # blocks whose data is at hand
    stored: set[int] = set()  # and those whose data was put aside in memory
    most = [0, 0, 1]
    for action in schedule:
        if isinstance(action, Forward):
            last = min(action.n1, blocks)
            taken += first_step(last, block, steps) - first_step(action.n0, block, steps)
            there = {StorageType.RAM: memory, StorageType.DISK: disk}
            if action.write_ics:
                there[action.storage].add(action.n0)
            if action.write_adj_deps:
                there = {StorageType.RAM: stored, StorageType.WORK: work}
                there.get(action.storage, set()).update(range(action.n0, last))
            if action.n1 >= blocks and schedule.max_n is None:
                schedule.finalize(blocks)
        elif isinstance(action, Copy | Move):
            if isinstance(action, Copy) and action.n in stored:
                raise ValueError(
                    f"TimeLoop: schedule {type(schedule).__name__} copies what reversing block "
                    f"{action.n} needs, expected one that moves it"
                )
            places = {StorageType.RAM: (memory, stored), StorageType.DISK: (disk, set())}
            for place in places[action.from_storage] if isinstance(action, Move) else ():
                if place is stored and action.n in place:
                    work.add(action.n)
                place.discard(action.n)
            if action.to_storage in places:
                places[action.to_storage][0].add(action.n)
        elif isinstance(action, Reverse):
            if action.n1 != left:
                break
            left = action.n0
            if action.clear_adj_deps:
                work -= set(range(action.n0, action.n1))
        elif isinstance(action, EndReverse):
            break
        counts = (len(memory), len(disk), len(work) + len(stored))
        most = [max(a, b) for a, b in zip(most, counts)]
        if schedule.is_exhausted:
            break
    if left:
        raise ValueError(
            f"TimeLoop: schedule {type(schedule).__name__} does not reverse block {left - 1} of "
            f"{blocks}, expected one that reverses all of them, the last first"
        )
    return Usage(taken, *most)
