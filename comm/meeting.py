"""Ranks that bring something together, of which some may never come."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from mpi4py import MPI

from ..world import identity
from .keeping import keep_until_complete

#: What rank 0 does with the tables it has, and the ranks that left before it called them.
Judge = Callable[[dict[int, Any], list[int]], str | None]

_HERE, _CALLED, _TABLE, _LEFT, _CLOSED, _VERDICT = range(6)


class Meeting:
    """One attempt of the ranks to bring their tables to rank 0 and to take the same verdict.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
        The library's duplicate of a communicator.
    tag : int
        Of messages that are used for nothing else.
    number : int
        Which meeting with this tag it is, on this rank.
    patience : float
        Seconds after which those that have not come are no longer waited for.

    Notes
    -----
    A collective call of MPI would do if all ranks came; one that is given up after a time can
    never be taken back, and spoils all that follow. So the ranks exchange small messages:

    - A rank says to rank 0 that it is here, and hands over its table only when rank 0, once there,
      has called it. From then on it waits for the verdict, which is sure to come.
    - If rank 0 does not call it in time, it says that it leaves. Rank 0, when it comes, learns of
      each rank in either way whether it is bound by the verdict, and gives one that suits all.
    - Rank 0 sends the verdict to all ranks. A rank that comes later finds it and takes it.

    Messages to ranks that never come are small enough to be sent without them, and carry the number
    of their meeting and its communicator, so that a later one does not take them for its own: MPI
    may hand what was sent on a communicator that has been freed to the next that is made.
    """

    def __init__(self, comm: MPI.Comm, tag: int, number: int, patience: float) -> None:
        self.comm = comm
        self.tag = tag
        self.number = (identity(comm), number)
        self.patience = patience

    def hold(self, table: Any, judge: Judge, complete: Callable[[dict[int, Any]], bool]) -> Any:
        """Return the verdict, or :data:`UNDECIDED` where rank 0 did not come.

        Parameters
        ----------
        table : object
            What this rank brings.
        judge : callable
            Gives the verdict on rank 0.
        complete : callable
            Whether rank 0 may stop to wait: given the tables that have come so far.
        """
        if self.comm.rank == 0:
            return self._lead(table, judge, complete)
        return self._attend(table)

    def _lead(
        self, table: Any, judge: Judge, complete: Callable[[dict[int, Any]], bool]
    ) -> str | None:
        tables, called, left = {0: table}, set[int](), list[int]()
        awaited = set(range(1, self.comm.size))
        end, pause = time.monotonic() + self.patience, _Pause()
        while awaited:
            late = time.monotonic() > end
            news = False
            for rank in sorted(awaited):
                message = self._receive(rank)
                if message is None:
                    continue
                news = True
                kind, content = message
                if kind == _HERE:
                    called.add(rank)
                    self._send(rank, _CALLED)
                    continue
                awaited.remove(rank)
                called.remove(rank)
                if kind == _TABLE:
                    tables[rank] = content
                else:
                    left.append(rank)
            if not called and not news and (late or left or complete(tables)):
                break
            pause(news)
        for rank in awaited:  # one that is coming right now waits for the verdict
            self._send(rank, _CLOSED)
        verdict: str | None = None
        try:
            verdict = judge(tables, sorted(left))
        finally:  # whatever happens here, the others do not wait for ever
            for rank in range(1, self.comm.size):
                self._send(rank, _VERDICT, verdict)
        return verdict

    def _attend(self, table: Any) -> Any:
        self._send(0, _HERE)
        end, pause = time.monotonic() + self.patience, _Pause()
        while True:
            late = time.monotonic() > end  # before the look for a message: the last one counts
            message = self._receive(0)
            if message is not None:
                kind, content = message
                if kind == _VERDICT:
                    return content
                if kind == _CALLED:
                    self.comm.send((self.number, _TABLE, table), 0, self.tag)
                end = float("inf")
            elif late:
                self._send(0, _LEFT)
                return UNDECIDED
            pause(message is not None)

    def _send(self, rank: int, kind: int, content: Any = None) -> None:
        """Send a message that may never be received."""
        keep_until_complete(self.comm.isend((self.number, kind, content), rank, self.tag))

    def _receive(self, rank: int) -> tuple[int, Any] | None:
        """Return the next message of this meeting from a rank, if there is one."""
        while True:
            message = self.comm.improbe(rank, self.tag)
            if message is None:
                return None
            number, kind, content = message.recv()
            if number == self.number:
                return kind, content


class _Undecided:
    """The type of :data:`UNDECIDED`."""


#: In place of a verdict where rank 0 did not come.
UNDECIDED = _Undecided()


class _Pause:
    """Sleeps, longer and longer while nothing happens: other processes need the processor."""

    def __init__(self) -> None:
        self.seconds = 1e-5

    def __call__(self, news: bool) -> None:
        self.seconds = 1e-5 if news else min(2 * self.seconds, 1e-2)
        time.sleep(self.seconds)
