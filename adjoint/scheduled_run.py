"""One run of a time loop under a schedule: what is kept of it, and where."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import finalize

from .propagator import Propagator
from .schedules import Plan, first_step
from .snapshots import Folder, MemoryPool, load
from .spans import span
from .world import agreed

if TYPE_CHECKING:
    from mpi4py import MPI


class Store:
    """Memory and files that the runs and calls of a time loop share.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
    new_kept : callable
        Returns fresh memory for what a block keeps.
    directory : path-like, optional
        Where files go.

    Attributes
    ----------
    pool : MemoryPool
        Of snapshots.
    kept : list
        Memory for what blocks keep that is not in use.
    folder : Folder or None
        Made when it is first needed.
    """

    def __init__(
        self,
        comm: MPI.Comm,
        new_kept: Callable[[], Any],
        directory: str | os.PathLike[str] | None,
    ) -> None:
        self._comm = comm
        self._new_kept = new_kept
        self._directory = directory
        self.pool = MemoryPool()
        self.kept: list[Any] = []
        self.folder: Folder | None = None

    def take(self) -> Any:
        """Return memory for what a block keeps; put it back into ``kept`` after use."""
        if self.kept:
            return self.kept.pop()
        with span("allocate"):
            return self._new_kept()

    def save(self, arrays: Any, disk: bool) -> Any:
        """Return a copy in memory, or the path of one on disk; the latter is collective."""
        with span("snapshot"):
            return self._write(arrays) if disk else self.pool.save(arrays)

    def _write(self, arrays: Any) -> Path:
        path: Path | None = None
        try:
            with agreed(self._comm), named("a snapshot cannot be written", self._directory):
                if self.folder is None:
                    self.folder = Folder(self._directory)
                path = self.folder.save(arrays)
        except BaseException:
            if path is not None:
                path.unlink(missing_ok=True)
            raise
        assert path is not None
        return path

    def load(self, into: Any, saved: Any) -> None:
        """Write what was saved into arrays; collective where it is on disk."""
        with span("snapshot"):
            if isinstance(saved, Path):
                self._read(into, saved)
            else:
                load(into, saved)

    def _read(self, into: Any, saved: Path) -> None:
        with agreed(self._comm), named("a snapshot cannot be read", saved):
            assert self.folder is not None
            self.folder.load(into, saved)

    def release(self, saved: Any) -> None:
        """Give back what ``save`` has returned."""
        if isinstance(saved, Path):
            saved.unlink(missing_ok=True)
        else:
            self.pool.release(saved)


@contextmanager
def named(what: str, path: str | os.PathLike[str] | None) -> Iterator[None]:
    """Say in errors of the system what could not be done, and where."""
    try:
        yield
    except OSError as error:
        place = error.filename or (None if path is None else os.fspath(path))
        message = f"TimeLoop: {what}: {error.strerror}"
        raise type(error)(error.errno, message, place) from error


class ScheduledRun:
    """One run under a schedule: what is kept of it, from its forward to its reverse sweep."""

    def __init__(self, propagator: Propagator, plan: Plan, store: Store) -> None:
        self._propagator = propagator
        self._length, self._blocks = plan.block, plan.blocks
        self._store = store
        self._schedule = plan.schedule(self._blocks)
        self._actions: Iterator[Any] = iter(self._schedule)
        # By storage and block: states, and what a block's steps keep.
        self._states: dict[tuple[Any, int], Any] = {}
        self._stored: dict[tuple[Any, int], Any] = {}
        self._work: dict[int, Any] = {}
        self.close = finalize(self, _release, self._states, self._stored, self._work, store)
        # The folder goes anyway, and a fork of this process must leave the files alone.
        self.close.atexit = False

    @property
    def nbytes(self) -> int:
        """Memory of the states and of what blocks keep, in bytes; files are not counted."""
        saved = (*self._states.values(), *self._stored.values(), *self._work.values())
        arrays = [entry for entry in saved if not isinstance(entry, Path)]
        return sum(array.nbytes for entry in arrays for array in entry)

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
                    self._store.kept.append(self._work.pop(block))
        elif isinstance(action, Copy | Move):
            self._fetch(action, isinstance(action, Move))

    def _steps(self, first: int, last: int) -> tuple[int, int]:
        steps = self._propagator.steps
        return first_step(first, self._length, steps), first_step(last, self._length, steps)

    def _advance(self, action: Any) -> None:
        from checkpoint_schedules import StorageType

        last = min(action.n1, self._blocks)
        if action.n1 >= self._blocks and self._schedule.max_n is None:
            self._schedule.finalize(self._blocks)
        if action.write_ics:
            self._states[action.storage, action.n0] = self._store.save(
                self._propagator.state, action.storage is StorageType.DISK
            )
        if not action.write_adj_deps:
            self._propagator.advance(*self._steps(action.n0, last))
            return
        for block in range(action.n0, last):
            kept = self._store.take()
            self._propagator.advance(*self._steps(block, block + 1), kept)
            if action.storage is StorageType.WORK:
                self._work[block] = kept
            elif action.storage is StorageType.RAM:
                self._stored[action.storage, block] = kept
            else:
                self._stored[action.storage, block] = self._store.save(kept, True)
                self._store.kept.append(kept)

    def _fetch(self, action: Any, move: bool) -> None:
        """Load a state or what a block keeps, into the loop or into another storage."""
        from checkpoint_schedules import StorageType

        key = action.from_storage, action.n
        if key in self._stored:
            kept = self._stored[key]
            if isinstance(kept, Path):
                self._work[action.n] = self._store.take()
                self._store.load(self._work[action.n], kept)
                if move:
                    self._store.release(self._stored.pop(key))
            else:  # in memory, and moved: `usage` lets nothing else pass
                self._work[action.n] = self._stored.pop(key)
            return
        state = self._propagator.state
        self._store.load(state, self._states[key])
        if move:
            self._store.release(self._states.pop(key))
        if action.to_storage is not StorageType.WORK:
            self._states[action.to_storage, action.n] = self._store.save(
                state, action.to_storage is StorageType.DISK
            )


class KeptRuns(dict[int, ScheduledRun]):
    """What a call keeps, by run; runs that are not there are replayed."""

    @property
    def nbytes(self) -> int:
        return sum(run.nbytes for run in self.values())

    def close(self) -> None:
        for run in self.values():
            run.close()
        self.clear()


@contextmanager
def closed_on_error(kept: KeptRuns) -> Iterator[None]:
    """Leave nothing in memory or on disk where the block raises."""
    try:
        yield
    except BaseException:
        kept.close()
        raise


def _release(
    states: dict[Any, Any], stored: dict[Any, Any], work: dict[int, Any], store: Store
) -> None:
    """Give back what a run still has."""
    for saved in states.values():
        store.release(saved)
    for saved in stored.values():
        if isinstance(saved, Path):
            store.release(saved)
        else:
            store.kept.append(saved)
    store.kept.extend(work.values())
    for entries in (states, stored, work):
        entries.clear()
