"""A short time loop under a schedule or a budget of memory; the oracle keeps all of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.pendulums import DT, ReversiblePendulums
from tests.schedules import SCHEDULES

from .collectives import splits
from .program import Grouped, Here, Settings, fit

# Those of mixed kind are compiled when they are first made, for longer than hundreds of programs.
NAMES = [name for name in SCHEDULES if not name.startswith("mixed")]


class Loop(Grouped):
    """Pendulums coupled by the sum over all ranks, with masses and forces from two values."""

    arity = 2

    def settings(self, draw: Any, ranks: int) -> Settings:
        scheduled = draw(st.booleans())
        how: Settings = {
            "schedule": draw(st.sampled_from(NAMES)) if scheduled else None,
            "block": draw(st.integers(1, 2)) if scheduled else 1,
            "spare": None if scheduled else draw(st.sampled_from([None, *range(0, 400, 50)])),
            "storage": draw(st.sampled_from(["memory", "disk", "both"])),
            "backwards": draw(st.sampled_from([None, False, True])),
        }
        return {
            "split": draw(splits(ranks)),
            "n": draw(st.integers(1, 3)),
            "steps": draw(st.integers(4, 8)),
            "runs": draw(st.integers(1, 2)),
            **how,
        }

    def here(self, here: Here, s: Settings, members: list[int], *args: Any) -> list[Any]:
        def make() -> Any:
            pendulums = ReversiblePendulums(here.comm(s["split"]), s["n"], s["steps"], s["runs"])
            state = pendulums.fields.nbytes
            least = state + max(state, pendulums.kept_bytes(1))
            how: Settings = {"schedule": SCHEDULES[s["schedule"]]} if s["schedule"] else {}
            if s["spare"] is not None:
                how = {"memory": least + s["spare"], "storage": s["storage"]}
            make_loop = here.library["TimeLoop"]
            return make_loop(
                pendulums, block=s["block"], backwards=s["backwards"], report=lambda text: None,
                **how,
            )  # fmt: skip

        m = 1 + 0.3 * fit(args[0], (s["n"],))
        return [here.once(f"TimeLoop {s}", make)(m, fit(args[1], (s["steps"], s["n"]))) / 10]

    def all(self, s: Settings, members: list[int], *args: list[Any]) -> list[list[Any]]:
        m = np.array([1 + 0.3 * fit(v, (s["n"],)) for v in args[0]])
        q = np.array([fit(v, (s["steps"], s["n"])) for v in args[1]])
        traces = np.zeros((len(members), s["runs"], s["steps"]), np.result_type(m, q))
        for run in range(s["runs"]):
            u = np.full((2, *m.shape), 1.0 + run, traces.dtype)
            for step in range(s["steps"]):
                traces[:, run, step] = u[1, :, 0] ** 2 / 10
                force = m * np.sin(u[1] + 0.1 * u[1].sum()) - q[:, step]
                u = np.array([u[1], 2 * u[1] - u[0] - DT**2 * force])
        return [list(traces)]


KINDS = {"TimeLoop": Loop()}
