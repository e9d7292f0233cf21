"""What the unknowns of a waveform inversion take of each rank's memory: whole, or a patch.

    mpiexec -n 4 python -m mpi4py benchmarks/waveform_fields.py

A velocity at each node of the model, found by examples/acoustic_inversion.py with `--unknown grid`
(all values on every rank, L-BFGS-B on rank 0) and with `--unknown field` (each rank those of its
patch, minimize_field), on the first rank, the first two and so on, in two groups of shots. Memory
is what NumPy allocates at most: first in one evaluation of misfit and gradient, then in a run that
fills the optimiser's memory of pairs, in whose evaluations the optimiser's vectors are there as
well. The difference is what unknowns and optimiser take. PETSc's own vectors, about a dozen of the
patch, are not in it.
"""

from __future__ import annotations

import gc
import sys
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from harness import parser, table, write

from adjoint import communicator
from adjoint.solvers import ricker

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

if TYPE_CHECKING:
    from mpi4py import MPI

UNKNOWNS = ("grid", "field")


def model(nodes: int) -> Any:
    """Return a square with a lens, two shots, and few steps: waves are not what is measured."""
    from seismic import Model

    spacing, dt, steps = 20.0, 3e-3, 100
    z, x = np.mgrid[:nodes, :nodes] * spacing
    start = 1800 + z / nodes
    true = start + 250 * np.exp(-((z - 150) ** 2 + (x - nodes * spacing / 2) ** 2) / 2 / 60**2)
    line = np.linspace(5, nodes - 5, nodes // 4) * spacing
    places = [np.stack([np.full(len(at), 2 * spacing), at], axis=1)
              for at in (line[len(line) // 3 :: len(line) // 3][:2], line)]  # fmt: skip
    return Model(
        true={"vp": true}, start={"vp": start}, mask=z > 30, spacing=spacing, dt=dt,
        sources=places[0], receivers=places[1], wavelet=ricker(dt * np.arange(steps), 9.0),
        peak_frequency=9.0, layer=8,
    )  # fmt: skip


def taken(unknown: str, ranks: int, nodes: int) -> list[tuple[int, int]] | None:
    """Return what each of so many ranks allocates in an evaluation, and in a run besides.

    ``None`` on the ranks that take no part.
    """
    from acoustic_inversion import AcousticInversion
    from waveform_unknowns import PAIRS

    from adjoint import Tape

    world = communicator()
    comm: MPI.Comm = communicator(world.Split(world.rank < ranks))
    if world.rank >= ranks:
        return None
    inversion = AcousticInversion(model(nodes), unknown, min(2, ranks), comm=comm)
    more = {} if unknown == "field" else {"comm": comm}

    def evaluated() -> None:
        with Tape(comm=comm) as tape:
            x = tape.watch(inversion.first)
            loss = inversion.misfit(x)
        tape.gradient(loss, [x])

    def run(iterations: int) -> None:
        found = inversion.unknown.minimised(
            inversion.misfit, inversion.first, iterations, progress=False, **more
        )
        assert found.iterations == iterations

    def most(work: Any, *arguments: Any) -> int:
        gc.collect()
        tracemalloc.start()
        work(*arguments)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    run(1)  # what is allocated once a process
    once = most(evaluated)
    return comm.allgather((once, most(run, PAIRS + 2) - once))


def main() -> None:
    from petsc4py import PETSc  # noqa: F401  started on all ranks, for the first of them

    chosen = parser(__doc__).parse_args()
    comm = communicator()
    nodes = 60 if chosen.quick else 160
    whole = 8 * nodes**2
    found: dict[str, dict[int, list[tuple[int, int]]]] = {unknown: {} for unknown in UNKNOWNS}
    rows = []
    for unknown in UNKNOWNS:
        for ranks in [2**k for k in range(comm.size.bit_length())]:
            memory = found[unknown][ranks] = comm.bcast(taken(unknown, ranks, nodes))
            others = max((of_run for _, of_run in memory[1:]), default=None)
            rows.append([
                unknown, ranks, memory[0][1] / 1e6, memory[0][1] / whole,
                "" if others is None else others / whole, memory[0][0] / 1e6,
            ])  # fmt: skip
    table(
        f"{nodes}×{nodes} nodes, a vector of {whole / 1e6:.2f} MB; of unknowns and optimiser",
        rows,
        ["--unknown", "ranks", "rank 0, MB", "vectors", "another rank, vectors",
         "an evaluation, rank 0, MB"],
    )  # fmt: skip
    write(chosen.json, {"nodes": nodes, "found": found}, {})


if __name__ == "__main__":
    main()
