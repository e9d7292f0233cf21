"""Whole jobs that are killed, and what they leave: a state to continue from and no process."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.jobs import command, environment
from tests.stack import code_of_killed, codes_of_aborted

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.timeout(120),
]

SCRIPT = """
import os, sys, time
import numpy as np
from mpi4py import MPI
from adjoint import Operator
from adjoint.optimize import minimize

state, pause, what = sys.argv[1], float(sys.argv[2]), sys.argv[3]
comm = MPI.COMM_WORLD
calls = 0


class Total(Operator):
    needs_inputs = needs_outputs = ()
    communicates = True

    def forward(self, x):
        return comm.allreduce(x)

    def vjp(self, cotangents, inputs, outputs):
        return (comm.allreduce(cotangents[0]),)


def misfit(x):
    global calls
    calls += 1
    if calls == 6 and "on rank 1" in what and comm.rank == 1:
        raise ArithmeticError("alone")
    time.sleep(pause)
    valley = (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)[comm.rank :: comm.size]
    return Total()(valley.sum())


def callback(iteration, theta):
    if what == "interrupt" and iteration.iteration == 5:
        raise KeyboardInterrupt


sys.stdout.write(f"rank {comm.rank} pid {os.getpid()}\\n")
sys.stdout.flush()
comm.Barrier()
found = minimize(misfit, np.linspace(-1, 1.5, 6), options={"maxiter": 30}, state=state, every=3,
                 resume=True, callback=callback,
                 reject=ArithmeticError if what == "rejects on rank 1" else ())
if comm.rank == 0:
    print("end", found.theta.tobytes().hex(), found.iterations, found.evaluations, flush=True)
"""


class Job:
    """Two ranks at work on the script; their process ids once they have printed them."""

    def __init__(self, tmp_path: Path, state: Path, pause: float, what: str = "") -> None:
        script = tmp_path / "run.py"
        script.write_text(SCRIPT)
        self.errors = tmp_path / "errors"
        with open(self.errors, "w") as errors:
            self.process = subprocess.Popen(
                command(script, state, pause, what),
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment(),
            )
        self.pids: dict[int, int] = {}
        self.lines: list[str] = []

    def __enter__(self) -> Job:
        return self

    def __exit__(self, *error: Any) -> None:
        self.process.kill()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process.wait(timeout=20)
        for pid in self.pids.values():
            if alive(pid):
                os.kill(pid, signal.SIGKILL)

    def read(self, until: str) -> None:
        """Read what it prints up to a line that starts like this."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.strip())
            words = line.split()
            if words[:1] == ["rank"]:
                self.pids[int(words[1])] = int(words[3])
            if line.startswith(until):
                return
        pytest.fail(f"the job ended early: {self.lines} {self.errors.read_text()}")

    def ended(self) -> int:
        """Return the exit code, which must come soon, with no process left."""
        assert self.process.stdout is not None
        code = self.process.wait(timeout=10)
        self.lines += self.process.stdout.read().splitlines()
        limit = time.monotonic() + 5
        while any(alive(pid) for pid in self.pids.values()) and time.monotonic() < limit:
            time.sleep(0.05)
        assert not any(alive(pid) for pid in self.pids.values())
        return code


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not asked for its code does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


def finish(tmp_path: Path, state: Path) -> tuple[str, int]:
    """Run to the end; return the last line and the number of evaluations that were on file."""
    with Job(tmp_path, state, 0.0) as job:
        job.read("end")
        assert job.ended() == 0
    known = [line for line in job.lines if line.startswith("continuing")]
    return job.lines[-1], int(known[0].split(":")[1].split()[0]) if known else 0


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The last line of an uninterrupted run."""
    directory = tmp_path_factory.mktemp("whole")
    line, known = finish(directory, directory / "run.npz")
    assert known == 0
    return line


def test_a_job_killed_three_times_makes_the_same_iterates(whole: str, tmp_path: Path) -> None:
    state = tmp_path / "run.npz"
    random = Random(tmp_path.name)
    done = 0
    for k, victim in enumerate((1, 0, random.randint(0, 1))):
        with Job(tmp_path, state, 0.02) as job:
            job.read(f"iteration {5 + 5 * k:5d}")
            time.sleep(random.uniform(0, 0.06))
            os.kill(job.pids[victim], signal.SIGKILL)
            assert job.ended() != 0
        assert [p.name for p in tmp_path.glob("run.npz*") if not p.name.endswith(".tmp")]
    line, done = finish(tmp_path, state)
    assert done > 12
    assert line == whole


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
@pytest.mark.parametrize("target", ["root", "worker", "mpiexec"])
def test_a_signal_ends_all_ranks(
    target: str, number: signal.Signals, whole: str, tmp_path: Path
) -> None:
    state = tmp_path / "run.npz"
    with Job(tmp_path, state, 0.05) as job:
        job.read("iteration     7")
        pids = {"root": job.pids[0], "worker": job.pids[1], "mpiexec": job.process.pid}
        os.kill(pids[target], number)
        code = job.ended()
        if target == "mpiexec":  # which then ends with a code of its own
            assert code != 0
        elif target == "root":
            assert code in codes_of_aborted(128 + number)
        else:
            assert code == code_of_killed(number)
    line, known = finish(tmp_path, state)
    assert known >= (9 if target == "root" else 7)
    assert line == whole


def test_an_interrupt_of_the_method_releases_the_ranks(whole: str, tmp_path: Path) -> None:
    with Job(tmp_path, tmp_path / "run.npz", 0.0, "interrupt") as job:
        job.read("iteration     5")
        assert job.ended() != 0
    assert "KeyboardInterrupt: rank 0: " in job.errors.read_text()
    line, known = finish(tmp_path, tmp_path / "run.npz")
    assert known > 5
    assert line == whole


@pytest.mark.parametrize("what", ["fails", "rejects"])
def test_an_exception_on_one_rank_ends_the_job(what: str, tmp_path: Path) -> None:
    with Job(tmp_path, tmp_path / "run.npz", 0.0, f"{what} on rank 1") as job:
        job.read("iteration     0")
        assert job.ended() != 0
    assert "ArithmeticError: alone" in job.errors.read_text()
    assert (tmp_path / "run.npz").exists()
