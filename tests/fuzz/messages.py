"""Messages between two ranks, blocking or not at either end, and shifts along a line of ranks.

What is started is completed by a ``Finish`` step, any number of steps later and in any order.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from .collectives import SHAPES, splits
from .program import MOST_PENDING, Everyone, Grouped, Here, Kind, Settings, fit, flat, groups


class Pending(NamedTuple):
    """What was started and is to be finished.

    Attributes
    ----------
    request : object
        What the finishing operator is applied to; ``None`` on ranks that have no part in it.
    values : list
        What it will be worth: on ranks without a part, and wherever the request itself does not
        say.
    finish : object
        The operator, if there is a request.
    """

    request: Any
    values: list[Any]
    finish: Any = None


class Sent(Kind):
    """One message in every communicator; the receiver has it, all others keep their argument."""

    def settings(self, draw: Any, ranks: int) -> Settings:
        return {
            "split": draw(splits(ranks)),
            "source": draw(st.integers(0, ranks - 1)),
            "dest": draw(st.integers(0, ranks - 1)),
            "sends": draw(st.sampled_from(["later", "now"])),
            "receives": draw(st.sampled_from(["later", "now"])),
            "tag": draw(st.integers(0, 1)),
            "shape": draw(st.sampled_from(SHAPES)),
            "turned": draw(st.booleans()),
        }

    def plan(self, s: Settings, members: list[int], crowded: bool) -> tuple[int, int, bool, bool]:
        """Return who sends, who receives, and whether each of them waits at once."""
        source, dest = s["source"] % len(members), s["dest"] % len(members)
        sends_now, receives_now = (crowded or s[end] == "now" for end in ("sends", "receives"))
        if source == dest and sends_now and receives_now:
            dest = (source + 1) % len(members)  # nobody can do both at once
        return source, dest, sends_now, receives_now

    def run(self, here: Here, s: Settings, *args: Any) -> list[Any]:
        x, crowded = args[0], len(here.pending) + 2 > MOST_PENDING
        value, started = x, {"send": None, "receive": None}
        here.comm(s["split"])  # made by all ranks together, also by those without a part
        for members in groups(s["split"], here.size):
            if here.rank not in members:
                continue
            source, dest, sends_now, receives_now = self.plan(s, members, crowded)
            if source == dest and sends_now and receives_now:
                break  # alone in the communicator
            me, where = members.index(here.rank), {"tag": s["tag"], "split": s["split"]}
            ends = [end for end, rank in (("receive", dest), ("send", source)) if rank == me]
            if receives_now:  # to oneself: what does not wait comes first
                ends.reverse()
            for end in ends:
                if end == "send":
                    name = "Send" if sends_now else "Isend"
                    message = fit(x, s["shape"], s["turned"])
                    started[end] = here.operator(name, dest, **where)(message)
                elif receives_now:
                    value = flat(here.operator("Recv", source, s["shape"], **where)())
                else:
                    started[end] = here.operator("Irecv", source, s["shape"], **where)()
        for end, name in (("send", "sends"), ("receive", "receives")):
            if s[name] == "later" and not crowded:
                here.pending.append(Pending(started[end], [x], here.library["Wait"]()))
        return [value] if s["receives"] == "now" or crowded else []

    def plain(self, everyone: Everyone, s: Settings, *args: list[Any]) -> list[list[Any]]:
        crowded = len(everyone.pending) + 2 > MOST_PENDING
        received = list(args[0])
        for members in groups(s["split"], everyone.size):
            source, dest, sends_now, receives_now = self.plan(s, members, crowded)
            if source == dest and sends_now and receives_now:
                continue
            received[members[dest]] = flat(fit(args[0][members[source]], s["shape"], s["turned"]))
        if s["sends"] == "later" and not crowded:
            everyone.pending.append(Pending(None, [list(args[0])]))
        if s["receives"] == "now" or crowded:
            return [received]
        everyone.pending.append(Pending(None, [received]))
        return []


class Finish(Kind):
    """Complete what was started: the oldest, or any other; nothing where nothing is under way."""

    def settings(self, draw: Any, ranks: int) -> Settings:
        return {"pick": draw(st.integers(0, 3))}

    def run(self, here: Here, s: Settings, *args: Any) -> list[Any]:
        if not here.pending:
            return []
        request, values, finish = here.pending.pop(s["pick"] % len(here.pending))
        if request is None:
            return list(values)
        found = finish(request)
        if found is None:
            return list(values)
        return [flat(y) for y in (found if type(found) is tuple else (found,))]

    def plain(self, everyone: Everyone, s: Settings, *args: list[Any]) -> list[list[Any]]:
        if not everyone.pending:
            return []
        return list(everyone.pending.pop(s["pick"] % len(everyone.pending)).values)


class Shift(Grouped):
    """Everyone sends to a rank so many places on, around the ring or along an open line."""

    def settings(self, draw: Any, ranks: int) -> Settings:
        return {
            "split": draw(splits(ranks)),
            "places": draw(st.integers(-ranks, ranks)),
            "ring": draw(st.booleans()),
            "tag": draw(st.integers(0, 1)),
            "shape": draw(st.sampled_from(SHAPES)),
            "turned": draw(st.booleans()),
        }

    def ends(self, s: Settings, n: int, me: int) -> list[int | None]:
        ends = (me + s["places"], me - s["places"])
        return [end % n if s["ring"] else end if 0 <= end < n else None for end in ends]

    def here(self, here: Here, s: Settings, members: list[int], *args: Any) -> list[Any]:
        dest, source = self.ends(s, len(members), members.index(here.rank))
        operator = here.operator("SendRecv", dest, source, tag=s["tag"], split=s["split"])
        return [operator(fit(args[0], s["shape"], s["turned"]))]

    def all(self, s: Settings, members: list[int], *args: list[Any]) -> list[list[Any]]:
        n = len(members)
        arrays = [fit(x, s["shape"], s["turned"]) for x in args[0]]
        sources = [self.ends(s, n, me)[1] for me in range(n)]
        return [[np.zeros(s["shape"]) if i is None else arrays[i] for i in sources]]


KINDS = {"Sent": Sent(), "Finish": Finish(), "SendRecv": Shift()}
