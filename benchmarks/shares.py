"""The parameters of a large network on rank 0 and in shares: memory and bytes sent by each rank.

    python benchmarks/shares.py

It starts its jobs itself. A tanh network of two hidden layers, 10⁷ parameters, is fitted to values
at a few points of each rank. Its parameters are first where `minimize` has them: whole on rank 0,
broadcast, and the sum of their gradients brought back. Then each rank has a share of them, and
`minimize_field` the shares for its unknowns: the program gathers them (Allgather), and its adjoint
hands each rank the sum of its part of the gradient (Reduce_scatter). Both keep 5 pairs of L-BFGS.
Memory is what NumPy allocates at most; bytes are counted by Open MPI, inside collective calls too.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import jobs
import numpy as np
from harness import parser, table, write

from adjoint import communicator
from adjoint.comm import Allgather, Allreduce, CartesianGrid
from adjoint.nn import MLP
from adjoint.optimize import minimize
from adjoint.solvers import minimize_field

PAIRS, POINTS = 5, 64
ITERATIONS = PAIRS + 2
WHERE = ("on rank 0", "in shares")

#: Settings of Open MPI's component that counts what every rank sends.
COUNTING = {"OMPI_MCA_pml_monitoring_enable": "1", "OMPI_MCA_pml_monitoring_enable_output": "3"}


class Fit:
    """The misfit of a network at this rank's points."""

    def __init__(self, width: int) -> None:
        self.network = MLP((2, width, width, 1), chunk=POINTS)
        self.points = np.random.default_rng(communicator().rank).uniform(-1, 1, (POINTS, 2))
        self.data = np.sin(3 * self.points[:, :1]) * self.points[:, 1:]
        self.gathered, self.total = Allgather(), Allreduce()

    def whole(self, theta: Any) -> Any:
        """Return the misfit for parameters that are whole on all ranks."""
        return self.total(((self.network(theta, self.points) - self.data) ** 2).sum())

    def minimised(self, where: str, iterations: int) -> Any:
        """Return the result of some iterations."""
        start = self.network.initial(seed=0)
        options = {"maxiter": iterations}
        if where == "on rank 0":
            return minimize(self.whole, start, options={**options, "maxcor": PAIRS}, progress=False)
        grid = CartesianGrid(start.shape)
        share = start[grid.patch_slices(grid.rank)].copy()
        del start
        return minimize_field(lambda share: self.whole(self.gathered(share)), share, grid,
                              options={**options, "memory": PAIRS}, progress=False)  # fmt: skip


def member(where: str, width: int, file: Path) -> None:
    """Run on all ranks of this job, and write what each of them allocates."""
    comm = communicator()
    Fit(4).minimised(where, 1)  # what is allocated once a process
    fit = Fit(width)
    gc.collect()
    tracemalloc.start()
    result = fit.minimised(where, ITERATIONS)
    most = comm.gather(tracemalloc.get_traced_memory()[1])
    if most is not None:
        parameters, evaluations = fit.network.n_parameters, result.evaluations
        found = {"parameters": parameters, "evaluations": evaluations, "allocated": most}
        file.write_text(json.dumps(found))


def counted(prefix: Path, ranks: int) -> list[int]:
    """Return the bytes that each rank has sent; nothing where MPI does not count them."""
    sent = []
    for file in (prefix.with_name(f"{prefix.name}.{rank}.prof") for rank in range(ranks)):
        if file.exists():
            words = [line.split() for line in file.read_text().splitlines()]
            sent.append(sum(int(line[3]) for line in words if line[0] == "E"))
    return sent


def job(where: str, ranks: int, width: int) -> dict[str, Any]:
    """Return what a run on some ranks took."""
    with tempfile.TemporaryDirectory() as name:
        file, prefix = Path(name) / "found", Path(name) / "sent"
        counting = {**COUNTING, "OMPI_MCA_pml_monitoring_filename": str(prefix)}
        arguments = ["--member", where, str(width), str(file)]
        jobs.run("shares", ranks, arguments, 600, environment=counting)
        return {**json.loads(file.read_text()), "sent": counted(prefix, ranks)}


def options() -> argparse.ArgumentParser:
    result = parser(__doc__)
    result.add_argument("--member", nargs=3, metavar=("WHERE", "WIDTH", "FILE"),
                        help=argparse.SUPPRESS)  # fmt: skip
    return result


def main() -> None:
    chosen = options().parse_args()
    if chosen.member:
        where, width, file = chosen.member
        member(where, int(width), Path(file))
        return
    width, counts = (500, (2,)) if chosen.quick else (3160, (2, 4))
    found = {where: {n: job(where, n, width) for n in counts} for where in WHERE}
    rows = []
    for where, by_ranks in found.items():
        for ranks, result in by_ranks.items():
            whole = 8 * result["parameters"]
            vectors = [allocated / whole for allocated in result["allocated"]]
            sent = [count / result["evaluations"] / whole for count in result["sent"]]
            rows.append([where, ranks, whole * vectors[0] / 1e6, vectors[0], max(vectors[1:]),
                         *((sent[0], max(sent[1:])) if sent else ("", ""))])  # fmt: skip
    table(
        f"{result['parameters']:,} parameters, a vector of {whole / 1e6:.0f} MB, {PAIRS} pairs; "
        "sent: in an evaluation",
        rows,
        ["parameters", "ranks", "rank 0 allocates, MB", "vectors", "another rank, vectors",
         "rank 0 sends, vectors", "another rank, vectors"],
    )  # fmt: skip
    write(chosen.json, {"found": found}, {})


if __name__ == "__main__":
    main()
