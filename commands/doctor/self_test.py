"""Small problems with known answers: communication, solves with hypre, a network."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sparse
from scipy.sparse.linalg import spsolve

from ... import Tape, agreed
from ...comm import CartesianGrid, HaloExchange
from ...comm.blocks import best_dims
from ...nn import MLP
from ...solvers import LinearSolve, Pattern
from ...solvers.petsc import hypre_version, petsc
from ...testing import check_vjp, dot_test
from .finding import Finding, fault, note, together
from .packages import broken, folder, installed

if TYPE_CHECKING:
    from mpi4py import MPI

#: Of a solve, relative to the solution; the solver's own is on the residual.
TOLERANCE = 1e-7

_PETSC = "conda install -c conda-forge petsc4py, or apt install python3-petsc4py libpetsc-real-dev"


def halo(comm: MPI.Comm) -> str:
    """Compare ghosts with the nodes they are copies of, and ``⟨E u, w⟩`` with ``⟨u, Eᵀ w⟩``."""
    blocks = best_dims((60 * comm.size,) * 2, comm.size)
    grid = CartesianGrid([3 * n + 1 for n in blocks], comm, blocks, periodic=(True, False))
    exchange = HaloExchange(grid, width=2, corners=True)
    padded = exchange(grid.numbers().astype(float))
    with agreed(comm):
        wrong = np.count_nonzero(padded != np.maximum(grid.numbers(2), 0))
        if wrong:
            raise AssertionError(f"{wrong} of {padded.size} nodes hold another node's value")
    compared = dot_test(exchange, np.zeros(grid.patch_shape), comm=comm)
    return f"<Ju, w> and <u, J'w> differ by {compared.error:.0e}"


def network(comm: MPI.Comm) -> str:
    """Compare a network's gradient with central differences."""
    mlp = MLP((2, 8, 8, 1), lower=0.1)
    points = np.random.default_rng(comm.rank).random((5, 2))
    compared = check_vjp(mlp, mlp.initial(seed=0), points, comm=comm)
    return f"<v, J'w> and differences differ by {compared.error:.0e}"


def start_petsc(comm: MPI.Comm) -> Finding:
    """Import petsc4py on all ranks, which starts PETSc; collective."""
    if not all(comm.allgather(installed("petsc4py"))):
        missing = note(
            "PETSc",
            "petsc4py is not installed; it serves Poisson and every linear solve",
            f"{_PETSC}, or PETSC_CONFIGURE_OPTIONS=--download-hypre pip install petsc petsc4py",
        )
        return together(comm, missing if not installed("petsc4py") else Finding("PETSc"))
    try:
        PETSc = petsc()
    except Exception as error:
        cause = error.__cause__
        if cause is None:  # a PETSc that the library has refused
            return together(comm, fault("PETSc", str(error), f"install another: {_PETSC}"))
        return together(comm, broken("petsc4py", cause, f"install another: {_PETSC}"))
    number = ".".join(map(str, PETSc.Sys.getVersion()))
    theirs = sys.modules["petsc4py"].__version__
    bits = 8 * np.dtype(PETSc.IntType).itemsize
    figure = f"{number}, petsc4py {theirs}, hypre {hypre_version()}, {bits}-bit indices"
    if not PETSc.Sys.hasExternalPackage("hypre"):
        wrong = f"PETSc {number} was built without hypre, the preconditioner of every solve"
        return together(comm, fault("PETSc", wrong, f"install one with it: {_PETSC}"))
    if number.split(".")[:2] != theirs.split(".")[:2]:
        wrong = f"petsc4py {theirs} is made for another PETSc than {number}, which it found"
        return together(comm, fault("PETSc", wrong, f"unset PETSC_DIR and PETSC_ARCH, or {_PETSC}"))
    path = folder(sys.modules["petsc4py"])
    return together(comm, Finding("PETSc", figure, same=True, path=path))


def solve(comm: MPI.Comm, kind: str) -> str:
    """Compare a solve (``"forward"``), or its ``"adjoint"``, with SciPy's direct solution."""
    matrix = convection(max(6, int(np.ceil(np.sqrt(4 * comm.size)))))
    n = matrix.shape[0]
    ends = n * np.arange(comm.size + 1) // comm.size
    rows = slice(ends[comm.rank], ends[comm.rank + 1])
    pattern, values = Pattern.from_scipy(matrix[rows], columns=rows.stop - rows.start, comm=comm)
    b, w = np.random.default_rng(0).standard_normal((2, n))
    with LinearSolve(pattern, rtol=1e-10) as solver:
        with Tape(comm=comm) as tape:
            right = tape.watch(b[rows])
            x = solver(values, right)
        if kind == "forward":
            found, expected = x.value, spsolve(matrix.tocsc(), b)
        else:
            (found,) = tape.vjp([x], [w[rows]], [right])
            expected = spsolve(matrix.T.tocsc(), w)
        last = solver.last
    error = max(comm.allgather(float(np.abs(found - expected[rows]).max(initial=0.0))))
    error /= float(np.abs(expected).max())
    assert last is not None
    figure = f"{last.iterations} iterations, {error:.0e} from SciPy's solution"
    if not error <= TOLERANCE:
        raise AssertionError(f"{figure}, expected {TOLERANCE:g}")
    return figure


def convection(side: int) -> Any:
    """Return ``−Δu + (3, 1)·∇u``, upwind, on a square of nodes: sparse and not symmetric."""
    h = 1 / (side + 1)
    line = sparse.diags([-1.0, 2.0, -1.0], [-1, 0, 1], shape=(side, side)) / h**2
    drift = sparse.diags([-1.0, 1.0], [-1, 0], shape=(side, side)) / h
    eye = sparse.identity(side)
    return (sparse.kron(line + 3 * drift, eye) + sparse.kron(eye, line + drift)).tocsr()
