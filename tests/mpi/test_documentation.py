"""Pages and tutorials that speak of several processes hold on them."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from tests.test_documentation import ROOT, run_blocks

DOCS = ROOT / "docs"


@pytest.mark.parallel([3])
@pytest.mark.parametrize(
    "name",
    [
        "coming_from",
        "communication",
        "conventions",
        "network",
        "optimisation",
        "poisson",
        "writing_an_operator",
    ],
)
def test_the_code_of_a_page_runs(name: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    run_blocks(DOCS / f"{name}.md")


@pytest.mark.parallel([3])
@pytest.mark.parametrize("name", ["operator", "parallel"])
def test_a_tutorial_runs(name: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    runpy.run_path(str(DOCS / "tutorials" / f"{name}.py"), run_name="__main__")
