"""The Poisson solve against petsc4py driven directly, and the cost of its adjoint.

On the unit square with a diffusivity that changes at every solve, so that each one fills the matrix
and sets up hypre. `direct` is what a script would do: the values at hand, it inserts them, sets up
and solves, with the same options. `beyond PETSc` is what a solve takes besides PETSc's set-up and
iteration. Targets: library / direct at most 1.10, beyond PETSc at most 10 %, reverse / forward at
most 0.6 where the matrix is symmetric and at most 1.3 where it is not.

Before the first reverse sweep of a program the ranks compare the communication they recorded. That
is timed on the program of the Poisson example. Targets: at most 1 % of the sweep, 0.01 % later.

    mpiexec -n 2 python -m mpi4py benchmarks/poisson.py
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
from harness import interleaved, parser, ratio, table, write
from scaling import with_overhead

from adjoint import Tape, Variable, communicator
from adjoint.comm import Allreduce, CartesianGrid
from adjoint.comm.records import check_first
from adjoint.nn import MLP
from adjoint.solvers import LinearSolve, Poisson
from adjoint.solvers.petsc import petsc


class Direct:
    """The same solve as a petsc4py script has it."""

    def __init__(self, poisson: Poisson) -> None:
        PETSc, pattern = petsc(), poisson.matrix.pattern
        self.csr = pattern.indptr.astype(PETSc.IntType), pattern.indices.astype(PETSc.IntType)
        rows, columns = pattern.local_shape[0], pattern.shape[0]
        self.matrix = PETSc.Mat().createAIJ(
            ((rows, columns), (rows, columns)), csr=(*self.csr, np.ones(pattern.nnz)),
            comm=pattern.comm,
        )  # fmt: skip
        self.x, self.b = self.matrix.createVecs()
        database = PETSc.Options()
        for name, value in poisson.solve.settings.items():
            database[f"direct_{name}"] = value
        database["direct_ksp_norm_type"] = "unpreconditioned"
        self.ksp = PETSc.KSP().create(pattern.comm)
        self.ksp.setOptionsPrefix("direct_")
        self.ksp.setFromOptions()

    def solve(self, values: Any, f: Any) -> Any:
        self.matrix.setValuesCSR(*self.csr, values)
        self.matrix.assemble()
        self.b.setArray(f)
        self.ksp.setOperators(self.matrix)
        self.ksp.solve(self.b, self.x)
        return self.x.getArray().copy()


def reverse_over_forward(
    program: Callable[[Tape], tuple[Variable, list[Variable]]], weights: Any, repetitions: int
) -> tuple[list[float], list[float]]:
    """Return seconds of a program's forward and reverse sweeps, taken in turn."""
    tapes: list[tuple[Tape, Variable, list[Variable]]] = []

    def forward() -> None:
        with Tape() as tape:
            u, sources = program(tape)
        tapes.append((tape, u, sources))

    def reverse() -> None:
        tape, u, sources = tapes.pop()
        tape.vjp([u], [weights], sources)

    seconds = interleaved({"forward": forward, "reverse": reverse}, repetitions)
    return seconds["forward"], seconds["reverse"]


def first_check(poisson: Poisson, f: Any, repetitions: int) -> dict[str, list[float]]:
    """Return seconds of the check before a first sweep, of the sweep, and of the next check.

    The program is that of the Poisson example: a network at all nodes, a solve, a sum.
    """
    grid, total = poisson.grid, Allreduce()
    network = MLP((2, 20, 20, 20, 1), domain=((0, 1), (0, 1)), lower=0.5, upper=4.0)
    theta = network.initial(0)
    ring = grid.coordinates(poisson.spacing, poisson.spacing, width=1)
    points = np.stack([c.ravel() for c in ring], axis=1)
    state: dict[str, Any] = {}

    def record() -> None:
        comm = grid.comm.Dup()  # has seen no sweep
        communicator(comm)
        with Tape(comm=comm) as tape:
            x = tape.watch(theta)
            kappa = network(x, points).reshape(grid.padded_shape(1))
            loss = total(np.sum(poisson(kappa, f) ** 2))
        state.update(comm=comm, tape=tape, x=x, loss=loss)

    cases: dict[str, Callable[[], Any]] = {
        "example, forward": record,
        "example, first check": lambda: check_first(state["tape"]),
        "example, later check": lambda: check_first(state["tape"]),
        "example, reverse": lambda: state["tape"].gradient(state["loss"], [state["x"]]),
        "freed": lambda: state["comm"].Free(),
    }
    seconds = interleaved(cases, repetitions)
    del seconds["freed"]
    return seconds


def upwind(poisson: Poisson, speed: float) -> Any:
    """Return values of the pattern for ``speed ∂u/∂x`` along the first axis, first order upwind."""
    pattern, grid = poisson.matrix.pattern, poisson.grid
    rows = np.repeat(np.arange(*pattern.row_range), np.diff(pattern.indptr))
    before = grid.numbers(1)[:-2, 1:-1].ravel()[rows - pattern.row_range[0]]
    here = (pattern.indices == rows).astype(float) - (pattern.indices == before)
    return here * speed / poisson.spacing[0]


def main() -> None:
    arguments = parser(__doc__).parse_args()
    nodes, repetitions = (150, 5) if arguments.quick else (600, 15)
    comm = communicator()
    grid = CartesianGrid((nodes, nodes))
    poisson = Poisson(grid)
    h = poisson.spacing
    x, y = grid.coordinates(h, h, width=1)
    base = 1.5 + np.sin(5 * x) * np.cos(4 * y) + x * y
    f = np.ones(grid.patch_shape)
    weights = np.random.default_rng(comm.rank).standard_normal(grid.patch_shape)
    count = iter(range(10**9))

    def kappa() -> Any:
        return base + 0.01 * (next(count) % 7)

    fields = [kappa() for _ in range(7)]
    values = [poisson.matrix(k) for k in fields]
    direct = Direct(poisson)
    besides: dict[str, list[float]] = {}

    def pick(items: list[Any]) -> Any:
        return items[next(count) % 7]

    def on_tape() -> None:
        with Tape() as tape:
            poisson(tape.watch(pick(fields)), f)

    found = poisson(fields[0], f).ravel()
    expected = direct.solve(values[0], f.ravel())
    assert np.abs(found - expected).max() <= 1e-8 * np.abs(expected).max()

    cases = {
        "direct": lambda: direct.solve(pick(values), f.ravel()),
        **with_overhead({"library": lambda: poisson(pick(fields), f)}, besides),
        "library, on a tape": on_tape,
    }
    seconds = interleaved(cases, repetitions)
    beyond = ratio(besides["library, overhead"][1:], seconds["library"])  # the first was a warm-up

    def diffusion(tape: Tape) -> tuple[Variable, list[Variable]]:
        k, source = tape.watch(pick(fields)), tape.watch(f)
        return poisson(k, source), [k, source]

    seconds["symmetric, forward"], seconds["symmetric, reverse"] = reverse_over_forward(
        diffusion, weights, repetitions
    )

    transport = upwind(poisson, 30.0)
    general = LinearSolve(poisson.matrix.pattern)

    def advection(tape: Tape) -> tuple[Variable, list[Variable]]:
        k, source = tape.watch(pick(fields)), tape.watch(f.ravel())
        return general(poisson.matrix(k) + transport, source), [k, source]

    seconds["nonsymmetric, forward"], seconds["nonsymmetric, reverse"] = reverse_over_forward(
        advection, weights.ravel(), repetitions
    )

    seconds |= first_check(poisson, f, repetitions)

    table(
        f"{nodes} × {nodes} nodes, {comm.size} ranks",
        [[name, statistics.median(s), min(s)] for name, s in seconds.items()],
        ["case", "median [s]", "least [s]"],
    )
    claims = {
        "library / direct": (ratio(seconds["library"], seconds["direct"]), 1.10),
        "library on a tape / direct": (
            ratio(seconds["library, on a tape"], seconds["direct"]), 1.10,
        ),
        "beyond PETSc, share of library": (beyond, 0.10),
        "reverse / forward, symmetric": (
            ratio(seconds["symmetric, reverse"], seconds["symmetric, forward"]), 0.6,
        ),
        "reverse / forward, nonsymmetric": (
            ratio(seconds["nonsymmetric, reverse"], seconds["nonsymmetric, forward"]), 1.3,
        ),
        "check / reverse, first sweep of the example": (
            ratio(seconds["example, first check"], seconds["example, reverse"]), 0.01,
        ),
        "check / reverse, later sweeps": (
            ratio(seconds["example, later check"], seconds["example, reverse"]), 1e-4,
        ),
    }  # fmt: skip
    table(
        "claims",
        [[name, found, f"≤ {target}"] for name, (found, target) in claims.items()],
        ["ratio", "found", "target"],
    )
    write(arguments.json, {"nodes": nodes, "repetitions": repetitions, "claims": claims}, seconds)


if __name__ == "__main__":
    main()
