"""Gradients of the Poisson inversion whose solves start anew, or from those before.

The network's inversion is run for some iterations; then the gradients at its iterates are computed
again in turn, by solvers that start from zero with a hierarchy of their own for each matrix, and by
those with `warm` and `lag`. Times are the processor's. Targets: cold / warm at least 1.5, and the κ
that a run of either kind ends with the same to 1e-6.

    python benchmarks/warm_solves.py
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
from harness import parser, ratio, table, write
from poisson_inversion import METHODS, Inversion

from adjoint import Tape, Variable
from adjoint.optimize import minimize
from adjoint.solvers import Poisson

#: What the solvers of each kind take over.
KINDS: dict[str, dict[str, Any]] = {"cold": {}, "warm": {"warm": True, "lag": 1.2}}


def run(inversion: Inversion, iterations: int) -> tuple[Any, list[Any]]:
    """Return the κ after so many iterations, and the unknowns at which there were gradients."""
    points = []

    def misfit(unknowns: Variable) -> Variable:
        points.append(unknowns.value.copy())
        return inversion.misfit(unknowns)

    first = inversion.network.initial(0) / inversion.scale
    options = {**METHODS["l-bfgs-b"], "maxiter": iterations}
    result = minimize(misfit, first, "l-bfgs-b", options=options, progress=False)
    return inversion.kappa(result.theta), points


def gradient(inversion: Inversion, unknowns: Any) -> None:
    with Tape() as tape:
        x = tape.watch(unknowns)
        loss = inversion.misfit(x)
    tape.gradient(loss, [x])


def main() -> None:
    arguments = parser(__doc__).parse_args()
    nodes, iterations, short = (60, 6, 3) if arguments.quick else (600, 45, 6)
    inversion = Inversion((nodes, nodes))
    solvers = {
        kind: Poisson(inversion.grid, inversion.poisson.spacing, **settings)
        for kind, settings in KINDS.items()
    }
    ends = {}
    for kind, settings in KINDS.items():
        inversion.poisson = Poisson(inversion.grid, inversion.poisson.spacing, **settings)
        ends[kind], _ = run(inversion, short)
        inversion.poisson.close()
    difference = float(np.abs(ends["warm"] / ends["cold"] - 1).max())

    inversion.poisson = solvers["cold"]
    _, points = run(inversion, iterations)
    before = solvers["cold"].solve.setups
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for point in points:
        for kind, solver in solvers.items():
            inversion.poisson = solver
            start = time.process_time()
            gradient(inversion, point)
            seconds[kind].append(time.process_time() - start)
    setups = {kind: solver.solve.setups for kind, solver in solvers.items()}
    setups["cold"] -= before

    table(
        f"{nodes} × {nodes} nodes, {len(points)} gradients",
        [[k, statistics.median(s), statistics.mean(s), setups[k]] for k, s in seconds.items()],
        ["solves", "median [s]", "mean [s]", "set-ups"],
    )
    table(
        "claims",
        [
            ["cold / warm, processor time of a gradient", ratio(seconds["cold"], seconds["warm"]),
             "≥ 1.5"],
            [f"κ after {short} iterations, relative difference", difference, "≤ 1e-6"],
        ],
        ["", "found", "target"],
    )  # fmt: skip
    write(
        arguments.json,
        {"nodes": nodes, "gradients": len(points), "setups": setups, "difference": difference},
        seconds,
    )


if __name__ == "__main__":
    main()
