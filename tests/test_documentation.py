"""Every Python block of the documentation, and every example of a docstring, runs."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import adjoint

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MODULES = [m.name for m in pkgutil.walk_packages(adjoint.__path__, "adjoint.")]


def blocks(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"^ {0,3}```python\n(.*?)^ {0,3}```", text, re.DOTALL | re.MULTILINE)
    return [block for block in found if not block.startswith("  ")]


@pytest.mark.timeout(300)  # pages on waves may have to wait for the compiler
@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_the_code_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks(page):
        exec(compile(block, str(page), "exec"), names)
    if page.name == "README.md":
        assert names["result"].value < 1e-3 * names["result"].history[0].loss
        assert names["gradient"] == 1.0 * (adjoint.communicator().size > 1)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_docstrings(name: str) -> None:
    module = importlib.import_module(name)
    names = {**vars(adjoint), **vars(module), "np": np}
    failed, _ = doctest.testmod(module, extraglobs=names, optionflags=doctest.ELLIPSIS)
    assert failed == 0


def test_links_inside_the_repository_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if not target.startswith(("http:", "https:")):
                assert (page.parent / target).exists(), f"{page.name}: {target}"
