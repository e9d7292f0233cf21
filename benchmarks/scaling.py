"""Forward runs and whole gradients on growing numbers of ranks.

    mpiexec -n 2 python -m mpi4py benchmarks/scaling.py --physics acoustic --mode weak

The problems are those of the paper (Xu, Zhu and Darve, https://doi.org/10.48550/arXiv.2011.01349,
figures 9, 11 to 14, 20, 21, 23 and 24). Strong: transposing and solving Poisson's equation on
1800×1800 nodes, waves on 1000×1000 nodes for 100 steps. Weak: 300×300 nodes a rank, and for waves
100×100 a rank for 2000 steps. "overhead" is what the Poisson solve takes besides PETSc and hypre.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from harness import interleaved, parser, table, write
from model import square
from waves import MEDIA, homogeneous, ours, survey

from adjoint import Tape, communicator
from adjoint.comm import CartesianGrid

Cases = dict[str, Callable[[], Any]]


def transposition(grid: CartesianGrid, steps: int) -> Cases:
    """Return the transposition of the Poisson matrix, by the library and by PETSc."""
    from transpose import beside_petsc, stencil

    cases = beside_petsc(*stencil(grid))
    return {"forward": cases["library"], "backward": cases["its adjoint"], "PETSc": cases["PETSc"]}


def poisson(grid: CartesianGrid, steps: int) -> Cases:
    """Return a solve of Poisson's equation and its whole gradient."""
    from adjoint.solvers import Poisson

    solver = Poisson(grid)
    x, y = grid.coordinates(solver.spacing, solver.spacing, width=1)
    kappa = 1.5 + np.sin(5 * x) * np.cos(4 * y) + x * y
    f, ones = np.ones(grid.patch_shape), np.ones(grid.patch_shape)

    def gradient() -> None:
        with Tape() as tape:
            k, source = tape.watch(kappa), tape.watch(f)
            u = solver(k, source)
        tape.vjp([u], [ones], [k, source])

    return {"forward": lambda: solver(kappa, f), "gradient": gradient}


def wave(physics: str, grid: CartesianGrid, steps: int) -> Cases:
    """Return a wave and its whole gradient with respect to all fields of its medium."""
    return ours(*homogeneous(physics, grid, *survey(min(grid.shape), steps, 1)))


PHYSICS: dict[str, Callable[[CartesianGrid, int], Cases]] = {
    "transpose": transposition, "poisson": poisson, **{name: partial(wave, name) for name in MEDIA},
}  # fmt: skip


def with_overhead(cases: Cases, seconds: dict[str, list[float]]) -> Cases:
    """Return cases that also note what each takes besides PETSc's set-up and iteration."""
    from adjoint.solvers.petsc import petsc

    log = petsc().Log
    log.begin()
    events = [log.Event(name) for name in ("PCSetUp", "KSPSolve")]

    def spent() -> float:
        return sum(float(event.getPerfInfo()["time"]) for event in events)

    def noting(name: str, case: Callable[[], Any]) -> Callable[[], Any]:
        def run() -> None:
            before, start = spent(), time.perf_counter()
            case()
            elapsed = time.perf_counter() - start - (spent() - before)
            seconds.setdefault(f"{name}, overhead", []).append(elapsed)

        return run

    return {name: noting(name, case) for name, case in cases.items()}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--physics", choices=PHYSICS, required=True)
    options.add_argument("--mode", choices=("strong", "weak"), required=True)
    chosen = options.parse_args()
    comm = communicator()
    waves = chosen.physics in MEDIA
    if chosen.mode == "strong":
        nodes, steps = (1000, 100) if waves else (1800, 0)
        nodes, steps = (nodes // 4, steps // 4) if chosen.quick else (nodes, steps)
        grid = CartesianGrid((nodes, nodes))
    else:
        nodes, steps = (100, 2000) if waves else (300, 0)
        nodes, steps = (nodes if waves else nodes // 3, steps // 10) if chosen.quick else (
            nodes, steps)  # fmt: skip
        blocks = square(nodes, comm.size)
        grid = CartesianGrid(blocks.shape, dims=blocks.dims)
    extra: dict[str, list[float]] = {}
    cases = PHYSICS[chosen.physics](grid, steps)
    if chosen.physics == "poisson":
        cases = with_overhead(cases, extra)
    seconds = interleaved(cases, 3 if chosen.quick else 5)
    seconds.update({name: values[1:] for name, values in extra.items()})
    table(
        f"{chosen.physics}, {chosen.mode} scaling, {' × '.join(map(str, grid.shape))} nodes, "
        f"{comm.size} ranks",
        [[name, statistics.median(s)] for name, s in seconds.items()],
        ["", "seconds"],
    )
    parameters = {"physics": chosen.physics, "mode": chosen.mode, "shape": grid.shape,
                  "steps": steps}  # fmt: skip
    write(chosen.json, parameters, seconds)


if __name__ == "__main__":
    main()
