"""Do to running inversions what befalls them on a cluster, many times, and print a table.

    python -m tests.faults --kills 100

Exit status 1 where a job hung, left a process behind, or did not continue as it should.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from pathlib import Path
from random import Random

import pytest

from .cases import CASES, PROBLEMS, Bench, Hung, cases_of

KILL = next(iter(CASES))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100, metavar="N",
                        help="of a rank, on each problem and number of ranks (100)")  # fmt: skip
    parser.add_argument("--others", type=int, default=5, metavar="N", help="of all else (5)")
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=PROBLEMS)
    parser.add_argument("--ranks", nargs="+", type=int, default=(2, 3), choices=(2, 3))
    parser.add_argument("--cases", nargs="+", metavar="TEXT", default=[""],
                        help="those whose name has one of these texts")  # fmt: skip
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after these")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    stop = time.monotonic() + 60 * options.minutes
    print(f"seed {options.seed}\n\n{'case':<28}{'problem':<10}{'ranks':>5}{'trials':>8}"
          f"{'longest end':>13}{'orphans':>9}  resumed")  # fmt: skip
    faulty = 0
    with tempfile.TemporaryDirectory(prefix="adjoint-faults-") as folder:
        for problem in options.problems:
            chosen = [n for n in cases_of(problem) if any(text in n for text in options.cases)]
            for ranks in options.ranks:
                place = Path(folder, f"{problem}-{ranks}")
                place.mkdir()
                bench = Bench(problem, ranks, place)
                bench.whole()
                for name in chosen:
                    count = options.kills if name == KILL else options.others
                    faulty += trials(name, bench, count, options.seed, stop)
    return min(faulty, 1)


def trials(name: str, bench: Bench, count: int, seed: int, stop: float) -> int:
    """Print a line of the table, and return how many trials failed."""
    random = Random(f"{seed} {name} {bench.problem} {bench.ranks}")
    seconds: list[float] = []
    failures: list[str] = []
    orphans = 0
    for _ in range(count):
        if time.monotonic() > stop:
            break
        try:
            seconds.append(CASES[name](bench, random))
        except pytest.skip.Exception as reason:
            print(f"{name:<28}{bench.problem:<10}{bench.ranks:>5}   skipped: {reason}", flush=True)
            return 0
        except Exception as error:
            orphans += error.orphans if isinstance(error, Hung) else 0
            failures.append("".join(traceback.format_exception(error)[-2:]))
    made = len(seconds) + len(failures)
    longest = f"{max(seconds):.1f} s" if seconds else "–"
    how = "within tolerance" if "number of ranks" in name else "bit for bit"
    print(f"{name:<28}{bench.problem:<10}{bench.ranks:>5}{made:>8}{longest:>13}{orphans:>9}  "
          f"{how} {len(seconds)}/{made}", flush=True)  # fmt: skip
    if bench.stuck:
        print(f"{'':<28}and {bench.stuck} after which mpiexec hung though all ranks were gone; "
              "resumed as the others", flush=True)  # fmt: skip
        bench.stuck = 0
    for text in failures:
        print(text, file=sys.stderr, flush=True)
    return len(failures)


if __name__ == "__main__":
    sys.exit(main())
