"""Draw programs, check them on 1 to 7 ranks in turn, and print the smallest that fails.

    python -m tests.fuzz --minutes 10

Each failure is shrunk and printed as a script that shows it again. A program that hangs fails. The
program that is being tried lies in ``results/fuzz/current.py``, so that it is known also where the
machine goes down with it. The exit status is 1 if any program has failed.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from hypothesis import Phase

from tests.jobs import ROOT

from .drawing import try_programs
from .faults import FAULTS
from .job import Job
from .program import Program
from .script import script, size_of
from .shrink import shrunk


class Failed(Exception):
    """A program has failed."""


class Hunt:
    """Programs tried and what came of them.

    Parameters
    ----------
    options : argparse.Namespace
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.end = time.monotonic() + 60 * options.minutes
        self.tried: Counter[int] = Counter()
        self.operators: Counter[str] = Counter()
        self.failures: list[tuple[Program, str]] = []
        self.slowest = 0.0  # seconds that a program has taken
        options.out.mkdir(parents=True, exist_ok=True)

    def over(self) -> bool:
        return time.monotonic() > self.end or sum(self.tried.values()) >= self.options.programs

    def round(self, ranks: int, seed: int) -> None:
        """Try a number of programs on so many ranks, until one fails."""
        job = Job(ranks, self.options.limit, self.options.fault)
        failure: tuple[Program, str] | None = None

        def attempt(program: Program) -> None:
            nonlocal failure
            if failure is not None:
                raise Failed
            if self.over():
                return
            self.current(program)
            begin = time.monotonic()
            error, operators = job.check(program)
            self.tried[ranks] += 1
            self.operators.update(operators)
            if error is not None:
                failure = program, error
                raise Failed
            self.slowest = max(self.slowest, time.monotonic() - begin)

        # Hypothesis would draw again all that has little to do with the failure, on every attempt.
        only_drawn = [Phase.generate]
        with suppress(Failed):
            try_programs(ranks, seed, self.options.batch, attempt, phases=only_drawn)
        job.close()
        if failure is not None:
            self.failures.append(self.shrink(*failure))
            self.show(self.failures[-1], seed)

    def shrink(self, program: Program, error: str) -> tuple[Program, str]:
        """Return a small program that fails, and how."""
        smallest = program, error
        # Shorter than for a program that nobody suspects, for every hang takes as long.
        job = Job(
            program.ranks, min(self.options.limit, max(5, 10 * self.slowest)), self.options.fault
        )
        end = time.monotonic() + self.options.shrink
        known: set[str] = set()

        def fails(simpler: Program) -> bool:
            nonlocal smallest
            line = simpler.line()
            if line in known or time.monotonic() > end:
                return False
            known.add(line)
            self.current(simpler)
            found, _ = job.check(simpler)
            if found is None:
                return False
            smallest = simpler, found
            return True

        shrunk(program, fails)
        job.close()
        return smallest

    def current(self, program: Program) -> None:
        text = script(program, self.options.fault)
        (self.options.out / "current.py").write_text(text, encoding="utf-8")

    def show(self, failure: tuple[Program, str], seed: int) -> None:
        program, error = failure
        path = self.options.out / f"failure-{len(self.failures)}.py"
        path.write_text(script(program, self.options.fault, error), encoding="utf-8")
        print(
            f"\nfailed on {program.ranks} ranks (round of seed {seed}), shrunk: {path}", flush=True
        )
        print(error, flush=True)

    def report(self) -> None:
        tried = sum(self.tried.values())
        ranks = ", ".join(f"{count} on {n}" for n, count in sorted(self.tried.items()))
        print(f"\n{tried} programs tried ({ranks} ranks), operators in them:")
        for name, count in sorted(self.operators.items()):
            print(f"  {name:16} {count:7}")
        print(f"{len(self.failures)} failures")
        if self.failures:
            program, error = min(self.failures, key=lambda failure: size_of(failure[0]))
            print("the smallest program that fails:\n")
            print(script(program, self.options.fault, error), flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10, help="time in all (default: 10)")
    parser.add_argument("--programs", type=int, default=10**9, help="programs in all, at most")
    parser.add_argument("--ranks", type=int, nargs="*", default=[*range(1, 8)])
    parser.add_argument("--seed", type=int, help="of the first round; a fresh one by default")
    parser.add_argument("--batch", type=int, default=100, help="programs of a round (default: 100)")
    parser.add_argument("--limit", type=float, default=60, help="seconds for one (default: 60)")
    parser.add_argument(
        "--shrink", type=float, default=120, help="seconds to shrink (default: 120)"
    )
    parser.add_argument("--failures", type=int, default=5, help="stop after so many (default: 5)")
    parser.add_argument("--fault", choices=sorted(FAULTS), help="plant a fault")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "fuzz")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    seed = secrets.randbits(32) if options.seed is None else options.seed
    hunt = Hunt(options)
    turn = 0
    while not hunt.over() and len(hunt.failures) < options.failures:
        hunt.round(options.ranks[turn % len(options.ranks)], seed + 2 * turn * options.batch)
        turn += 1
        tried = sum(hunt.tried.values())
        print(f"round {turn}: {tried} programs, {len(hunt.failures)} failures", flush=True)
    hunt.report()
    return int(bool(hunt.failures))


if __name__ == "__main__":
    sys.exit(main())
