"""A profile over ranks, as a table."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from .files import written_whole


class Spread(NamedTuple):
    """A number of each rank: the least, the median and the greatest."""

    least: float
    median: float
    most: float

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Spread:
        return cls(float(min(numbers)), float(np.median(numbers)), float(max(numbers)))


class Row(NamedTuple):
    """An operator, or a part of operators, over all ranks.

    Attributes
    ----------
    name : str
    inside : bool
        Whether it is a part of operators: its time and its bytes are theirs, too.
    calls : Spread
        Forwards, on a tape or not; of parts in all.
    forward, reverse : Spread
        Seconds.
    kept : Spread
        Bytes that a tape kept for it, at most.
    sent : Spread
        Bytes handed to MPI for other ranks.
    """

    name: str
    inside: bool
    calls: Spread
    forward: Spread
    reverse: Spread
    kept: Spread
    sent: Spread


#: Of one rank: seconds, entries, and what tapes kept.
Found = tuple[float, dict[tuple[bool, str], list[int]], dict[str, int]]


class Table:
    """A profile over ranks, with what took longest first; ``str`` makes text of it.

    Attributes
    ----------
    ranks : int
    seconds : float
        How long the profile watched, on the rank where that was longest.
    rows : list of Row
        Operators, then parts of operators.
    """

    def __init__(self, found: Sequence[Found]) -> None:
        self.ranks = len(found)
        self.seconds = max(seconds for seconds, _, _ in found)
        keys = {key: None for _, entries, _ in found for key in entries}
        keys |= {(False, name): None for _, _, kept in found for name in kept}
        rows = []
        for inside, name in keys:
            numbers = [entries.get((inside, name), [0, 0, 0, 0]) for _, entries, _ in found]
            calls, forward, reverse, sent = zip(*numbers)
            kept = [0 if inside else k.get(name, 0) for _, _, k in found]
            columns = calls, [t / 1e9 for t in forward], [t / 1e9 for t in reverse], kept, sent
            rows.append(Row(name, inside, *map(Spread.of, columns)))
        self.rows = sorted(rows, key=lambda r: (r.inside, -r.forward.most - r.reverse.most))

    def cells(self) -> list[list[str]]:
        """Return the table as text: a header, then the rows, with parts of operators indented."""
        header = ["operator", "calls", "forward, s", "reverse, s", "kept", "sent"]
        cells = [header]
        for row in self.rows:
            numbers = [
                [f"{n:.0f}" for n in row.calls], _said(row.forward, "{:.3f}".format),
                _said(row.reverse, "{:.3f}".format), _said(row.kept, size_in_words),
                _said(row.sent, size_in_words),
            ]  # fmt: skip
            name = f"  {row.name}" if row.inside else row.name
            cells.append([name, *(_joined(n) for n in numbers)])
        return cells

    @property
    def caption(self) -> str:
        """What the numbers mean, in a sentence."""
        spread = "least / median / greatest of the ranks, " if self.ranks > 1 else ""
        ranks = f"{self.ranks} rank{'s' if self.ranks > 1 else ''}"
        return f"{self.seconds:.2f} s on {ranks}; {spread}indented: parts, also of operators"

    def __str__(self) -> str:
        cells = self.cells()
        widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
        cells.insert(1, ["-" * width for width in widths])
        lines = [
            "  ".join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths)))
            for row in cells
        ]
        return "\n".join([self.caption, "", *lines])

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the numbers, unrounded: name, whether inside, and three columns for each spread."""
        with written_whole(path) as file:
            text = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
            writer = csv.writer(text)
            columns = [f"{name}_{end}" for name in Row._fields[2:] for end in Spread._fields]
            writer.writerow(["name", "inside", *columns])
            for name, inside, *spreads in self.rows:
                writer.writerow([name, int(inside), *(n for spread in spreads for n in spread)])
            text.detach()


def size_in_words(count: float) -> str:
    """Return a number of bytes as people write it."""
    units = ["B", "kB", "MB", "GB", "TB"]
    while count >= 999.5 and len(units) > 1:
        count /= 1000
        units.pop(0)
    return f"{count:.3g} {units[0]}"


def _said(spread: Spread, say: Callable[[float], str]) -> list[str]:
    """Return what three numbers are called, and nothing where there is nothing."""
    return [say(n) for n in spread] if any(spread) else [""]


def _joined(texts: Sequence[str]) -> str:
    """Return three numbers, or one where all are the same."""
    return texts[0] if len({*texts}) == 1 else " / ".join(texts)
