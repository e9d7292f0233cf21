"""The check that the communication recorded on all ranks' tapes fits together.

A program whose ranks do not match may hang in its reverse sweep: a message that one rank recorded
and the other did not has nobody at its other end. So before the sweep the ranks compare what they
recorded. Rank 0 lets all of them step through their records, each stopping where it would wait for
another, and reports the first place where that does not come.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from mpi4py import MPI

from ..tape import Tape
from ..world import agreed, communicator, identity
from .communication import CommunicationError, Message


class Event(NamedTuple):
    """A message or collective call, as another rank can read it.

    Attributes
    ----------
    kind, text, tag, payload
        As in :class:`~adjoint.comm.communication.Message`.
    position : int
        Number of the record on its rank's tape.
    group : tuple
        Members of the communicator, and its identity.
    peer : int or None
        The other rank of a message, in the tape's communicator.
    """

    kind: str
    text: str
    position: int
    group: tuple[tuple[int, ...], tuple[int, int]]
    peer: Any
    tag: int
    payload: tuple[Any, ...]


#: Seconds that the check before a first reverse sweep waits for the other ranks to come to it.
PATIENCE = 60.0


def check_records(tape: Tape, patience: float = PATIENCE) -> None:
    """Check that the communication recorded by all ranks fits together; collective.

    Parameters
    ----------
    tape : Tape
        This rank's tape; all ranks of its communicator bring theirs.
    patience : float
        Seconds to wait for the other ranks to come.

    Raises
    ------
    CommunicationError
        On all ranks: a collective call that not all members make, or make differently; a message
        that is sent and not received, received and not sent, or whose size or dtype differs at its
        two ends. Both sides are named, with rank, operator and position on the tape.
    """
    world = communicator(tape.comm)
    _assemble(world, patience)
    with agreed(world):
        events = _events(tape, world)
    tables = world.gather(events, 0)
    fault = None
    with agreed(world):
        if tables is not None:
            fault = _Replay(tables).first_fault()
    fault = world.bcast(fault, 0)
    if fault is not None:
        raise CommunicationError(fault)


def check_first(tape: Tape) -> None:
    """Check a tape before the first reverse sweep that its communicator sees."""
    world = communicator(tape.comm)
    if world.Get_attr(_checked_key()) is None:
        check_records(tape)
        world.Set_attr(_checked_key(), True)


@cache
def _checked_key() -> int:
    """Attribute that marks a communicator whose first program has been checked."""
    return MPI.Comm.Create_keyval()


def _assemble(world: MPI.Comm, patience: float) -> None:
    """Wait for all ranks, but not for ever: one that recorded nothing may never come."""
    request = world.Ibarrier()
    end = time.monotonic() + patience
    while not request.Test():
        if time.monotonic() > end:
            raise CommunicationError(
                f"rank {world.rank} has waited {patience:g} s for the other {world.size - 1} ranks "
                "to compare their records before a reverse sweep; either they did not record any "
                "communication, or they take no part, and the tape needs Tape(comm=...)"
            )
        time.sleep(1e-4)


def _events(tape: Tape, world: MPI.Comm) -> list[Event]:
    """Describe this rank's recorded communication."""
    everyone = world.Get_group()
    known: dict[tuple[int, int], tuple[int, ...]] = {}

    def group_of(comm: MPI.Comm) -> tuple[tuple[int, ...], tuple[int, int]]:
        name = identity(comm)
        if name not in known:
            group = comm.Get_group()
            known[name] = tuple(MPI.Group.Translate_ranks(group, range(comm.size), everyone))
            group.Free()
        return known[name], name

    events = []
    for position, record in enumerate(tape.records):
        if not record.operator.communicates:
            continue
        message = _message(record, world)
        group = group_of(message.comm)
        if MPI.UNDEFINED in group[0]:
            raise CommunicationError(
                f"Tape: record {position}, {message.text}, is on a communicator with ranks outside "
                f"of the tape's, which has {world.size}; make the tape with Tape(comm=...) of all"
            )
        peer = message.peer if message.peer is None else group[0][message.peer]
        payload = message.payload
        if message.kind == "exchange":
            (dest, source), size = payload
            sides = (("send", dest), ("receive", source))
            for kind, end in sides:
                if end is not None:
                    there = group[0][end]
                    events.append(
                        Event(kind, message.text, position, group, there, message.tag, size)
                    )
            continue
        events.append(
            Event(message.kind, message.text, position, group, peer, message.tag, payload)
        )
    everyone.Free()
    return events


def _message(record: Any, world: MPI.Comm) -> Message:
    """Return the record's own description; an operator without one is a collective of its name."""
    operator = record.operator
    describe = getattr(operator, "message", None)
    if describe is not None:
        found: Message = describe(record.inputs, record.outputs)
        return found
    comm = next(filter(None, (_follow(operator, path) for path in _COMMUNICATORS)), world)
    return Message("collective", operator.name, communicator(comm), None, 0, (operator.name,))


#: Where operators that are not made for a communicator alone keep the one they work on.
_COMMUNICATORS = (("comm",), ("grid", "comm"), ("pattern", "comm"))


def _follow(value: Any, path: Sequence[str]) -> Any:
    for name in path:
        value = getattr(value, name, None)
    return value


class _Replay:
    """All ranks' events, stepped through as far as they fit together.

    As in MPI, the n-th receive that is posted for a channel (communicator, source, destination,
    tag) gets the n-th message that is sent there. Sends never wait, as if all messages were small.
    """

    def __init__(self, tables: Sequence[Sequence[Event]]) -> None:
        self.tables = tables
        self.at = [0] * len(tables)
        self.sent: dict[Any, list[tuple[int, Event]]] = defaultdict(list)
        self.posted: dict[Any, int] = defaultdict(int)
        self.turns: dict[tuple[int, int], int] = {}  # (rank, position) of a receive: its n
        self.awaited: dict[tuple[int, int], Event] = {}

    def first_fault(self) -> str | None:
        """Return what is wrong in words, or ``None``."""
        moved = True
        while moved:
            moved = False
            for rank in range(len(self.tables)):
                event = self.current(rank)
                while event is not None:
                    fault = self.step(rank, event)
                    if fault == "":
                        break
                    if fault is not None:
                        return fault
                    moved = True
                    event = self.current(rank)
        for rank in range(len(self.tables)):
            event = self.current(rank)
            if event is not None:
                return self.stuck(rank, event)
        for (rank, _), event in self.awaited.items():
            return f"{_who(rank, event)} is never waited for"
        for channel, messages in self.sent.items():
            for sender, sent in messages[self.posted[channel] :]:
                return (
                    f"{_who(sender, sent)} sends to rank {sent.peer} (tag {sent.tag}), "
                    f"which does not receive it: {self.state(sent.peer)}"
                )
        return None

    def current(self, rank: int) -> Event | None:
        table = self.tables[rank]
        return table[self.at[rank]] if self.at[rank] < len(table) else None

    def step(self, rank: int, event: Event) -> str | None:
        """Pass an event; return ``""`` where it must wait, and a fault in words."""
        fault = None
        if event.kind == "collective":
            return self.meet(rank, event)
        if event.kind == "send":
            self.sent[_channel(event, rank)].append((rank, event))
        elif event.kind == "receive":
            self.post(rank, event)
            fault = self.match(rank, event, event.payload)
        elif event.kind == "start":
            self.post(rank, event)
            self.awaited[rank, event.payload[0]] = event
        elif (rank, event.payload[0]) in self.awaited:  # a wait for a receive
            start = self.awaited[rank, event.payload[0]]
            fault = self.match(rank, start, start.payload[1])
            if fault is None:
                del self.awaited[rank, event.payload[0]]
        if fault is None:
            self.at[rank] += 1
        return fault

    def post(self, rank: int, event: Event) -> None:
        """Give a receive its turn among those of its channel."""
        if (rank, event.position) not in self.turns:
            channel = _channel(event, rank)
            self.turns[rank, event.position] = self.posted[channel]
            self.posted[channel] += 1

    def match(self, rank: int, event: Event, size: tuple[Any, ...]) -> str | None:
        """Compare a receive with the message it gets, if that has been sent."""
        turn = self.turns[rank, event.position]
        messages = self.sent[_channel(event, rank)]
        if len(messages) <= turn:
            return ""
        sender, sent = messages[turn]
        if sent.payload != size:
            return (
                f"{_who(rank, event)} expects {_amount(size)} from rank {sender} "
                f"(tag {event.tag}), but {_who(sender, sent)} sends {_amount(sent.payload)}"
            )
        return None

    def meet(self, rank: int, event: Event) -> str | None:
        """Pass a collective call if all members have come to it."""
        members = event.group[0]
        for other in members:
            found = self.current(other)
            if found is None or found.kind != "collective" or found.group != event.group:
                return ""
            if found.payload != event.payload:
                return f"{_who(rank, event)} meets {_who(other, found)}: they do not match"
        for other in members:
            self.at[other] += 1
        return None

    def stuck(self, rank: int, event: Event) -> str:
        """Say what the event of a rank that cannot go on waits for."""
        if event.kind == "collective":
            late = next(r for r in event.group[0] if not self._has_come(r, event))
            return (
                f"{_who(rank, event)} waits for rank {late}, which does not come: "
                f"{self.state(late)}"
            )
        source = event if event.kind == "receive" else self.awaited[rank, event.payload[0]]
        return (
            f"{_who(rank, event)} waits for a message from rank {source.peer} (tag {source.tag}), "
            f"which does not send it: {self.state(source.peer)}"
        )

    def _has_come(self, rank: int, event: Event) -> bool:
        found = self.current(rank)
        return found is not None and found.kind == "collective" and found.group == event.group

    def state(self, rank: int) -> str:
        """Say where a rank stands."""
        event = self.current(rank)
        if event is None:
            return f"rank {rank} has no more records after its {len(self.tables[rank])}"
        return f"it stops at {_who(rank, event)}"


def _channel(event: Event, rank: int) -> Any:
    """Return communicator, source, destination and tag of a message at one of its ends."""
    source, dest = (rank, event.peer) if event.kind == "send" else (event.peer, rank)
    return event.group, source, dest, event.tag


def _who(rank: int, event: Event) -> str:
    return f"rank {rank}, record {event.position}: {event.text}"


def _amount(size: tuple[Any, ...]) -> str:
    return f"{size[0]} values of {size[1]}"
