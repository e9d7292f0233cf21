"""A job that is killed leaves snapshots on disk only until it is run again."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from tests.jobs import ROOT, command, environment

JOB = """
import sys, time
import numpy as np
from adjoint import Tape
from adjoint.checkpoint import TimeLoop
from adjoint.comm import Allreduce
from mpi4py import MPI
from tests.pendulums import Pendulums

comm = MPI.COMM_WORLD
folder, pause = sys.argv[1], float(sys.argv[2])
loop = TimeLoop(Pendulums(comm, 3, 20), memory=40, storage="disk", directory=folder)
with Tape() as tape:
    m = tape.watch(np.ones(3))
    loss = Allreduce()((loop(m, np.ones((20, 3))) ** 2).sum())
comm.Barrier()
if comm.rank == 0:  # alone: mpiexec may join the lines of several ranks
    print("kept", flush=True)
time.sleep(pause)
gradient = tape.gradient(loss, [m])[0]
assert comm.rank or abs(gradient).max() > 0
"""


def test_the_next_run_removes_what_a_killed_one_has_left(tmp_path: Path) -> None:
    script, folder = tmp_path / "job.py", tmp_path / "snapshots"
    script.write_text(JOB)
    job = subprocess.Popen(
        command(script, folder, 60), cwd=ROOT, env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert job.stdout is not None
        said: list[str] = []
        while "kept\n" not in said:
            said.append(job.stdout.readline())
            assert said[-1], said
        left = sorted(folder.iterdir())
        assert len(left) == 2
        assert all(len(list(path.iterdir())) == 19 for path in left)
        ranks = [int(path.name.split(".")[-2]) for path in left]
        for rank in ranks:
            os.kill(rank, signal.SIGKILL)
        job.wait(timeout=20)
    finally:
        job.kill()
        job.communicate()
    assert sorted(folder.iterdir()) == left
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{rank}").exists() for rank in ranks) and time.monotonic() < deadline:
        time.sleep(0.05)
    again = subprocess.run(
        command(script, folder, 0), cwd=ROOT, env=environment(), text=True, capture_output=True,
        timeout=50,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("TimeLoop: ") == 1
    assert not list(folder.iterdir())
