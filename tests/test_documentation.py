"""Every Python block of the documentation, every tutorial and every example of a docstring runs."""

from __future__ import annotations

import doctest
import importlib
import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import adjoint
from tests.jobs import ROOT
from tests.registry import modules

DOCS = sorted(page for page in (ROOT / "docs").rglob("*.md") if "_build" not in page.parts)
PAGES = [ROOT / "README.md", *DOCS]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.py"))
FRAMEWORKS = ("torch", "jax", "pylops")
BLOCK = re.compile(r"^ {0,3}```python(?: needs (\w+))?\n(.*?)^ {0,3}```", re.DOTALL | re.MULTILINE)


def blocks(page: Path, package: str = "") -> list[str]:
    """Return the blocks of a page, those that need a package which may be missing, or all others.

    Such a block begins with "```python needs torch".
    """
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [block for need, block in found if need == package]


def run_blocks(page: Path) -> dict[str, Any]:
    """Run the blocks of a page one after the other, and return what they have defined."""
    names: dict[str, Any] = {}
    for block in blocks(page):
        exec(compile(block, str(page), "exec"), names)
    return names


@pytest.mark.timeout(300)  # pages on waves may have to wait for the compiler
@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_the_code_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    names = run_blocks(page)
    if page.name == "README.md":
        assert names["result"].value < 1e-3 * names["result"].history[0].loss
        assert names["gradient"] == 1.0 * (adjoint.communicator().size > 1)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("package", FRAMEWORKS)
def test_the_code_for_a_framework_runs(package: str) -> None:
    pytest.importorskip(package, reason=f"{package} is not installed: make test-frameworks")
    (page,) = (page for page in PAGES if blocks(page, package))
    names: dict[str, Any] = {}
    for block in [*blocks(page), *blocks(page, package)]:
        exec(compile(block, str(page), "exec"), names)


def test_every_block_of_python_is_one_that_runs() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        needs = [need for need, _ in BLOCK.findall(text)]
        assert set(needs) <= {"", *FRAMEWORKS}, page.name
        assert len(needs) == len(re.findall(r"```python\b", text)), page.name


@pytest.mark.timeout(300)
@pytest.mark.parametrize("script", TUTORIALS, ids=lambda p: p.name)
def test_a_tutorial_runs_and_draws(script: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    runpy.run_path(str(script), run_name="__main__")
    figure = (tmp_path / f"{script.stem}.png").read_bytes()
    assert figure.startswith(b"\x89PNG")
    assert (ROOT / "docs" / "images" / f"{script.stem}.png").exists()


@pytest.mark.parametrize("name", modules())
def test_the_examples_of_docstrings(name: str) -> None:
    module = importlib.import_module(name)
    names = {**vars(adjoint), **vars(module), "np": np}
    failed, _ = doctest.testmod(module, extraglobs=names, optionflags=doctest.ELLIPSIS)
    assert failed == 0


def test_files_that_pages_name_are_there() -> None:
    folders = "adjoint|comm|nn|solvers|commands|examples|tests|docs|benchmarks"
    named = re.compile(rf"`((?:{folders})/[\w/.]+\.(?:py|md|toml))\b")
    for page in (*PAGES, *TUTORIALS, ROOT / "CONTRIBUTING.md"):
        for path in named.findall(page.read_text(encoding="utf-8")):
            assert (ROOT / path).exists(), f"{page.name}: {path}"


def test_links_inside_the_repository_lead_somewhere() -> None:
    for page in (*PAGES, *TUTORIALS, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"):
        for target in re.findall(r"\]\(([^)#]+)[)#]", page.read_text(encoding="utf-8")):
            if not target.startswith(("http:", "https:")):
                assert (page.parent / target).exists(), f"{page.name}: {target}"
