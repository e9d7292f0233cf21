"""A job under ``mpiexec`` that checks programs, started again when one of them has ended it."""

from __future__ import annotations

import ast
import select
import subprocess
import tempfile
from contextlib import suppress
from typing import Any

from tests.jobs import ROOT, command, environment

from .program import Program

#: Seconds to start a job of so many ranks, and beyond those that a program is given to end.
START, GRACE = 120.0, 15.0


class Job:
    """Programs in, faults out.

    Parameters
    ----------
    ranks : int
    limit : float
        Seconds for one program; one that takes longer hangs.
    fault : str, optional
        Name of an operator that is wrong on purpose.
    """

    def __init__(self, ranks: int, limit: float, fault: str | None = None) -> None:
        self.limit = limit
        self._command = command(
            "-m", "tests.fuzz.worker", limit, *filter(None, [fault]), ranks=ranks
        )
        self._process: Any = None
        self._errors: Any = None

    def check(self, program: Program) -> tuple[str | None, list[str]]:
        """Return what is wrong with a program, or ``None``, and the operators that it has."""
        if self._process is None:
            self._start()
        begin = self._errors.tell()
        try:
            self._process.stdin.write(program.line() + "\n")
            answer = self._answer(self.limit + GRACE)
        except BrokenPipeError:
            answer = ""
        if answer:
            error, operators = ast.literal_eval(answer)
            return error, operators
        took_too_long = self._process.poll() is None
        self._end()
        self._errors.seek(begin)
        text = self._errors.read()
        late = took_too_long or "Timeout (" in text
        what = f"not done after {self.limit:g} s" if late else "the job has ended"
        return f"{what}:\n{text[-6000:]}", []

    def close(self) -> None:
        """Let the job end."""
        if self._process is not None:
            self._process.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE)
            self._end()

    def _end(self) -> None:
        process, self._process = self._process, None
        try:
            process.terminate()  # mpiexec ends its ranks
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        with suppress(BrokenPipeError):
            process.stdin.close()

    def _start(self) -> None:
        errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self._errors = errors
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
            text=True, bufsize=1, cwd=ROOT, start_new_session=True,
            env=environment(),
        )  # fmt: skip
        if self._answer(START).strip() != "ready":
            self._errors.seek(0)
            raise RuntimeError(f"{self._command} does not start:\n{self._errors.read()}")

    def _answer(self, seconds: float) -> str:
        """Return the next line, or nothing if there is none in time."""
        ready, _, _ = select.select([self._process.stdout], [], [], seconds)
        return str(self._process.stdout.readline()) if ready else ""
