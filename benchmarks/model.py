"""A performance model: what a program takes on many ranks, from what is measured on a few.

A message takes ``α + b/β`` seconds (Hockney), and its two ends spend ``o`` on it: a round in which
a rank exchanges ``k`` messages of ``b`` bytes together with its neighbours takes ``α + o k + b/β``.
Computing takes what it takes on one rank with a patch of that size while all cores are busy; the
rank with the largest share of absorbing layers counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2

import numpy as np
from numpy.typing import NDArray

from adjoint.comm import Blocks
from adjoint.comm.blocks import best_dims

Array = NDArray[np.float64]

#: Of a number.
BYTES = 8


@dataclass(frozen=True)
class Network:
    """What joins the ranks: seconds a round, a message, and a byte that leaves a rank."""

    latency: float
    overhead: float
    per_byte: float

    def seconds(self, rounds: float, messages: float, sent: float) -> float:
        """Return what rounds of exchanges take in which a rank sends so many messages and bytes."""
        return rounds * self.latency + messages * self.overhead + sent * self.per_byte


def fit_network(samples: Sequence[tuple[float, float, float, float]]) -> Network:
    """Return the network that explains measured exchanges best.

    Parameters
    ----------
    samples : sequence of (rounds, messages, bytes, seconds)
    """
    from scipy.optimize import nnls

    table = np.array(samples, np.float64)
    scaled = table[:, :3] / table[:, 3:]  # so that relative errors count
    unit = np.linalg.norm(scaled, axis=0)
    found, _ = nnls(scaled / unit, np.ones(len(table)))
    return Network(*(found / unit).tolist())


@dataclass(frozen=True)
class Growth:
    """What grows with the depth of trees and of multigrid, by the number of ranks or nodes.

    Between measured sizes it is interpolated; with each doubling beyond them it grows by the same.
    """

    sizes: tuple[float, ...]
    values: tuple[float, ...]
    doubling: float

    def at(self, size: float) -> float:
        """Return the value for so many ranks or nodes."""
        within = float(np.interp(log2(size), np.log2(self.sizes), self.values))
        return within + self.doubling * max(log2(size / self.sizes[-1]), 0.0)


def fit_growth(by_size: dict[int, float]) -> Growth:
    """Return what was measured, and beyond it a least-squares fit that does not fall."""
    sizes = sorted(by_size)
    values = [float(by_size[size]) for size in sizes]
    slope = float(np.polyfit(np.log2(sizes), values, 1)[0]) if len(sizes) > 1 else 0.0
    return Growth(tuple(map(float, sizes)), tuple(values), max(slope, 0.0))


@dataclass(frozen=True)
class Computing:
    """What one rank takes for patches of a number of nodes, and more for each node in a layer.

    Between two measured sizes seconds follow a power of the nodes, and above the largest the nodes
    themselves. Below the smallest they stay: what a step does besides arithmetic remains.
    """

    nodes: tuple[float, ...]
    seconds: tuple[float, ...]
    layer: float = 0.0

    def at(self, nodes: float, in_layers: float = 0.0) -> float:
        """Return the seconds for a patch."""
        within = np.interp(np.log(nodes), np.log(self.nodes), np.log(self.seconds))
        return float(np.exp(within)) * max(nodes / self.nodes[-1], 1.0) + self.layer * in_layers


@dataclass(frozen=True)
class Wave:
    """A run of a wave.

    In the exchanges of a step so many lines of nodes are sent to each neighbour, all ghost layers
    of all fields together.
    """

    computing: Computing
    exchanges: int
    lines: int
    once: Growth  # rounds of a run besides those of its steps

    def seconds(
        self, blocks: Blocks, steps: int, layer: int, network: Network, crowding: float = 1.0
    ) -> float:
        """Return the seconds of a run; ``crowding`` is the number of ranks that share a core."""
        slowest = 0.0
        for lengths, nodes, in_layers in patches(blocks, layer):
            faces = sides(lengths, blocks)
            sent = BYTES * self.lines * sum(faces)
            step = crowding * self.computing.at(nodes, in_layers) + network.seconds(
                self.exchanges if faces else 0, self.exchanges * len(faces), sent
            )
            slowest = max(slowest, step)
        once = self.once.at(blocks.size) if blocks.size > 1 else 0.0
        return steps * slowest + network.seconds(once, once, 0)


@dataclass(frozen=True)
class Solve:
    """An iterative solve with multigrid.

    Iterations grow with the nodes of the whole grid. Rounds of messages, and bytes for each node of
    a patch's side, are those of one level, and grow with the ranks.
    """

    computing: Computing
    iterations: Growth
    rounds: Growth
    sent: Growth

    def seconds(self, blocks: Blocks, network: Network, crowding: float = 1.0) -> float:
        """Return the seconds of a solve."""
        lengths = [n / p for n, p in zip(blocks.shape, blocks.dims)]
        nodes, patch = float(np.prod(blocks.shape)), float(np.prod(lengths))
        more = self.iterations.at(nodes) / self.iterations.at(patch)
        computing = crowding * more * self.computing.at(patch)
        if blocks.size == 1:
            return computing
        rounds = levels(nodes) * self.rounds.at(blocks.size)
        sent = levels(nodes) * self.sent.at(blocks.size) * max(lengths)
        return computing + network.seconds(rounds, rounds, sent)


def square(patch: int, ranks: int) -> Blocks:
    """Return the grid of so many square patches of so many nodes along a side, one a rank."""
    dims = best_dims((patch * ranks,) * 2, ranks)
    return Blocks([patch * d for d in dims], dims)


def levels(nodes: float) -> float:
    """Return the depth of a multigrid hierarchy in which each level has a quarter of the nodes."""
    return log2(nodes) / 2


def sides(lengths: Sequence[int], blocks: Blocks) -> list[int]:
    """Return the nodes along each face that an inner patch shares with another rank."""
    rows, columns = lengths
    down, across = (min(p - 1, 2) for p in blocks.dims)
    return [columns] * down + [rows] * across


def patches(blocks: Blocks, layer: int) -> list[tuple[tuple[int, int], int, int]]:
    """Return each kind of patch: its lengths, its nodes, and those of them in layers."""
    kinds: list[list[tuple[int, int]]] = []
    for axis in range(2):
        n = blocks.shape[axis]
        edges = np.linspace(0, n, blocks.dims[axis] + 1).round().astype(int)
        inner = np.clip(edges, layer, max(n - layer, layer))
        kinds.append(sorted({*zip(np.diff(edges).tolist(), np.diff(inner).tolist())}))
    return [
        ((rows, columns), rows * columns, rows * columns - clear_rows * clear_columns)
        for rows, clear_rows in kinds[0]
        for columns, clear_columns in kinds[1]
    ]
