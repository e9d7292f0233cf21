"""The examples as a user starts them: files, figures, continued runs, and what bad input gets."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.jobs import ROOT, command, environment


def run(*arguments: Any, ranks: int = 2) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments, ranks=ranks),
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=55,
    )


def invert(*arguments: Any, ranks: int = 2) -> subprocess.CompletedProcess[str]:
    return run("examples/poisson_inversion.py", *arguments, ranks=ranks)


def test_polynomial_prints_value_and_derivative() -> None:
    found = run("examples/polynomial.py", "--theta", 2, ranks=4)
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip().splitlines() == [
        "f(θ) = 1 + θ + θ^2 + θ^3",
        "f(2) = 15   f'(2) = 17",
    ]


def test_an_inversion_leaves_its_files_and_continues_bit_for_bit(tmp_path: Path) -> None:
    common = ("--size", 12, "--noise", 0.01)
    whole = invert(*common, "--iterations", 8, "--out", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    names = {p.name for p in (tmp_path / "whole").iterdir()}
    figures = {"kappa.png", "loss.png"}
    assert names == {"state.npz", "result.npz", "network.npz", "log.csv", *figures}
    for name in figures:
        assert (tmp_path / "whole" / name).read_bytes().startswith(b"\x89PNG")
    assert "iteration     8" in whole.stdout
    for name in names - {"state.npz"}:
        assert str(tmp_path / "whole" / name) in whole.stdout
    log = (tmp_path / "whole" / "log.csv").read_text().splitlines()
    assert len(log) == 10

    first = invert(*common, "--iterations", 3, "--out", tmp_path / "parts")
    assert first.returncode == 0, first.stderr
    rest = invert(*common, "--iterations", 8, "--resume", "--out", tmp_path / "parts")
    assert rest.returncode == 0, rest.stderr
    with np.load(tmp_path / "whole/result.npz") as a, np.load(tmp_path / "parts/result.npz") as b:
        assert a["kappa"].shape == (12, 12)
        assert set(a.files) == set(b.files)
        for name in a.files:
            np.testing.assert_array_equal(a[name], b[name])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--size", 1), "--size 1 is out of range"),
        (("--patch", 0), "--patch 0 is out of range"),
        (("--observed", 1.5), "--observed 1.5 is out of range"),
        (("--noise", "nan"), "--noise nan is out of range"),
        (("--iterations", 0), "--iterations 0 is out of range"),
        (("--field", "waves"), "invalid choice: 'waves'"),
    ],
)
def test_a_bad_option_is_named_once(
    arguments: tuple[Any, ...], message: str, tmp_path: Path
) -> None:
    start = time.monotonic()
    found = invert(*arguments, "--out", tmp_path / "out")
    assert time.monotonic() - start < 10
    assert found.returncode != 0
    assert found.stderr.count(message) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("fault", ["foreign state", "truncated state", "a file in the way"])
def test_a_bad_folder_ends_all_ranks_with_one_message(fault: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    content = b"something else"
    if fault == "a file in the way":
        out.write_bytes(content)
        kept = out
        message = "File exists"
    else:
        assert invert("--size", 8, "--iterations", 2, "--out", out).returncode == 0
        kept = out / "state.npz"
        whole = kept.read_bytes()
        content = content if fault == "foreign state" else whole[: len(whole) // 2]
        kept.write_bytes(content)
        message = "is damaged or not a state file"
    start = time.monotonic()
    found = invert("--size", 8, "--iterations", 3, "--resume", "--out", out)
    assert time.monotonic() - start < 10
    assert found.returncode != 0
    assert message in found.stderr
    assert kept.read_bytes() == content


def test_a_grid_smaller_than_its_ranks(tmp_path: Path) -> None:
    found = invert("--size", 2, "--iterations", 1, "--out", tmp_path / "out", ranks=6)
    assert found.returncode != 0
    assert "CartesianGrid: " in found.stderr


def test_help_is_printed_once() -> None:
    found = invert("--help")
    assert found.returncode == 0
    assert found.stdout.count("--observed OBSERVED") == 2  # usage and description, once
