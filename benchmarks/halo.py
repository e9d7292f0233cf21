"""Halo exchange against hand-written mpi4py with the same persistent requests and buffers.

    mpiexec -n 2 python -m mpi4py benchmarks/halo.py

Ranks lie side by side along the first axis. "In place" fills the ghosts of padded arrays (and takes
their cotangents back); "new arrays" is the recorded operator, owned nodes in and padded arrays out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from harness import interleaved, parser, ratio, table, write
from mpi4py import MPI
from numpy.typing import NDArray

from adjoint import communicator
from adjoint.comm import CartesianGrid, HaloExchange

Array = NDArray[np.float64]
Case = Callable[[], Any]


class HandWritten:
    """What one would write by hand for ``fields`` arrays cut along the first axis."""

    def __init__(self, fields: int, side: int, width: int) -> None:
        comm = communicator()
        self.width, self.side = width, side
        self.links = []
        receives, sends = ([], []), ([], [])  # type: ignore[var-annotated]
        for other, own, ghost in (
            (comm.rank - 1, slice(width, 2 * width), slice(0, width)),
            (comm.rank + 1, slice(side, side + width), slice(side + width, side + 2 * width)),
        ):
            if 0 <= other < comm.size:
                near, far = np.empty((fields, width, side)), np.empty((fields, width, side))
                self.links.append((own, ghost, near, far))
                receives[0].append(comm.Recv_init(far, other, 1))
                receives[1].append(comm.Recv_init(near, other, 1))
                sends[0].append(comm.Send_init(near, other, 1))
                sends[1].append(comm.Send_init(far, other, 1))
        self.ahead, self.back = receives[0] + sends[0], receives[1] + sends[1]

    def forward(self, arrays: Sequence[Array]) -> None:
        w, n = self.width, self.side
        for own, _, near, _ in self.links:
            for i, u in enumerate(arrays):
                near[i] = u[own, w : w + n]
        MPI.Prequest.Startall(self.ahead)
        MPI.Request.Waitall(self.ahead)
        for _, ghost, _, far in self.links:
            for i, u in enumerate(arrays):
                u[ghost, w : w + n] = far[i]

    def adjoint(self, arrays: Sequence[Array]) -> None:
        w, n = self.width, self.side
        for _, ghost, _, far in self.links:
            for i, u in enumerate(arrays):
                far[i] = u[ghost, w : w + n]
                u[ghost, w : w + n] = 0
        MPI.Prequest.Startall(self.back)
        MPI.Request.Waitall(self.back)
        for own, _, near, _ in self.links:
            for i, u in enumerate(arrays):
                u[own, w : w + n] += near[i]

    def forward_new(self, patches: Sequence[Array]) -> list[Array]:
        w, n = self.width, self.side
        padded = [np.zeros((n + 2 * w, n + 2 * w)) for _ in patches]
        for y, u in zip(padded, patches):
            y[w : w + n, w : w + n] = u
        self.forward(padded)
        return padded

    def adjoint_new(self, padded: Sequence[Array]) -> list[Array]:
        w, n = self.width, self.side
        for _, ghost, _, far in self.links:
            for i, u in enumerate(padded):
                far[i] = u[ghost, w : w + n]
        MPI.Prequest.Startall(self.back)
        patches = [y[w : w + n, w : w + n].copy() for y in padded]
        MPI.Request.Waitall(self.back)
        for own, _, near, _ in self.links:
            rows = slice(own.start - w, own.stop - w)
            for i, u in enumerate(patches):
                u[rows] += near[i]
        return patches


def cases(fields: int, side: int, width: int, inner: int) -> dict[str, tuple[Case, Case]]:
    """Return, for each thing compared, ours and the hand-written; results are compared first."""
    comm = communicator()
    grid = CartesianGrid((side * comm.size, side), dims=(comm.size, 1))
    halo = HaloExchange(grid, width)
    buffers, hand = halo.buffers(fields), HandWritten(fields, side, width)
    generator = np.random.default_rng(comm.rank)
    patches = [generator.standard_normal((side, side)) for _ in range(fields)]
    padded = [generator.standard_normal(grid.padded_shape(width)) for _ in range(fields)]
    ours, theirs = ([a.copy() for a in padded] for _ in range(2))

    for a, b in zip(halo(*patches), hand.forward_new(patches)):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(halo.vjp(padded, (), ()), hand.adjoint_new(padded)):
        np.testing.assert_array_equal(a, b)
    for exchange, same in ((buffers.forward, hand.forward), (buffers.adjoint, hand.adjoint)):
        exchange(ours)
        same(theirs)
        for a, b in zip(ours, theirs):
            np.testing.assert_array_equal(a, b)

    def repeat(function: Callable[..., Any], *arguments: Any, times: int) -> Case:
        def run() -> None:
            for _ in range(times):
                function(*arguments)

        return run

    return {
        f"in place, forward, width {width}": (
            repeat(buffers.forward, ours, times=inner),
            repeat(hand.forward, theirs, times=inner),
        ),
        f"in place, adjoint, width {width}": (
            repeat(buffers.adjoint, ours, times=inner),
            repeat(hand.adjoint, theirs, times=inner),
        ),
        f"new arrays, forward, width {width}": (
            repeat(halo, *patches, times=1),
            repeat(hand.forward_new, patches, times=1),
        ),
        f"new arrays, vjp, width {width}": (
            repeat(halo.vjp, padded, (), (), times=1),
            repeat(hand.adjoint_new, padded, times=1),
        ),
    }


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--fields", type=int, default=5)
    arguments.add_argument("--side", type=int, default=300, help="nodes of a patch along each axis")
    options = arguments.parse_args()
    repetitions, inner = (51, 10) if options.quick else (501, 20)
    rows: list[tuple[Any, ...]] = []
    seconds: dict[str, list[float]] = {}
    for width in (1, 2):
        for name, (ours, theirs) in cases(options.fields, options.side, width, inner).items():
            # Each pair by itself: what runs between two turns decides what the caches hold.
            taken = interleaved({"ours": ours, "by hand": theirs}, repetitions)
            times = inner if name.startswith("in place") else 1
            each = {who: [s / times for s in values] for who, values in taken.items()}
            seconds.update({f"{name}, {who}": values for who, values in each.items()})
            medians = [float(np.median(values)) * 1e6 for values in each.values()]
            rows.append((name, *medians, ratio(each["ours"], each["by hand"])))
    table(
        f"{options.fields} fields of {options.side}×{options.side} per rank, "
        f"{communicator().size} ranks, medians",
        rows,
        ("exchange", "ours / µs", "by hand / µs", "ratio"),
    )
    parameters = {"fields": options.fields, "side": options.side, "inner": inner}
    write(options.json, parameters, seconds)


if __name__ == "__main__":
    main()
