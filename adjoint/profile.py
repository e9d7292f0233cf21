"""What a program spends: seconds, memory and messages, operator by operator."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import spans
from .profile_table import Found, Table
from .world import communicator

if TYPE_CHECKING:
    from mpi4py import MPI

    from .operator import Operator
    from .tape import Record

#: Spans that a trace keeps on each rank unless it is told otherwise: about 20 MB.
SPANS = 100_000


class Span(NamedTuple):
    """Something that took place on this rank.

    Attributes
    ----------
    name : str
    kind : str
        ``"forward"`` or ``"reverse"`` for an operator's rules, ``"inside"`` for parts of them.
    begin, end : int
        Of this rank's clock, ``time.perf_counter_ns``.
    sent : int
        Bytes handed to MPI for other ranks meanwhile.
    """

    name: str
    kind: str
    begin: int
    end: int
    sent: int


class _Open:
    """A span that has not ended."""

    __slots__ = ("begin", "name", "profile", "sent")

    def __init__(self, profile: Profile, name: str) -> None:
        self.profile, self.name = profile, name

    def __enter__(self) -> None:
        self.sent = self.profile.sent
        self.begin = perf_counter_ns()

    def __exit__(self, *error: object) -> None:
        self.profile.add(self.name, "inside", self.begin, self.sent)


class Profile:
    """Counts what a process does while it watches; see :func:`profiling`.

    Parameters
    ----------
    spans : int
        How many of the last spans to remember, for a trace.

    Attributes
    ----------
    sent : int
        Bytes handed to MPI for other ranks so far.
    spans : collections.deque of Span
        The last ones, in the order in which they ended.
    forgotten : int
        How many spans were before these.
    clocks : list of (int, int)
        Readings of this rank's clock and of rank 0's at the same moment.
    """

    def __init__(self, spans: int = 0) -> None:
        self.sent = 0
        self.spans: deque[Span] = deque(maxlen=spans)
        self.forgotten = 0
        self.clocks: list[tuple[int, int]] = []
        # By operators and parts: calls, nanoseconds forward and reverse, bytes.
        self._entries: dict[tuple[bool, str], list[int]] = {}
        self._kept: dict[str, int] = {}
        self._reversing = False
        self._watched = 0
        self._outer: list[tuple[Profile | None, int, int]] = []

    # What the program calls: each is over when it ends, an exception included.

    def start(self) -> None:
        """Watch this process, in addition to what watches it already."""
        self._outer.append((spans.active, self.sent, perf_counter_ns()))
        spans.active = self

    def stop(self) -> None:
        """Watch no longer, since the last :meth:`start`."""
        spans.active, before, began = self._outer.pop()
        if spans.active is not None:
            spans.active.sent += self.sent - before
        if not self._outer:
            self._watched += perf_counter_ns() - began

    def span(self, name: str) -> _Open:
        """Return a context that shows what its block does."""
        return _Open(self, name)

    def shown(self, name: str, function: Any) -> Any:
        """Return a function whose calls are spans."""

        def call(*arguments: Any, **keywords: Any) -> Any:
            begin, sent = perf_counter_ns(), self.sent
            try:
                return function(*arguments, **keywords)
            finally:
                self.add(name, "inside", begin, sent)

        return call

    def forward(self, operator: Operator, inputs: tuple[Any, ...]) -> Any:
        """Return what ``operator`` makes of inputs that it has checked."""
        with self._rule(operator.name, "forward"):
            operator.check(*inputs)
            return operator.forward(*inputs)

    def rule(self, operator: Operator, kind: str) -> Callable[..., Any]:
        """Return the rule ``jvp`` (which counts as forward) or ``vjp`` of an operator."""
        function, name = getattr(operator, kind), operator.name
        way = "reverse" if kind == "vjp" else "forward"

        def timed(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any) -> Any:
                with self._rule(name, way, calls=0):
                    return function(*arguments)

            return call

        def vjp(*arguments: Any) -> Any:  # of which a part is left for later
            entries = timed(function)(*arguments)
            return tuple([timed(entry) if callable(entry) else entry for entry in entries])

        return vjp if kind == "vjp" else timed(function)

    def keep(self, records: Sequence[Record]) -> None:
        """Take note of what a tape keeps; each array counts once, for the first that keeps it."""
        seen: set[int] = set()
        kept: dict[str, int] = {}
        for record in records:
            found = memory((record.inputs, record.outputs), seen)
            name = record.operator.name
            kept[name] = kept.get(name, 0) + found
        with self._watching():
            profile: Profile | None = self
            while profile is not None:
                for name, count in kept.items():
                    profile._kept[name] = max(count, profile._kept.get(name, 0))
                profile = profile._around

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """Watch during a block, which may be a sweep of a tape that was closed."""
        if spans.active is self:
            yield
            return
        self.start()
        try:
            yield
        finally:
            self.stop()

    @contextmanager
    def _rule(self, name: str, kind: str, calls: int = 1) -> Iterator[None]:
        with self._watching():
            before, self._reversing = self._reversing, kind == "reverse"
            begin, sent = perf_counter_ns(), self.sent
            try:
                yield
            finally:
                self.add(name, kind, begin, sent, calls)
                self._reversing = before

    def add(self, name: str, kind: str, begin: int, before: int, calls: int = 1) -> None:
        """Add what began then, with so many bytes sent before, and ends now."""
        end, sent = perf_counter_ns(), self.sent - before
        key, way = (kind == "inside", name), 2 if self._reversing else 1
        profile: Profile | None = self
        while profile is not None:
            entry = profile._entries.get(key)
            if entry is None:
                entry = profile._entries[key] = [0, 0, 0, 0]
            entry[0] += calls
            entry[way] += end - begin
            entry[3] += sent
            if profile.spans.maxlen:
                profile.forgotten += len(profile.spans) == profile.spans.maxlen
                profile.spans.append(Span(name, kind, begin, end, sent))
            profile = profile._around

    @property
    def _around(self) -> Profile | None:
        """What watched before this profile and still does."""
        return self._outer[0][0] if self._outer else None

    # What comes of it.

    @property
    def seconds(self) -> float:
        """How long it has watched."""
        running = perf_counter_ns() - self._outer[0][2] if self._outer else 0
        return (self._watched + running) / 1e9

    def own(self) -> Table:
        """Return the table of this rank alone."""
        return Table([self._found()])

    def table(self, comm: MPI.Comm | None = None) -> Table:
        """Return the table of all ranks, on all ranks; collective.

        Parameters
        ----------
        comm : mpi4py.MPI.Comm, optional
            ``COMM_WORLD`` by default.
        """
        return Table(communicator(comm).allgather(self._found()))

    def write_trace(self, path: str | os.PathLike[str], comm: MPI.Comm | None = None) -> None:
        """Write the spans of all ranks for ``chrome://tracing`` and ui.perfetto.dev; collective.

        Parameters
        ----------
        path : path-like
            Written on rank 0.
        comm : mpi4py.MPI.Comm, optional
            ``COMM_WORLD`` by default.

        Raises
        ------
        OSError
            On all ranks, where the file cannot be written.
        """
        from .trace import write_trace

        write_trace(path, self, communicator(comm))

    def _found(self) -> Found:
        return self.seconds, self._entries, self._kept


@contextmanager
def profiling(trace: bool | int = False, comm: MPI.Comm | None = None) -> Iterator[Profile]:
    """Profile what a block does, with all tapes and sweeps in it.

    Parameters
    ----------
    trace : bool or int
        Remember spans for :meth:`Profile.write_trace`: so many of the last, 100,000 if ``True``.
        The block is then entered by all ranks together, for they compare their clocks.
    comm : mpi4py.MPI.Comm, optional
        The ranks that compare their clocks; ``COMM_WORLD`` by default.

    Yields
    ------
    Profile

    Notes
    -----
    Seconds are of the wall clock, with waiting. *Forward* has the checks of an operator's inputs
    and its tangents as well. Time inside of an operator is also its own, so that columns have no
    meaningful sum.

    *Kept* is the memory of all arrays that a tape keeps for an operator's rules, constants among
    them, each array once; of all tapes the one that kept most counts. What operators have of their
    own (matrices, multigrid hierarchies, buffers) is not in it.

    *Sent* is what this rank hands to MPI of its arrays for other ranks, each byte once: what
    ``Bcast`` copies to a thousand ranks counts once on the root and not at all elsewhere, and what
    stays on a rank (its own part of a ``Scatter``) nowhere. Not counted: the few bytes by which
    ranks agree that they do the same, and what PETSc and hypre send within a solve.

    A profile watches a process, with all of its threads; memory does not grow with time.

    Examples
    --------
    >>> from adjoint import Tape
    >>> with profiling() as profile:
    ...     with Tape() as tape:
    ...         x = tape.watch(np.ones(3))
    ...         loss = (x * x).sum()
    ...     gradient = tape.gradient(loss, [x])
    >>> [row.name for row in profile.own().rows if row.kept.most]
    ['Multiply']
    """
    profile = Profile(SPANS if trace is True else int(trace))
    if trace:
        from .trace import compare_clocks

        profile.clocks.append(compare_clocks(communicator(comm)))
    profile.start()
    try:
        yield profile
    finally:
        profile.stop()


def memory(value: Any, seen: set[int]) -> int:
    """Return the bytes of the arrays in a value that were not seen before."""
    if isinstance(value, tuple | list):
        return sum(memory(entry, seen) for entry in value)
    if isinstance(value, np.ndarray):
        while isinstance(value.base, np.ndarray):  # a view keeps all of it
            value = value.base
        if id(value) in seen:
            return 0
        seen.add(id(value))
    return int(getattr(value, "nbytes", 0))
