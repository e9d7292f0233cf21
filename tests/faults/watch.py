"""A job under watch: what it prints, what its processes are, and how it ends."""

from __future__ import annotations

import signal
import subprocess
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from tests.jobs import ROOT, command, environment

#: Seconds within which a job has to end once something has happened to it.
LIMIT = 10.0

#: Seconds that a job may take where nothing is done to it; the machine may be busy.
PATIENCE = 120.0

_TOKEN = "ADJOINT_FAULTS_JOB"
_RANK = "OMPI_COMM_WORLD_RANK"

#: A process that waits for its parent to ask for its code does not run any more.
_ENDED = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)


class End(NamedTuple):
    """How a job ended.

    Attributes
    ----------
    code : int or None
        What mpiexec returned, as a shell gives it; ``None`` where it had to be ended.
    seconds : float
        From the call of :meth:`Job.end` until the last of its processes was gone.
    orphans : int
        Processes that were still there after ``LIMIT``.
    """

    code: int | None
    seconds: float
    orphans: int


class Job:
    """The program of this folder at work on several ranks.

    Its processes bear a mark in their environment, by which they are found whoever their parent is
    by then.

    Parameters
    ----------
    arguments : sequence
        Of ``tests/faults/program.py``.
    ranks : int
    log : path
        Where to write what it prints.
    """

    def __init__(self, *arguments: Any, ranks: int, log: Path) -> None:
        self.log, self.ranks = log, ranks
        self.token = uuid.uuid4().hex
        paths = f"{ROOT}:{ROOT / 'examples'}"
        with log.open("w") as output:
            self.process = subprocess.Popen(
                command("tests/faults/program.py", *arguments, ranks=ranks), cwd=ROOT,
                env={**environment(), "PYTHONPATH": paths, _TOKEN: self.token},
                stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            )  # fmt: skip

    def __enter__(self) -> Job:
        return self

    def __exit__(self, *error: Any) -> None:
        for process in self.alive():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait(timeout=LIMIT)

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def alive(self) -> list[psutil.Process]:
        """Return the processes of this job that run."""
        return [process for process, _ in self._marked()]

    def victim(self, number: int) -> psutil.Process | None:
        """Return the process of a rank, or ``None`` where it does not run (yet, or any more)."""
        for process, variables in self._marked():
            if variables.get(_RANK) == str(number) and "python" in process.name():
                return process
        return None

    def _marked(self) -> list[tuple[psutil.Process, dict[str, str]]]:
        found = []
        for process in psutil.process_iter():
            try:
                variables = process.environ()
                if variables.get(_TOKEN) == self.token and process.status() not in _ENDED:
                    found.append((process, variables))
            except psutil.Error:  # gone, or not ours
                continue
        return found

    def wait_for(self, text: str) -> None:
        """Wait until it has printed something."""
        limit = time.monotonic() + PATIENCE
        while text not in self.output:
            if self.process.poll() is not None or time.monotonic() > limit:
                raise AssertionError(f"the job did not come to {text!r}:\n{self.output[-4000:]}")
            time.sleep(0.01)

    def end(self, limit: float = LIMIT) -> End:
        """Wait for its end and that of all its processes, at most ``limit`` seconds."""
        start = time.monotonic()
        code: int | None = None
        with suppress(subprocess.TimeoutExpired):
            code = self.process.wait(timeout=limit)
        while (left := self.alive()) and time.monotonic() < start + limit:
            time.sleep(0.02)
        seconds = time.monotonic() - start
        if code is not None and code < 0:
            code = 128 - code
        return End(code, seconds, len(left))

    def launcher_is_stuck(self) -> bool:
        """Whether the ranks are gone, and mpiexec waits for itself.

        Open MPI 4.1's does so where a rank is killed in the moment in which it connects to mpiexec,
        whatever the program: nobody but mpiexec is there to end then, by a second signal.
        """
        left = [process.pid for process in self.alive()]
        return left == [self.process.pid] and "PMIX ERROR: UNREACHABLE" in self.output

    def signal(self, target: str, number: signal.Signals) -> None:
        """Send a signal to ``mpiexec`` or to a rank, given by its number."""
        if target == "mpiexec":
            self.process.send_signal(number)
            return
        process = self.victim(int(target))
        assert process is not None, f"rank {target} is not there:\n{self.output[-4000:]}"
        process.send_signal(number)
