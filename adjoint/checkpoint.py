"""Time loops on a tape, with derivatives in bounded memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import finalize

import numpy as np

from .operator import Operator
from .propagator import Propagator
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
from .snapshots import Folder, MemoryPool, load
from .tape import active_tape
from .world import agreed


class TimeLoop(Operator):
    """All steps of all runs of a propagator, as one operator.

    The reverse sweep needs something of every step. Where the memory does not hold all of it, the
    loop keeps a few states instead (snapshots) and takes the steps from there again.

    Parameters
    ----------
    propagator : Propagator
    memory : int, float or str, optional
        How much each process may use for snapshots and for what steps keep, in bytes or as a text
        like ``"4GB"`` or ``"512 MiB"``; without a limit everything is kept. The loop chooses what
        recomputes least.
    storage : str
        Where snapshots go: ``"memory"``, ``"disk"``, or ``"both"``: on the disk what the memory
        does not hold.
    directory : path-like, optional
        For snapshots on disk, in a folder of their own that is removed when the process ends, or
        by the next run where the process was killed; the system's temporary files by default.
    schedule : callable, optional
        Instead of ``memory``: takes a number of blocks and returns a schedule of the package
        ``checkpoint_schedules``.
    block : int
        Steps of a block of such a schedule.
    report : callable, optional
        Is given a line that tells the plan, on rank 0, when it is made. ``print`` by default, if
        ``memory`` is given.

    Attributes
    ----------
    propagator : Propagator
    plan : Plan
        What is kept and what is recomputed; made when first needed, and the same on all ranks.

    Raises
    ------
    ValueError
        On all ranks: a budget that holds not even one step, or bad arguments.
    OSError
        On all ranks: a snapshot that cannot be written.

    Notes
    -----
    The unit of a schedule is a block of steps. Before a block is reversed, its first state is
    loaded and its steps are taken with all that their transposes need. Of several runs with more
    than fits, either each has its share of the memory, or all but the last are taken anew.

    A call outside of a tape keeps nothing. Memory is allocated once and used again by later calls.

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
        report: Callable[[str], Any] | None = None,
    ) -> None:
        self.propagator = propagator
        with agreed(propagator.comm):
            if storage not in STORAGES:
                raise ValueError(
                    f"{self.name}: storage is {storage!r}, expected {', '.join(STORAGES)}"
                )
            if memory is not None and schedule is not None:
                raise ValueError(f"{self.name}: got memory and schedule, expected one of them")
            if not 1 <= block <= propagator.steps:
                raise ValueError(
                    f"{self.name}: block is {block}, expected 1 to {propagator.steps} steps"
                )
            self._budget = None if memory is None else parse_bytes(memory)
        self._storage = storage
        self._directory = directory
        self._schedule = schedule
        self._block = int(block)
        self._report = print if report is None and memory is not None else report
        self._plan: Plan | None = None
        self._pool = MemoryPool()
        self._kept: list[Any] = []
        self._folder: Folder | None = None
        if self._budget is not None or schedule is not None:
            self._plan = self._make_plan()

    @property
    def plan(self) -> Plan:
        if self._plan is None:
            self._plan = self._make_plan()
        return self._plan

    def _make_plan(self) -> Plan:
        """Collective, like everything that first needs it."""
        loop = self.propagator
        if self._schedule is not None:
            blocks = sorted({self._block, loop.steps})
        elif self._budget is None:
            blocks = [loop.steps]
        else:
            blocks = candidate_blocks(loop.steps)
        own = [sum(field.nbytes for field in loop.state), *map(loop.kept_bytes, blocks)]
        found = np.array(own, np.int64)
        from mpi4py import MPI

        loop.comm.Allreduce(MPI.IN_PLACE, found, MPI.MAX)
        sizes = Sizes(int(found[0]), found[1:].tolist(), blocks)
        with agreed(loop.comm):
            if self._schedule is not None:
                chosen = follow(self._schedule, loop.steps, loop.runs, self._block, sizes)
            elif self._budget is None:
                chosen = all_in_memory(loop.steps, loop.runs, sizes.kept[0])
            else:
                chosen = plan(loop.steps, loop.runs, self._budget, self._storage, sizes)
        if self._report is not None and loop.comm.rank == 0:
            self._report(f"{self.name}: {chosen}")
        return chosen

    def forward(self, *inputs: Any) -> Any:
        loop = self.propagator
        loop.prepare(*inputs)
        sweeps: list[Sweep] = []
        recorded = active_tape() is not None
        with closed_on_error(sweeps):
            for run in range(loop.runs):
                loop.begin(run)
                if recorded and run >= self.plan.replayed:
                    sweeps.append(Sweep(self))
                    sweeps[-1].forward()
                else:
                    loop.advance(0, loop.steps)
            return (*loop.results(), sweeps)

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
        sweeps: list[Sweep] = outputs[-1]
        for run in reversed(range(loop.runs)):
            loop.begin(run)
            kept = bool(sweeps)  # otherwise nothing was, or it is used up
            sweep = sweeps.pop() if kept else Sweep(self)
            with closed_on_error([sweep]):
                if not kept:
                    sweep.forward()
                loop.begin_reverse(run)
                sweep.reverse()
                loop.finish_reverse(run)
                sweep.close()
        return loop.gradients()

    def _new_kept(self) -> Any:
        return self._kept.pop() if self._kept else self.propagator.new_kept(self.plan.block)

    def _open_folder(self) -> Folder:
        if self._folder is None:
            self._folder = Folder(self._directory)
        return self._folder


class Sweep:
    """One run under a schedule: what is kept of it, from its forward to its reverse sweep."""

    def __init__(self, loop: TimeLoop) -> None:
        self._loop = loop
        self._propagator = loop.propagator
        self._block, self._blocks = loop.plan.block, loop.plan.blocks
        self._schedule = loop.plan.schedule(self._blocks)
        self._actions: Iterator[Any] = iter(self._schedule)
        # By storage and block: states, and what a block's steps keep.
        self._states: dict[tuple[Any, int], Any] = {}
        self._stored: dict[tuple[Any, int], Any] = {}
        self._work: dict[int, Any] = {}
        self.close = finalize(
            self, _release, self._states, self._stored, self._work, loop._pool, loop._kept
        )

    def forward(self) -> None:
        """Carry out the schedule until the end of the forward sweep."""
        from checkpoint_schedules import EndForward

        for action in self._actions:
            if isinstance(action, EndForward):
                return
            self._perform(action)

    def reverse(self) -> None:
        """Carry out the rest."""
        from checkpoint_schedules import EndReverse

        for action in self._actions:
            if isinstance(action, EndReverse):
                return
            self._perform(action)

    def _perform(self, action: Any) -> None:
        from checkpoint_schedules import Copy, Forward, Move, Reverse

        if isinstance(action, Forward):
            self._advance(action)
        elif isinstance(action, Reverse):
            for block in reversed(range(action.n0, action.n1)):
                first, last = self._steps(block, block + 1)
                self._propagator.reverse(last, first, self._work[block])
                if action.clear_adj_deps:
                    self._loop._kept.append(self._work.pop(block))
        elif isinstance(action, Copy | Move):
            self._fetch(action, isinstance(action, Move))
        else:
            raise NotImplementedError(f"{self._loop.name}: schedules with {action}")

    def _steps(self, first: int, last: int) -> tuple[int, int]:
        steps = self._propagator.steps
        return min(first * self._block, steps), min(last * self._block, steps)

    def _advance(self, action: Any) -> None:
        from checkpoint_schedules import StorageType

        last = min(action.n1, self._blocks)
        if action.n1 >= self._blocks and self._schedule.max_n is None:
            self._schedule.finalize(self._blocks)
        if action.write_ics:
            self._states[action.storage, action.n0] = self._save(
                action.storage, self._propagator.state
            )
        if not action.write_adj_deps:
            self._propagator.advance(*self._steps(action.n0, last))
            return
        for block in range(action.n0, last):
            kept = self._loop._new_kept()
            self._propagator.advance(*self._steps(block, block + 1), kept)
            if action.storage is StorageType.WORK:
                self._work[block] = kept
            elif action.storage is StorageType.RAM:
                self._stored[action.storage, block] = kept
            else:
                self._stored[action.storage, block] = self._save(action.storage, kept)
                self._loop._kept.append(kept)

    def _save(self, storage: Any, arrays: Any) -> Any:
        from checkpoint_schedules import StorageType

        if storage is StorageType.RAM:
            return self._loop._pool.save(arrays)
        path: Path | None = None
        try:
            with agreed(self._propagator.comm):
                path = self._loop._open_folder().save(arrays)
        except BaseException:
            if path is not None:
                path.unlink(missing_ok=True)
            raise
        return path

    def _fetch(self, action: Any, move: bool) -> None:
        """Load a state or what a block keeps, into the loop or into another storage."""
        from checkpoint_schedules import StorageType

        key = action.from_storage, action.n
        if key in self._stored:
            kept = self._stored[key]
            if isinstance(kept, Path):
                memory = self._loop._new_kept()
                self._loop._open_folder().load(memory, kept)
                if move:
                    kept.unlink()
                kept = memory
            elif not move:
                raise NotImplementedError(f"{self._loop.name}: schedules with {action}")
            if move:
                del self._stored[key]
            self._work[action.n] = kept
            return
        state = self._propagator.state
        saved = self._states.pop(key) if move else self._states[key]
        if isinstance(saved, Path):
            self._loop._open_folder().load(state, saved)
            if move:
                saved.unlink()
        else:
            load(state, saved)
            if move:
                self._loop._pool.release(saved)
        if action.to_storage is not StorageType.WORK:
            self._states[action.to_storage, action.n] = self._save(action.to_storage, state)


@contextmanager
def closed_on_error(sweeps: list[Sweep]) -> Iterator[None]:
    """Leave nothing in memory or on disk where the block raises."""
    try:
        yield
    except BaseException:
        for sweep in sweeps:
            sweep.close()
        raise


def _release(
    states: dict[Any, Any], stored: dict[Any, Any], work: dict[int, Any], pool: MemoryPool,
    kept: list[Any],
) -> None:  # fmt: skip
    """Give back what a sweep still has."""
    for saved in states.values():
        if isinstance(saved, Path):
            saved.unlink(missing_ok=True)
        else:
            pool.release(saved)
    for saved in stored.values():
        if isinstance(saved, Path):
            saved.unlink(missing_ok=True)
        else:
            kept.append(saved)
    kept.extend(work.values())
    for entries in (states, stored, work):
        entries.clear()
