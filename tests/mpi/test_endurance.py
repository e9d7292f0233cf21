"""Gradients over and over in one process: no memory, PETSc objects or communicators are lost.

`make faults` takes 1,000 of a diffusion and 200 of a wave, `make test` fewer.
"""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from mpi4py import MPI

from adjoint import Tape
from adjoint.comm import rank
from adjoint.solvers.petsc import petsc
from tests.faults.program import acoustic, poisson

EVALUATIONS = int(os.environ.get("EVALUATIONS", "200"))
WARM = 10
MEGABYTE = 10**6


def live_objects(path: Path) -> int:
    """Return how many PETSc objects have been created and not destroyed; collective.

    Those of rank 0 are counted, by PETSc itself.
    """
    PETSc = petsc()
    viewer = PETSc.Viewer().createASCII(str(path), comm=PETSc.COMM_WORLD)
    PETSc.Log.view(viewer)
    viewer.destroy()
    if rank():
        return 0
    table = path.read_text().partition("Object Type")[2]
    rows = re.findall(r"^ *(\S.*?) +(\d+) +(\d+)(?: .*)?$", table, re.MULTILINE)
    assert rows, f"PETSc's table has another layout:\n{table}"
    return sum(int(created) - int(destroyed) for _, created, destroyed in rows)


def next_handle() -> int:
    """Return the handle that the next communicator gets: the lowest that is free; collective."""
    comm = MPI.COMM_WORLD.Dup()
    handle: int = comm.py2f()
    comm.Free()
    return handle


def evaluated(misfit: Callable[[Any], Any], theta: Any) -> Any:
    with Tape() as tape:
        x = tape.watch(theta)
        loss = misfit(x)
    return tape.gradient(loss, [x])[0]


@pytest.mark.timeout(600)  # the first of a new checkout waits for the compiler
@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize(
    ("problem", "evaluations"), [(poisson, EVALUATIONS), (acoustic, EVALUATIONS // 5)]
)
def test_nothing_is_lost(problem: Callable[[], Any], evaluations: int, tmp_path: Path) -> None:
    petsc().Log.begin()
    path = Path(MPI.COMM_WORLD.bcast(str(tmp_path)))
    misfit, theta, _ = problem()
    process = psutil.Process()
    random = np.random.default_rng(0)
    for _ in range(WARM):
        evaluated(misfit, theta + 1e-3 * random.standard_normal(theta.shape))
    gc.collect()  # what the tests before this one have left
    objects, handle = live_objects(path / "before"), next_handle()
    memory = process.memory_info().rss
    for _ in range(evaluations - WARM):
        evaluated(misfit, theta + 1e-3 * random.standard_normal(theta.shape))
    grown = process.memory_info().rss - memory
    print(f"{problem.__name__}: {evaluations} gradients, {grown / 1e6:+.3f} MB, "
          f"{objects} PETSc objects, next communicator {handle}")  # fmt: skip
    assert grown < MEGABYTE
    assert live_objects(path / "after") == objects
    assert next_handle() == handle


@pytest.mark.parallel([1, 2])
def test_a_loss_is_seen(tmp_path: Path) -> None:
    PETSc = petsc()
    PETSc.Log.begin()
    path = Path(MPI.COMM_WORLD.bcast(str(tmp_path)))
    objects, handle = live_objects(path / "before"), next_handle()
    vector = PETSc.Vec().createMPI(6, comm=PETSc.COMM_WORLD)
    comm = MPI.COMM_WORLD.Dup()
    assert live_objects(path / "after") >= objects + (rank() == 0)
    assert next_handle() != handle
    vector.destroy()
    comm.Free()
    assert live_objects(path / "last") == objects
    assert next_handle() == handle
