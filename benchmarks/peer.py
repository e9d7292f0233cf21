"""Cases of other libraries, run by processes of their own environment (``make peers``)."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent / "peers"
PYTHON = Path(os.environ.get("PEERS_PYTHON", FOLDER.parents[1] / ".venv-peers/bin/python"))


class Peer:
    """A process that runs the cases of ``peers/<script>.py`` when told to.

    It makes them in the background: several peers get ready at the same time.
    """

    def __init__(self, script: str, threads: int, **parameters: Any) -> None:
        self.script = script
        self._process: subprocess.Popen[str] | None = None
        if not PYTHON.exists():
            print(f"{script}: not measured: `make peers` installs what it takes")
            return
        environment = {
            **os.environ, "OMP_NUM_THREADS": str(threads), "DEVITO_LANGUAGE": "openmp",
            "DEVITO_LOGGING": "ERROR", "PYTHONPATH": str(FOLDER),
        }  # fmt: skip
        self._process = subprocess.Popen(
            [str(PYTHON), str(FOLDER / "serve.py"), script, json.dumps(parameters)],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    @cached_property
    def cases(self) -> dict[str, Callable[[], Any]]:
        """Cases by their names, once the process has made them.

        Empty where the peer is not installed or has failed, which is printed.
        """
        if self._process is None:
            return {}
        answer = self._answer()
        if "error" in answer:
            print(f"{self.script}: not measured: {answer['error']}")
        return {name: partial(self._run, name) for name in answer.get("cases", ())}

    def _run(self, name: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(name + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        if "error" in answer:
            raise RuntimeError(f"the peer's case {name!r}: {answer['error']}")

    def _answer(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            return {"error": f"ended with code {self._process.wait()}"}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def peak(self) -> float:
        """Return the process's largest resident memory so far, in bytes."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return 1024.0 * int(line.split()[1])

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait()
