"""The tool that tries the tests is itself tried, on a small source."""

from __future__ import annotations

import ast
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from tests.jobs import ROOT
from tests.mutation.__main__ import (
    ENTRIES,
    EQUIVALENT,
    RELEVANT,
    alike_in,
    entry_of,
    sources,
)
from tests.mutation.mutations import mutations
from tests.mutation.reach import reached
from tests.mutation.trial import Trial

SOURCE = '''"""A text."""

def rule(comm, x, root):
    """π − 1 is not touched."""
    if x.size == 0:
        raise ValueError("nothing")
    x[1:] += comm.allreduce(x[:-1])  # a → b
    return 2 * x.T - bcast(comm, x, root)
'''


def changed(kind: str) -> set[str]:
    """The lines that faults of a kind make."""
    lines = SOURCE.splitlines()
    found = set()
    for m in mutations(SOURCE.encode()):
        after = m.apply(SOURCE.encode()).decode().splitlines()
        (line,) = [new.strip() for old, new in zip(lines, after) if old != new]
        if m.kind == kind:
            found.add(line)
    return found


def test_faults_are_single_changes_of_the_text() -> None:
    end = "  # a → b"
    assert changed("overwrite") == {"x[1:] = (comm.allreduce(x[:-1]))" + end}
    assert changed("statement") == {"pass" + end}
    assert changed("transpose") == {"return 2 * x - bcast(comm, x, root)"}
    assert changed("offset") == {
        f"x[(1) + 1:] += comm.allreduce(x[:-1]){end}",
        f"x[1:] += comm.allreduce(x[:(-1) - 1]){end}",
    }
    assert changed("collective") == {
        f"x[1:] += (x[:-1]){end}",
        "return 2 * x.T - (x)",
    }
    assert "return ((2 * x.T) + (bcast(comm, x, root)))" in changed("sign")
    assert "return (2 * x.T)" in changed("term")
    assert "return (x.T) - bcast(comm, x, root)" in changed("factor")
    (rank,) = changed("root")
    assert "(root + 1) %" in rank


def test_checks_and_texts_are_left_alone() -> None:
    for mutation in mutations(SOURCE.encode()):
        assert mutation.line in (7, 8)
        ast.parse(mutation.apply(SOURCE.encode()))


def test_arguments_are_exchanged_where_their_order_matters() -> None:
    source = b"def rule(x, y):\n    return np.array_equal(x, y) + np.subtract(x, y)\n"
    names = [m.name for m in mutations(source) if m.kind == "arguments"]
    assert names == ["arguments: x, y → y, x"]


def test_faults_that_change_no_result_are_there() -> None:
    """And it is said which of several."""
    scope = reached(ROOT / file for file in sources())
    files = {file for file, _, _ in EQUIVALENT}
    alike = {file: alike_in(file, scope[ROOT / file]) for file in files}
    for (file, line, fault), places in EQUIVALENT.items():
        count = len(alike[file].get((line, fault), []))
        assert count, f"{file} has no {fault!r} in {line!r}"
        assert (count == 1) == (not places), f"{file} has {count} times {fault!r} in {line!r}"
        assert sorted({*places}) == places and set(places) <= {*range(1, count + 1)}, (line, fault)


def test_only_what_rules_call_is_reached(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(
        "class Rule:\n    def __init__(self): helper()\n    def forward(self, x): x.twice()\n"
        "    def idle(self): pass\ndef helper(): pass\ndef unused(): pass\n"
    )
    (tmp_path / "two.py").write_text("class Other:\n    def twice(self): pass\n")
    found = reached([tmp_path / "one.py", tmp_path / "two.py"])
    assert found[tmp_path / "one.py"] == {"Rule.__init__", "Rule.forward", "helper"}
    assert found[tmp_path / "two.py"] == {"Other.twice"}


@pytest.mark.parametrize(
    ("output", "outcome"),
    [
        ("...", "timeout"),
        ("..\n+++ Timeout +++\n  File one.py\nFatal Python error\n", "timeout"),
        ("....F", "caught"),  # and then the program's end hung
        (".....F..   [ 90%]\n...", "caught"),
        ("..\ntest_one.py failed on rank 1, other ranks are still in it:\n+++", "caught"),
    ],
)
def test_what_hangs_after_a_failure_is_not_caught_by_time_alone(
    output: str, outcome: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def job(trial: Trial, *arguments: Any, cached: bool = True) -> int | None:
        trial.output = output
        return 0 if cached else None  # the trial without a fault, and the one with it

    (tmp_path / "one.py").write_text("x = 1\n")
    monkeypatch.setattr(Trial, "_job", job)
    found = Trial(tmp_path).run({"tests": ["0 test_one.py"]}, "one.py", b"x = 2\n")
    assert found == (outcome, "0 test_one.py")
    assert (tmp_path / "one.py").read_text() == "x = 1\n"


def test_every_file_has_tests_or_is_left_alone() -> None:
    for file in sources():
        alone = any(fnmatch(file, pattern) for pattern in RELEVANT["left_alone"])
        assert alone != bool(entry_of(file)), file


def test_the_tests_are_there() -> None:
    for entry in ENTRIES:
        for test in entry["tests"]:
            path, _, function = test.split()[1].partition("::")
            assert f"def {function}" in (ROOT / path).read_text(encoding="utf-8"), test
