"""What the gradient of a time loop costs, by the memory that it may use.

    NUMBA_NUM_THREADS=2 python benchmarks/checkpoint.py

An acoustic and an elastic wave with layers on all sides, double precision, with budgets that are
shares of what keeping everything takes. "Planned" counts forward runs alone, and "back" the runs
that are taken back in place of keeping them; "measured" is the time of a gradient in forward runs,
the reverse run included.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any

from harness import interleaved, parser, ratio, table, write
from waves import homogeneous, ours, survey

from adjoint import communicator
from adjoint.comm import CartesianGrid

SHARES = (1.0, 0.9, 0.5, 0.2, 0.1, 0.05, 0.02)


def main() -> None:
    chosen = parser(__doc__).parse_args()
    sizes = {"acoustic": (400, 1000), "elastic": (300, 500)}
    if chosen.quick:
        sizes = {"acoustic": (120, 600), "elastic": (100, 300)}
    seconds: dict[str, list[float]] = {}
    found: dict[str, Any] = {}
    for physics, (nodes, steps) in sizes.items():
        times, rows = by_budget(physics, nodes, steps, 2 if chosen.quick else 3)
        seconds |= {f"{physics}, {name}": times[name] for name in times}
        found[physics] = {"nodes": nodes, "steps": steps, "plans": rows}
        table(
            f"{physics}, {nodes}×{nodes}, {steps} steps",
            rows,
            ["budget", "MB a process", "snapshots", "steps a block", "planned", "back", "measured"],
        )
    write(chosen.json, found, seconds)


def by_budget(
    physics: str, nodes: int, steps: int, repetitions: int
) -> tuple[dict[str, list[float]], list[list[Any]]]:
    """Return times of a gradient with each budget and of a forward run, and the table's rows."""
    wave = partial(homogeneous, physics, CartesianGrid((nodes, nodes)), *survey(nodes, steps, 1))
    free, fields = wave()
    everything = free.plan.bytes
    with tempfile.TemporaryDirectory() as folder:
        directory = communicator().bcast(folder)
        loops = {f"{share:.0%}": wave(memory=int(share * everything))[0] for share in SHARES}
        loops["2%, and disk"], _ = wave(
            memory=int(0.02 * everything), storage="both", directory=directory
        )
        cases: dict[str, Callable[[], Any]] = {
            name: ours(loop, fields)["gradient"] for name, loop in loops.items()
        }
        cases["forward"] = ours(free, fields)["forward"]
        seconds = interleaved(cases, repetitions)
        del cases
        rows = [
            [name, loop.plan.bytes / 1e6, loop.plan.memory_snapshots + loop.plan.disk_snapshots,
             loop.plan.block, loop.plan.cost, int(loop.plan.backwards),
             ratio(seconds[name], seconds["forward"])]
            for name, loop in loops.items()
        ]  # fmt: skip
        loops.clear()
    return seconds, rows


if __name__ == "__main__":
    main()
