"""Which operators there are, and which of them have had their gradient checked.

Where the environment variable ``GRADIENT_CHECKS`` names a directory, every test run leaves a note
there of the checks that operators passed in it. ``python -m tests.registry DIRECTORY`` compares the
notes of all runs with the operators that there are; `make test` ends with it.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import adjoint
from adjoint import Operator
from adjoint.testing.prepared import passed

#: One of these compares the reverse rule with finite differences.
NUMERICAL = {"check_vjp", "taylor_test"}


def modules() -> list[str]:
    """Return the names of all modules of the library, but for `adjoint` itself."""
    return [module.name for module in pkgutil.walk_packages(adjoint.__path__, "adjoint.")]


def operators() -> list[type[Operator]]:
    """Return every operator of the library that may be applied, private ones included."""
    for name in modules():
        importlib.import_module(name)
    return sorted(set(_below(Operator)), key=name_of)


def _below(base: type[Operator]) -> Iterator[type[Operator]]:
    derived = [cls for cls in base.__subclasses__() if cls.__module__.startswith("adjoint.")]
    for cls in derived:
        yield from _below(cls)
    if not derived or not _unfinished(base):
        yield base


def _unfinished(base: type[Operator]) -> bool:
    """Whether a class leaves a method to those derived from it."""
    methods = [getattr(base, name) for name in dir(base) if name != "jvp"]
    if any(getattr(method, "__isabstractmethod__", False) for method in methods):
        return True
    codes = [method.__code__ for method in methods if hasattr(method, "__code__")]
    return any("NotImplementedError" in code.co_names for code in codes)


def name_of(cls: type[Operator]) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def leave_note(label: str) -> None:
    """Write down which checks were passed in this process, if anybody wants to know."""
    directory = os.environ.get("GRADIENT_CHECKS")
    if directory:
        checks = {name_of(cls): sorted(names) for cls, names in passed.items()}
        Path(directory).mkdir(parents=True, exist_ok=True)
        Path(directory, f"{label}-{os.getpid()}.json").write_text(json.dumps(checks))


def unchecked(directory: Path) -> list[str]:
    """Return, one a line, what the notes of a directory lack."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for note in directory.glob("*.json"):
        for name, checks in json.loads(note.read_text()).items():
            found[name] |= {*checks}
    lacking = []
    for name in map(name_of, operators()):
        if not found[name] & NUMERICAL:
            wanted = " or ".join(sorted(NUMERICAL))
            lacking.append(f"{name}: passed {sorted(found[name]) or 'no check'}, expected {wanted}")
    return lacking


def main() -> None:
    lacking = unchecked(Path(sys.argv[1]))
    if lacking:
        sys.exit("operators without a gradient check:\n" + "\n".join(lacking))
    print(f"all {len(operators())} operators have had their gradient checked")


if __name__ == "__main__":
    main()
