"""What every benchmark shares: interleaved repetitions, medians, a table and a JSON file.

Comparisons are ratios of times taken in turn in one run, so that the machine's drift meets both.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import figures

from adjoint import communicator

#: Some benchmarks run the examples' problems. Behind this folder, which has names of its own first.
sys.path.append(str(Path(__file__).resolve().parents[1] / "examples"))

#: What has been printed, for the file: title, header and cells of each table.
_tables: list[dict[str, Any]] = []


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options of every benchmark."""
    result = argparse.ArgumentParser(description=description)
    result.add_argument("--quick", action="store_true", help="smaller sizes, fewer repetitions")
    result.add_argument("--json", type=Path, metavar="FILE", help="write raw repetitions here")
    return result


def interleaved(
    cases: Mapping[str, Callable[[], Any]], repetitions: int, warmup: int = 1
) -> dict[str, list[float]]:
    """Time each case in turn, ``repetitions`` times; seconds of the slowest rank.

    All ranks start a case together, and it ends when the last one has finished.
    """
    comm = communicator()
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for repetition in range(-warmup, repetitions):
        for name, case in cases.items():
            comm.Barrier()
            start = time.perf_counter()
            case()
            elapsed = max(comm.allgather(time.perf_counter() - start))
            if repetition >= 0:
                seconds[name].append(elapsed)
    return seconds


def on_one(work: Callable[[], Any], nap: float = 1e-3) -> Any:
    """Return the result of rank 0; the others sleep, for so many seconds a time."""
    comm = communicator()
    result = work() if comm.rank == 0 else None
    arrived = comm.Ibarrier()
    while not arrived.Test():
        time.sleep(nap)
    return result


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> float:
    """Return the median of the ratios of repetitions taken side by side."""
    return statistics.median(a / b for a, b in zip(numerator, denominator))


def table(title: str, rows: Sequence[Sequence[Any]], header: Sequence[str]) -> None:
    """Print a table on rank 0."""
    if communicator().rank:
        return
    cells = [[str(c) for c in header], *([_text(c) for c in row] for row in rows)]
    _tables.append({"title": title, "header": cells[0], "rows": cells[1:]})
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    print(f"\n{title}")
    for i, row in enumerate(cells):
        print("  " + "  ".join(c.ljust(w) if j == 0 else c.rjust(w)
                               for j, (c, w) in enumerate(zip(row, widths))))  # fmt: skip
        if i == 0:
            print("  " + "  ".join("-" * w for w in widths))


def write(path: Path | None, parameters: Mapping[str, Any], seconds: Mapping[str, Any]) -> None:
    """Write machine, versions, parameters, tables, raw repetitions and medians on rank 0.

    Where the benchmark has a figure, it is drawn into the same folder.
    """
    if path is None or communicator().rank:
        return
    result = {
        "benchmark": Path(sys.argv[0]).stem,
        "about": (sys.modules["__main__"].__doc__ or "").split("\n")[0],
        "machine": {"processor": _processor(),
                    "cores": os.cpu_count(), "system": platform.platform()},
        "versions": {"python": platform.python_version(), **_versions()},
        "ranks": communicator().size,
        "threads": int(os.environ.get("NUMBA_NUM_THREADS", os.cpu_count() or 1)),
        "parameters": dict(parameters),
        "tables": _tables,
        "seconds": dict(seconds),
        "medians": {name: statistics.median(s) for name, s in seconds.items() if s},
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=1)
    path.write_text(text)
    figures.draw(json.loads(text), path.parent)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _versions() -> dict[str, str]:
    found = {}
    for package in ("adjoint", "numpy", "scipy", "mpi4py", "petsc4py", "numba", "torch"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _text(cell: Any) -> str:
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)
