"""Which message is which: its number at both ends, and the tag of its answer in reverse."""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from typing import Any

from mpi4py import MPI


def highest_tag() -> int:
    """Return MPI's greatest tag.

    With Open MPI 2,147,483,647, with MPICH 536,870,911; every MPI has at least 32,767.
    """
    highest: Any = MPI.COMM_WORLD.Get_attr(MPI.TAG_UB)
    return int(highest)


def user_tags() -> int:
    """Return the number of tags for messages of users; the two after them are for checks."""
    return highest_tag() - 1


def next_number(comm: MPI.Comm, kind: str, peer: int, tag: int) -> int:
    """Count the messages of a channel, at either end.

    MPI gives the n-th receive posted for a channel (communicator, source, destination, tag) the
    n-th message sent there, so both ends of a message come to the same number.
    """
    counts: Any = comm.Get_attr(_counts_key())
    if counts is None:
        counts = defaultdict(int)
        comm.Set_attr(_counts_key(), counts)
    counts[kind, peer, tag] += 1
    return int(counts[kind, peer, tag])


def reversed_tag(tag: int, number: int) -> int:
    """Return the tag with which the answer to a message travels in the reverse sweep.

    Answers to messages of one tag need not be sent in the reverse of the order in which they are
    received (requests are waited for in any order), so each has a tag of its own. Tags repeat after
    as many messages as MPI's greatest tag leaves room for: 65,535 with Open MPI, 16,383 with MPICH.
    """
    tags = user_tags()
    room = max(tags // 32768, 1)
    return (tag * room + number % room) % tags


@cache
def _counts_key() -> int:
    """Attribute under which a communicator carries the numbers of its messages."""
    return MPI.Comm.Create_keyval()
