"""SIGTERM: the state is saved, and the program ends as it would have."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from adjoint.optimize import Iteration
from adjoint.optimize.signals import flush_printed
from tests.minimisations import Rosenbrock, Stop, facts, quiet


def test_sigterm_saves_and_ends_with_143(tmp_path: Path) -> None:
    state = tmp_path / "run.npz"
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys, time
            import numpy as np
            from adjoint.optimize import minimize

            def misfit(x):
                time.sleep(float(sys.argv[2]))
                return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()

            found = minimize(misfit, np.linspace(-1, 1.5, 5), options={"maxiter": 30},
                             state=sys.argv[1], every=1000, resume=True)
            print(found.theta.tobytes().hex(), found.iterations)
            """
        )
    )
    command = [sys.executable, str(script), str(state)]
    process = subprocess.Popen([*command, "0.05"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout as lines:
        for line in lines:
            if line.startswith("iteration     6"):
                break
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 143
    done = subprocess.run([*command, "0"], capture_output=True, text=True, timeout=60, check=True)
    first, *_, last = done.stdout.splitlines()
    assert int(first.split(":")[1].split()[0]) >= 7
    whole = quiet(Rosenbrock(), None, options={"maxiter": 30})
    assert last == f"{whole.theta.tobytes().hex()} {whole.iterations}"


class Interrupted(io.RawIOBase):
    """A stream whose first write is met by a signal."""

    def __init__(self) -> None:
        self.written = b""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if not self.written:
            os.kill(os.getpid(), signal.SIGUSR1)
        self.written += bytes(data)
        return len(data)


def test_a_signal_that_meets_a_line_being_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    raw, met = Interrupted(), []
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(raw)))

    def handler(*args: Any) -> None:
        with pytest.raises(RuntimeError, match="reentrant"):
            sys.stdout.flush()
        flush_printed()
        met.append(True)

    former = signal.signal(signal.SIGUSR1, handler)
    try:
        print("iteration 1", flush=True)
    finally:
        signal.signal(signal.SIGUSR1, former)
    assert met and raw.written == b"iteration 1\n"


def test_signal_handlers_are_put_back(tmp_path: Path) -> None:
    seen: list[Any] = []
    former = signal.signal(signal.SIGTERM, lambda *args: seen.append("mine"))
    try:
        mine = signal.getsignal(signal.SIGTERM)

        def callback(iteration: Iteration, theta: Any) -> None:
            if iteration.iteration == 2:
                before = (tmp_path / "run.npz").stat().st_size
                os.kill(os.getpid(), signal.SIGTERM)
                seen.append((tmp_path / "run.npz").stat().st_size > before)

        found = quiet(Rosenbrock(), tmp_path / "run.npz", every=100, callback=callback)
        assert seen == ["mine", True]  # saved, then left to the program's own handler
        assert found.iterations == 9
        assert signal.getsignal(signal.SIGTERM) is mine
        with pytest.raises(Stop):
            quiet(Rosenbrock(3), tmp_path / "run.npz")
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, former)


def test_sigterm_during_a_write_waits_for_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "run.npz"
    fsync = os.fsync
    calls: list[int] = []
    sent: list[int] = []

    def interrupted(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 3:  # the second write of the file; each syncs the directory as well
            sent.append(state.stat().st_size)
            os.kill(os.getpid(), signal.SIGTERM)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(SystemExit) as caught:
        quiet(Rosenbrock(), state)
    assert caught.value.code == 143
    assert state.stat().st_size > sent[0]
    assert os.listdir(tmp_path) == ["run.npz"]
    whole = quiet(Rosenbrock(), None)
    assert facts(quiet(Rosenbrock(), state, resume=True)) == facts(whole)
