"""Waves on several ranks against one rank with as many threads, and what the exchange costs.

    NUMBA_NUM_THREADS=2 mpiexec -n 2 python -m mpi4py benchmarks/ranks.py

1000×1000 nodes, 100 steps, layers on all sides, double precision. "Without exchange" takes the same
steps but leaves the ghosts as they are: the most that overlapping messages with the interior could
save. NUMBA_NUM_THREADS must be at least the number of ranks, which sleep while one computes alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numba
from harness import interleaved, parser, ratio, table, write
from mpi4py import MPI
from waves import filled, survey

from adjoint import communicator
from adjoint.comm import CartesianGrid
from adjoint.solvers import AcousticWave, ElasticWave, Lame
from adjoint.variable import Array


class NoExchange:
    """In place of ghost exchanges: none."""

    def forward(self, arrays: Sequence[Array]) -> None:
        """Leave the ghosts as they are."""


def acoustic(grid: CartesianGrid, steps: int) -> tuple[Any, list[Array]]:
    wave = AcousticWave(grid, *survey(grid.shape[0], steps, 1), report=lambda text: None)
    return wave, filled(grid, 2500.0)


def elastic(grid: CartesianGrid, steps: int) -> tuple[Any, list[Array]]:
    wave = ElasticWave(grid, *survey(grid.shape[0], steps, 1), report=lambda text: None)
    vp, vs, rho = filled(grid, 3000.0, 1700.0, 2000.0)
    return wave, [*Lame()(vp, vs, rho), rho]


def alone(run: Callable[[], Any], threads: int) -> Callable[[], None]:
    """Return a case in which rank 0 runs with so many threads, while the others sleep."""
    comm = communicator()

    def case() -> None:
        if comm.rank == 0:
            numba.set_num_threads(threads)
            run()
            numba.set_num_threads(1)
        arrived = comm.Ibarrier()
        while not arrived.Test():
            time.sleep(1e-3)

    return case


def main() -> None:
    chosen = parser(__doc__).parse_args()
    comm = communicator()
    if comm.size > numba.config.NUMBA_NUM_THREADS:
        raise SystemExit(f"set NUMBA_NUM_THREADS to {comm.size}, the number of ranks")
    nodes, steps = (300, 50) if chosen.quick else (1000, 100)
    seconds, rows = {}, []
    for name, physics in (("acoustic", acoustic), ("elastic", elastic)):
        # A loop works with the threads that are set when it is made.
        numba.set_num_threads(comm.size)
        one, fields = physics(CartesianGrid((nodes, nodes), comm=MPI.COMM_SELF), steps)
        numba.set_num_threads(1)
        many, own = physics(CartesianGrid((nodes, nodes)), steps)
        silent, _ = physics(CartesianGrid((nodes, nodes)), steps)
        loop = silent.propagator
        for holder, exchange in (
            (getattr(loop, "_stepper", loop), "halo"), (loop, "_halo_v"), (loop, "_halo_s"),
        ):  # fmt: skip
            if hasattr(holder, exchange):
                setattr(holder, exchange, NoExchange())
        measured = interleaved(
            {
                "ranks": lambda many=many, own=own: many(*own),
                "without exchange": lambda silent=silent, own=own: silent(*own),
                "threads": alone(lambda one=one, fields=fields: one(*fields), comm.size),
            },
            3 if chosen.quick else 9,
        )
        seconds.update({f"{name} {case}": s for case, s in measured.items()})
        rows.append([name, ratio(measured["threads"], measured["ranks"]),
                     ratio(measured["without exchange"], measured["ranks"])])  # fmt: skip
    table(
        f"{nodes}×{nodes}, {steps} steps, {comm.size} ranks of one thread",
        rows,
        ["", f"speed / {comm.size} threads", "time without exchange"],
    )
    write(chosen.json, {"nodes": nodes, "steps": steps}, seconds)


if __name__ == "__main__":
    main()
