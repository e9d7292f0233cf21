"""Time loops on a tape, with derivatives in bounded memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import ref

import numpy as np

from .operator import Operator
from .propagator import Propagator
from .scheduled_run import KeptRuns, ScheduledRun, Store, closed_on_error
from .schedules import (
    STORAGES,
    MakeSchedule,
    Plan,
    Sizes,
    all_in_memory,
    candidate_blocks,
    follow,
    parse_bytes,
    plan,
)
from .tape import active_tape
from .world import agreed, communicator


class TimeLoop(Operator):
    """All steps of all runs of a propagator, as one operator.

    The reverse sweep needs something of every step. Where the memory does not hold all of it, the
    loop keeps a few states instead (snapshots) and takes the steps from there again.

    Parameters
    ----------
    propagator : Propagator
    memory : int, float or str, optional
        How much each process may use for snapshots and for what steps keep, in bytes or as a text
        like ``"4GB"`` or ``"512 MiB"``; the least that any rank gives. Without a limit everything
        is kept. The loop chooses what takes least time.
    storage : str
        Where snapshots go: ``"memory"``, ``"disk"``, or ``"both"``: on the disk what the memory
        does not hold.
    directory : path-like, optional
        For snapshots on disk, in a folder of their own that is removed when the process ends, or
        by the next run where the process was killed; the system's temporary files by default,
        which on some systems lie in memory.
    schedule : callable, optional
        Instead of ``memory``: takes a number of blocks and returns a schedule of the package
        ``checkpoint_schedules``.
    block : int
        Steps of a block of such a schedule.
    backwards : bool, optional
        Whether the reverse sweep takes the state back along with its cotangent, which may need far
        less memory and takes a little longer, for steps that can be taken back. By default where a
        budget makes that the faster way.
    report : callable, optional
        Is given a line that tells the plan, on rank 0, when it is made. ``print`` by default, if
        ``memory`` is given.

    Attributes
    ----------
    comm : mpi4py.MPI.Comm
        The library's duplicate of the propagator's communicator.
    propagator : Propagator
    plan : Plan
        What is kept and what is recomputed; the same on all ranks.

    Raises
    ------
    ValueError
        On all ranks: a budget that holds not even one step, a schedule that does not reverse all
        blocks, or bad arguments.
    OSError
        On all ranks: a snapshot that cannot be written or read.

    Notes
    -----
    The unit of a schedule is a block of steps. Before a block is reversed, its first state is
    loaded and its steps are taken with all that their transposes need. Of several runs with more
    than fits, either each has its share of the memory, or all but the last are taken anew.
    Where the state is taken back, that is its last state and whatever the steps have lost of it.

    A call outside of a tape keeps nothing. Memory is allocated once and used again by later calls.
    A budget is that of all calls together: the latest takes the memory of those before it, whose
    steps are then taken once more before they are reversed.

    References
    ----------
    Griewank, Walther (2000). Algorithm 799: Revolve. DOI 10.1145/347837.347846
    Zhang, Constantinescu (2023). Optimal checkpointing for adjoint multistage time-stepping
    schemes. DOI 10.1016/j.jocs.2022.101913
    """

    needs_outputs = ()
    auxiliary = 1
    communicates = True

    def __init__(
        self,
        propagator: Propagator,
        *,
        memory: int | float | str | None = None,
        storage: str = "memory",
        directory: str | os.PathLike[str] | None = None,
        schedule: MakeSchedule | None = None,
        block: int = 1,
        backwards: bool | None = None,
        report: Callable[[str], Any] | None = None,
    ) -> None:
        self.propagator = propagator
        self.comm = communicator(propagator.comm)
        with agreed(self.comm):
            if storage not in STORAGES:
                raise ValueError(
                    f"{self.name}: storage is {storage!r}, expected {', '.join(STORAGES)}"
                )
            if memory is not None and schedule is not None:
                raise ValueError(f"{self.name}: got memory and schedule, expected one of them")
            if int(block) != block or not 1 <= block <= propagator.steps:
                raise ValueError(
                    f"{self.name}: block is {block}, expected 1 to {propagator.steps} steps"
                )
            if backwards and propagator.backward_cost is None:
                raise ValueError(
                    f"{self.name}: backwards is {backwards}, expected none: these steps cannot be "
                    "taken back"
                )
            budget = None if memory is None else parse_bytes(memory)
        self._budget = self._common(budget, storage, int(block), schedule is not None, backwards)
        self._latest: ref[KeptRuns] | None = None
        self.plan = self._choose(storage, int(block), schedule, backwards)
        # Not a function of this object: a cycle would keep its memory until the next collection.
        self._store = Store(self.comm, partial(propagator.new_kept, self.plan.block), directory)
        if report is None and memory is not None:
            report = print
        if report is not None and self.comm.rank == 0:
            report(f"{self.name}: {self.plan}")

    def _common(
        self, budget: int | None, storage: str, block: int, scheduled: bool, backwards: bool | None
    ) -> int | None:
        """Return the least budget; raise on all ranks where they ask for different things."""
        own = {
            "memory": "none" if budget is None else "a budget",
            "storage": storage,
            "block": block,
            "schedule": "one" if scheduled else "none",
            "backwards": backwards,
        }
        everybody: list[tuple[int | None, dict[str, Any]]] = self.comm.allgather((budget, own))
        first = everybody[0][1]
        for rank, (_, other) in enumerate(everybody):
            for argument, value in other.items():
                if value != first[argument]:
                    raise ValueError(
                        f"rank {rank}: {self.name}: {argument} is {value}, expected "
                        f"{first[argument]} as on rank 0"
                    )
        return min((budget for budget, _ in everybody if budget is not None), default=None)

    def _choose(
        self, storage: str, block: int, schedule: MakeSchedule | None, backwards: bool | None
    ) -> Plan:
        """Return the plan that takes least time, and have the propagator go by it."""
        loop = self.propagator
        ways = [bool(backwards)]
        if backwards is None and self._budget is not None and loop.backward_cost is not None:
            ways = [False, True]
        plans, errors = [], []
        for loop.backwards in ways:
            try:
                plans.append(self._make_plan(storage, block, schedule))
            except ValueError as error:
                errors.append(error)
        if not plans:
            raise errors[0]
        best = min(plans, key=lambda plan: plan.cost + plan.backwards * (loop.backward_cost or 0))
        loop.backwards = best.backwards
        return best

    def _make_plan(self, storage: str, block: int, schedule: MakeSchedule | None) -> Plan:
        """Return the plan that recomputes least, for what the propagator keeps at present."""
        loop = self.propagator
        steps, runs = loop.steps, loop.runs
        state = sum(field.nbytes for field in loop.state)
        snapshot, one, whole = self._most([state, loop.kept_bytes(1), loop.kept_bytes(steps)])
        blocks = [block]
        if self._budget is not None:
            blocks = candidate_blocks(steps, runs, self._budget, snapshot, one, whole)
        kept = self._most([loop.kept_bytes(n) for n in blocks])
        sizes = Sizes(snapshot, dict(zip(blocks, kept)))
        with agreed(self.comm):
            if schedule is not None:
                found = follow(schedule, steps, runs, block, sizes)
            elif self._budget is None:
                found = all_in_memory(steps, runs, whole)
            else:
                found = plan(steps, runs, self._budget, storage, sizes)
        return found._replace(backwards=loop.backwards)

    def _most(self, sizes: list[int]) -> list[int]:
        """Return the greatest of all ranks."""
        from mpi4py import MPI

        found = np.array(sizes, np.int64)
        self.comm.Allreduce(MPI.IN_PLACE, found, MPI.MAX)
        most: list[int] = found.tolist()
        return most

    def forward(self, *inputs: Any) -> Any:
        loop = self.propagator
        loop.prepare(*inputs)
        kept = KeptRuns()
        recorded = active_tape() is not None
        if recorded:
            self._make_room(kept)
        with closed_on_error(kept):
            for run in range(loop.runs):
                loop.begin(run)
                if recorded and run >= self.plan.replayed:
                    kept[run] = self._new_run()
                    kept[run].forward()
                else:
                    loop.advance(0, loop.steps)
            return (*loop.results(), kept)

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        loop = self.propagator
        loop.prepare(*inputs)
        loop.prepare_tangent(tangents)
        for run in range(loop.runs):
            loop.begin(run)
            loop.begin_tangent(run)
            loop.advance_tangent(0, loop.steps)
        return loop.result_tangents()

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        loop = self.propagator
        loop.prepare(*inputs)
        loop.prepare_reverse(cotangents)
        kept: KeptRuns = outputs[-1]
        self._make_room(kept)
        with closed_on_error(kept):
            for run in reversed(range(loop.runs)):
                loop.begin(run)
                if run not in kept:  # nothing was kept, or it is used up
                    kept[run] = self._new_run()
                    kept[run].forward()
                loop.begin_reverse(run)
                kept[run].reverse()
                loop.finish_reverse(run)
                kept.pop(run).close()
        return loop.gradients()

    def _make_room(self, kept: KeptRuns) -> None:
        """Let go of what another call has kept, if both together would exceed the budget."""
        latest = None if self._latest is None else self._latest()
        if latest is not None and latest is not kept and self._budget is not None:
            latest.close()
        self._latest = ref(kept)

    def _new_run(self) -> ScheduledRun:
        return ScheduledRun(self.propagator, self.plan, self._store)
