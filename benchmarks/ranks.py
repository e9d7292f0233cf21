"""Waves on several ranks against one rank with as many threads, and what the exchange costs.

    NUMBA_NUM_THREADS=2 mpiexec -n 2 python -m mpi4py benchmarks/ranks.py

1000×1000 nodes, 100 steps, layers on all sides, double precision. "Without exchange" takes the same
steps but leaves the ghosts as they are: the most that overlapping messages with the interior could
save. NUMBA_NUM_THREADS must be at least the number of ranks, which sleep while one computes alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numba
from harness import interleaved, on_one, parser, ratio, table, write
from mpi4py import MPI
from waves import MEDIA, homogeneous, survey

from adjoint import communicator
from adjoint.comm import CartesianGrid
from adjoint.variable import Array


class NoExchange:
    """In place of ghost exchanges: none."""

    def forward(self, arrays: Sequence[Array]) -> None:
        """Leave the ghosts as they are."""


def silence(loop: Any) -> None:
    """Take the exchanges out of a loop's steps."""
    if hasattr(loop, "_halos"):
        loop._halos = dict.fromkeys(loop._halos, NoExchange())
    else:
        loop._stepper.halo = NoExchange()


def with_threads(run: Callable[[], Any], threads: int) -> None:
    """Run with so many threads, and leave one."""
    numba.set_num_threads(threads)
    run()
    numba.set_num_threads(1)


def main() -> None:
    chosen = parser(__doc__).parse_args()
    comm = communicator()
    if comm.size > numba.config.NUMBA_NUM_THREADS:  # type: ignore[attr-defined, unused-ignore]
        raise SystemExit(f"set NUMBA_NUM_THREADS to {comm.size}, the number of ranks")
    nodes, steps = (300, 50) if chosen.quick else (1000, 100)
    shots = survey(nodes, steps, 1)
    seconds, rows = {}, []
    for physics in MEDIA:
        # A loop works with the threads that are set when it is made.
        numba.set_num_threads(comm.size)
        alone, together = (CartesianGrid((nodes, nodes), c) for c in (MPI.COMM_SELF, None))
        one, fields = homogeneous(physics, alone, *shots)
        numba.set_num_threads(1)
        many, own = homogeneous(physics, together, *shots)
        silent, _ = homogeneous(physics, together, *shots)
        silence(silent.propagator)
        measured = interleaved(
            {
                "ranks": partial(many, *own),
                "without exchange": partial(silent, *own),
                "threads": partial(on_one, partial(with_threads, partial(one, *fields), comm.size)),
            },
            3 if chosen.quick else 9,
        )
        seconds.update({f"{physics} {case}": s for case, s in measured.items()})
        rows.append([physics, ratio(measured["threads"], measured["ranks"]),
                     ratio(measured["without exchange"], measured["ranks"])])  # fmt: skip
    table(
        f"{nodes}×{nodes}, {steps} steps, {comm.size} ranks of one thread",
        rows,
        ["", f"speed / {comm.size} threads", "time without exchange"],
    )
    write(chosen.json, {"nodes": nodes, "steps": steps}, seconds)


if __name__ == "__main__":
    main()
