"""How the tests start a job of their own under mpiexec."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.stack import ENVIRONMENT, MPIEXEC

ROOT = Path(__file__).resolve().parents[1]


def command(*arguments: Any, ranks: int = 2) -> list[str]:
    """Return the command line of a Python program on so many ranks."""
    return [MPIEXEC, "-n", str(ranks), sys.executable, "-m", "mpi4py", *map(str, arguments)]


def environment() -> dict[str, str]:
    """Return the environment of a job.

    `os.environ` as Python knows it: where MPI has been initialised in this process, the C library
    has variables on top that make a child believe it is a rank of this process's job. Ranks write
    whole lines: of parts of lines, mpiexec may put those of several ranks into one.
    """
    return {
        **{name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
        "PYTHONPATH": str(ROOT),
        **ENVIRONMENT,
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def run(*arguments: Any, ranks: int = 2, limit: float = 55) -> subprocess.CompletedProcess[str]:
    """Run a Python program on so many ranks to its end, which must come within so many seconds."""
    return subprocess.run(
        command(*arguments, ranks=ranks), cwd=ROOT, env=environment(), capture_output=True,
        text=True, timeout=limit,
    )  # fmt: skip


@contextmanager
def started(*arguments: Any, ranks: int = 2) -> Iterator[subprocess.Popen[str]]:
    """Let a Python program run on so many ranks, at most until the block ends."""
    job = subprocess.Popen(
        command(*arguments, ranks=ranks), cwd=ROOT, env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield job
    finally:
        job.kill()
        job.communicate()


def line_of(job: subprocess.Popen[str], start: str) -> str:
    """Wait for a line that starts like this, and return it."""
    assert job.stdout is not None
    said = []
    for line in job.stdout:
        said.append(line)
        if line.startswith(start):
            return line
    raise AssertionError(f"the job has ended without {start!r}:\n{''.join(said)}")


def refused(
    message: str, program: str, *arguments: Any, ranks: int = 2, seconds: float = 10
) -> None:
    """Run a program of the examples with what it cannot use: it soon ends with one line that says
    so.
    """
    start = time.monotonic()
    found = run(f"examples/{program}", *arguments, ranks=ranks, limit=3 * seconds)
    assert time.monotonic() - start < seconds
    assert found.returncode != 0
    lines = [line for line in found.stderr.splitlines() if message in line]
    assert len(lines) == 1, found.stderr
    assert lines[0].startswith(f"{program}: error: ")
    assert "Traceback" not in found.stderr
