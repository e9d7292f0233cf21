"""Put faults into the library, one at a time, and see whether the tests notice.

    python -m tests.mutation --files "comm/*.py" --minutes 10

Each file's faults are tried in random order, every kind in turn, in a copy of the checkout. A
fault is caught where a test fails, an import fails or the tests run out of time; it survives
where all tests of ``relevant.toml`` pass. Survivors change no result (then they are to be listed
in ``equivalent.toml``) or show that a test is missing. The exit status is 1 if there are any.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import tomllib

from tests.jobs import ROOT

from .mutations import Mutation, mutations
from .reach import reached
from .trial import BadTests, Trial

HERE = Path(__file__).parent
PACKAGES = ("adjoint/ops", "comm", "nn", "solvers")
RELEVANT = tomllib.loads((HERE / "relevant.toml").read_text())
ENTRIES: list[dict[str, Any]] = RELEVANT["entry"]
#: By file, line and fault, which of several alike change no result; none: the only one does not.
EQUIVALENT: dict[tuple[str, str, str], list[int]] = {
    (e["file"], e["line"], e["fault"]): e.get("places", [])
    for e in tomllib.loads((HERE / "equivalent.toml").read_text())["equivalent"]
}
#: Seconds between lines that tell how far a file's faults have been tried.
TELL = 60.0
# Compiled files go along, so that nothing is compiled again.
LEFT_BEHIND = (".git", ".venv", "results", ".*_cache", ".hypothesis", "*.egg-info")


class Result(NamedTuple):
    """What became of one fault."""

    file: str
    line: int
    fault: str
    source: str
    outcome: str
    by: str
    seconds: float
    diff: list[str]


def main() -> int:
    options = arguments()
    files = sources()
    scope = reached(ROOT / file for file in files)
    plans: dict[str, list[Mutation]] = {}
    for file in files:
        if entry_of(file) and any(fnmatch(file, pattern) for pattern in options.files):
            plans[file] = selection(file, scope.get(ROOT / file, set()), options)
    deadline = time.monotonic() + 60 * options.minutes
    results: list[Result] = []
    write(results, options.out)
    with copy_of_tree() as tree:
        trial = Trial(tree)
        # Short files first: what they leave of their share of the time goes to the longer ones.
        order = sorted((file for file in plans if plans[file]), key=lambda file: len(plans[file]))
        for number, file in enumerate(order):
            now = time.monotonic()
            until = now + max(deadline - now, 0) / (len(order) - number)
            told = now
            try:
                for result in tried(trial, file, plans[file], until):
                    results.append(result)
                    write(results, options.out)
                    if time.monotonic() > told + TELL:
                        told = time.monotonic()
                        report(results, [file], of=len(plans[file]))
            except BadTests as reason:
                print(f"{file}: {reason}")
                return 2
            report(results, [file], of=len(plans[file]))
    print()
    report(results, sorted({r.file.rpartition("/")[0] for r in results}))
    return int(any(r.outcome == "survived" for r in results))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.mutation", description=__doc__.splitlines()[0])
    parser.add_argument("--files", nargs="*", default=["*"], help="patterns of files")
    parser.add_argument("--minutes", type=float, default=30, help="time in all (default: 30)")
    parser.add_argument("--sample", type=int, default=10**9, help="faults of each file at most")
    parser.add_argument("--seed", type=int, default=0, help="of the random order")
    parser.add_argument("--fault", default="", help="only faults whose description has this text")
    parser.add_argument("--line", type=int, nargs="*", help="only faults in these lines")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "mutants.json")
    options = parser.parse_args()
    options.files = options.files or ["*"]
    return options


def sources() -> list[str]:
    """Return all files that faults may be put into."""
    return [str(p.relative_to(ROOT)) for d in PACKAGES for p in sorted((ROOT / d).glob("*.py"))]


def entry_of(file: str) -> dict[str, Any]:
    for entry in ENTRIES:
        if any(fnmatch(file, pattern) for pattern in entry["files"]):
            return entry
    return {}


def alike_in(file: str, scope: set[str]) -> dict[tuple[str, str], list[Mutation]]:
    """Return a file's faults, those of one name in lines of one text together, in their order."""
    source = (ROOT / file).read_bytes()
    lines = source.decode().splitlines()
    alike: dict[tuple[str, str], list[Mutation]] = {}
    for mutation in mutations(source, scope):
        alike.setdefault((lines[mutation.line - 1].strip(), mutation.name), []).append(mutation)
    return alike


def selection(file: str, scope: set[str], options: argparse.Namespace) -> list[Mutation]:
    """Return a file's faults in random order, one of each kind in turn."""
    kinds: dict[str, list[Mutation]] = {}
    for (line, fault), alike in alike_in(file, scope).items():
        places = EQUIVALENT.get((file, line, fault))
        for place, mutation in enumerate(alike, 1):
            known = places is not None and place in (places or [1])
            elsewhere = options.line and mutation.line not in options.line
            if not known and not elsewhere and options.fault in fault:
                kinds.setdefault(mutation.kind, []).append(mutation)
    generator = random.Random(f"{options.seed} {file}")
    for found in kinds.values():
        generator.shuffle(found)
    order = sorted(kinds)
    generator.shuffle(order)
    turns = max(map(len, kinds.values()), default=0)
    mixed = [
        kinds[kind][turn] for turn in range(turns) for kind in order if turn < len(kinds[kind])
    ]
    return mixed[: options.sample]


def tried(trial: Trial, file: str, chosen: list[Mutation], until: float) -> Iterator[Result]:
    source = (ROOT / file).read_bytes()
    lines = source.decode().splitlines()
    for mutation in chosen:
        if time.monotonic() > until:
            return
        changed = mutation.apply(source)
        begin = time.monotonic()
        outcome, by = trial.run(entry_of(file), file, changed)
        seconds = round(time.monotonic() - begin, 1)
        diff = [
            line
            for line in difflib.unified_diff(lines, changed.decode().splitlines(), n=0, lineterm="")
            if line[:1] in "+-" and line[:3] not in ("+++", "---")
        ]
        text = lines[mutation.line - 1].strip()
        result = Result(file, mutation.line, mutation.name, text, outcome, by, seconds, diff)
        if outcome == "survived":
            print(f"{file}:{mutation.line}: {mutation.name}", *diff, sep="\n  ", flush=True)
        yield result


@contextmanager
def copy_of_tree() -> Iterator[Path]:
    memory = Path("/dev/shm")
    place = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="mutants-", dir=place) as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, symlinks=True, ignore=shutil.ignore_patterns(*LEFT_BEHIND))
        yield tree


def report(results: list[Result], groups: list[str], of: int = 0) -> None:
    total = f" of {of}" if of else ""
    for group in groups:
        outcomes = [r.outcome for r in results if r.file == group or r.file.startswith(group + "/")]
        if outcomes:
            survived, late = outcomes.count("survived"), outcomes.count("timeout")
            share = 100 * (1 - survived / len(outcomes))
            print(
                f"{group:32} tried {len(outcomes):4}{total}   caught {len(outcomes) - survived:4} "
                f"({share:5.1f} %), {late} of them by time   survived {survived}",
                flush=True,
            )


def write(results: list[Result], out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    content = [result._asdict() for result in results]
    out.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
