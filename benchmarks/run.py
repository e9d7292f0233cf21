"""Run all benchmarks, one after the other, and write their README and figures.

    python benchmarks/run.py [--quick] [--only NAME ...]

Each is a job of its own under mpiexec, so that a fault in one loses no other; what failed is said
at the end, with a non-zero code.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIMIT = 600  # seconds for one benchmark


def jobs(cores: int) -> list[tuple[str, int, int, list[str]]]:
    """Return each job's script, ranks, threads and options."""
    found = [
        ("tape", 1, 1, []), ("mlp", 1, cores, []), ("halo", 2, 1, []), ("transpose", 2, 1, []),
        ("poisson", 2, 1, []), ("acoustic", 1, cores, []), ("elastic", 1, cores, []),
        ("ranks", 2, 2, []), ("checkpoint", 1, cores, []), ("elastic_memory", 1, cores, []),
    ]  # fmt: skip
    ranks = [r for r in (1, 2, 4, 8, 16) if r <= max(cores, 4)]
    for physics in ("transpose", "poisson", "acoustic", "elastic"):
        for mode in ("strong", "weak"):
            found += [("scaling", r, 1, ["--physics", physics, "--mode", mode]) for r in ranks]
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    options.add_argument("--quick", action="store_true", help="smaller sizes, fewer repetitions")
    options.add_argument("--only", nargs="+", metavar="NAME", help="these alone")
    options.add_argument("--json", type=Path, default=Path("results/benchmarks"), metavar="FOLDER")
    options.add_argument("--out", type=Path, default=HERE, metavar="FOLDER",
                         help="where README.md and figures go")  # fmt: skip
    chosen = options.parse_args()
    chosen.json.mkdir(parents=True, exist_ok=True)
    failed = []
    start = time.monotonic()
    for script, ranks, threads, more in jobs(os.cpu_count() or 1):
        if chosen.only and script not in chosen.only:
            continue
        name = "-".join([script, *more[1::2], str(ranks)])
        print(f"\n[{time.monotonic() - start:5.0f} s] {name}", flush=True)
        environment = {
            **os.environ,
            **dict.fromkeys(
                ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), str(threads)
            ),
        }
        command = ["mpiexec", "-n", str(ranks), "--bind-to", "none", sys.executable, "-m",
                   "mpi4py", str(HERE / f"{script}.py"), *more,
                   "--json", str(chosen.json / f"{name}.json")]  # fmt: skip
        try:
            subprocess.run(
                [*command, *(["--quick"] if chosen.quick else [])],
                env=environment, check=True, timeout=LIMIT,
            )  # fmt: skip
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            failed.append(f"{name}: {error}")
    report = [sys.executable, str(HERE / "report.py"), str(chosen.json), "--out", str(chosen.out)]
    subprocess.run(report, check=True)
    print(f"{time.monotonic() - start:.0f} s")
    if failed:
        sys.exit("\n".join(["these benchmarks failed:", *failed]))


if __name__ == "__main__":
    main()
