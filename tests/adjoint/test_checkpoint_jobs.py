"""A job that is killed leaves snapshots on disk only until it is run again."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.jobs import line_of, run, started

JOB = """
import sys, time
import numpy as np
from adjoint import Tape
from adjoint.checkpoint import TimeLoop
from adjoint.comm import Allreduce, CartesianGrid
from adjoint.solvers import AcousticWave, ElasticWave, ricker
from mpi4py import MPI
from tests.pendulums import Pendulums

comm = MPI.COMM_WORLD
kind, folder, pause = sys.argv[1], sys.argv[2], float(sys.argv[3])
settings = {"memory": 40, "storage": "disk", "directory": folder}
if kind == "pendulums":
    loop = TimeLoop(Pendulums(comm, 3, 20), **settings)
    model, others = np.ones(3), [np.ones((20, 3))]
else:
    grid = CartesianGrid((31, 33), comm)
    settings["memory"] = 100_000 if kind == "acoustic" else 300_000
    survey = {
        "sources": [[120.0, 120.0]], "receivers": [[150.0, 160.0]],
        "wavelets": ricker(1e-3 * np.arange(40), 40.0), "pml_width": 6,
    }
    model = np.full(grid.patch_shape, 2e3)
    if kind == "acoustic":
        loop, others = AcousticWave(grid, 10.0, 1e-3, 40, **survey, **settings), []
    else:
        survey["record"] = "v0"
        loop = ElasticWave(grid, 10.0, 1e-3, 40, **survey, **settings)
        model, others = 1e9 * model / 1e3, [np.full(grid.patch_shape, v) for v in (2e9, 2e3)]
with Tape() as tape:
    m = tape.watch(model)
    loss = Allreduce()((loop(m, *others) ** 2).sum())
comm.Barrier()
if comm.rank == 0:  # alone: mpiexec may join the lines of several ranks
    print("kept", loop.plan.disk_snapshots, flush=True)
time.sleep(pause)
gradient = tape.gradient(loss, [m])[0]
assert comm.rank or abs(gradient).max() > 0
"""


@pytest.mark.timeout(300)  # the first run may have to wait for the compiler
@pytest.mark.parametrize("kind", ["pendulums", "acoustic", "elastic"])
def test_the_next_run_removes_what_a_killed_one_has_left(kind: str, tmp_path: Path) -> None:
    script, folder = tmp_path / "job.py", tmp_path / "snapshots"
    script.write_text(JOB)
    with started(script, kind, folder, 250) as job:
        snapshots = int(line_of(job, "kept ").split()[1])
        left = sorted(folder.iterdir())
        assert len(left) == 2
        assert snapshots == 19 if kind == "pendulums" else snapshots > 1
        assert all(len(list(path.iterdir())) == snapshots for path in left)
        ranks = [int(path.name.split(".")[-2]) for path in left]
        for rank in ranks:
            os.kill(rank, signal.SIGKILL)
        job.wait(timeout=20)
    assert sorted(folder.iterdir()) == left
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{rank}").exists() for rank in ranks) and time.monotonic() < deadline:
        time.sleep(0.05)
    again = run(script, kind, folder, 0, limit=200)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count(" on disk, ") == 1
    assert not list(folder.iterdir())
