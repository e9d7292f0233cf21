"""A copy of the checkout in which the tests run with one file changed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.jobs import environment
from tests.stack import MPIEXEC

#: A job may take so many times as long as without a fault, and these seconds more.
SLOWER, MORE = 4, 10

#: A job that takes more seconds than this may have been compiling, and is timed once more.
COMPILING = 30.0

#: Between looks at a job lie so many seconds; where it were many more, the machine stood still.
LOOK, STOOD_STILL = 0.1, 3.0

#: What pytest writes of a test that failed, also where other ranks, or its end, hang afterwards.
FAILED = re.compile(
    r"^[.EFXsx]*F[.EFXsx]*\s*(\[|$)|failed on rank \d+, other ranks are still in it", re.MULTILINE
)


class BadTests(Exception):
    """A test that fails without any fault says nothing of faults."""


class Trial:
    """Runs tests in a copy of the checkout.

    Parameters
    ----------
    tree : Path
        The copy; nothing else is changed.
    """

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        self.output = ""
        self.held_up = False  # whether the machine stood still during the last job
        self.seconds: dict[tuple[str, str], float] = {}
        self.entry: dict[str, Any] = {}

    def run(self, entry: dict[str, Any], file: str, changed: bytes) -> tuple[str, str]:
        """Return how the tests end with a changed file, and which of them ends it.

        ``"timeout"`` is for tests that take too long without having failed on any rank.

        Raises
        ------
        BadTests
            Where a test fails without the change.
        """
        self.entry = entry
        path = self.tree / file
        for test in entry["tests"]:
            limit = entry.get("limit", 10)
            seconds = SLOWER * self._seconds(test, path) + MORE + limit
            original = path.read_bytes()
            path.write_bytes(changed)
            try:
                while True:
                    status = self._job(test, seconds, limit, cached=False)
                    late = status is None or re.search(r"Timeout \(>|\+ Timeout \+", self.output)
                    if not (late and self.held_up):
                        break
            finally:
                path.write_bytes(original)
            if late and not FAILED.search(self.output):
                return "timeout", test
            if late or status != 0:
                return "caught", test
        return "survived", ""

    def _seconds(self, test: str, path: Path) -> float:
        """Return how long a test takes without a fault, tried when it is first asked for."""
        key = test, str(self.entry.get("environment"))
        if key not in self.seconds:
            self.seconds[key] = self._timed(test)
            if self.seconds[key] > COMPILING:
                self.seconds[key] = self._timed(test)
        # Python tells changed sources by size and second only.
        for compiled in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
            compiled.unlink()
        return self.seconds[key]

    def _timed(self, test: str) -> float:
        begin = time.monotonic()
        if self._job(test, 600, 300) != 0:
            raise BadTests(f"{test} fails without any fault:\n{self.output[-3000:]}")
        return time.monotonic() - begin

    def _job(self, test: str, limit: float, each: float, cached: bool = True) -> int | None:
        """Run one test file; return the exit status, or None where it ran out of time."""
        ranks, path = test.split()
        program = [sys.executable, "-m", "pytest", "-x", "-q", "--color=no", "--tb=line"]
        program += [f"--timeout={each}", "-p", "no:cacheprovider", path]
        if int(ranks):
            program[1:3] = ["-m", "mpi4py", "-m", "pytest"]
            program = [MPIEXEC, "-n", ranks, *program, "-m", f"parallel[{ranks}]"]
        variables = {
            **environment(),
            **self.entry.get("environment", {}),
            "PYTHONPATH": str(self.tree),
            "NUMBA_NUM_THREADS": "1",
        }
        variables.pop("GRADIENT_CHECKS", None)
        if not cached:
            variables["PYTHONDONTWRITEBYTECODE"] = "1"
        # The job's folder of sockets and temporary files goes with it, however it ends.
        with (
            tempfile.TemporaryDirectory(dir=self.tree.parent, ignore_cleanup_errors=True) as folder,
            tempfile.TemporaryFile() as output,
        ):
            variables["TMPDIR"] = folder
            job = subprocess.Popen(
                program, cwd=self.tree, env=variables, stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            try:
                status, self.held_up = _wait(job, limit)
            finally:
                _end(job)
            output.seek(0)
            self.output = output.read().decode(errors="replace")
        return status


def _wait(job: subprocess.Popen[bytes], limit: float) -> tuple[int | None, bool]:
    """Return a job's exit status, None where it is late, and whether the machine stood still."""
    held_up = False
    before = begin = time.monotonic()
    while before - begin < limit:
        with suppress(subprocess.TimeoutExpired):
            job.wait(LOOK)
        now = time.monotonic()
        held_up = held_up or now - before > STOOD_STILL
        if job.returncode is not None:
            return job.returncode, held_up
        before = now
    return None, held_up


def _end(job: subprocess.Popen[bytes]) -> None:
    """End what is left of a job: mpiexec ends its ranks if it is asked to, not if it is killed."""
    if job.poll() is None:
        job.terminate()
        with suppress(subprocess.TimeoutExpired):
            job.wait(10)
    with suppress(ProcessLookupError):
        os.killpg(job.pid, signal.SIGKILL)
    job.wait()
