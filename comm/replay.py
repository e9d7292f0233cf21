"""The communication that ranks recorded, stepped through as far as it fits together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

#: Members of a communicator (a range where they are all ranks), and its identity.
Group = tuple[Sequence[int], tuple[int, int]]


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
    group: Group
    peer: Any
    tag: int
    payload: tuple[Any, ...]

    @property
    def partners(self) -> Sequence[int]:
        """The ranks that must do their part, this one perhaps among them."""
        return self.group[0] if self.kind == "collective" else (self.peer,)


class Replay:
    """Events of some or all ranks, stepped through as far as they fit together.

    As in MPI, the n-th receive that is posted for a channel (communicator, source, destination,
    tag) gets the n-th message that is sent there. Sends never wait, as if all messages were small.
    A rank without a table does whatever the others need of it, so that what is found wrong is wrong
    whatever that rank recorded.

    Parameters
    ----------
    tables : mapping of int to sequence of Event
        What each rank recorded, in order.
    """

    def __init__(self, tables: Mapping[int, Sequence[Event]]) -> None:
        groups: dict[Group, Group] = {}
        self.tables = {rank: _known(table, groups) for rank, table in tables.items()}
        self.at = dict.fromkeys(tables, 0)
        self.sent: dict[Any, list[tuple[int, Event]]] = defaultdict(list)
        self.posted: dict[Any, int] = defaultdict(int)
        self.turns: dict[tuple[int, int], int] = {}  # (rank, position) of a receive: its n
        self.awaited: dict[tuple[int, int], Event] = {}

    def first_fault(self) -> str | None:
        """Return what is wrong in words, or ``None``."""
        moved = True
        while moved:
            moved = False
            for rank in self.tables:
                event = self.current(rank)
                while event is not None:
                    fault = self.step(rank, event)
                    if fault == "":
                        break
                    if fault is not None:
                        return fault
                    moved = True
                    event = self.current(rank)
        for rank in self.tables:
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
        if event.peer not in self.tables:
            pass
        elif event.kind == "send":
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
        members = self.members(event)
        for other in members:
            found = self.current(other)
            if found is None or found.kind != "collective" or found.group is not event.group:
                return ""
            if found.payload != event.payload:
                return f"{_who(rank, event)} meets {_who(other, found)}: they do not match"
        for other in members:
            self.at[other] += 1
        return None

    def members(self, event: Event) -> list[int]:
        """Return the ranks of a collective call whose tables are known."""
        return [rank for rank in event.group[0] if rank in self.tables]

    def stuck(self, rank: int, event: Event) -> str:
        """Say what the event of a rank that cannot go on waits for."""
        if event.kind == "collective":
            late = next(r for r in self.members(event) if not self._has_come(r, event))
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
        return found is not None and found.kind == "collective" and found.group is event.group

    def state(self, rank: int) -> str:
        """Say where a rank stands."""
        event = self.current(rank)
        if event is None:
            table = self.tables[rank]
            return (
                f"its last is {_who(rank, table[-1])}" if table else "it recorded no communication"
            )
        return f"it stops at {_who(rank, event)}"


def _known(table: Sequence[Event], groups: dict[Group, Group]) -> list[Event]:
    """Return a table with one object for each group in all tables.

    Each rank brings a copy of its own, and every member of a collective call is compared.
    """
    own: dict[int, Group] = {}
    for event in table:
        if id(event.group) not in own:
            own[id(event.group)] = groups.setdefault(event.group, event.group)
    return [event._replace(group=own[id(event.group)]) for event in table]


def _channel(event: Event, rank: int) -> Any:
    """Return communicator, source, destination and tag of a message at one of its ends."""
    source, dest = (rank, event.peer) if event.kind == "send" else (event.peer, rank)
    return id(event.group), source, dest, event.tag


def _who(rank: int, event: Event) -> str:
    return f"rank {rank}, record {event.position}: {event.text}"


def _amount(size: tuple[Any, ...]) -> str:
    return f"{size[0]} values of {size[1]}"
