"""The gradient of an elastic wave in bounded memory.

    NUMBA_NUM_THREADS=2 python benchmarks/elastic_memory.py

1000×1000 nodes, 2000 steps, layers on all sides, double precision, gradients for λ, µ and ρ: the
problem for which section 1 of Xu, Zhu and Darve (https://doi.org/10.48550/arXiv.2011.01349) counts
193 GB. The reverse sweep takes the forward run back, where that costs less than to keep it. "First"
is the gradient that also takes fresh memory from the system; later ones use it again.
"""

from __future__ import annotations

import statistics

import numpy as np
from harness import interleaved, parser, table, write
from waves import ours

from adjoint.comm import CartesianGrid
from adjoint.optimize.evaluation import resident
from adjoint.solvers import ElasticWave, Lame, ricker


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--memory", default="5GB", help="budget per process (default 5GB)")
    chosen = options.parse_args()
    nodes, steps = (200, 400) if chosen.quick else (1000, 2000)
    budget = "60MB" if chosen.quick else chosen.memory
    spacing, dt = 10.0, 1e-3
    grid = CartesianGrid((nodes, nodes))
    receivers = [[250.0, 20 * spacing + k * spacing] for k in range(30)]
    wave = ElasticWave(
        grid, spacing, dt, steps, [[300.0, 300.0]], receivers,
        1e6 * ricker(dt * np.arange(steps), 10.0), memory=budget,
    )  # fmt: skip
    rho = np.full(grid.patch_shape, 2000.0)
    vp, vs = np.full(grid.patch_shape, 3000.0), np.full(grid.patch_shape, 1700.0)
    lam, mu = Lame()(vp, vs, rho)

    cases = ours(wave, (lam, mu, rho))
    first = interleaved(cases, 1, warmup=0)["gradient"][0]
    seconds = interleaved(cases, 3, warmup=0)
    run = statistics.median(seconds["forward"])
    peak = resident()
    plan = wave.plan
    table(
        f"elastic, {nodes}×{nodes}, {steps} steps, budget {budget}",
        [
            ["steps taken back", plan.backwards * steps],
            ["snapshots", plan.memory_snapshots],
            ["steps recomputed", plan.recomputed],
            ["peak resident memory, GB", f"{peak / 1e9:.2f}"],
            ["forward run, s", f"{run:.2f}"],
            ["gradient / forward run", f"{statistics.median(seconds['gradient']) / run:.2f}"],
            ["first gradient / forward run", f"{first / run:.2f}"],
        ],
        ["", ""],
    )
    write(
        chosen.json,
        {"nodes": nodes, "steps": steps, "budget": budget, "peak": peak, "first": first,
         "backwards": plan.backwards, "snapshots": plan.memory_snapshots,
         "recomputed": plan.recomputed},
        seconds,
    )  # fmt: skip


if __name__ == "__main__":
    main()
