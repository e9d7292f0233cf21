"""A trace of all ranks, for ``chrome://tracing`` and https://ui.perfetto.dev."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import numpy as np

from .files import require_writable, written_whole
from .profile import Profile, Span
from .world import agreed

if TYPE_CHECKING:
    from mpi4py import MPI

#: Messages there and back of which the quickest tells how two clocks differ.
ROUNDS = 20


def compare_clocks(comm: MPI.Comm) -> tuple[int, int]:
    """Return this rank's time, and that of rank 0's clock at the same moment; collective.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm

    Returns
    -------
    here, there : int
        Nanoseconds of ``time.perf_counter_ns``.

    Notes
    -----
    Rank 0 reads its clock between two readings of this rank's, as long apart as a message takes to
    go there and back. The nearest two of ``ROUNDS`` count; the middle between them is wrong by half
    their distance at most.
    """
    found = (0, 0)
    with _apart(comm) as channel:
        for rank in range(1, comm.size):
            if comm.rank == 0:
                for _ in range(ROUNDS):
                    channel.recv(None, rank)
                    channel.send(perf_counter_ns(), rank)
            elif comm.rank == rank:
                nearest = None
                for _ in range(ROUNDS):
                    before = perf_counter_ns()
                    channel.send(None, 0)
                    there = channel.recv(None, 0)
                    after = perf_counter_ns()
                    if nearest is None or after - before < nearest:
                        nearest, found = after - before, ((before + after) // 2, there)
    return found if comm.rank else (now := perf_counter_ns(), now)


@contextmanager
def _apart(comm: MPI.Comm) -> Iterator[MPI.Comm]:
    """Give messages a communicator of their own, for those of the program may be under way."""
    channel = comm.Dup()
    yield channel
    channel.Free()


def write_trace(path: str | os.PathLike[str], profile: Profile, comm: MPI.Comm) -> None:
    """Write what all ranks' profiles remember; see :meth:`Profile.write_trace`.

    Notes
    -----
    Times are those of rank 0's clock, since the first of it that is shown. Clocks are compared when
    the profile starts and again here, and a rank's times are mapped linearly between the two, which
    takes a constant drift away. Where a rank has forgotten its first spans, what the others did
    before that is left out, too.
    """
    clocks = [*profile.clocks[:1], compare_clocks(comm)]
    begin, end = (_at_rank_0([getattr(s, f) for s in profile.spans], clocks)
                  for f in ("begin", "end"))  # fmt: skip
    # Parents come after their parts, so what is remembered is whole since the first end.
    since = int(end[0]) if profile.forgotten and len(end) else 0
    since = max(comm.allgather(since))
    known = [i for i in range(len(begin)) if begin[i] >= since]
    first = min(comm.allgather(min((int(begin[i]) for i in known), default=2**62)))
    title = f"rank {comm.rank} on {socket.gethostname()}"
    mine = _events([(profile.spans[i], int(begin[i]) - first, int(end[i]) - first) for i in known],
                   comm.rank, title)  # fmt: skip
    with agreed(comm):
        if comm.rank == 0:
            require_writable(path)  # before the others send their parts
    error: Exception | None = None
    with _apart(comm) as channel:
        if comm.rank == 0:
            error = _write(path, mine, channel)
        else:
            channel.recv(None, 0)
            channel.send(mine, 0)
    with agreed(comm):
        if error is not None:
            raise error


def _write(path: str | os.PathLike[str], mine: str, comm: MPI.Comm) -> Exception | None:
    """Write all ranks' events on rank 0, one rank after the other; return what went wrong."""
    error: Exception | None = None
    awaited = iter(range(1, comm.size))

    def next_part(rank: int) -> str:
        comm.send(None, rank)
        part: str = comm.recv(None, rank)
        return part

    try:
        with written_whole(path) as file:
            file.write(b'{"displayTimeUnit": "ms", "traceEvents": [\n')
            file.write(mine.encode())
            for rank in awaited:
                file.write(b",\n" + next_part(rank).encode())
            file.write(b"\n]}\n")
    except OSError as caught:
        error = caught
    for rank in awaited:  # they wait to be called
        next_part(rank)
    return error


def _events(found: Sequence[tuple[Span, int, int]], rank: int, title: str) -> str:
    """Return a rank's events, one a line: those of a span that began earlier come first."""
    names: dict[str, Any] = {"process_name": {"name": title}, "thread_name": {"name": "main"},
                             "process_sort_index": {"sort_index": rank}}  # fmt: skip
    events: list[dict[str, Any]] = [
        {"ph": "M", "name": name, "pid": rank, "tid": 0, "args": arguments}
        for name, arguments in names.items()
    ]
    for span, begin, end in sorted(found, key=lambda entry: (entry[1], -entry[2])):
        name = f"{span.name} (reverse)" if span.kind == "reverse" else span.name
        event = {"ph": "X", "name": name, "cat": span.kind, "pid": rank, "tid": 0,
                 "ts": begin / 1000, "dur": (end - begin) / 1000}  # fmt: skip
        if span.sent:
            event["args"] = {"bytes sent": span.sent}
        events.append(event)
    return ",\n".join(json.dumps(event) for event in events)


def _at_rank_0(times: Sequence[int], clocks: Sequence[tuple[int, int]]) -> np.ndarray[Any, Any]:
    """Map times of this rank's clock to rank 0's; in order, and exact to a nanosecond."""
    here, there = clocks[0]
    since = np.array(times, np.int64) - here
    elapsed = clocks[-1][0] - here
    drift = (clocks[-1][1] - there) - elapsed if len(clocks) > 1 else 0
    drifted = np.round(since * (drift / max(elapsed, 1))).astype(np.int64)
    return np.asarray(there + since + drifted)
