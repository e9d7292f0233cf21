"""Jobs over distributed fields: what a fault on one rank and a signal do to them."""

from __future__ import annotations

import time

from tests.jobs import run

FAULT = """
import numpy as np
from adjoint.comm import Allreduce, CartesianGrid
from adjoint.solvers import minimize_field

grid, total = CartesianGrid((6, 4)), Allreduce()
calls = 0

def misfit(m):
    global calls
    calls += 1
    if calls == 3 and grid.rank == 1:
        raise ArithmeticError("alone")
    return total(((m - 1) ** 4).sum())

minimize_field(misfit, np.zeros(grid.patch_shape), grid)
"""


BETWEEN_EXCHANGES = """
import numpy as np
from adjoint.comm import Allreduce
from adjoint.solvers import NonlinearSolve, Pattern

total, calls = Allreduce(), 0
pattern = Pattern([0, 1], [RANK])

def residual(u):
    global calls
    calls += 1
    if calls == 2 and RANK == SIZE - 1:
        raise ArithmeticError("alone")
    return u**3 + u - 1 + 0 * total(u.sum())

print("begins")
NonlinearSolve(pattern, residual, lambda u: 3 * u**2 + 1)(np.zeros(1))
"""


def test_an_exception_on_one_rank_ends_the_job() -> None:
    start = time.monotonic()
    found = run("-c", FAULT, limit=50)
    assert found.returncode != 0
    assert "ArithmeticError: alone" in found.stderr
    assert "iteration     0" in found.stdout
    assert time.monotonic() - start < 40


def test_an_exception_between_exchanges_of_a_residual_ends_the_job() -> None:
    ranks = "from mpi4py.MPI import COMM_WORLD as C; RANK, SIZE = C.rank, C.size"
    found = run("-c", f"{ranks}\n{BETWEEN_EXCHANGES}", ranks=3, limit=50)
    assert found.returncode != 0
    assert "begins" in found.stdout
    assert "ArithmeticError: alone" in found.stderr
