"""What a rank recorded, as a graph: calls, what they use, and what they have to do with others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .profile import memory

if TYPE_CHECKING:
    from mpi4py import MPI

    from .tape import Record, Tape

#: Records of a rank up to which nothing is folded, and nodes of a rank that are drawn at most.
WHOLE, MOST = 40, 120

#: Records of a sequence that is looked for repetitions, and how often it must come.
LONGEST, LEAST = 40, 3


class Node(NamedTuple):
    """A call, or one of a sequence of calls that is repeated.

    Attributes
    ----------
    name : str
    kind : str
        ``"input"``, ``"local"``, ``"communication"``, or ``"solve"``: computed by ranks together.
    outputs : tuple of str
        Shape and dtype of each.
    kept : int
        Bytes that the tape keeps for it.
    times : int
        How often the sequence comes.
    block : int or None
        Number of the repeated sequence that it is in.
    final : bool
        Whether its output is used by nothing on the tape.
    """

    name: str
    kind: str
    outputs: tuple[str, ...]
    kept: int
    times: int = 1
    block: int | None = None
    final: bool = False


class Meeting(NamedTuple):
    """One end of something sent or done together.

    Attributes
    ----------
    key : hashable
        The same at all ends.
    node : int
    sends : dict of int to int
        Bytes for each rank of the tape's communicator.
    together : bool
        Whether this is one step of several ranks.
    """

    key: Hashable
    node: int
    sends: dict[int, int]
    together: bool


class Part(NamedTuple):
    """What one rank brings.

    Attributes
    ----------
    nodes : list of Node
        In the order of the tape.
    edges : dict
        From numbers of two nodes to whether the second uses the first in the next repetition only.
    meetings : list of Meeting
    gap : tuple of int or None
        Two nodes, and how many were left out between them.
    """

    nodes: list[Node]
    edges: dict[tuple[int, int], bool]
    meetings: list[Meeting]
    gap: tuple[int, int, int] | None


def part_of(tape: Tape, world: MPI.Comm) -> Part:
    """Return this rank's part of the picture of a tape.

    Parameters
    ----------
    tape : Tape
    world : mpi4py.MPI.Comm
        The library's duplicate of the tape's communicator.
    """
    records = tape.records
    seen: set[int] = set()
    kept = [memory((record.inputs, record.outputs), seen) for record in records]
    used = {key for record in records for key in record.sources}
    place, times, block = _folded([_signature(record) for record in records])
    nodes: dict[int, Node] = {}
    sources: dict[int, int] = {}  # of a variable that was made before: its node
    made: dict[int, int] = {}  # of others: the record
    edges: dict[tuple[int, int], bool] = {}
    for i, record in enumerate(records):
        at = place[i]
        for key, value in zip(record.sources, record.inputs):
            if key is None:
                continue
            if key in made:
                ends, again = (place[made[key]], at), place[made[key]] >= at
            else:
                node = sources.setdefault(key, -1 - len(sources))
                nodes.setdefault(node, Node("input", "input", (_described(value),), 0))
                ends, again = (node, at), False
            edges[ends] = again and edges.get(ends, True)
        made.update(dict.fromkeys(record.targets, i))
        outputs = record.outputs[: len(record.targets)]
        final = bool(record.targets) and not used & {*record.targets}
        if at in nodes:
            node_so_far = nodes[at]
            nodes[at] = node_so_far._replace(kept=node_so_far.kept + kept[i],
                                             final=node_so_far.final or final)  # fmt: skip
        else:
            shapes = tuple(_described(y) for y in outputs)
            nodes[at] = Node(record.operator.name, _kind(record), shapes, kept[i], times[i],
                             block[i], final)  # fmt: skip
    return _numbered(nodes, edges, _meetings(tape, world, place))


def _numbered(
    nodes: dict[int, Node], edges: dict[tuple[int, int], bool], meetings: list[Meeting]
) -> Part:
    """Number nodes from 0 in the order of the tape, and leave out those in the middle of many."""
    order = sorted(nodes)
    gap = None
    if len(order) > MOST:
        half = MOST // 2
        gap = half - 1, half, len(order) - 2 * half
        order = [*order[:half], *order[-half:]]
    number = {at: i for i, at in enumerate(order)}
    return Part(
        [nodes[at] for at in order],
        {(number[a], number[b]): again for (a, b), again in edges.items()
         if a in number and b in number},
        [m._replace(node=number[m.node]) for m in meetings if m.node in number],
        gap,
    )  # fmt: skip


def _described(value: Any) -> str:
    """Return shape and dtype of an array; of anything else its type."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is None or dtype is None:
        return type(value).__name__
    return f"{'×'.join(map(str, shape)) or 'scalar'} {dtype}"


def _kind(record: Record) -> str:
    operator = record.operator
    if not operator.communicates:
        return "local"
    moves = operator.needs_inputs == () == operator.needs_outputs
    return "communication" if moves or "adjoint.comm." in type(operator).__module__ else "solve"


def _signature(record: Record) -> Hashable:
    """Return what two calls that are drawn as one have alike."""
    return record.operator.name, tuple(_described(y) for y in record.outputs[: len(record.targets)])


def _folded(signatures: Sequence[Hashable]) -> tuple[list[int], list[int], list[int | None]]:
    """Find sequences that are repeated.

    Returns
    -------
    place, times : list of int
        Of each record: the one that is drawn for it, and how often that comes.
    block : list
        Number of the repeated sequence that it is in, or None.
    """
    place, times, block = [], [], list[int | None]()
    i, count = 0, len(signatures)
    while i < count:
        period, repeats = _repetition(signatures, i) if count > WHOLE else (1, 1)
        covered = period * repeats
        place += [i + k % period for k in range(covered)]
        times += [repeats] * covered
        block += [i if repeats > 1 and period > 1 else None] * covered
        i += covered
    return place, times, block


def _repetition(signatures: Sequence[Hashable], i: int) -> tuple[int, int]:
    """Return the length of the sequence at ``i`` whose repetition covers most, and how often."""
    best = 1, 1
    for period in range(1, min(LONGEST, (len(signatures) - i) // LEAST) + 1):
        if signatures[i] != signatures[i + period]:
            continue
        first = signatures[i : i + period]
        repeats = 1
        at = i + period
        while signatures[at : at + period] == first:
            repeats += 1
            at += period
        if repeats >= LEAST and period * repeats > best[0] * best[1]:
            best = period, repeats
    return best


def _meetings(tape: Tape, world: MPI.Comm, place: list[int]) -> list[Meeting]:
    """Return this rank's ends of what it sends or does together with others.

    The n-th collective call on a communicator belongs together on all of its ranks, and so do the
    n-th send and the n-th receive of a channel.
    """
    turns: dict[Hashable, int] = defaultdict(int)
    meetings = []
    rank = world.rank
    for event in import_module("adjoint.comm.records").events_of(tape, world):
        if event.kind == "wait":
            continue
        group, node, record = event.group, place[event.position], tape.records[event.position]
        sends: dict[int, int] = {}
        together = False
        if event.kind == "collective":
            channel: Hashable = group
            neighbours = getattr(record.operator, "neighbours", None)
            together = neighbours is None
            if neighbours is not None:
                found = neighbours(record.inputs, record.outputs)
                sends = {group[0][other]: count for other, count in found.items()}
        else:
            out = event.kind == "send"
            channel = group, *((rank, event.peer) if out else (event.peer, rank)), event.tag
            if out:
                count, dtype = event.payload
                sends = {event.peer: count * np.dtype(dtype).itemsize}
        turn = turns[channel, event.kind == "send"]
        turns[channel, event.kind == "send"] += 1
        meetings.append(Meeting((channel, turn), node, sends, together))
    return meetings
