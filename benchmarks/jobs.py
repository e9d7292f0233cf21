"""Benchmarks as jobs of their own under mpiexec."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


def program(script: str, arguments: Sequence[str], mpi: bool = True) -> list[str]:
    """Return the command that is one rank of a benchmark, or one that is no rank."""
    start = [sys.executable, *(["-m", "mpi4py"] if mpi else [])]
    return [*start, str(HERE / f"{script}.py"), *arguments]


def run(
    script: str, ranks: int, arguments: Sequence[str], timeout: float, threads: int = 1,
    environment: Mapping[str, str] | None = None,
) -> None:  # fmt: skip
    """Run a benchmark on some ranks; without mpiexec where it starts its jobs itself (0 ranks).

    The environment is that of the ranks alone, not of mpiexec.
    """
    mpiexec = ["mpiexec", "-n", str(ranks), "--bind-to", "none"] if ranks else []
    own = ["env", *(f"{name}={value}" for name, value in (environment or {}).items())]
    command = [*mpiexec, *own, *program(script, arguments, mpi=ranks > 0)]
    settings = {**os.environ, **dict.fromkeys(THREADS, str(threads))}
    subprocess.run(command, env=settings, check=True, timeout=timeout)


def measured(script: str, ranks: int, arguments: Sequence[str], timeout: float = 300) -> Any:
    """Return what a benchmark writes."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "result.json"
        run(script, ranks, [*arguments, "--json", str(file)], timeout)
        return read(file)


def read(file: Path) -> Any:
    """Return the content of a file that a benchmark wrote."""
    return json.loads(file.read_text())
