"""Pictures of tapes: what each rank computes, and what ranks send each other."""

from __future__ import annotations

import os
import shutil
import subprocess
import warnings
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .files import written_whole
from .graph import Meeting, Node, Part, part_of
from .profile_table import size_in_words
from .world import agreed, communicator

if TYPE_CHECKING:
    from .tape import Tape

COLOURS = {
    "input": ("#ffffff", "#8c8c8c"),
    "local": ("#f0f0f0", "#8c8c8c"),
    "communication": ("#d5e6f7", "#2f6ea8"),
    "solve": ("#fde3c8", "#b8691b"),
}
LEGEND = (
    "grey: computed by a rank alone · blue: communication · orange: computed by ranks together · "
    "dashed: messages · double frame: results"
)


def draw(
    tape: Tape, path: str | os.PathLike[str] | None = None, ranks: int | Sequence[int] = 4
) -> str:
    """Draw the recorded program of all ranks; collective.

    Parameters
    ----------
    tape : Tape
        With its records: a reverse sweep takes them away, unless the tape is persistent.
    path : path-like, optional
        Written on rank 0: ``.dot`` (or ``.gv``) is Graphviz's language; for ``.svg``, ``.pdf`` and
        ``.png`` its program ``dot`` is run. Where that is missing, a ``.dot`` is written instead,
        and a warning says so.
    ranks : int or sequence of int
        Which ranks are drawn, or how many, from rank 0 on.

    Returns
    -------
    str
        The picture in Graphviz's language, on all ranks.

    Raises
    ------
    ValueError, OSError, CommunicationError
        On all ranks: no such rank, another ending, a file that cannot be written, a communicator
        with ranks outside of the tape's.

    Notes
    -----
    Each operator has its name, shape and dtype of its outputs, and the memory that the tape keeps
    for its derivative, each array at the first operator that keeps it. What ranks do together (a
    collective, a solve, a time loop) is one node between them; messages and halo exchanges are
    dashed edges with the bytes that travel forwards.

    Of a tape with more than 40 records, sequences that are repeated are drawn once, with how often
    they come, and dotted edges from one repetition to the next. If more than 120 nodes are left on
    a rank, those in the middle are left out, and a note says how many.

    Examples
    --------
    >>> import numpy as np
    >>> from adjoint import Tape
    >>> with Tape() as tape:
    ...     x = tape.watch(np.ones(3))
    ...     loss = (x * x).sum()
    >>> "Multiply" in tape.draw()
    True
    """
    world = communicator(tape.comm)
    own: Part | None = None
    with agreed(world):
        chosen = [*range(min(ranks, world.size))] if isinstance(ranks, int) else sorted({*ranks})
        if not chosen or not all(0 <= rank < world.size for rank in chosen):
            raise ValueError(
                f"Tape.draw: ranks is {ranks!r}, expected at least 1 of the {world.size} ranks"
            )
        if path is not None and Path(path).suffix not in (".dot", ".gv", ".svg", ".pdf", ".png"):
            raise ValueError(f"Tape.draw: {path} does not end in .dot, .gv, .svg, .pdf or .png")
        if world.rank in chosen:
            own = part_of(tape, world)
    everyone = world.gather(own, 0)
    source = ""
    with agreed(world):
        if everyone is not None:
            parts = {rank: part for rank, part in enumerate(everyone) if part is not None}
            source = "\n".join(_text(parts, world.size)) + "\n"
            if path is not None:
                _write(source, Path(path))
    text: str = world.bcast(source, 0)
    return text


def _write(source: str, path: Path) -> None:
    content = source.encode()
    if path.suffix not in (".dot", ".gv"):
        program = shutil.which("dot")
        if program is None:
            target = path.with_suffix(".dot")
            warnings.warn(
                f"Tape.draw: Graphviz is not installed, so {target} was written; with it, "
                f"`dot -T{path.suffix[1:]} {target} -o {path}` makes the picture",
                stacklevel=4,
            )
            path = target
        else:
            command = [program, f"-T{path.suffix[1:]}"]
            done = subprocess.run(command, input=content, capture_output=True, check=False)
            if done.returncode:
                raise OSError(f"Tape.draw: dot failed: {done.stderr.decode().strip()}")
            content = done.stdout
    with written_whole(path) as file:
        file.write(content)


def _text(parts: Mapping[int, Part], size: int) -> Iterator[str]:
    ends: dict[Hashable, dict[int, Meeting]] = defaultdict(dict)
    for rank, part in parts.items():
        for meeting in part.meetings:
            ends[meeting.key][rank] = meeting
    # Repetitions of what ranks do together are the same node of each.
    together = {
        tuple((rank, m.node) for rank, m in found.items())
        for found in ends.values()
        if len(found) > 1 and all(m.together for m in found.values())
    }
    hubs = {end: f"h{i}" for i, members in enumerate(sorted(together)) for end in members}
    left = size - len(parts)
    note = f"{LEGEND}{f' · {left} of {size} ranks are not drawn' if left else ''}"
    yield "digraph tape {"
    yield '  graph [rankdir=TB, newrank=true, nodesep=0.3, ranksep=0.35, fontname="Helvetica",'
    yield f"         fontsize=10, fontcolor={_quoted('#444444')}, label={_quoted(note)}];"
    yield '  node [shape=box, style="filled,rounded", fontname="Helvetica", fontsize=11,'
    yield "        margin=0.12, height=0.3];"
    yield '  edge [color="#555555", arrowsize=0.7, fontname="Helvetica", fontsize=9];'
    for rank, part in parts.items():
        yield from _cluster(rank, part, hubs)
    for members in sorted(together):
        yield _node(hubs[members[0]], [parts[rank].nodes[i] for rank, i in members])
    for rank, part in parts.items():
        for (a, b), again in part.edges.items():
            style = ' [style=dotted, constraint=false, label="next"]' if again else ""
            yield f"  {_id(rank, a, hubs)} -> {_id(rank, b, hubs)}{style};"
    yield from _messages(ends, hubs)
    # Ranks begin side by side.
    first = [_id(rank, 0, hubs) for rank, part in parts.items() if part.nodes]
    tops = [name for name in first if name not in hubs.values()]
    if len(tops) > 1:
        yield f"  {{ rank=same; {' -> '.join(tops)} [style=invis]; }}"
    yield "}"


def _cluster(rank: int, part: Part, hubs: Mapping[tuple[int, int], str]) -> Iterator[str]:
    """Yield what a rank does alone, with repeated sequences in frames of their own."""
    yield f"  subgraph cluster_{rank} {{"
    yield f'    label="rank {rank}"; labeljust=l; style=rounded; color="#bbbbbb"; fontsize=12;'
    blocks: dict[int | None, list[int]] = defaultdict(list)
    for i, node in enumerate(part.nodes):
        if (rank, i) not in hubs:
            blocks[node.block].append(i)
    for block, members in blocks.items():
        if block is not None:
            yield f"    subgraph cluster_{rank}_{block} {{"
            times = part.nodes[members[0]].times
            yield f'      label="× {times}"; labeljust=r; style="rounded,dotted"; color="#555555";'
        for i in members:
            node = part.nodes[i]
            yield "  " + _node(_id(rank, i, hubs), [node], repeated=block is None)
        if block is not None:
            yield "    }"
    if part.gap is not None:
        above, below, count = part.gap
        yield f'    g{rank} [shape=plain, style="", label="… {count} more …"];'
        for a, b in ((_id(rank, above, hubs), f"g{rank}"), (f"g{rank}", _id(rank, below, hubs))):
            yield f"    {a} -> {b} [style=dotted, arrowhead=none];"
    yield "  }"


def _messages(
    ends: Mapping[Hashable, Mapping[int, Meeting]], hubs: Mapping[tuple[int, int], str]
) -> Iterator[str]:
    """Yield the dashed edges between ranks, one for both ways and for all repetitions."""
    sent: dict[tuple[str, str], int] = {}
    outside: dict[str, int] = {}
    for found in ends.values():
        for rank, meeting in found.items():
            for other, count in meeting.sends.items():
                here = _id(rank, meeting.node, hubs)
                if other in found:
                    sent[here, _id(other, found[other].node, hubs)] = count
                elif other != rank:
                    outside[f"x{other}"] = other
                    sent[here, f"x{other}"] = count
    for name, other in outside.items():
        yield f'  {name} [shape=plain, style="", label="rank {other}"];'
    style = 'style=dashed, color="#2f6ea8", fontcolor="#2f6ea8"'
    for (a, b), count in sent.items():
        back = sent.get((b, a))
        if back is not None and a > b:
            continue
        label = size_in_words(count) if back in (None, count) else (
            f"{size_in_words(count)}, {size_in_words(back)} back"
        )  # fmt: skip
        both = ", dir=both, constraint=false" if back is not None else ""
        yield f"  {a} -> {b} [{style}, label={_quoted(label)}{both}];"


def _node(name: str, nodes: Sequence[Node], repeated: bool = True) -> str:
    """Return a node for one rank's call, or for that of several ranks together."""
    first = nodes[0]
    lines = [f"{first.name} × {first.times}" if first.times > 1 and repeated else first.name]
    outputs = [", ".join(node.outputs[:3]) + (", …" if len(node.outputs) > 3 else "")
               for node in nodes]  # fmt: skip
    lines += [text for text in dict.fromkeys(outputs) if text][:4]
    kept = sorted({node.kept for node in nodes} - {0})
    if kept:
        ends = dict.fromkeys(size_in_words(count) for count in (kept[0], kept[-1]))
        lines.append(f"keeps {' to '.join(ends)}")
    fill, line = COLOURS[first.kind]
    shape = "ellipse" if first.kind == "input" else "box"
    frame = ", peripheries=2" if any(node.final for node in nodes) else ""
    label = _quoted("\n".join(lines))
    return f'  {name} [label={label}, shape={shape}, fillcolor="{fill}", color="{line}"{frame}];'


def _id(rank: int, node: int, hubs: Mapping[tuple[int, int], str]) -> str:
    return hubs.get((rank, node), f"r{rank}n{node}")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
