"""What scaling_model.py measures on one set of ranks: exchanges, and the programs of its model.

    mpiexec -n 2 python -m mpi4py benchmarks/probe.py --patch 100 --json FILE

With ``--alone`` each rank has problems of its own, and all of them compute at the same time: with
and without layers. Without it the ranks have one problem together, with layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from harness import interleaved, parser, write
from model import square
from mpi4py import MPI
from scaling import poisson
from waves import DT, LAYER, MEDIA, SPACING, homogeneous, ours, triad

from adjoint import communicator
from adjoint.comm import CartesianGrid, HaloExchange
from adjoint.solvers import Poisson

WIDTH, FIELDS = 2, 5
MESSAGES = (8, 2000, 8000, 24_000, 48_000)
TIMES = 5  # exchanges in one case
ENTRIES = 2**22  # of each array of the triad


def network() -> tuple[dict[str, Callable[[], None]], dict[str, tuple[int, int, int]]]:
    """Return exchanges, and the rounds, messages and bytes of each."""
    comm = communicator()
    cases: dict[str, Callable[[], None]] = {}
    sizes: dict[str, tuple[int, int, int]] = {}
    for size in MESSAGES:
        cases[f"ping-pong, {size} bytes"] = partial(ping_pong, np.zeros(size, np.uint8))
        sizes[f"ping-pong, {size} bytes"] = 2 * TIMES, 2 * TIMES, 2 * TIMES * size
    for side in (50, 300):
        blocks = square(side, comm.size)
        grid = CartesianGrid(blocks.shape, dims=blocks.dims)
        halo = HaloExchange(grid, WIDTH)
        buffers = halo.buffers(FIELDS)
        arrays = [np.zeros(grid.padded_shape(WIDTH)) for _ in range(FIELDS)]
        neighbours = sum(min(d - 1, 2) for d in blocks.dims)
        name = f"halo, {side} nodes"
        cases[name] = partial(repeat, buffers.forward, arrays)
        sizes[name] = TIMES, TIMES * neighbours, TIMES * neighbours * 8 * WIDTH * FIELDS * side
    return cases, sizes


def ping_pong(message: Any) -> None:
    """Send a message from rank 0 to rank 1 and back."""
    comm = communicator()
    for _ in range(TIMES):
        for turn in (0, 1):
            if comm.rank == turn:
                comm.Send(message, 1 - turn, 7)
            elif comm.rank == 1 - turn:
                comm.Recv(message, turn, 7)


def repeat(function: Callable[[Any], Any], argument: Any) -> None:
    for _ in range(TIMES):
        function(argument)


def waves(grid: CartesianGrid, steps: int, bare: bool) -> dict[str, Callable[[], Any]]:
    """Return forward runs and gradients of both waves."""
    settings: dict[str, Any] = {"pml_sides": ()} if bare else {"pml_width": LAYER}
    points = [[min(grid.shape) // 2 * SPACING] * 2]
    survey = SPACING, DT, steps, points, points, np.ones(steps)
    return {
        f"{physics}, {name}": case for physics in MEDIA
        for name, case in ours(*homogeneous(physics, grid, *survey, **settings)).items()
    }  # fmt: skip


def programs(
    patch: int, steps: Sequence[int], bare: bool, alone: bool
) -> tuple[dict[str, Callable[[], Any]], int]:
    """Return the cases of the waves for each number of steps, and of Poisson's equation.

    Also the iterations that the latter takes.
    """
    comm = MPI.COMM_SELF if alone else MPI.COMM_WORLD
    blocks = square(patch, comm.size)
    grid = CartesianGrid(blocks.shape, comm, blocks.dims)
    cases: dict[str, Callable[[], Any]] = {}
    for count in steps:
        for name, case in waves(grid, count, bare).items():
            kind = "bare" if bare else "with layers"
            cases[f"{name}, {patch} nodes {kind}, {count} steps"] = case
    solver = Poisson(grid)
    solver(np.ones(grid.padded_shape(1)), np.ones(grid.patch_shape))
    last = solver.solve.last
    assert last is not None
    for name, case in poisson(grid, 0).items():
        cases[f"poisson, {name}, {patch} nodes"] = case
    return cases, last.iterations


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--patch", type=int, nargs="+", default=[100], metavar="NODES",
                         help="of a rank along each axis")  # fmt: skip
    options.add_argument("--steps", type=int, nargs="+", metavar="STEPS",
                         help="by default as many as take a while, and a fifth")  # fmt: skip
    options.add_argument("--repetitions", type=int, default=5)
    options.add_argument("--alone", action="store_true", help="a problem for each rank")
    chosen = options.parse_args()
    cases, sizes = network()
    # Times in shared memory are short and noisy, those on slow links are neither.
    seconds = interleaved(cases, 5 * chosen.repetitions if chosen.alone else chosen.repetitions)
    found: dict[str, Any] = {"sizes": sizes, "iterations": {}, "steps": {}}
    kinds = [(p, False) for p in chosen.patch]
    if chosen.alone:
        found["bytes"] = 24 * ENTRIES
        seconds |= interleaved({"triad": triad(ENTRIES)}, 5 * chosen.repetitions)
        kinds = [(p, True) for p in chosen.patch] + kinds[-1:]
    for patch, bare in kinds:
        steps = found["steps"][patch] = chosen.steps or measurable(patch)
        cases, found["iterations"][patch] = programs(patch, steps, bare, chosen.alone)
        seconds |= interleaved(cases, chosen.repetitions)
    write(chosen.json, found, seconds)


def measurable(patch: int) -> tuple[int, int]:
    """Return two numbers of steps whose times differ by some tens of milliseconds."""
    few = int(np.clip(500_000 / patch**2, 2, 50))
    return few, 5 * few


if __name__ == "__main__":
    main()
