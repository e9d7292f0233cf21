"""A parameter at each node: a million unknowns, memory a rank, iterations as the grid is refined.

    mpiexec -n 2 python -m mpi4py benchmarks/fields.py

The million is the diffusivity at every node of the 1000×1000 grid of examples/field_inversion.py,
some iterations of it. Memory is what NumPy allocates at most while the optimiser runs, its state
file included, on one rank with a patch and on all ranks with such a patch each. Iterations are
those that take the misfit of a smooth problem to a millionth of its way, without bounds and with
bounds that hold many nodes.
"""

from __future__ import annotations

import gc
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
from harness import parser, table, write
from mpi4py import MPI

from adjoint import Variable, communicator
from adjoint.comm import Allreduce, CartesianGrid, HaloExchange
from adjoint.optimize import Result
from adjoint.optimize.evaluation import resident
from adjoint.solvers import InnerProduct, Tikhonov, minimize_field

BOUNDS = (0.0, 1.2)
MEMORY = 10
ALPHA = 0.01


class Smooth:
    """``½ ∫ (m + m³/3 − d)² + α |∇m|²`` on the unit square: as good as free, and not quadratic."""

    def __init__(self, grid: CartesianGrid, bounded: bool = True) -> None:
        self.grid = grid
        self.bounds = BOUNDS if bounded else None
        self.spacing = [1 / n for n in grid.shape]
        self.cell = float(np.prod(self.spacing))
        x, y = grid.coordinates(self.spacing)
        self.data = np.sin(3 * x) * np.cos(5 * y) + (x > 0.5)
        self.penalty = Tikhonov(grid, self.spacing, ALPHA)
        self.halo, self.total = HaloExchange(grid), Allreduce(grid.comm)

    def __call__(self, m: Variable) -> Any:
        distance = ((m + m**3 / 3 - self.data) ** 2).sum() * (0.5 * self.cell)
        return self.total(distance + self.penalty(self.halo(m)))

    def minimised(
        self, iterations: int, length: float = 0.0, gtol: float = 0.0, **more: Any
    ) -> Result:
        """Run the optimiser, with directions that are smooth over a length."""
        inner = InnerProduct(self.grid, self.spacing, length) if length else None
        options = {"maxiter": iterations, "memory": MEMORY, "gtol": gtol}
        return minimize_field(self, np.zeros(self.grid.patch_shape), self.grid, bounds=self.bounds,
                              inner=inner, options=options, progress=False, **more)  # fmt: skip


def allocated(ranks: int, patch: int, folder: str) -> float | None:
    """Return the most that a rank of so many allocates in a run, in vectors of its patch.

    ``None`` on the ranks that take no part.
    """
    world = communicator()
    group = world.Split(world.rank < ranks)
    if world.rank >= ranks:
        return None
    dims = CartesianGrid((2**20,) * 2, group).dims
    problem = Smooth(CartesianGrid([patch * d for d in dims], group))
    problem.minimised(1)  # what is allocated once a process
    gc.collect()
    tracemalloc.start()
    problem.minimised(MEMORY + 3, state=Path(folder) / f"{ranks}.npz", every=MEMORY + 2)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return float(max(group.allgather(most))) / (8 * patch**2)


def needed(nodes: int, length: float, bounded: bool) -> int:
    """Return the iterations that take the misfit to a millionth of its way down, on one rank."""
    problem = Smooth(CartesianGrid((nodes, nodes), MPI.COMM_SELF), bounded)
    losses = np.array([i.loss for i in problem.minimised(300, length, gtol=1e-5).history])
    return int(np.argmax(losses - losses[-1] < 1e-6 * (losses[0] - losses[-1])))


def million(nodes: int, iterations: int) -> tuple[Result, Any, float]:
    """Return the result of some iterations of the example, its problem, and CPU seconds in all."""
    import field_inversion

    inversion = field_inversion.Inversion((nodes, nodes))
    start = time.process_time()
    result = minimize_field(
        inversion.misfit, inversion.start, inversion.grid, bounds=field_inversion.BOUNDS,
        inner=inversion.inner, options={"maxiter": iterations, "memory": MEMORY},
    )  # fmt: skip
    return result, inversion, time.process_time() - start


def main() -> None:
    from petsc4py import PETSc  # noqa: F401  started on all ranks, for the groups of them

    chosen = parser(__doc__).parse_args()
    comm = communicator()
    patch, refined = (64, (16, 32, 64)) if chosen.quick else (256, (32, 64, 128))
    nodes, iterations = (200, 4) if chosen.quick else (1000, 8)

    vectors = {}
    with tempfile.TemporaryDirectory() as folder:
        folder = comm.bcast(folder)
        for ranks in [2**k for k in range(comm.size.bit_length())]:
            found = allocated(ranks, patch, folder)
            vectors[ranks] = comm.bcast(found)
            comm.Barrier()
    table(f"most that a rank allocates, {patch}×{patch} nodes a rank, {MEMORY} pairs kept",
          [[ranks, ranks * patch**2, found, found * 8 * patch**2 / 1e6]
           for ranks, found in vectors.items()],
          ["ranks", "unknowns", "vectors of a patch", "MB"])  # fmt: skip

    counts: dict[str, list[int]] = {}
    if comm.rank == 0:
        for name, length in (("Euclidean", 0.0), ("smooth over 0.05", 0.05)):
            for case, bounded in (("", False), (", with bounds", True)):
                counts[name + case] = [needed(n, length, bounded) for n in refined]
    comm.Barrier()
    table("iterations to a millionth", [[name, *row] for name, row in counts.items()],
          ["inner product", *(f"{n}×{n}" for n in refined)])  # fmt: skip

    result, inversion, seconds = million(nodes, iterations)
    peaks = comm.allgather(resident())
    spent = comm.allreduce(seconds, MPI.SUM)
    error = inversion.error(result.theta)
    table(
        f"κ at each of {nodes}×{nodes} nodes, {comm.size} ranks, total variation, bounds",
        [
            ["unknowns", nodes**2],
            ["iterations", result.iterations],
            ["evaluations, of four solves each", result.evaluations],
            ["misfit and penalty, start", result.history[0].loss],
            ["misfit and penalty, end", result.value],
            ["relative error of κ, %", 100 * error],
            ["CPU seconds an evaluation, all ranks", spent / result.evaluations],
            *[[f"peak resident memory of rank {r}, MB", p / 1e6] for r, p in enumerate(peaks)],
        ],
        ["", ""],
    )
    write(
        chosen.json,
        {"nodes": nodes, "patch": patch, "vectors": vectors, "refined": refined, "counts": counts,
         "iterations": result.iterations, "evaluations": result.evaluations, "peaks": peaks,
         "losses": [i.loss for i in result.history], "error": error, "cpu": spent},
        {},
    )  # fmt: skip


if __name__ == "__main__":
    main()
