"""The check that the communication recorded on all ranks' tapes fits together.

A program whose ranks do not match may hang in its reverse sweep: a message that one rank recorded
and the other did not has nobody at its other end. So before the sweep the ranks compare what they
recorded. Rank 0 lets all of them step through their records, each stopping where it would wait for
another, and reports the first place where that does not come.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import Any

from mpi4py import MPI

from ..spans import span
from ..tape import Record, Tape
from ..world import communicator, identity
from .communication import CommunicationError, Message
from .meeting import UNDECIDED, Meeting
from .replay import Event, Group, Replay
from .tags import user_tags

#: Seconds that a check on demand waits for the other ranks to come to it.
PATIENCE = 60.0

#: The same for the check before a first reverse sweep, which then does without them.
LIMIT = 5.0

#: Seconds that the latter waits for ranks of which no other rank needs anything.
GRACE = 0.5


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
        two ends. Both sides are named, with rank, operator and position on the tape. Also where
        ranks do not come; these are named.

    Notes
    -----
    An operator that ``communicates`` and has no method ``message`` counts as a collective call.
    """
    world = communicator(tape.comm)
    checks = _checks_of(world)
    checks.demanded += 1

    def judge(tables: dict[int, Any], left: list[int]) -> str | None:
        if left:
            return f"rank 0 came to compare its records after {_ranks(left)} had waited in vain"
        absent = [rank for rank in range(world.size) if rank not in tables]
        if absent:
            return (
                f"{_ranks(absent)} did not come to compare records with rank 0 in {patience:g} s: "
                "all ranks of the tape's communicator call this check; that of a program on some "
                "ranks needs Tape(comm=...)"
            )
        for rank, table in tables.items():
            if isinstance(table, str):
                return f"rank {rank}: {table}"
        return Replay(tables).first_fault()

    table: Any = None
    try:
        table = events_of(tape, world)
    except Exception as error:
        table = f"{type(error).__name__}: {error}"
    meeting = Meeting(world, user_tags() + 1, checks.demanded, patience)
    fault = meeting.hold(table, judge, lambda tables: False)
    if fault is UNDECIDED:
        fault = (
            f"rank 0 did not come to compare records with rank {world.rank} in {patience:g} s: "
            "all ranks of the tape's communicator call this check"
        )
    if fault is not None:
        raise CommunicationError(fault)


def check_first(tape: Tape) -> None:
    """Check a tape before the first reverse sweep that its communicator sees.

    Nobody asked for this check, and some ranks may rightly not come to it: they recorded no
    communication, or do not sweep. So it never complains of that. After ``LIMIT`` seconds, and
    sooner where the ranks that came need nothing of the others, it goes by what it has: what is a
    fault whatever the other ranks recorded is raised on all that came, and on those that come
    later. Where rank 0 is missing, there is no check. It is made once for a communicator.

    Raises
    ------
    CommunicationError
        On all ranks that come, as for :func:`check_records`.
    """
    world = communicator(tape.comm)
    checks = _checks_of(world)
    if checks.first_made or (world.size > 1 and not _concerns_others(tape, world)):
        return
    with span("compare records"):
        _check_once(tape, world, checks)


def _check_once(tape: Tape, world: MPI.Comm, checks: _Checks) -> None:
    checks.first_made = True
    calm_since: float | None = None
    needed: set[int] = set()
    looked_at: set[int] = set()

    def judge(tables: dict[int, Any], left: list[int]) -> str | None:
        known = {rank: table for rank, table in tables.items() if table is not None}
        return None if left else Replay(known).first_fault()

    def complete(tables: dict[int, Any]) -> bool:
        nonlocal calm_since
        for rank in tables.keys() - looked_at:
            needed.update(*_partners(tables[rank]))
            looked_at.add(rank)
        if not needed <= tables.keys():
            calm_since = None
            return False
        if calm_since is None:
            calm_since = time.monotonic()
        return time.monotonic() > calm_since + GRACE

    table: Any = None
    with suppress(Exception):  # the sweep can do without a description
        table = events_of(tape, world, guess=False)
    fault = Meeting(world, user_tags(), 0, LIMIT).hold(table, judge, complete)
    if isinstance(fault, str):
        raise CommunicationError(fault)


class _Checks:
    """Which checks a rank has taken part in, on a communicator."""

    def __init__(self) -> None:
        self.first_made = False
        self.demanded = 0


@cache
def _checks_key() -> int:
    """Attribute under which the library's communicator carries its checks."""
    return MPI.Comm.Create_keyval()


def _checks_of(world: MPI.Comm) -> _Checks:
    checks: Any = world.Get_attr(_checks_key())
    if checks is None:
        checks = _Checks()
        world.Set_attr(_checks_key(), checks)
    found: _Checks = checks
    return found


def _concerns_others(tape: Tape, world: MPI.Comm) -> bool:
    """Whether a tape has more than what this rank does on a communicator of its own."""
    for record in tape.records:
        if record.operator.communicates and (_comm_of(record.operator) or world).size > 1:
            return True
    return False


def _partners(table: Sequence[Event] | None) -> list[Sequence[int]]:
    """Return the members of each communicator once, and the other ranks of messages."""
    found = [event.partners for event in table or ()]
    return list({id(partners): partners for partners in found}.values())


def _ranks(ranks: Sequence[int]) -> str:
    listed = ", ".join(map(str, ranks[:10])) + (", …" if len(ranks) > 10 else "")
    return f"rank {listed}" if len(ranks) == 1 else f"ranks {listed}"


#: In place of the identity of communicators that the library has not made.
_USERS = (-1, 0)


def events_of(tape: Tape, world: MPI.Comm, guess: bool = True) -> list[Event]:
    """Describe this rank's recorded communication.

    Parameters
    ----------
    guess : bool
        Take users' operators that do not describe themselves for collective calls; leave them out
        otherwise.
    """
    everyone = world.Get_group()
    known: dict[tuple[int, int], Group] = {}

    def group_of(comm: MPI.Comm) -> Group:
        name = identity(comm) or _USERS
        if name in known and name != _USERS:
            return known[name]
        group = comm.Get_group()
        members: Sequence[int] = MPI.Group.Translate_ranks(group, range(comm.size), everyone)
        group.Free()
        if list(members) == list(range(world.size)):
            members = range(world.size)  # rank 0 gets this from each rank
        known[name] = members if isinstance(members, range) else tuple(members), name
        return known[name]

    events = []
    for position, record in enumerate(tape.records):
        if not record.operator.communicates:
            continue
        message = _message(record, world, guess)
        if message is None:
            continue
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


def _message(record: Record, world: MPI.Comm, guess: bool) -> Message | None:
    """Return the record's own description; an operator without one is a collective of its name."""
    operator = record.operator
    describe = getattr(operator, "message", None)
    if describe is not None:
        found: Message = describe(record.inputs, record.outputs)
        return found
    comm = _comm_of(operator)
    if not guess and (comm is None or not type(operator).__module__.startswith("adjoint.")):
        return None
    return Message("collective", operator.name, comm or world, None, 0, (operator.name,))


def _comm_of(operator: Any) -> MPI.Comm | None:
    """Return the communicator that an operator keeps, if it does so where ours do."""
    for path in (("comm",), ("grid", "comm"), ("pattern", "comm")):
        value = operator
        for name in path:
            value = getattr(value, name, None)
        if isinstance(value, MPI.Comm):
            return value
    return None
