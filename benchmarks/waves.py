"""What the benchmarks of both waves share: a survey, the peers' cases beside ours, a table."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numba
import numpy as np
import paper
from harness import interleaved, ratio, table, write
from peer import Peer

from adjoint import Tape, communicator
from adjoint.comm import CartesianGrid
from adjoint.optimize.evaluation import resident
from adjoint.solvers import AcousticWave, ElasticWave, Lame
from adjoint.variable import Array

SPACING, DT, LAYER, RECEIVERS = 10.0, 1e-3, 20, 30
#: Of homogeneous media, in m/s and kg/m³, as the peers' cases call them.
MEDIA = {
    "acoustic": {"velocity": 2500.0},
    "elastic": {"vp": 3000.0, "vs": 1700.0, "rho": 2000.0},
}
TINY = 12, 2000  # nodes and steps with which a step's cost beside its arithmetic is seen

Cases = dict[str, Callable[[], Any]]


class Streams(NamedTuple):
    """How many arrays of the grid's size a step reads or writes on average.

    Attributes
    ----------
    forward, reverse : float
        Of a step forwards and of one in reverse, without what is kept.
    kept : float
        What a step keeps for the reverse run: written once and read once.
    """

    forward: float
    reverse: float
    kept: float


def survey(nodes: int, steps: int, shots: int) -> tuple[Any, ...]:
    """Return what a wave takes behind its grid, from the spacing to the wavelets."""
    middle = nodes * SPACING / 2
    columns = np.linspace(0.25, 0.75, RECEIVERS) * (nodes - 1) * SPACING
    receivers = [[25.5 * SPACING, float(y)] for y in columns]
    return SPACING, DT, steps, [[[middle, middle]]] * shots, receivers, np.ones((shots, 1, steps))


def filled(grid: CartesianGrid, *values: float) -> list[Array]:
    """Return homogeneous fields on this rank's patch."""
    return [np.full(grid.patch_shape, value) for value in values]


def homogeneous(
    physics: str, grid: CartesianGrid, *survey: Any, **settings: Any
) -> tuple[Any, list[Array]]:
    """Return a wave and the fields of a homogeneous medium, its inputs."""
    settings = {"report": lambda text: None, **settings}
    fields = filled(grid, *MEDIA[physics].values())
    if physics == "acoustic":
        return AcousticWave(grid, *survey, **settings), fields
    return ElasticWave(grid, *survey, **settings), [*Lame()(*fields), fields[2]]


def ours(wave: Any, fields: Sequence[Array]) -> Cases:
    """Return the forward run of a wave, and its gradient with respect to all of its fields."""

    def forward() -> None:
        wave(*fields)

    def gradient() -> None:
        with Tape() as tape:
            watched = [tape.watch(field) for field in fields]
            traces = wave(*watched)
        traces = list(traces) if isinstance(traces, tuple) else [traces]
        tape.vjp(traces, [np.ones_like(trace.value) for trace in traces], watched)

    return {"forward": forward, "gradient": gradient}


@numba.njit(parallel=True)
def _triad(a: Array, b: Array, c: Array) -> None:
    for i in numba.prange(len(a)):
        a[i] = b[i] + 3.0 * c[i]


def triad(entries: int) -> Callable[[], None]:
    """Return a case that reads two arrays of float64 and writes a third."""
    arrays = [np.ones(entries) for _ in range(3)]
    return lambda: _triad(*arrays)


def compare(physics: str, streams: Streams, chosen: argparse.Namespace) -> None:
    """Time our cases and the peers' of one physics for several sizes; print and write them."""
    most = numba.get_num_threads()
    large, small = ((300, 50), (100, 500)) if chosen.quick else ((1000, 100), (100, 2000))
    sizes = [(*large, 1, most), (*small, 1, 1)]
    if most > 1:
        sizes.insert(1, (*large, most, most))
    seconds = {}
    for nodes, steps, shots, threads in sizes:
        numba.set_num_threads(threads)
        common = {"nodes": nodes, "steps": steps, "shots": shots, "spacing": SPACING, "dt": DT,
                  "receivers": RECEIVERS, "layer": LAYER, **MEDIA[physics]}  # fmt: skip
        peers = {
            name: Peer(f"{name.lower()}_{physics}", threads, **common)
            for name in ("Devito", "Deepwave")
        }
        grid = CartesianGrid((nodes, nodes))
        cases = ours(*homogeneous(physics, grid, *survey(nodes, steps, shots)))
        measured = _measure(
            f"{physics}, {nodes}×{nodes}, {steps} steps, {shots} shots, {threads} threads",
            nodes**2 * steps * shots, cases, peers, 3 if chosen.quick else 7,
        )  # fmt: skip
        if nodes == large[0] and shots == 1:
            roofline = _roofline(measured, nodes, steps, streams)
        seconds.update({f"{nodes}, {shots} shots: {name}": s for name, s in measured.items()})
        for peer in peers.values():
            peer.close()
    table(
        f"{physics}, {large[0]}×{large[0]}: memory traffic of a forward step",
        [roofline],
        [
            "bytes a cell and step",
            "GB/s",
            "triad GB/s",
            "fraction",
            "triad in cache, GB/s",
            "gradient's traffic at the triad's speed / forward run",
        ],
    )
    seconds |= _tiny(physics)
    _beside_paper(physics, measured, small[1])
    write(
        chosen.json, {"sizes": sizes, "threads": most, "roofline": roofline, "tiny": TINY}, seconds
    )


def _tiny(physics: str) -> dict[str, list[float]]:
    """Print what a step costs beside its arithmetic, and return the seconds of all repetitions."""
    nodes, count = TINY
    middle = [[nodes * SPACING / 2] * 2]
    wave, fields = homogeneous(
        physics, CartesianGrid((nodes, nodes)), SPACING, DT, count, middle, middle, np.ones(count),
        pml_sides=(),
    )  # fmt: skip
    each = interleaved(ours(wave, fields), 7)
    table(
        f"{physics}, {nodes}×{nodes} nodes without layers, 1 thread: what a step costs",
        [[name, 1e6 * statistics.median(s) / count] for name, s in each.items()],
        ["", "µs"],
    )
    return {f"{nodes}, without layers: {name}": s for name, s in each.items()}


def _beside_paper(physics: str, measured: Mapping[str, Sequence[float]], steps: int) -> None:
    """Print the seconds of small patches beside the paper's, if they are as many steps."""
    if steps != paper.STEPS["weak"]:
        return
    rows = []
    for case, theirs in zip(("forward", "gradient"), paper.SECONDS[physics, "weak"]):
        seconds = statistics.median(measured[f"adjoint {case}"])
        rows.append([case, seconds, theirs[0], seconds / theirs[0]])
    table(
        f"{physics}, 100×100 nodes, {steps} steps: 1 thread, and the paper's 32 cores",
        rows, ["", "seconds", "the paper's, other hardware", "ratio"],
    )  # fmt: skip


def _measure(
    title: str, cells: int, cases: Cases, peers: Mapping[str, Peer], repetitions: int
) -> dict[str, list[float]]:
    """Time all cases in turn, and print speeds and ratios."""
    libraries = {"adjoint": cases, **{name: peer.cases for name, peer in peers.items()}}
    seconds = interleaved(
        {f"{name} {case}": run for name, runs in libraries.items() for case, run in runs.items()},
        repetitions,
    )
    rows = [
        [f"{name} {case}", cells / statistics.median(seconds[f"{name} {case}"]) / 1e6,
         ratio(seconds[f"{name} {case}"], seconds[f"adjoint {case}"]),
         ratio(seconds[f"{name} {case}"], seconds[f"{name} forward"]),
         (peers[name].peak() if name in peers else _peak()) / 1e9]
        for name, runs in libraries.items() for case in runs
    ]  # fmt: skip
    table(title, rows, ["", "Mcells/s", "time / ours", "time / forward", "peak GB so far"])
    return seconds


def _roofline(
    measured: Mapping[str, Sequence[float]], nodes: int, steps: int, streams: Streams
) -> list[float]:
    """Return what a forward step moves, and how that compares with a plain triad.

    At the end is how many of our forward runs the traffic of a whole gradient takes at the triad's
    speed: less no gradient can take whose steps move as much.

    The triad is taken from memory (arrays of 128 MB), and with arrays of the wave's own size, of
    which a large cache may hold many.
    """
    forward = statistics.median(measured["adjoint forward"])
    rate = 8 * streams.forward * nodes**2 * steps / forward / 1e9
    sizes = {"memory": 2**24, "own": nodes**2}
    seconds = interleaved({name: triad(n) for name, n in sizes.items()}, 21, warmup=3)
    memory, own = (24 * n / statistics.median(seconds[name]) / 1e9 for name, n in sizes.items())
    whole = streams.forward + streams.reverse + 2 * streams.kept
    least = whole / streams.forward * rate / memory
    return [8.0 * streams.forward, rate, memory, rate / memory, own, least]


def _peak() -> float:
    """Return the largest resident memory of all ranks together, in bytes."""
    return float(sum(communicator().allgather(resident())))
