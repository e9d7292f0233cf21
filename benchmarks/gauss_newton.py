"""PDE solves that Gauss-Newton and L-BFGS take for the same misfit, on the Poisson example.

Counted, not timed: forward and adjoint solves of `examples/poisson_inversion.py` without noise,
until the misfit is what L-BFGS has after 50, 100, 200 and 400 iterations. Target: at the last of
them at most a third.

    mpiexec -n 2 python -m mpi4py benchmarks/gauss_newton.py
"""

from __future__ import annotations

import time
from typing import Any

from harness import parser, table, write
from poisson_inversion import METHODS, Inversion

from adjoint import communicator
from adjoint.optimize import Iteration, minimize

#: Field, nodes along an axis, seed of the network.
CASES = (("bumps", 60, 0), ("bumps", 40, 0), ("bumps", 40, 1), ("quadratic", 40, 0))
LEVELS = (50, 100, 200, 400)

#: Solves and misfit at each iterate.
Course = list[tuple[int, float]]


def course(
    method: str, field: str, nodes: int, seed: int, iterations: int, least: float = 0.0
) -> tuple[Course, float]:
    """Return the solves and misfits of a run, and its processor time on this rank in seconds.

    Parameters
    ----------
    method, field : str
    nodes : int
        Along an axis.
    seed, iterations : int
        The latter at most.
    least : float
        The run ends where the misfit is as small.
    """
    inversion = Inversion((nodes, nodes), field, seed=seed)
    solve = inversion.poisson.solve
    first, found = solve.solves, []

    def note(iteration: Iteration, theta: Any) -> None:
        found.append((solve.solves - first, iteration.loss))
        if iteration.loss <= least:
            raise StopIteration

    start = time.process_time()
    minimize(
        inversion.residual if method == "gauss-newton" else inversion.misfit,
        inversion.network.initial(seed) / inversion.scale,
        method,
        options={**METHODS[method], "maxiter": iterations},
        callback=note,
        progress=False,
    )
    seconds = time.process_time() - start
    found = communicator().bcast(found)
    inversion.poisson.close()
    return found, seconds


def main() -> None:
    arguments = parser(__doc__).parse_args()
    cases = CASES[1:2] if arguments.quick else CASES
    levels = LEVELS[:2] if arguments.quick else LEVELS
    parameters: dict[str, Any] = {"levels": levels, "courses": {}}
    rows = []
    for field, nodes, seed in cases:
        problem = field, nodes, seed
        theirs, theirs_seconds = course("l-bfgs-b", *problem, levels[-1])
        last = len(theirs) - 1
        ours, seconds = course("gauss-newton", *problem, levels[-1], theirs[last][1])
        name = f"{field}, {nodes}×{nodes}, network {seed}"
        for level in levels:
            solves, misfit = theirs[min(level, last)]
            reached = next((n for n, value in ours if value <= misfit), None)
            share = None if reached is None else reached / solves
            rows.append([name, level, f"{misfit:.2e}", solves, reached or "not reached", share])
        parameters["courses"][name] = {
            "L-BFGS": theirs, "Gauss-Newton": ours, "share": rows[-1][-1],
            "processor seconds": [theirs_seconds, seconds],
        }  # fmt: skip
    table(
        f"solves until the misfit is that of L-BFGS, {communicator().size} ranks", rows,
        ["case", "iterations", "misfit", "L-BFGS", "Gauss-Newton", "ratio"],
    )  # fmt: skip
    write(arguments.json, parameters, {})


if __name__ == "__main__":
    main()
