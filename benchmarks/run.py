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

from jobs import HERE, run

LIMIT = 600  # seconds for one benchmark

#: A script, its ranks (0: it starts its jobs itself), threads, and options.
Job = tuple[str, int, int, list[str]]


def all_jobs(cores: int, quick: bool) -> list[Job]:
    """Return all benchmarks."""
    found: list[Job] = [
        ("tape", 1, 1, []), ("mlp", 1, cores, []), ("halo", 2, 1, []), ("transpose", 2, 1, []),
        ("poisson", 2, 1, []), ("acoustic", 1, cores, []), ("elastic", 1, cores, []),
        ("space", 1, cores, []),
        ("ranks", 2, 2, []), ("checkpoint", 1, cores, []), ("elastic_memory", 1, cores, []),
        ("fields", 2, 1, []), ("shares", 0, 1, []), ("oversubscribed", 0, 1, []),
        ("scaling_model", 0, 1, []), ("gauss_newton", 2, 1, []), ("warm_solves", 1, 1, []),
    ]  # fmt: skip
    ranks = [r for r in (1, 2, 4, 8, 16) if r <= (cores if quick else max(cores, 4))]
    for physics in ("transpose", "poisson", "acoustic", "elastic"):
        for mode in ("strong",) if quick else ("strong", "weak"):
            sizes = [(r, 1) for r in ranks]
            if cores > 1 and physics != "transpose" and not quick:
                sizes.append((1, cores))
            for r, threads in sizes:
                found.append(("scaling", r, threads, ["--physics", physics, "--mode", mode]))
    return found


def name_of(job: Job) -> str:
    """Return what its file is called."""
    script, ranks, threads, options = job
    crowd = f"{ranks}x{threads}" if script == "scaling" else ""
    return "-".join([script, *options[1::2], *([crowd] if crowd else [])])


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    options.add_argument("--quick", action="store_true", help="smaller sizes, fewer repetitions")
    options.add_argument("--only", nargs="+", metavar="NAME", help="these alone")
    options.add_argument("--json", type=Path, default=Path("results/benchmarks"), metavar="FOLDER")
    options.add_argument("--out", type=Path, default=HERE, metavar="FOLDER",
                         help="where README.md and figures go")  # fmt: skip
    chosen = options.parse_args()
    chosen.json.mkdir(parents=True, exist_ok=True)
    if not chosen.only:  # of an earlier run, perhaps with other ranks
        for file in chosen.json.glob("*.json"):
            file.unlink()
    failed: list[str] = []
    taken: list[tuple[str, float]] = []
    for job in all_jobs(os.cpu_count() or 1, chosen.quick):
        script, ranks, threads, more = job
        if chosen.only and script not in chosen.only:
            continue
        name = name_of(job)
        print(f"\n[{sum(s for _, s in taken):5.0f} s] {name}", flush=True)
        start = time.monotonic()
        quick = ["--quick"] if chosen.quick else []
        arguments = [*more, *quick, "--json", str(chosen.json / f"{name}.json")]
        try:
            run(script, ranks, arguments, LIMIT, threads)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            failed.append(f"{name}: {error}")
        taken.append((name, time.monotonic() - start))
    report = [sys.executable, str(HERE / "report.py"), str(chosen.json), "--out", str(chosen.out)]
    subprocess.run(report, check=True)
    longest = sorted(taken, key=lambda job: -job[1])[:8]
    print(f"{sum(seconds for _, seconds in taken):.0f} s; the longest:",
          ", ".join(f"{name} {seconds:.0f} s" for name, seconds in longest))  # fmt: skip
    if failed:
        sys.exit("\n".join(["these benchmarks failed:", *failed]))


if __name__ == "__main__":
    main()
