"""The examples as a user starts them: files, figures, continued runs, and what bad input gets."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tests.jobs import line_of, refused, run, started

POISSON = "poisson_inversion.py"
NONLINEAR = "nonlinear_diffusion.py"

#: What every inversion leaves, beside figures and results.
RECORD = {"log.csv", "configuration.json", "report.html"}


def invert(*arguments: Any, ranks: int = 2) -> subprocess.CompletedProcess[str]:
    return run(f"examples/{POISSON}", *arguments, ranks=ranks)


def test_polynomial_prints_value_and_derivative() -> None:
    found = run("examples/polynomial.py", "--theta", 2, ranks=4)
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip().splitlines() == [
        "f(θ) = 1 + θ + θ^2 + θ^3",
        "f(2) = 15   f'(2) = 17",
    ]


def test_polynomial_draws_its_graph(tmp_path: Path) -> None:
    found = run("examples/polynomial.py", "--draw", tmp_path / "graph.dot", ranks=2)
    assert found.returncode == 0, found.stderr
    assert (tmp_path / "graph.dot").read_text().count('label="Bcast') == 1
    refused("does not end in", "polynomial.py", "--draw", tmp_path / "graph.jpg")


def iterations(out: Path) -> list[int]:
    """Return the iterations in a log of one stage."""
    return [int(line.split(",")[1]) for line in (out / "log.csv").read_text().splitlines()[1:]]


def test_an_inversion_leaves_its_files_and_continues_bit_for_bit(tmp_path: Path) -> None:
    common = ("--size", 12, "--noise", 0.01)
    whole = invert(*common, "--iterations", 8, "--out", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    names = {p.name for p in (tmp_path / "whole").iterdir()}
    figures = {"kappa.png", "loss.png"}
    fields = {"kappa.npy", "exact.npy", "u.npy"}
    assert names == {"state.npz", "result.npz", "network.npz", *RECORD, *figures, *fields}
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
    assert iterations(tmp_path / "parts") == [*range(9)]
    with np.load(tmp_path / "whole/result.npz") as a, np.load(tmp_path / "parts/result.npz") as b:
        assert set(a.files) == set(b.files)
        for name in a.files:
            np.testing.assert_array_equal(a[name], b[name])
    for name in fields:
        assert np.load(tmp_path / "whole" / name).shape == (12, 12)
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()


def test_a_field_leaves_its_files_and_continues_on_fewer_ranks(tmp_path: Path) -> None:
    common = ("examples/field_inversion.py", "--size", 14, "--out", tmp_path, "--iterations")
    found = run(*common, 2, ranks=2)
    assert found.returncode == 0, found.stderr
    assert "κ, L2 error" in found.stdout
    first = np.load(tmp_path / "kappa.npy")
    found = run(*common, 4, "--resume", ranks=1)
    assert found.returncode == 0, found.stderr
    assert "2 iterations done" in found.stdout
    names = {path.name for path in tmp_path.iterdir()}
    fields = {name for name in names if name.startswith("state.npz.")}
    assert len(fields) == 1
    figures = {"kappa.png", "loss.png"}
    assert names - fields == {"state.npz", "result.npz", "kappa.npy", *figures, *RECORD}
    for name in names - fields:
        assert str(tmp_path / name) in found.stdout
    assert (tmp_path / "kappa.png").read_bytes().startswith(b"\x89PNG")
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 6
    second = np.load(tmp_path / "kappa.npy")
    assert first.shape == second.shape == (14, 14)
    assert (first != second).any()


def test_a_learned_law_leaves_its_files_and_continues(tmp_path: Path) -> None:
    common = ("--size", 8, "--noise", 0.02, "--out", tmp_path)
    first = run(f"examples/{NONLINEAR}", *common, "--iterations", 2, ranks=1)
    assert first.returncode == 0, first.stderr
    rest = run(f"examples/{NONLINEAR}", *common, "--iterations", 4, "--resume", ranks=1)
    assert rest.returncode == 0, rest.stderr
    assert "iteration     4" in rest.stdout
    assert "law, L2 error" in rest.stdout
    figures = {"law.png", "temperature.png", "loss.png"}
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {"state.npz", "result.npz", "network.npz", *RECORD, *figures}
    for name in figures:
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    for name in names:
        assert str(tmp_path / name) in rest.stdout
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 6
    with np.load(tmp_path / "result.npz") as result:
        assert result["u"].shape == result["data"].shape == (4, 8, 8)
        assert result["loss"][-1] < result["loss"][0]
        assert 0 < result["l2_error"] < result["max_error"]


def test_a_source_inversion_leaves_its_files_and_continues(tmp_path: Path) -> None:
    common = ("--size", 8, "--steps", 4, "--sensors", 3, "--course", "sought", "--out", tmp_path)
    for iterations, more in ((1, ()), (3, ("--resume",))):
        arguments = (*common, "--iterations", iterations, *more)
        found = run("examples/source_inversion.py", *arguments, ranks=1)
        assert found.returncode == 0, found.stderr
    names = {"state.npz", "result.npz", "source.png", "loss.png", *RECORD}
    assert {p.name for p in tmp_path.iterdir()} == names
    assert (tmp_path / "source.png").read_bytes().startswith(b"\x89PNG")
    for name in names:
        assert str(tmp_path / name) in found.stdout
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 5
    with np.load(tmp_path / "result.npz") as result:
        assert result["found"].shape == (8, 8)
        assert result["observed"].shape == (9, 4)
        assert result["misfits"][1] < result["misfits"][0]


def test_the_uncertainty_leaves_its_figure_and_gauss_newton_continues(tmp_path: Path) -> None:
    common = ("--size", 8, "--noise", 0.01)
    found = run(
        "examples/poisson_uncertainty.py", *common, "--iterations", 4, "--rank", 5,
        "--out", tmp_path, ranks=1,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    figure = tmp_path / "uncertainty.png"
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert f"figures        {figure}" in found.stdout
    with np.load(tmp_path / "result.npz") as archive:
        deviation = f"{np.sqrt(np.mean(archive['posterior'] ** 2)):.4f} afterwards"
        assert archive["eigenvalues"].shape == (5,)
    assert deviation in found.stdout

    for iterations, options in ((3, ()), (5, ("--resume",))):
        found = invert(*common, "--method", "gauss-newton", "--iterations", iterations, *options,
                       "--out", tmp_path / "parts", ranks=1)  # fmt: skip
        assert found.returncode == 0, found.stderr
    assert "3 iterations done" in found.stdout
    assert "iteration     5" in found.stdout
    assert "PDE solves" in found.stdout


def test_an_inversion_that_is_ended_leaves_a_report_and_goes_on(tmp_path: Path) -> None:
    options = ("--size", 12, "--out", tmp_path)
    with started(f"examples/{POISSON}", *options, "--iterations", 100_000) as job:
        line_of(job, "iteration     3")
        below = psutil.Process(job.pid).children(recursive=True)
        (first,) = (rank for rank in below if rank.environ().get("OMPI_COMM_WORLD_RANK") == "0")
        first.terminate()
        assert job.wait(timeout=20) != 0
    page = (tmp_path / "report.html").read_text()
    assert "stopped by SIGTERM, 2 ranks" in page
    assert "data:image/png" in page
    done = iterations(tmp_path)
    assert done == [*range(len(done))]
    rest = invert(*options, "--iterations", done[-1] + 2, "--resume")
    assert rest.returncode == 0, rest.stderr
    assert iterations(tmp_path) == [*range(done[-1] + 3)]
    assert "finished, 2 ranks" in (tmp_path / "report.html").read_text()


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
    refused(message, POISSON, *arguments, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_bad_option_of_a_source_is_named_once(tmp_path: Path) -> None:
    refused("--steps 1 is out of range", "source_inversion.py", "--steps", 1, "--out", tmp_path)


@pytest.mark.parametrize("below", ["", "folder"])
def test_a_file_in_the_way_of_the_results(below: str, tmp_path: Path) -> None:
    file = tmp_path / "out"
    file.write_bytes(b"something else")
    refused(f"{file} is not a folder", POISSON, "--size", 8, "--out", file / below)
    assert file.read_bytes() == b"something else"


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The state file of a run with --size 8."""
    out = tmp_path_factory.mktemp("state")
    assert invert("--size", 8, "--iterations", 2, "--out", out).returncode == 0
    return (out / "state.npz").read_bytes()


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (lambda state: b"something else", (), "is damaged or not a state file"),
        (lambda state: state[: len(state) // 2], (), "is damaged or not a state file"),
        (lambda state: state, ("--seed", 1), "has metadata['seed'] 0, expected 1"),
    ],
    ids=["foreign", "truncated", "of another run"],
)
def test_a_bad_state_ends_all_ranks_with_one_message(
    content: Any, options: tuple[Any, ...], message: str, state: bytes, tmp_path: Path
) -> None:
    kept = tmp_path / "state.npz"
    kept.write_bytes(content(state))
    refused(message, POISSON, "--size", 8, "--resume", *options, "--out", tmp_path)
    assert kept.read_bytes() == content(state)
    assert [*tmp_path.iterdir()] == [kept]


def test_a_folder_in_the_way_of_the_state(tmp_path: Path) -> None:
    (tmp_path / "state.npz").mkdir()
    refused("state.npz is a directory", POISSON, "--size", 8, "--out", tmp_path)


def test_a_grid_smaller_than_its_ranks(tmp_path: Path) -> None:
    out = tmp_path / "out"
    refused(": CartesianGrid: ", POISSON, "--size", 2, "--iterations", 1, "--out", out, ranks=6)
    assert not out.exists()


@pytest.mark.parametrize(
    ("program", "option"),
    [
        (POISSON, "--observed OBSERVED"),
        (NONLINEAR, "--noise NOISE"),
        ("polynomial.py", "--theta THETA"),
    ],
)
def test_help_is_printed_once(program: str, option: str) -> None:
    found = run(f"examples/{program}", "--help")
    assert found.returncode == 0, found.stderr
    assert found.stdout.count("usage: ") == 1
    assert option in found.stdout


def test_a_fault_that_one_rank_finds_alone_is_printed_by_it() -> None:
    found = run(
        "-c",
        "from examples.command_line import one_message; from adjoint.comm import rank, sync\n"
        "with one_message(ValueError):\n"
        "    if rank() == 1:\n"
        "        raise ValueError('rank 1 is out of paper')\n"
        "    sync()\n",
    )
    assert found.returncode != 0
    assert found.stderr.count("-c: error: rank 1 is out of paper") == 1
    assert "Traceback" not in found.stderr


def test_what_the_user_cannot_mend_keeps_its_traceback() -> None:
    found = run(
        "-c",
        "from examples.command_line import one_message\n"
        "with one_message(OSError):\n"
        "    raise ArithmeticError('a fault of the program')\n",
    )
    assert found.returncode != 0
    assert "Traceback" in found.stderr
    assert "ArithmeticError: a fault of the program" in found.stderr
