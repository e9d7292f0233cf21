"""The tests that need PETSc are named in one place, and are there."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from tests.jobs import ROOT, environment
from tests.without_petsc import NEED_PETSC, needs_petsc


@pytest.mark.parametrize("name", NEED_PETSC)
def test_what_is_left_out_without_petsc_is_there(name: str) -> None:
    path, _, function = name.partition("::")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert not function or function.partition("[")[0] in names


def test_whole_names_are_compared() -> None:
    assert needs_petsc("tests/mpi/test_poisson.py::test_derivatives[nprocs=1-(7, 6)]")
    assert needs_petsc("tests/mpi/test_examples.py::test_what_is_observed[nprocs=2]")
    assert not needs_petsc("tests/mpi/test_examples.py::test_polynomial[nprocs=2]")
    assert not needs_petsc("tests/test_documentation.py::test_the_code_of_a_page_runs[acoustic.md]")
    assert not needs_petsc("tests/mpi/test_poisson_more.py::test_derivatives")


def run(*options: str, hidden: bool = False) -> subprocess.CompletedProcess[str]:
    """Run the tests of one file, of which one needs petsc4py, in a process that may not see it."""
    hide = "sys.modules['petsc4py'] = None; " if hidden else ""
    code = f"import sys; {hide}import pytest; sys.exit(pytest.main(sys.argv[1:]))"
    file = "tests/solvers/test_petsc.py"
    return subprocess.run(
        [sys.executable, "-c", code, "-q", "--color=no", "-p", "no:cacheprovider", *options, file],
        cwd=ROOT, env={**environment(), "GRADIENT_CHECKS": ""}, capture_output=True, text=True,
        timeout=55,
    )  # fmt: skip


def test_what_needs_petsc_is_left_out_by_name_and_counted() -> None:
    found = run("-p", "tests.without_petsc", hidden=True)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "tests left out, for they need PETSc: 1; the others ran on " in found.stdout
    assert "3 passed, 1 deselected" in found.stdout


def test_a_missing_petsc_fails_what_needs_it() -> None:
    found = run(hidden=True)
    assert found.returncode == pytest.ExitCode.TESTS_FAILED, found.stdout + found.stderr
    assert "FAILED tests/solvers/test_petsc.py::test_complex_petsc_is_refused" in found.stdout
    assert "1 failed, 3 passed" in found.stdout


def test_nothing_is_left_out_where_petsc_is_there() -> None:
    found = run("-p", "tests.without_petsc")
    assert found.returncode == pytest.ExitCode.USAGE_ERROR, found.stdout + found.stderr
    assert "petsc4py is here" in found.stderr
