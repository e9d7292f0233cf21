"""Transposing a distributed matrix with a known pattern, against PETSc's MatTranspose with reuse.

Two matrices: the five-point stencil in stripes, of which few entries change rank, and one with
entries anywhere, of which most do. Target: library / PETSc at most 1.0.

    mpiexec -n 2 python -m mpi4py benchmarks/transpose.py
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse
from harness import interleaved, parser, ratio, table, write

from adjoint import communicator
from adjoint.comm import CartesianGrid
from adjoint.solvers import DiffusionMatrix, Pattern, Transpose
from adjoint.solvers.petsc import petsc


def stencil(grid: CartesianGrid) -> tuple[Pattern, Any]:
    """Return the matrix of a diffusion problem."""
    matrix = DiffusionMatrix(grid, 1.0)
    return matrix.pattern, matrix(1.0 + np.random.default_rng(0).random(grid.padded_shape(1)))


def anywhere(rows: int, per_row: int) -> tuple[Pattern, Any]:
    """Return a matrix with random columns."""
    comm = communicator()
    mine = rows // comm.size
    generator = np.random.default_rng(comm.rank)
    columns = generator.integers(0, mine * comm.size, (mine, per_row)).ravel()
    indptr = np.arange(0, len(columns) + 1, per_row)
    values = generator.random(len(columns))
    stripe = scipy.sparse.csr_matrix((values, columns, indptr), (mine, mine * comm.size))
    return Pattern.from_scipy(stripe)


def beside_petsc(pattern: Pattern, values: Any) -> dict[str, Callable[[], Any]]:
    """Return the transposition by PETSc, by the library, and its adjoint; results are compared."""
    PETSc = petsc()
    csr = pattern.indptr.astype(PETSc.IntType), pattern.indices.astype(PETSc.IntType), values
    sizes = [(n, m) for n, m in zip(pattern.local_shape, pattern.shape)]
    matrix, result = PETSc.Mat().createAIJ(sizes, csr=csr, comm=pattern.comm), PETSc.Mat()
    matrix.transpose(result)
    transpose = Transpose(pattern)
    assert np.array_equal(result.getValuesCSR()[2], transpose(values))
    weights = np.ones(transpose.transposed.nnz)

    def theirs() -> None:
        matrix.stateIncrease()  # as after new values: PETSc skips unchanged ones
        matrix.transpose(result)

    return {
        "PETSc": theirs,
        "library": lambda: transpose(values),
        "its adjoint": lambda: transpose.vjp((weights,), (), ()),
    }


def main() -> None:
    arguments = parser(__doc__).parse_args()
    scale, repetitions = (1, 7) if arguments.quick else (4, 25)
    nodes, size = 150 * scale, 20_000 * scale
    matrices = {
        f"stencil, {nodes} × {nodes} nodes": stencil(CartesianGrid((nodes, nodes))),
        f"anywhere, {size} rows of 10": anywhere(size, 10),
    }
    seconds: dict[str, list[float]] = {}
    rows = []
    for name, matrix in matrices.items():
        cases = {f"{name}: {case}": run for case, run in beside_petsc(*matrix).items()}
        times = interleaved(cases, repetitions)
        base, *others = times
        for case in others:
            rows.append([
                case, statistics.median(times[case]), statistics.median(times[base]),
                ratio(times[case], times[base]), "≤ 1.0",
            ])  # fmt: skip
        seconds.update(times)
    table(
        f"{communicator().size} ranks", rows, ["case", "median [s]", "PETSc [s]", "ratio", "target"]
    )
    write(arguments.json, {"scale": scale, "repetitions": repetitions}, seconds)


if __name__ == "__main__":
    main()
