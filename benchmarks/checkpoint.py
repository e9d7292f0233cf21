"""What the gradient of a time loop costs, by the memory that it may use.

    NUMBA_NUM_THREADS=2 python benchmarks/checkpoint.py

An acoustic wave on 400×400 nodes, 1000 steps, layers on all sides, double precision, with budgets
that are shares of what keeping everything takes. "Planned" counts forward runs alone; "measured" is
the time of a gradient in forward runs, the reverse run included.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
from harness import interleaved, parser, ratio, table, write
from waves import ours

from adjoint import communicator
from adjoint.comm import CartesianGrid
from adjoint.solvers import AcousticWave, ricker

SHARES = (1.0, 0.9, 0.5, 0.2, 0.1, 0.05, 0.02)


def main() -> None:
    chosen = parser(__doc__).parse_args()
    nodes, steps, repetitions = (120, 600, 2) if chosen.quick else (400, 1000, 3)
    spacing, dt = 10.0, 1e-3
    grid = CartesianGrid((nodes, nodes))
    velocity = np.full(grid.patch_shape, 2000.0)
    receivers = [[250.0, (20 + k) * spacing] for k in range(30)]

    def wave(**settings: Any) -> AcousticWave:
        return AcousticWave(
            grid, spacing, dt, steps, [[300.0, 300.0]], receivers,
            ricker(dt * np.arange(steps), 15.0), report=lambda text: None, **settings,
        )  # fmt: skip

    everything = wave().plan.bytes
    with tempfile.TemporaryDirectory() as folder:
        directory = communicator().bcast(folder)
        loops = {f"{share:.0%}": wave(memory=int(share * everything)) for share in SHARES}
        loops["2%, and disk"] = wave(
            memory=int(0.02 * everything), storage="both", directory=directory
        )
        cases: dict[str, Callable[[], Any]] = {
            name: ours(loop, [velocity])["gradient"] for name, loop in loops.items()
        }
        cases["forward"] = ours(wave(), [velocity])["forward"]
        seconds = interleaved(cases, repetitions)
        del cases
        rows = [
            [name, loop.plan.bytes / 1e6, loop.plan.memory_snapshots + loop.plan.disk_snapshots,
             loop.plan.block, loop.plan.cost, ratio(seconds[name], seconds["forward"])]
            for name, loop in loops.items()
        ]  # fmt: skip
        loops.clear()
    table(
        f"acoustic, {nodes}×{nodes}, {steps} steps",
        rows,
        ["budget", "MB a process", "snapshots", "steps a block", "planned", "measured"],
    )
    parameters = {"nodes": nodes, "steps": steps, "plans": rows}
    write(chosen.json, parameters, seconds)


if __name__ == "__main__":
    main()
