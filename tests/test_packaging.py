"""What is built of a checkout, and what an installation of it holds and can do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import adjoint
from tests.jobs import ROOT, environment
from tests.registry import modules

EXAMPLES = {f"adjoint/examples/{path.name}" for path in (ROOT / "examples").glob("*.py")}

# Building and installing may have to wait for a busy machine.
pytestmark = pytest.mark.timeout(240)


class Built(NamedTuple):
    """A wheel made of the checkout, a source distribution, and the wheel made of that."""

    wheel: Path
    sources: Path
    wheel_of_sources: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("built")
    # From a copy, so that no build folder is left in the checkout.
    copy = folder / "copy"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    for name in filter(None, listed.stdout.decode().split("\0")):
        original = ROOT / name
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if original.is_symlink():
            target.symlink_to(original.readlink())
        elif original.exists():
            target.write_bytes(original.read_bytes())
    build = [sys.executable, "-m", "build", "--no-isolation"]
    run(*build, "--wheel", "--outdir", folder / "wheel", copy)
    run(*build, "--outdir", folder / "both", copy)  # the wheel out of the source distribution
    (wheel,), (sources,) = (folder / "wheel").iterdir(), (folder / "both").glob("*.tar.gz")
    return Built(wheel, sources, folder / "both" / wheel.name)


@pytest.fixture(scope="module")
def site(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel is installed, and nothing else."""
    folder = tmp_path_factory.mktemp("site")
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index",
        "--target", folder, built.wheel)  # fmt: skip
    return folder


def run(*command: Any, **keywords: Any) -> str:
    found = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=200, check=False, **keywords
    )
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


def test_the_wheel_holds_every_module_once_and_nothing_else(built: Built) -> None:
    names = Counter(zipfile.ZipFile(built.wheel).namelist())
    assert max(names.values()) == 1
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"adjoint"}
    assert "adjoint/py.typed" in names
    programs = {name for name in names if name.startswith("adjoint/examples/")}
    assert programs == EXAMPLES
    files = {name for name in names if name.endswith(".py")} - programs
    found = {name[:-3].removesuffix("/__init__").replace("/", ".") for name in files}
    assert found == {"adjoint", *modules()}


def test_the_source_distribution_makes_the_same_wheel(built: Built) -> None:
    def contents(wheel: Path) -> dict[str, int]:
        return {entry.filename: entry.CRC for entry in zipfile.ZipFile(wheel).infolist()}

    assert contents(built.wheel) == contents(built.wheel_of_sources)
    with tarfile.open(built.sources) as archive:
        entries = archive.getmembers()
    assert all(entry.isfile() or entry.isdir() for entry in entries)  # no links to folders outside
    assert {"LICENSE", "README.md", "pyproject.toml"} <= {Path(e.name).name for e in entries}


def test_the_version_is_said_in_one_place(built: Built) -> None:
    assert built.wheel.name.split("-")[1] == adjoint.__version__
    assert built.sources.name == f"adjoint-{adjoint.__version__}.tar.gz"
    declared = re.findall(r"^version = .*", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert declared == ['version = { attr = "adjoint.__version__" }']


def test_the_wheel_says_what_it_is_and_needs(built: Built) -> None:
    archive = zipfile.ZipFile(built.wheel)
    (metadata,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
    text = archive.read(metadata).decode().partition("\n\n")[0]
    assert "License-Expression: MIT" in text
    needed = re.findall(r"^Requires-Dist: ([\w-]+)[^;\n]*$", text, re.MULTILINE)
    assert needed == ["numpy", "scipy", "mpi4py"]
    extras = set(re.findall(r"^Provides-Extra: (\S+)", text, re.MULTILINE))
    assert extras == {
        "petsc", "examples", "waves", "segy", "torch", "jax", "pylops", "docs", "test"
    }  # fmt: skip


def test_conda_users_get_all_that_the_library_can_use(built: Built) -> None:
    archive = zipfile.ZipFile(built.wheel)
    (metadata,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
    lines = archive.read(metadata).decode().splitlines()
    wanted = {
        re.split(r"[^\w-]", line.removeprefix("Requires-Dist: "))[0]: line
        for line in lines
        if line.startswith("Requires-Dist: ")
        and not re.search(r"extra == .(test|torch|jax|pylops|docs)", line)
    }
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    listed = {name.replace("_", "-") for name in re.findall(r"^ *- ([\w-]+)", text, re.MULTILINE)}
    assert {name.replace("_", "-") for name in wanted} <= listed
    assert {"numpy", "petsc4py", "numba"} <= set(wanted)
    for name, line in wanted.items():
        if bound := re.search(r">=[\d.]+", line):
            assert f"- {name} {bound[0]}\n" in text


def installed(site: Path, *arguments: Any, folder: Path, hidden: bool = False) -> str:
    """Run Python far from the checkout on what is installed, if asked without petsc4py."""
    hide = "sys.modules['petsc4py'] = None; " if hidden else ""
    start = f"import sys; {hide}import runpy; sys.argv[0] = 'adjoint'; "
    code = f"{start}runpy.run_module('adjoint', run_name='__main__')"
    variables = {**environment(), "PYTHONPATH": str(site), "NUMBA_CACHE_DIR": str(folder)}
    variables.pop("GRADIENT_CHECKS", None)
    return run(sys.executable, "-c", code, *arguments, cwd=folder, env=variables)


@pytest.mark.parametrize("petsc", [True, False])
def test_the_installed_library_works(petsc: bool, site: Path, tmp_path: Path) -> None:
    assert {path.name.split("-")[0] for path in site.iterdir()} == {"adjoint"}
    found = installed(site, "doctor", folder=tmp_path, hidden=not petsc)
    assert f"({site / 'adjoint'})" in found
    assert "FAULT" not in found
    assert ("petsc4py is not installed" in found) == (not petsc)
    solves = ("hypre solve", "transposed hypre solve") if petsc else ()
    for name in ("halo and its adjoint", "network gradient", *solves):
        assert re.search(rf"^ok +{name}", found, re.MULTILINE)


def test_an_installed_example_is_copied_out_and_runs(site: Path, tmp_path: Path) -> None:
    assert "polynomial" in installed(site, "examples", folder=tmp_path)
    installed(site, "examples", "polynomial", "--to", tmp_path / "mine", folder=tmp_path)
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {
        "polynomial.py", "command_line.py"
    }  # fmt: skip
    found = run(
        sys.executable, tmp_path / "mine/polynomial.py", "--theta", "2", cwd=tmp_path,
        env={**environment(), "PYTHONPATH": str(site), "HOME": os.environ.get("HOME", "/")},
    )  # fmt: skip
    assert found.splitlines()[-1] == "f(2) = 1   f'(2) = 0"
