"""That the search finds operators that are wrong, and reports small programs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.program import Program, Step
from tests.fuzz.shrink import shrunk
from tests.jobs import ROOT, environment, run


def hunt(tmp_path: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--minutes", "0.8", "--out", str(tmp_path),
         "--seed", "7", "--failures", "1", *map(str, arguments)],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=55,
    )  # fmt: skip


# Solves of symmetric systems agree on a number by an Allreduce.
@pytest.mark.parametrize(
    ("fault", "steps"), [("identity", ("Allreduce", "LinearSolve")), ("cropped", ("Halo",))]
)
def test_a_wrong_adjoint_is_found_and_shrunk(
    fault: str, steps: tuple[str, ...], tmp_path: Path
) -> None:
    found = hunt(tmp_path, "--ranks", 2, "--fault", fault, "--shrink", 20)
    assert found.returncode == 1, found.stdout + found.stderr
    script = tmp_path / "failure-1.py"
    text = script.read_text(encoding="utf-8")
    assert text in found.stdout
    assert text.count("    Step(") == 1
    assert any(f"    Step('{step}'" in text for step in steps)
    again = run(script)
    assert again.returncode != 0
    assert "AssertionError: dot_test of function" in again.stderr


def test_a_program_that_hangs_is_a_failure(tmp_path: Path) -> None:
    found = hunt(tmp_path, "--ranks", 2, "--fault", "one-sided", "--limit", 4, "--shrink", 0)
    assert found.returncode == 1, found.stdout + found.stderr
    text = (tmp_path / "failure-1.py").read_text(encoding="utf-8")
    assert "# not done after 4 s" in text
    assert "Step('Gather'" in text
    assert " in vjp" in found.stdout  # where a rank waits


def test_programs_that_pass_are_counted(tmp_path: Path) -> None:
    found = hunt(tmp_path, "--ranks", 1, 2, "--programs", 6, "--batch", 3)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "6 programs tried (3 on 1, 3 on 2 ranks), operators in them:" in found.stdout
    assert "  Allreduce              6" in found.stdout
    assert "0 failures" in found.stdout


def test_shrinking_leaves_what_matters() -> None:
    steps = tuple(
        Step(f"{i}", (i, 1), {"root": i, "split": ((0, 1), True), "turned": True}) for i in range(9)
    )
    program = Program(2, 5, ((3, 0), (1, 2)), steps, ((4, (True, False)),))

    def fails(other: Program) -> bool:
        kinds = {step.kind: step for step in other.steps}
        return {"3", "7"} <= {*kinds} and bool(kinds["7"].settings["turned"])

    found = shrunk(program, fails)
    assert [step.kind for step in found.steps] == ["3", "7"]
    assert found.outputs == ()
    assert found.steps[0] == Step("3", (0, 0), {"root": 0, "split": None, "turned": False})
    assert found.steps[1] == Step("7", (0, 0), {"root": 0, "split": None, "turned": True})
    assert Program.parse(found.line()) == found
    assert eval(found.text(), {"Program": Program, "Step": Step}) == found
