"""Steps on grids that are cut into patches: halo exchanges, whole fields, with uneven patches."""

from __future__ import annotations

from functools import cache
from itertools import product
from math import prod
from typing import Any

import numpy as np
from hypothesis import strategies as st

from .collectives import splits
from .messages import Pending
from .program import MOST_PENDING, Everyone, Grouped, Here, Settings, fit, groups

Shape = tuple[int, ...]


@cache
def factorisations(size: int, count: int) -> list[Shape]:
    """Return all ways to write a number as a product of so many factors."""
    divisors = [d for d in range(1, size + 1) if size % d == 0]
    return [dims for dims in product(divisors, repeat=count) if prod(dims) == size]


class Patches(Grouped):
    """What steps on a grid share. The grid's size follows from the number of ranks."""

    def settings(self, draw: Any, ranks: int) -> Settings:
        ndim = draw(st.integers(1, 3))
        few, widths = st.integers(0, 2), st.sampled_from([1, 0, 2] if ndim < 3 else [1, 0])
        return {
            "split": draw(splits(ranks)),
            "dims": draw(st.integers(0, 5)),
            "more": tuple(draw(few) for _ in range(ndim)),
            "width": tuple(draw(widths) for _ in range(ndim)),
            "periodic": tuple(draw(st.booleans()) for _ in range(ndim)),
            "turned": draw(st.booleans()),
        }

    def geometry(self, s: Settings, n: int) -> tuple[Shape, Shape]:
        """Return the nodes and the ranks along each axis."""
        possible = factorisations(n, len(s["more"]))
        dims = possible[s["dims"] % len(possible)]
        return tuple(d * max(w, 1) + m for d, w, m in zip(dims, s["width"], s["more"])), dims

    def grid(self, here: Here, s: Settings, n: int) -> Any:
        shape, dims = self.geometry(s, n)
        return here.operator(
            "CartesianGrid", shape, dims=dims, periodic=s["periodic"], split=s["split"]
        )

    def key(self, s: Settings, n: int) -> str:
        return f"{s['split']} {self.geometry(s, n)} {s['periodic']}"

    def patches(self, s: Settings, n: int) -> list[tuple[slice, ...]]:
        """Return each rank's part of the whole grid."""
        shape, dims = self.geometry(s, n)
        axes = []
        for nodes, parts in zip(shape, dims):
            cuts = np.array_split(np.arange(nodes), parts)
            axes.append([slice(int(cut[0]), int(cut[-1]) + 1) for cut in cuts])
        return list(product(*axes))

    def whole(self, s: Settings, values: list[Any]) -> Any:
        """Return the field whose patches are taken from the members' vectors."""
        n = len(values)
        field = np.zeros(self.geometry(s, n)[0], np.result_type(*values))
        for patch, x in zip(self.patches(s, n), values):
            shape = tuple(part.stop - part.start for part in patch)
            field[patch] = fit(x, shape, s["turned"])
        return field


class Halo(Patches):
    """A halo exchange of one or two fields, in one step or in two with others in between."""

    arity = 2

    def settings(self, draw: Any, ranks: int) -> Settings:
        return {
            **super().settings(draw, ranks),
            "corners": draw(st.booleans()),
            "fields": draw(st.integers(1, 2)),
            "halves": draw(st.booleans()),
        }

    def count(self, s: Settings) -> int:
        return int(s["fields"])

    def exchange(self, here: Here, s: Settings, n: int, args: Any) -> tuple[Any, list[Any]]:
        """Return the operator and the fields."""
        grid, make = self.grid(here, s, n), here.library["HaloExchange"]
        key = f"HaloExchange {self.key(s, n)} {s['width']} {s['corners']}"
        halo = here.once(key, lambda: make(grid, s["width"], s["corners"]))
        return halo, [fit(x, grid.patch_shape, s["turned"]) for x in args[: s["fields"]]]

    def here(self, here: Here, s: Settings, members: list[int], *args: Any) -> list[Any]:
        halo, fields = self.exchange(here, s, len(members), args)
        padded = halo(*fields)
        return list(padded) if type(padded) is tuple else [padded]

    def run(self, here: Here, s: Settings, *args: Any) -> list[Any]:
        if not self.halved(here, s):
            return super().run(here, s, *args)
        pending = Pending(None, [args[0]] * s["fields"])
        here.comm(s["split"])  # made by all ranks together, also by those without a part
        for members in groups(s["split"], here.size):
            if here.rank in members:
                halo, fields = self.exchange(here, s, len(members), args)
                pending = Pending(halo.start(*fields), [], halo.finish)
        here.pending.append(pending)
        return []

    def halved(self, context: Here | Everyone, s: Settings) -> bool:
        return s["halves"] and len(context.pending) < MOST_PENDING

    def plain(self, everyone: Everyone, s: Settings, *args: list[Any]) -> list[list[Any]]:
        values = super().plain(everyone, s, *args)
        if not self.halved(everyone, s):
            return values
        everyone.pending.append(Pending(None, values))
        return []

    def all(self, s: Settings, members: list[int], *args: list[Any]) -> list[list[Any]]:
        return [
            self.padded(s, len(members), self.whole(s, values)) for values in args[: s["fields"]]
        ]

    def padded(self, s: Settings, n: int, field: Any) -> list[Any]:
        """Return all padded patches of a field."""
        for axis, (w, wraps) in enumerate(zip(s["width"], s["periodic"])):
            widths = [(w, w) if a == axis else (0, 0) for a in range(field.ndim)]
            field = np.pad(field, widths, mode="wrap" if wraps else "constant")
        found = []
        for patch in self.patches(s, n):
            y = field[tuple(slice(p.start, p.stop + 2 * w) for p, w in zip(patch, s["width"]))]
            outside = np.zeros(y.shape, int)
            for axis, (p, w) in enumerate(zip(patch, s["width"])):
                nodes = np.arange(p.start - w, p.stop + w)
                off = (nodes < p.start) | (nodes >= p.stop)
                outside += off.reshape((-1,) + (1,) * (y.ndim - 1 - axis))
            found.append(y if s["corners"] else np.where(outside > 1, 0, y))
        return found


class Continued(Patches):
    """A padded patch whose ghosts beyond the domain's edges become copies of the nearest node."""

    def here(self, here: Here, s: Settings, members: list[int], *args: Any) -> list[Any]:
        grid, make = self.grid(here, s, len(members)), here.library["ContinueEdges"]
        key = f"ContinueEdges {self.key(s, len(members))} {s['width']}"
        continued = here.once(key, lambda: make(grid, s["width"]))
        return [continued(fit(args[0], grid.padded_shape(s["width"]), s["turned"]))]

    def all(self, s: Settings, members: list[int], *args: list[Any]) -> list[list[Any]]:
        found = []
        shape, _ = self.geometry(s, len(members))
        for patch, x in zip(self.patches(s, len(members)), args[0]):
            padded = tuple(p.stop - p.start + 2 * w for p, w in zip(patch, s["width"]))
            y = fit(x, padded, s["turned"])
            # What is beyond an edge is cut off, and put back by NumPy.
            beyond = [
                (0, 0) if wraps else (w * (p.start == 0), w * (p.stop == nodes))
                for p, w, nodes, wraps in zip(patch, s["width"], shape, s["periodic"])
            ]
            inside = tuple(slice(a, n - b) for (a, b), n in zip(beyond, padded))
            found.append([np.pad(y[inside], beyond, mode="edge")])
        return [list(outputs) for outputs in zip(*found)]


class Scattered(Patches):
    """A whole field on one rank, cut into patches."""

    def settings(self, draw: Any, ranks: int) -> Settings:
        return {
            **super().settings(draw, ranks),
            "root": draw(st.integers(0, ranks - 1)),
            "others": draw(st.booleans()),
        }

    def here(self, here: Here, s: Settings, members: list[int], *args: Any) -> list[Any]:
        grid, root = self.grid(here, s, len(members)), s["root"] % len(members)
        x = fit(args[0], grid.shape, s["turned"])
        if grid.rank != root:
            x = args[0] if s["others"] else None  # not looked at, whatever it is
        make, key = here.library["ScatterField"], f"ScatterField {self.key(s, len(members))} {root}"
        return [here.once(key, lambda: make(grid, root))(x)]

    def all(self, s: Settings, members: list[int], *args: list[Any]) -> list[list[Any]]:
        n = len(members)
        field = fit(args[0][s["root"] % n], self.geometry(s, n)[0], s["turned"])
        return [[field[patch] for patch in self.patches(s, n)]]


class Gathered(Patches):
    """Patches put together on one rank."""

    def settings(self, draw: Any, ranks: int) -> Settings:
        return {**super().settings(draw, ranks), "root": draw(st.integers(0, ranks - 1))}

    def here(self, here: Here, s: Settings, members: list[int], *args: Any) -> list[Any]:
        grid, root = self.grid(here, s, len(members)), s["root"] % len(members)
        make, key = here.library["GatherField"], f"GatherField {self.key(s, len(members))} {root}"
        gather = here.once(key, lambda: make(grid, root))
        return [gather(fit(args[0], grid.patch_shape, s["turned"]))]

    def all(self, s: Settings, members: list[int], *args: list[Any]) -> list[list[Any]]:
        field = self.whole(s, args[0])
        root = s["root"] % len(members)
        return [[field if r == root else np.zeros(0) for r in range(len(members))]]


class Redistributed(Patches):
    """Patches of all members, given to groups of them that each have the whole field, or taken."""

    def settings(self, draw: Any, ranks: int) -> Settings:
        return {
            **super().settings(draw, ranks),
            "groups": draw(st.integers(1, ranks)),
            "lines": draw(st.integers(0, 5)),
            "back": draw(st.booleans()),
        }

    def parts(self, s: Settings, n: int) -> list[tuple[slice, ...]]:
        """Return each member's part in its group's decomposition; those left over have none."""
        shape, _ = self.geometry(s, n)
        found = []
        for group in np.array_split(np.arange(n), min(s["groups"], n)):
            axis = s["lines"] % len(shape)
            for cut in np.array_split(np.arange(shape[axis]), len(group)):
                line = slice(int(cut[0]), int(cut[-1]) + 1) if len(cut) else slice(0, 0)
                found.append(tuple(line if a == axis else slice(0, m) for a, m in enumerate(shape)))
        return found

    def ways(self, s: Settings, n: int) -> tuple[Any, Any]:
        """Return the parts before and after."""
        pair = self.patches(s, n), self.parts(s, n)
        return pair[::-1] if s["back"] else pair

    def here(self, here: Here, s: Settings, members: list[int], *args: Any) -> list[Any]:
        n, own = len(members), members.index(here.rank)
        source, target = (
            tuple(zip(*((part.start, part.stop) for part in parts[own])))
            for parts in self.ways(s, n)
        )
        move = here.operator("Redistribute", source, target, split=s["split"])
        x = fit(args[0], move.source_shape, s["turned"])
        return [move(x) / (min(s["groups"], n) if s["back"] else 1)]

    def all(self, s: Settings, members: list[int], *args: list[Any]) -> list[list[Any]]:
        n = len(members)
        before, after = self.ways(s, n)
        field = np.zeros(self.geometry(s, n)[0], np.result_type(*args[0]))
        for part, x in zip(before, args[0]):
            field[part] += fit(x, field[part].shape, s["turned"])
        field /= min(s["groups"], n) if s["back"] else 1
        return [[field[part] for part in after]]


KINDS = {
    "Halo": Halo(),
    "ContinueEdges": Continued(),
    "ScatterField": Scattered(),
    "GatherField": Gathered(),
    "Redistribute": Redistributed(),
}
