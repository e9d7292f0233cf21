"""What small waves on several ranks find, put together, against what one rank finds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from adjoint import Tape
from adjoint.comm import GatherField
from tests.schedules import SCHEDULES

#: What is kept. Blocks of other lengths than sweeps begin in the middle of the run, with the other
#: level of a field that has two.
LOOPS: dict[str, dict[str, Any]] = {
    "all": {},
    "blocks": {"schedule": SCHEDULES["Revolve"], "block": 3},
    "backwards": {"backwards": True},
    "blocks backwards": {"backwards": True, "schedule": SCHEDULES["Revolve"], "block": 3},
}


def whole_results(wave: Any, program: Callable[..., Any], inputs: Any) -> list[Any]:
    """Return the whole traces, their tangents, and the gradients of half of their energy."""
    comm = wave.grid.comm
    with Tape(comm=comm, persistent=True) as tape:
        watched = [tape.watch(x) for x in inputs]
        result = program(*watched)
    traces = list(result) if isinstance(result, tuple) else [result]
    values = [trace.value for trace in traces]
    tangents = tape.jvp(traces, watched, [0.1 * x**2 for x in inputs])
    count = comm.allreduce(len(wave.receivers))
    found = []
    for mine in (*values, *tangents):
        whole = np.zeros((len(mine), count, wave.steps))
        for index, part in comm.allgather((wave.receivers, mine)):
            whole[:, index] = part
        found.append(whole)
    for bar in tape.vjp(traces, values, watched):
        if bar.shape == wave.grid.patch_shape:
            found.append(comm.bcast(GatherField(wave.grid)(bar)))
        else:  # each rank has its own copy of wavelets and mechanisms, and a gradient for it
            found.append(comm.allreduce(bar))
    return found


def assert_same(found: list[Any], expected: list[Any]) -> None:
    for mine, other in zip(found, expected, strict=True):
        assert np.abs(other).max() > 0
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-12 * np.abs(other).max())
