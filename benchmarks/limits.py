"""What of the library's design grows with the number of ranks, and where it begins to matter.

Costs of messages are the model's; work that one rank does for all ranks is timed here, on the
library's own code and without MPI, for two numbers of ranks. So is what a large network takes for
each parameter and point, for its messages are as long as it has parameters, and so is its gradient.
What is marked as not needed has a distributed counterpart: minimize_field, and read_field,
write_field and thumbnail, which leave a rank with its own patch.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from math import log, log2
from typing import Any

import numpy as np
from model import Network

from adjoint import communicator
from adjoint.comm import Blocks
from adjoint.comm.replay import Event, Replay
from adjoint.nn import MLP
from adjoint.solvers.acquisition import Points

HEADER = ["what", "when", "seconds on 4096 ranks", "gradient [s]", "matters from"]
RANKS = tuple(2**k for k in range(1, 21))
SHARE = 0.1  # of a gradient; where it is paid once, of ten of them
PARAMETERS, PAIRS, SHOTS, RECEIVERS, EVENTS = 921, 50, 16, 200, 10
NODES = 300**2  # of a patch
FEW_PAIRS, THUMBNAIL = 10, 512**2  # what minimize_field keeps, and what a figure shows
MANY = 10**7  # parameters of a large network
WIDE, POINTS = (2, 500, 500, 1), 1024  # what is timed in its place

Cost = Callable[[int], float]


class OneRank(Blocks):
    """A grid as one of its ranks sees it, without the others."""

    def __init__(self, ranks: int) -> None:
        from mpi4py import MPI  # starts it, which a process that starts jobs had better not

        side = int(ranks**0.5)
        super().__init__((100 * side, 100 * (ranks // side)), (side, ranks // side))
        self.rank = 0
        self.comm = communicator(MPI.COMM_SELF)
        self.start, self.stop = self.patch(0)
        self.patch_shape = tuple(b - a for a, b in zip(self.start, self.stop))


def trace_plan(ranks: int) -> None:
    """Find which rank records which trace, as a wave does when it is made."""
    grid: Any = OneRank(ranks)
    columns = np.linspace(0.1, 0.9, RECEIVERS) * grid.shape[1]
    places = np.stack([np.full(RECEIVERS, 50.5), columns], axis=1)
    Points("receivers", grid, (1.0, 1.0), places, SHOTS, 3, ((0, 0), (0, 0))).collection()


def record_check(ranks: int) -> None:
    """Compare what all ranks recorded, as rank 0 does before the first reverse sweep."""
    tables = {}
    for rank in range(ranks):
        group = range(ranks), (0, 0)  # a copy for each rank, as they arrive
        tables[rank] = [
            Event("collective", "Allreduce", i, group, None, 0, ("sum", 1)) for i in range(EVENTS)
        ]
    assert Replay(tables).first_fault() is None


def large_network() -> float:
    """Return the seconds of a network's value and gradient, by measuring a smaller one."""
    network = MLP(WIDE)
    theta, points = network.initial(seed=0), np.zeros((POINTS, WIDE[0]))

    def work() -> None:
        network(theta, points)
        network.vjp((np.ones((POINTS, 1)),), (theta, points), ())[0]()

    return fastest(work) * (MANY / network.n_parameters) * (NODES / POINTS)


def fastest(work: Callable[[], None]) -> float:
    """Return the seconds of the fastest of three."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def scaled(work: Callable[[int], None], few: int = 256, many: int = 1024) -> Cost:
    """Return the seconds of some work by the number of ranks, a power law through two of them."""
    seconds = [fastest(partial(work, ranks)) for ranks in (few, many)]
    power = max(log(seconds[1] / seconds[0]) / log(many / few), 0.0)
    return lambda ranks: seconds[1] * (ranks / many) ** power


def costs(network: Network, memory: float) -> dict[str, tuple[str, str, Cost]]:
    """Return what grows, which problem pays for it, when, and the seconds by ranks."""
    per_byte, once, each = network.per_byte, "once", "every gradient"

    def trees(count: int) -> Cost:
        return lambda n: count * log2(n) * network.seconds(1, 1, 0)

    def replicated(length: float) -> Cost:
        """A broadcast, in pieces one behind the other, and a reduction, which takes it twice."""
        return lambda n: trees(2)(n) + 3 * length * per_byte

    def in_shares(length: float) -> Cost:
        """Return an Allgather and a Reduce_scatter, in which pieces go around once each."""
        return lambda n: 2 * (n - 1) * (network.seconds(1, 1, length / n))

    def pairs(count: int, length: float) -> float:
        """Return L-BFGS on a vector of so many bytes: each pair is read four times."""
        return 4 * count * length / memory

    def dots(count: int) -> Cost:
        """A dot product of each pair in both loops, and ten more."""
        return trees(2 * count + 10)

    return {
        f"replicated θ, {PARAMETERS} parameters: Bcast and Reduce":
            ("poisson", each, replicated(8 * PARAMETERS)),
        f"L-BFGS-B on rank 0, {PARAMETERS} parameters":
            ("poisson", each, lambda n: pairs(PAIRS, 8 * PARAMETERS)),
        f"both for a network of 10⁷ parameters, {NODES} points a rank":
            ("network", each, lambda n: replicated(8 * MANY)(n) + pairs(PAIRS, 8 * MANY)),
        "the same in shares: Allgather and Reduce_scatter, minimize_field":
            ("network", each,
             lambda n: in_shares(8 * MANY)(n) + pairs(FEW_PAIRS, 8 * MANY / n)
             + dots(FEW_PAIRS)(n)),
        f"minimize_field, a parameter at each node, {FEW_PAIRS} pairs":
            ("poisson", each, lambda n: pairs(FEW_PAIRS, 8 * NODES) + dots(FEW_PAIRS)(n)),
        "a thumbnail of a field on rank 0, 512×512 nodes":
            ("poisson", once, lambda n: n * network.overhead + 8 * THUMBNAIL * per_byte),
        "not needed: a parameter at each node in minimize, on rank 0":
            ("poisson", each, lambda n: pairs(PAIRS, 8 * NODES * n)),
        "not needed: a whole field on rank 0 (ScatterField, GatherField)":
            ("poisson", each, lambda n: 8 * NODES * n * per_byte),
        "agreement on errors: 20 Allreduces": ("poisson", each, trees(20)),
        "check before a collective call: Allgather of 24 bytes a rank, 5 times":
            ("poisson", each, lambda n: 5 * (trees(1)(n) + 24 * n * per_byte)),
        f"traces to rank 0 (gather), {RECEIVERS} receivers, 2000 steps":
            ("acoustic", each,
             lambda n: n * network.overhead + RECEIVERS * 2000 * 8 * per_byte),
        "plan of traces: who records what": ("acoustic", once, scaled(trace_plan)),
        f"check of records on rank 0, {EVENTS} collective calls":
            ("acoustic", once, scaled(record_check)),
        "rows of each rank in a pattern: Allgather of 16 bytes, Alltoall of 8":
            ("poisson", once,
             lambda n: trees(2)(n) + n * network.overhead + 24 * n * per_byte),
    }  # fmt: skip


def rows(network: Network, memory: float, gradient: dict[str, dict[int, float]]) -> list[list[Any]]:
    """Return the table: each cost on 4096 ranks beside a gradient, and where it begins to matter.

    Parameters
    ----------
    network : Network
    memory : float
        Bandwidth of a rank's memory in bytes a second.
    gradient : dict
        Seconds of a gradient in weak scaling, by physics ("poisson", "acoustic") and ranks.
    """
    learning = large_network()
    learned = {n: seconds + learning for n, seconds in gradient["poisson"].items()}
    gradient = {**gradient, "network": learned}  # of a network before Poisson's equation
    found = []
    for what, (physics, when, cost) in costs(network, memory).items():
        most = max(gradient[physics])
        whole = gradient[physics]
        share = SHARE * (10 if when == "once" else 1)
        first = next((n for n in RANKS if cost(n) > share * whole[min(n, most)]), None)
        begins = f"{first} ranks" if first else f"not up to {RANKS[-1]} ranks"
        found.append([what, when, cost(most), whole[most], begins])
    return found
