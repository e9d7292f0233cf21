"""That an operator without a gradient check is found: `make test` ends with this comparison."""

from __future__ import annotations

import ast
import json
import sys
from collections import defaultdict
from pathlib import Path
from subprocess import run
from typing import Any

import numpy as np
import pytest

from adjoint import Operator, Tape, ops, testing
from adjoint.comm import Communication, HaloStart
from tests.jobs import ROOT, environment
from tests.registry import leave_note, name_of, operators, unchecked

KNOWN = {name_of(cls) for cls in operators()}


def test_every_class_with_rules_is_an_operator_or_the_base_of_one() -> None:
    bases = {base for cls in operators() for base in cls.__mro__}
    found = 0
    for folder in ("adjoint", "comm", "nn", "solvers"):
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            module = sys.modules.get(
                ".".join(parts if folder == "adjoint" else ("adjoint", *parts))
            )
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef):
                    cls = getattr(module, node.name)
                    methods = {d.name for d in node.body if isinstance(d, ast.FunctionDef)}
                    if {"forward", "vjp"} & methods and issubclass(cls, Operator):
                        found += 1
                        assert cls in bases
    assert found > 30


def test_what_other_classes_finish_is_left_to_them() -> None:
    for cls in (ops.Sin, HaloStart, type(ops.Add())):
        assert name_of(cls) in KNOWN
    for cls in (Operator, Communication, ops.Elementwise):
        assert name_of(cls) not in KNOWN


def note(monkeypatch: pytest.MonkeyPatch, directory: Path) -> dict[str, Any]:
    """Return what is written down of checks passed since the last call."""
    monkeypatch.setenv("GRADIENT_CHECKS", str(directory))
    leave_note("test")
    (path,) = directory.glob("test-*.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_checks_note_the_operators_that_passed_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    notes: defaultdict[Any, set[str]] = defaultdict(set)
    for module in ("adjoint.testing.prepared", "tests.registry"):
        monkeypatch.setattr(f"{module}.passed", notes)
    x = np.array([0.5, 1.5])
    testing.check_vjp(lambda v: ops.Tanh()(v) * 2, x)
    testing.dot_test(ops.Sin(), x)
    testing.taylor_test(lambda v: ops.Exp()(v).sum(), x)

    class Wrong(ops.Cos):
        def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
            return (cotangents[0],)

    with pytest.raises(AssertionError):
        testing.check_vjp(Wrong(), x)
    testing.taylor_test(lambda v: Wrong()(v).sum(), x)
    with Tape() as tape:
        v = tape.watch(x)
        loss = ops.Sqrt()(v).sum()
    tape.gradient(loss, [v])
    found = note(monkeypatch, tmp_path)
    assert {name.rpartition(".")[2]: checks for name, checks in found.items()} == {
        "Tanh": ["check_vjp"],
        "Multiply": ["check_vjp"],
        "Sin": ["dot_test"],
        "Exp": ["taylor_test"],
        "Sum": ["taylor_test"],
    }
    lacking = unchecked(tmp_path)
    assert len(lacking) == len(KNOWN) - 4
    assert f"{name_of(ops.Sin)}: passed ['dot_test'], expected check_vjp or taylor_test" in lacking


@pytest.mark.parametrize("missing", [0, 1])
def test_the_comparison_fails_and_names_what_lacks(missing: int, tmp_path: Path) -> None:
    checked = {name: ["check_vjp"] for name in sorted(KNOWN)[missing:]}
    (tmp_path / "1-0-1.json").write_text(json.dumps(checked))
    found = run(
        [sys.executable, "-m", "tests.registry", str(tmp_path)],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=50,
    )  # fmt: skip
    assert found.returncode == missing
    if missing:
        assert f"{min(KNOWN)}: passed no check, expected check_vjp or taylor_test" in found.stderr
    else:
        assert found.stdout == f"all {len(KNOWN)} operators have had their gradient checked\n"
