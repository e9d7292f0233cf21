"""Ranks beyond the cores: the results of one rank, and no more messages and bytes than designed.

    python benchmarks/oversubscribed.py

It starts its jobs itself: the gradients of both waves, on up to 64 ranks with 40×40 nodes each, and
of Poisson's equation. Rank 0 repeats each alone on the whole grid, and the results must agree.
The messages from each rank to each other are counted in front of MPI (count_messages.c, where
there is `mpicc`). In a step of a wave a rank sends each neighbour one message (acoustic) or two
(elastic), and as many in a step of the adjoint. That these and their bytes are the same for all
neighbours and any number of ranks is asserted.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import jobs
import numpy as np
from harness import on_one, parser, table, write
from model import square
from waves import DT, SPACING, filled

from adjoint import Tape, communicator
from adjoint.comm import Blocks, CartesianGrid
from adjoint.solvers import AcousticWave, ElasticWave, Lame, Poisson
from adjoint.variable import Array

PATCH, STEPS, LAYER = 40, 60, 10
#: Messages to a neighbour: in the steps of both sweeps, for the medium's ghosts before each of
#: them, and for their cotangents (in the acoustic wave no such node is used).
DESIGNED = {"acoustic": 2 * STEPS + 2, "elastic": 4 * STEPS + 3}
TOLERANCE = {"acoustic": 1e-10, "elastic": 1e-10, "poisson": 1e-8}

Links = dict[tuple[int, int], tuple[int, int]]


def wave(physics: str, grid: CartesianGrid) -> tuple[Any, list[Array]]:
    """Return an operator and its inputs; source and receivers are on the first patch."""
    z, x = grid.coordinates(SPACING)
    lump = 1 + 0.1 * np.sin(z / 70) * np.cos(x / 90)
    corner = (PATCH - 4) * SPACING  # from where waves reach the three patches around
    receivers = [[corner - 33.0, corner + 7.0], [corner, corner - 60.0]]
    survey = grid, SPACING, DT, STEPS, [[corner + 1.0, corner]], receivers, np.ones(STEPS)
    settings: dict[str, Any] = {"pml_width": LAYER, "report": lambda text: None}
    if physics == "acoustic":
        return AcousticWave(*survey, **settings), [2500.0 * lump]
    vp, vs, rho = filled(grid, 3000.0, 1700.0, 2000.0)
    return ElasticWave(*survey, **settings), [*Lame()(vp * lump, vs * lump, rho), rho]


def solve(grid: CartesianGrid) -> tuple[Any, list[Array]]:
    poisson = Poisson(grid)
    x, y = grid.coordinates(poisson.spacing, poisson.spacing, width=1)
    return poisson, [1.5 + np.sin(5 * x) * np.cos(4 * y), np.ones(grid.patch_shape)]


def squares(physics: str, grid: CartesianGrid) -> list[float]:
    """Return the squares of outputs and gradients, each summed over all ranks."""
    operator, inputs = solve(grid) if physics == "poisson" else wave(physics, grid)
    with Tape(comm=grid.comm) as tape:
        watched = [tape.watch(field) for field in inputs]
        found = operator(*watched)
    outputs = list(found) if isinstance(found, tuple) else [found]
    # A gradient in a ghost is a part of what its owner gets; without ghosts, sums are comparable.
    gradients = tape.vjp(outputs, [o.value for o in outputs], watched)[physics == "poisson" :]
    mine = [float(np.vdot(a, a)) for a in [*(o.value for o in outputs), *gradients]]
    sums: list[float] = np.sum(grid.comm.allgather(mine), axis=0).tolist()
    return sums


def member(physics: str, file: Path) -> None:
    """Run a problem on all ranks of this job, and once more on rank 0 alone."""
    from mpi4py import MPI  # starts it, which a process that starts jobs had better not

    comm = communicator()
    grid = square(PATCH, comm.size)
    found = squares(physics, CartesianGrid(grid.shape, dims=grid.dims))
    alone = CartesianGrid(grid.shape, MPI.COMM_SELF)
    expected = on_one(lambda: squares(physics, alone), nap=0.01)  # of 63 that look for the end
    if comm.rank == 0:
        error = max(abs(a - b) / abs(b) for a, b in zip(found, expected))
        file.write_text(json.dumps(error))


def counter(folder: Path) -> Path | None:
    """Return the library that counts messages, once compiled; none without a compiler."""
    compiler = shutil.which("mpicc")
    if compiler is None:
        print("messages are not counted: there is no mpicc")
        return None
    library = folder / "count_messages.so"
    source = jobs.HERE / "count_messages.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", source, "-o", library], check=True)
    return library


def traffic(prefix: Path) -> Links:
    """Return the messages and bytes from rank to rank that were counted."""
    found = {}
    for file in prefix.parent.glob(f"{prefix.name}.*"):
        sender = int(file.suffix[1:])
        for line in file.read_text().splitlines():
            receiver, messages, sent = map(int, line.split())
            found[sender, receiver] = messages, sent
    return found


def between_neighbours(links: Links, grid: Blocks) -> Links:
    """Return the links between patches with a common face.

    Those of rank 0 are left out: it also has the checks of the tapes, and all traces.
    """
    return {
        (a, b): sent for (a, b), sent in links.items()
        if a and b and np.abs(np.subtract(grid.coords_of(a), grid.coords_of(b))).sum() == 1
    }  # fmt: skip


def job(physics: str, ranks: int) -> dict[str, Any]:
    """Run a problem on some ranks, check it, and return what was found."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file, prefix, library = folder / "error", folder / "sent", counter(folder)
        counting = {"LD_PRELOAD": str(library), "COUNTS": str(prefix)} if library else {}
        start = time.monotonic()
        jobs.run("oversubscribed", ranks, ["--member", physics, str(file)], 600, 1, counting)
        seconds = time.monotonic() - start
        error, links = json.loads(file.read_text()), traffic(prefix)
    assert error < TOLERANCE[physics], f"{physics} on {ranks} ranks: differs by {error:.1e}"
    inner = between_neighbours(links, square(PATCH, ranks))
    if physics in DESIGNED and inner:
        counted = {messages for messages, _ in inner.values()}
        assert counted == {DESIGNED[physics]}, (
            f"{physics} on {ranks} ranks: {sorted(counted)} messages to a neighbour, "
            f"expected {DESIGNED[physics]}"
        )
    return {
        "error": error, "seconds": seconds,
        "link": sorted({*inner.values()}) if physics in DESIGNED else [],
        "most": [max((sum(sent[i] for (a, _), sent in links.items() if a == rank and a)
                      for rank in range(ranks)), default=0) for i in range(2)],
    }  # fmt: skip


def options() -> argparse.ArgumentParser:
    result = parser(__doc__)
    result.add_argument("--member", nargs=2, metavar=("PHYSICS", "FILE"), help=argparse.SUPPRESS)
    return result


def main() -> None:
    chosen = options().parse_args()
    if chosen.member:
        member(chosen.member[0], Path(chosen.member[1]))
        return
    waves, solves = ((4, 6), (4,)) if chosen.quick else ((4, 16, 64), (4, 16))
    counts = {"acoustic": waves, "elastic": waves, "poisson": solves}
    found = {physics: {n: job(physics, n) for n in counts[physics]} for physics in counts}
    for physics in DESIGNED:
        kinds = [result["link"] for result in found[physics].values()]
        assert all(kind == kinds[0] for kind in kinds), f"{physics}: bytes to a neighbour {kinds}"
    rows = [
        [physics, ranks, f"{result['error']:.0e}",
         *(result["link"][0] if result["link"] else ("", "")), *result["most"]]
        for physics, by_ranks in found.items() for ranks, result in by_ranks.items()
    ]  # fmt: skip
    table(
        f"{PATCH}×{PATCH} nodes a rank; waves of {STEPS} steps, forward and adjoint",
        rows,
        ["", "ranks", "difference to 1 rank", "messages to a neighbour", "bytes",
         "messages of the busiest rank", "its bytes"],
    )  # fmt: skip
    seconds = {
        f"{physics}, {ranks} ranks": [result["seconds"]]
        for physics, by_ranks in found.items() for ranks, result in by_ranks.items()
    }  # fmt: skip
    write(chosen.json, {"patch": PATCH, "steps": STEPS, "found": found}, seconds)


if __name__ == "__main__":
    main()
