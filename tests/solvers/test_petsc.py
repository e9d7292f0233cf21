"""PETSc where it is missing, and what importing the solvers costs where it is not used."""

from __future__ import annotations

import subprocess
import sys

import pytest

from adjoint.solvers import petsc


def run(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    return result.stdout.strip()


def test_the_solvers_are_imported_without_petsc() -> None:
    code = "import sys, adjoint.solvers; print('petsc4py' in sys.modules)"
    assert run(code) == "False"


def test_without_petsc4py_one_sentence_says_how_to_install_it() -> None:
    code = """
import sys
sys.modules["petsc4py"] = None
from adjoint.solvers import LinearSolve, MatVec, Pattern
pattern = Pattern([0, 1], [0])
assert MatVec(pattern)([2.0], [3.0]) == 6.0
try:
    LinearSolve(pattern)
except ImportError as error:
    print(error)
"""
    message = run(code)
    assert message.startswith("adjoint.solvers needs petsc4py: install it with `apt install")
    assert "\n" not in message


def test_without_hypre_one_sentence_names_another_way(monkeypatch: pytest.MonkeyPatch) -> None:
    class System:
        @staticmethod
        def hasExternalPackage(name: str) -> bool:
            return name != "hypre"

    class Module:
        Sys = System

    monkeypatch.setattr(petsc, "petsc", lambda: Module)
    with pytest.raises(ImportError, match=r"built without hypre: .*\"pc_type\": \"gamg\""):
        petsc.require_hypre()


def test_complex_petsc_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    PETSc = petsc.petsc()
    petsc.petsc.cache_clear()
    monkeypatch.setattr(PETSc, "ScalarType", complex)
    with pytest.raises(ImportError, match="needs a PETSc of real numbers"):
        petsc.petsc()
