"""The layout of the repository: one import package, imported one way, with nothing left out."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.jobs import ROOT
from tests.registry import modules

LINKED = ("comm", "nn", "solvers", "commands")
#: Linked, too, but no modules of the package: data, that `python -m adjoint examples` copies out.
PROGRAMS = "examples"

#: What each layer may import of the project.
MAY_IMPORT = {
    "adjoint": {"adjoint"},
    "comm": {"adjoint", "comm"},
    "nn": {"adjoint", "comm", "nn"},
    "solvers": {"adjoint", "comm", "solvers"},
    "commands": {"adjoint", "comm", "nn", "solvers", "commands"},
    "examples": {"adjoint", "comm", "nn", "solvers", "examples"},
    "benchmarks": {"adjoint", "comm", "nn", "solvers", "examples", "benchmarks"},
}


def sources(folder: str) -> Iterator[Path]:
    for path in sorted((ROOT / folder).rglob("*.py")):
        if not any((ROOT / "adjoint" / name) in path.parents for name in (*LINKED, PROGRAMS)):
            yield path


def imports(path: Path) -> Iterator[str]:
    """Yield the absolute name of every module that a file imports."""
    relative = path.relative_to(ROOT)
    package = relative.parent.parts
    if package and package[0] in LINKED:
        package = ("adjoint", *package)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def layer(module: str) -> str | None:
    parts = module.split(".")
    if parts[0] == "adjoint":
        return parts[1] if len(parts) > 1 and parts[1] in LINKED else "adjoint"
    return parts[0] if parts[0] in MAY_IMPORT else None


def test_links_are_relative_and_point_into_the_checkout() -> None:
    for name in (*LINKED, PROGRAMS):
        link = ROOT / "adjoint" / name
        assert link.is_symlink()
        assert link.readlink() == Path("..") / name
        assert link.resolve() == ROOT / name


def test_every_file_is_a_module_inside_the_checkout() -> None:
    for name in modules():
        module = importlib.import_module(name)
        assert module.__file__ is not None
        assert ROOT in Path(module.__file__).resolve().parents
    files = {p for folder in ("adjoint", *LINKED) for p in sources(folder)}
    assert len(files) == len(modules()) + 1  # and adjoint itself


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_imports_run_one_way(folder: str) -> None:
    for path in sources(folder):
        allowed = MAY_IMPORT["commands" if path.name == "__main__.py" else folder]
        for module in imports(path):
            assert module.split(".")[0] not in LINKED, f"{path} imports bare {module}"
            found = layer(module)
            assert found is None or found in allowed, f"{path} imports {module}"


def test_the_import_reader_sees_relative_imports(tmp_path: Path) -> None:
    assert "adjoint.operator" in set(imports(ROOT / "comm" / "halo.py"))
    assert layer("adjoint.solvers.poisson") == "solvers"
    assert layer("numpy") is None


def test_petsc_is_imported_in_the_solvers_alone() -> None:
    for folder in ("adjoint", "comm", "nn", "commands", "examples"):
        for path in sources(folder):
            assert not any(m.startswith("petsc4py") for m in imports(path)), path
    for folder in MAY_IMPORT:
        for path in sources(folder):
            if path.name != "strategies.py":
                assert not any(m.startswith("hypothesis") for m in imports(path)), path


def test_importing_adjoint_touches_nothing_heavy() -> None:
    heavy = ("petsc4py", "numba", "matplotlib", "hypothesis", "mpi4py.MPI", "scipy.optimize",
             "segyio", "torch", "jax", "adjoint.commands")  # fmt: skip
    code = f"import adjoint, sys; print([m for m in {heavy!r} if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert found.stdout.strip() == "[]", found.stdout + found.stderr


@pytest.mark.parametrize(
    ("target", "tests", "found"),
    [
        ("jobs", "tests/nn", None),
        ("jobs", "tests/comm tests/nn", "tests/comm/test_faulty_jobs.py"),
        ("others", "tests/test_examples_jobs.py", None),
        ("others", "tests/test_examples_jobs.py tests/nn", "tests/nn"),
    ],
)
def test_a_half_of_the_serial_tests_runs_only_what_is_asked_for(
    target: str, tests: str, found: str | None
) -> None:
    command = ["make", "--dry-run", "--no-print-directory", target, f"TESTS={tests}", "PY=python"]
    environment = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    made = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    if found is None:
        assert "pytest" not in made.stdout, made.stdout
    else:
        assert made.stdout.split()[-1] == found, made.stdout
