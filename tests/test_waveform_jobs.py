"""The waveform inversions as a user starts them: what bad input gets, and runs that are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from adjoint.solvers import read_traces, ricker
from tests.jobs import line_of, refused, run, started

KINDS = ("acoustic", "elastic")


def program(kind: str) -> str:
    return f"{kind}_inversion.py"


def invert(
    kind: str, *options: Any, limit: float = 250, ranks: int = 2
) -> subprocess.CompletedProcess[str]:
    return run(f"examples/{program(kind)}", *options, limit=limit, ranks=ranks)


def model() -> dict[str, Any]:
    """Return the keys of a model of 18×13 nodes with two shots."""
    x, z = np.mgrid[:18, :13] * 20.0
    smooth = 2500 + 1.5 * z
    vp = smooth + 300 * np.exp(-((z - 150) ** 2 + (x - 180) ** 2) / 2 / 50**2)
    fields = {"vp": vp, "vs": vp / 1.6, "rho": np.full_like(vp, 2000.0)}
    start = {"vp_smooth": smooth, "vs_smooth": smooth / 1.6, "rho_smooth": fields["rho"]}
    return {
        **fields, **start, "mask": z > 30, "spacing": 20.0, "dt": 3e-3, "nt": 100,
        "sources": [[5, 1], [12, 1]], "receivers": [[1, 1], [4, 1], [8, 1], [15, 1]],
        "source_time_function": ricker(3e-3 * np.arange(100), 8.0), "peak_frequency": 8.0,
    }  # fmt: skip


def changed(path: Path, **changes: Any) -> Path:
    """Write a model with other values; without the keys that are None."""
    keys = {key: value for key, value in {**model(), **changes}.items() if value is not None}
    np.savez(path, **keys)
    return path


def hole(name: str) -> Any:
    field = model()[name]
    field[4, 5] = np.nan
    return field


@pytest.mark.parametrize("kind", KINDS)
def test_help_is_printed_once(kind: str) -> None:
    found = invert(kind, "--help", limit=30)
    assert found.returncode == 0, found.stderr
    assert found.stdout.count("usage: ") == 1
    assert "--save-traces FILE" in found.stdout


FAULTS: dict[str, tuple[str, dict[str, Any], tuple[Any, ...], str]] = {
    "unknown option": ("elastic", {}, ("--modle", "a"), "unrecognized arguments: --modle a"),
    "more groups than ranks": (
        "acoustic", {}, ("--shot-groups", 3), "--shot-groups 3 is out of range",
    ),
    "more groups than shots": (
        "acoustic", {"sources": [[5, 1]]}, ("--shot-groups", 2),
        "--shot-groups 2 is more than the 1 shots",
    ),
    "a model of the plane in space": (
        "acoustic", {}, ("--dimensions", 3), "--dimensions 3 takes neither --model nor --save-",
    ),
    "a penalty without a field": (
        "acoustic", {}, ("--penalty", "tikhonov"), "--penalty is for --unknown field",
    ),
    "missing keys": ("elastic", {"vs": None, "dt": None}, (), "lacks the keys vs, dt"),
    "a wrong shape": (
        "elastic", {"rho": np.ones((13, 18))}, (), "rho has shape (13, 18), expected (18, 13)",
    ),
    "not a number": ("elastic", {"vs": hole("vs")}, (), "vs has values that are not finite"),
    "an unstable step": (
        "elastic", {"dt": 0.02}, (), "ElasticWave: dt is 0.02 s, expected at most 0.00",
    ),
    "a source off the grid": (
        "acoustic", {"sources": [[5, 1], [300, 1]]}, (),
        "sources has (300, 1), expected nodes from (0, 0) to (17, 12)",
    ),
    "too small a budget": (
        "elastic", {}, ("--memory", "10 kB"), "memory is 10000 bytes, expected at least",
    ),
    "traces of an unknown kind": (
        "acoustic", {}, ("--save-traces", "traces.dat"),
        "argument --save-traces: traces.dat: expected a name that ends in .npz, .sgy or .segy",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_input_is_named_once(fault: str, tmp_path: Path) -> None:
    kind, changes, options, message = FAULTS[fault]
    path = changed(tmp_path / "model.npz", **changes)
    refused(message, program(kind), "--model", path, *options, "--out", tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.npz"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.npz", None, "No such file or directory"),
        ("bad.npz", b"PK\x03\x04 no archive", "not an .npz file of numbers"),
        ("bad.sgy", b"no seismic file\n" * 400, "not a big-endian SEG-Y file"),
    ],
)
def test_a_bad_file_is_named_once(
    name: str, content: bytes | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    refused(message, program("acoustic"), "--model", path, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("below", ["", "folder"])
def test_a_file_in_the_way_of_the_results(below: str, tmp_path: Path) -> None:
    path, file = changed(tmp_path / "model.npz"), tmp_path / "out"
    file.write_bytes(b"something else")
    message = f"{file} is not a folder"
    refused(message, program("acoustic"), "--model", path, "--out", file / below)
    assert file.read_bytes() == b"something else"


@pytest.mark.timeout(600)  # the first run may have to wait for the compiler
def test_a_bad_state_ends_all_ranks_with_one_message(tmp_path: Path) -> None:
    path, state = changed(tmp_path / "model.npz"), tmp_path / "state-1.npz"
    state.write_bytes(b"something else")
    refused(
        f"state file {state} is damaged or not a state file", program("acoustic"),
        "--model", path, "--resume", "--out", tmp_path, seconds=250,
    )  # fmt: skip
    assert state.read_bytes() == b"something else"


@pytest.mark.timeout(600)  # the first run may have to wait for the compiler
@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_run_is_continued_bit_for_bit(kind: str, tmp_path: Path) -> None:
    common = ["--model", changed(tmp_path / "model.npz"), "--bands", 6, "--iterations", 3,
              "--shot-groups", 2]  # fmt: skip
    whole = invert(kind, *common, "--out", tmp_path / "whole", "--save-traces", tmp_path / "d.npz")
    assert whole.returncode == 0, whole.stderr
    figures = {f"{name}.png" for name in ("model", "traces", "wavefield", "loss")}
    assert {p.name for p in (tmp_path / "whole").iterdir()} == {
        "state-1.npz", "state-2.npz", "result.npz", "log.csv", "configuration.json", "report.html",
        *figures,
    }  # fmt: skip
    for name in ("d.npz",) if kind == "acoustic" else ("d-vz.npz", "d-vx.npz"):
        assert read_traces(tmp_path / name).traces.shape == (2, 4, 100)

    killed_in_stage(2, kind, *common, "--out", tmp_path / "parts")
    assert {p.name for p in (tmp_path / "parts").iterdir()} >= {"state-1.npz", "state-2.npz"}
    assert not (tmp_path / "parts" / "result.npz").exists()
    rest = invert(kind, *common, "--out", tmp_path / "parts", "--resume")
    assert rest.returncode == 0, rest.stderr
    logs = [(tmp_path / part / "log.csv").read_text().splitlines() for part in ("whole", "parts")]
    whole_log, parts_log = ([line.split(",")[:5] for line in log] for log in logs)
    assert whole_log == parts_log  # but for seconds and memory
    assert len(whole_log) == 9
    with np.load(tmp_path / "whole/result.npz") as a, np.load(tmp_path / "parts/result.npz") as b:
        assert set(a.files) == set(b.files)
        assert len(a["loss"]) == 8
        for name in a.files:
            np.testing.assert_array_equal(a[name], b[name])


@pytest.mark.timeout(600)
def test_a_run_is_continued_on_other_ranks_and_groups(tmp_path: Path) -> None:
    common = ["--model", changed(tmp_path / "model.npz"), "--out", tmp_path / "out"]
    first = invert("acoustic", *common, "--iterations", 2, "--shot-groups", 2)
    assert first.returncode == 0, first.stderr
    with np.load(tmp_path / "out/result.npz") as result:
        before = result["loss"]
    trace = tmp_path / "trace.json"
    rest = invert("acoustic", *common, "--iterations", 4, "--resume", "--trace", trace, ranks=3)
    assert rest.returncode == 0, rest.stderr
    events = json.loads(trace.read_text())["traceEvents"]
    exchanges = Counter(event["pid"] for event in events if event["name"] == "halo exchange")
    assert len(exchanges) == 3
    assert min(exchanges.values()) == max(exchanges.values()) >= 2 * 2 * 2 * 100
    assert f"continuing from {tmp_path / 'out/state-1.npz'}" in rest.stdout
    with np.load(tmp_path / "out/result.npz") as result:
        np.testing.assert_array_equal(result["loss"][:3], before)
        assert len(result["loss"]) == 5
        assert result["loss"][4] < result["loss"][3] < before[2]


@pytest.mark.timeout(600)
def test_a_field_is_continued_on_other_ranks_and_groups(tmp_path: Path) -> None:
    out = tmp_path / "out"
    common = ["--model", changed(tmp_path / "model.npz"), "--unknown", "field", "--penalty",
              "variation", "--out", out, "--iterations"]  # fmt: skip
    first = invert("elastic", *common, 2, "--shot-groups", 2)
    assert first.returncode == 0, first.stderr
    before = (out / "log.csv").read_text().splitlines()
    rest = invert("elastic", *common, 3, "--resume", ranks=1)
    assert rest.returncode == 0, rest.stderr
    assert f"continuing from {out / 'state-1.npz'}: 2 iterations done" in rest.stdout
    assert (out / "log.csv").read_text().splitlines()[:4] == before
    names = {p.name for p in out.iterdir()}
    fields = {name for name in names if name.startswith("state-1.npz.")}
    assert len(fields) == 1
    assert names - fields == {
        "state-1.npz", "lam.npy", "result.npz", "log.csv", "configuration.json", "report.html",
        "model.png", "traces.png", "wavefield.png", "loss.png",
    }  # fmt: skip
    with np.load(out / "result.npz") as result:
        assert len(result["loss"]) == 4
        assert (np.diff(result["loss"]) < 0).all()
        np.testing.assert_array_equal(result["found"], np.load(out / "lam.npy"))
        assert "theta" not in result.files
        assert result["model_error"] < result["start_error"]


def killed_in_stage(stage: int, kind: str, *options: Any) -> None:
    """Start a job and kill one of its ranks after the first iteration of a stage."""
    with started(f"examples/{program(kind)}", *options) as job:
        line_of(job, f"stage {stage}")
        line_of(job, "iteration     1")
        below = psutil.Process(job.pid).children(recursive=True)
        ranks = [process.pid for process in below if "python" in process.name()]
        assert len(ranks) == 2
        os.kill(ranks[1], signal.SIGKILL)
        assert job.wait(timeout=20) != 0
