"""Collective steps, on the world or on parts of it; sums are divided by the number of ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from .program import Grouped, Here, Settings, fit

SHAPES = [(), (1,), (3,), (2, 3), (0,), (0, 2), (2, 1, 2)]
RESTS = [(), (2,), (1, 2)]


@st.composite
def splits(draw: Any, ranks: int) -> Any:
    """Draw the whole world, or a part of it for each colour; −1 takes no part."""
    if ranks == 1 or draw(st.integers(0, 2)) < 2:
        return None
    colours = st.lists(st.integers(-1, 2), min_size=ranks, max_size=ranks)
    return tuple(draw(colours)), draw(st.booleans())


class Same(Grouped):
    """Every rank has an array of the same shape."""

    def __init__(self, name: str, rooted: bool) -> None:
        self.name, self.rooted = name, rooted

    def settings(self, draw: Any, ranks: int) -> Settings:
        return {
            "split": draw(splits(ranks)),
            "shape": draw(st.sampled_from(SHAPES)),
            "turned": draw(st.booleans()),
            **({"root": draw(st.integers(0, ranks - 1))} if self.rooted else {}),
        }

    def here(self, here: Here, s: Settings, members: list[int], *args: Any) -> list[Any]:
        n = len(members)
        settings = (s["root"] % n,) if self.rooted else ()
        x = fit(args[0], s["shape"], s["turned"])
        y = here.operator(self.name, *settings, split=s["split"])(x)
        return [y if self.name == "Bcast" else y / n]

    def all(self, s: Settings, members: list[int], *args: list[Any]) -> list[list[Any]]:
        arrays = [fit(x, s["shape"], s["turned"]) for x in args[0]]
        n = len(arrays)
        if self.name == "Bcast":
            return [[arrays[s["root"] % n]] * n]
        total = sum(arrays) / n
        if self.name == "Allreduce":
            return [[total] * n]
        return [[total if r == s["root"] % n else 0 * total for r in range(n)]]


class Joined(Grouped):
    """Every rank has some rows; one or all get the rows of all."""

    def __init__(self, name: str, rooted: bool) -> None:
        self.name, self.rooted = name, rooted

    def settings(self, draw: Any, ranks: int) -> Settings:
        rows = draw(st.lists(st.integers(0, 3), min_size=ranks, max_size=ranks))
        return {
            "split": draw(splits(ranks)),
            "rows": tuple(rows),
            "rest": draw(st.sampled_from(RESTS)),
            "number": draw(st.integers(0, 5)) == 0,
            "turned": draw(st.booleans()),
            **({"root": draw(st.integers(0, ranks - 1))} if self.rooted else {}),
        }

    def shape(self, s: Settings, rank: int) -> Any:
        return () if s["number"] else (s["rows"][rank], *s["rest"])

    def here(self, here: Here, s: Settings, members: list[int], *args: Any) -> list[Any]:
        settings = (s["root"] % len(members),) if self.rooted else ()
        x = fit(args[0], self.shape(s, here.rank), s["turned"])
        return [here.operator(self.name, *settings, split=s["split"])(x)]

    def all(self, s: Settings, members: list[int], *args: list[Any]) -> list[list[Any]]:
        arrays = [fit(x, self.shape(s, r), s["turned"]) for r, x in zip(members, args[0])]
        whole = np.concatenate([np.atleast_1d(x) for x in arrays])
        n = len(members)
        if not self.rooted:
            return [[whole] * n]
        return [[whole if r == s["root"] % n else whole[:0] for r in range(n)]]


class Cut(Grouped):
    """An array is cut into rows for each rank: one rank's, or the sum of all ranks'."""

    def __init__(self, name: str, rooted: bool) -> None:
        self.name, self.rooted = name, rooted

    def settings(self, draw: Any, ranks: int) -> Settings:
        counts = draw(st.lists(st.integers(0, 3), min_size=ranks, max_size=ranks))
        return {
            "split": draw(splits(ranks)),
            "counts": draw(st.sampled_from([None, tuple(counts)])),
            "rows": draw(st.integers(0, 7)),
            "rest": draw(st.sampled_from(RESTS)),
            "turned": draw(st.booleans()),
            **({"root": draw(st.integers(0, ranks - 1))} if self.rooted else {}),
        }

    def counts(self, s: Settings, members: list[int]) -> list[int]:
        if s["counts"] is not None:
            return [s["counts"][r] for r in members]
        return [len(part) for part in np.array_split(np.arange(s["rows"]), len(members))]

    def here(self, here: Here, s: Settings, members: list[int], *args: Any) -> list[Any]:
        counts = self.counts(s, members)
        given = None if s["counts"] is None else tuple(counts)
        settings = (s["root"] % len(members), given) if self.rooted else (given,)
        x = fit(args[0], (sum(counts), *s["rest"]), s["turned"])
        if self.rooted and members.index(here.rank) != s["root"] % len(members):
            x = args[0] if s["turned"] else None  # not looked at, whatever it is
        y = here.operator(self.name, *settings, split=s["split"])(x)
        return [y if self.rooted else y / len(members)]

    def all(self, s: Settings, members: list[int], *args: list[Any]) -> list[list[Any]]:
        counts = self.counts(s, members)
        arrays = [fit(x, (sum(counts), *s["rest"]), s["turned"]) for x in args[0]]
        n = len(members)
        whole = arrays[s["root"] % n] if self.rooted else sum(arrays) / n
        return [np.split(whole, np.cumsum(counts)[:-1])]


class Exchanged(Grouped):
    """From every rank some rows to every rank."""

    def settings(self, draw: Any, ranks: int) -> Settings:
        return {
            "split": draw(splits(ranks)),
            "even": draw(st.booleans()),
            "rest": draw(st.sampled_from(RESTS)),
            "turned": draw(st.booleans()),
            "seed": draw(st.integers(0, 999)),
        }

    def counts(self, s: Settings, members: list[int]) -> Any:
        n = len(members)
        generator = np.random.default_rng(s["seed"])
        if not s["even"]:
            return generator.integers(0, 3, (n, n))
        rows = generator.integers(0, 2 * n + 1, n)
        return np.array([[(r + n - 1 - i) // n for i in range(n)] for r in rows])

    def here(self, here: Here, s: Settings, members: list[int], *args: Any) -> list[Any]:
        counts = self.counts(s, members)[members.index(here.rank)]
        x = fit(args[0], (sum(counts), *s["rest"]), s["turned"])
        given = None if s["even"] else tuple(counts.tolist())
        return [here.operator("Alltoall", given, split=s["split"])(x)]

    def all(self, s: Settings, members: list[int], *args: list[Any]) -> list[list[Any]]:
        counts = self.counts(s, members)
        parts = [
            np.split(fit(x, (sum(c), *s["rest"]), s["turned"]), np.cumsum(c)[:-1])
            for x, c in zip(args[0], counts)
        ]
        return [[np.concatenate([sent[r] for sent in parts]) for r in range(len(members))]]


class Meeting(Grouped):
    """A barrier: no value changes."""

    def settings(self, draw: Any, ranks: int) -> Settings:
        return {"split": draw(splits(ranks))}

    def here(self, here: Here, s: Settings, members: list[int], *args: Any) -> list[Any]:
        here.operator("Barrier", split=s["split"])()
        return [args[0]]

    def all(self, s: Settings, members: list[int], *args: list[Any]) -> list[list[Any]]:
        return [args[0]]


KINDS = {
    "Bcast": Same("Bcast", True),
    "Reduce": Same("Reduce", True),
    "Allreduce": Same("Allreduce", False),
    "Gather": Joined("Gather", True),
    "Allgather": Joined("Allgather", False),
    "Scatter": Cut("Scatter", True),
    "ReduceScatter": Cut("ReduceScatter", False),
    "Alltoall": Exchanged(),
    "Barrier": Meeting(),
}
