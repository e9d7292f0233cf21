"""State files: the same iterates after every stop, and no file taken for what it is not."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.optimize

from adjoint.optimize import Iteration, StateError
from tests.minimisations import START, Rosenbrock, Stop, facts, quiet

METHODS = ("L-BFGS-B", "CG", "trust-constr", "Adam")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("every", [1, 4])
def test_a_run_stopped_at_any_evaluation_continues_bit_for_bit(
    method: str, every: int, tmp_path: Path
) -> None:
    whole = quiet(Rosenbrock(), tmp_path / "whole.npz", method, every=every)
    for k in range(whole.evaluations):
        state = tmp_path / f"{k}.npz"
        with pytest.raises(Stop):
            quiet(Rosenbrock(k), state, method, every=every)
        misfit = Rosenbrock()
        found = quiet(misfit, state, method, every=every, resume=True)
        assert facts(found) == facts(whole)
        assert misfit.calls == whole.evaluations - k


@pytest.mark.parametrize("method", METHODS)
def test_a_run_killed_between_writes_continues_bit_for_bit(method: str, tmp_path: Path) -> None:
    whole = quiet(Rosenbrock(), None, method)
    for k in range(whole.iterations):
        kept: dict[str, bytes] = {}
        state = tmp_path / f"{k}.npz"

        def keep(
            iteration: Iteration,
            theta: Any,
            k: int = k,
            state: Path = state,
            kept: dict[str, bytes] = kept,
        ) -> None:
            if iteration.iteration == k and state.exists():  # what a kill would leave here
                kept["bytes"] = state.read_bytes()

        quiet(Rosenbrock(), state, method, every=3, callback=keep)
        state.unlink()
        if kept:
            state.write_bytes(kept["bytes"])
        assert facts(quiet(Rosenbrock(), state, method, every=3, resume=True)) == facts(whole)


@pytest.mark.parametrize("method", METHODS)
def test_a_finished_run_is_read_without_the_misfit(method: str, tmp_path: Path) -> None:
    state = tmp_path / "run.npz"
    whole = quiet(Rosenbrock(), state, method)
    again = quiet(Rosenbrock(fail_at=0), state, method, resume=True)
    assert facts(again) == facts(whole)
    assert again.history == whole.history  # clock and memory, too
    assert os.listdir(tmp_path) == ["run.npz"]


@pytest.mark.parametrize("method", METHODS)
def test_a_finished_run_goes_on_with_a_higher_maxiter(method: str, tmp_path: Path) -> None:
    state = tmp_path / "run.npz"
    longer = quiet(Rosenbrock(), None, method, options={"maxiter": 15})
    seen: list[int] = []
    short = quiet(Rosenbrock(), state, method)
    quiet(Rosenbrock(), state, method, options={"maxiter": 3}, resume=True)
    found = quiet(
        Rosenbrock(),
        state,
        method,
        options={"maxiter": 15},
        resume=True,
        callback=lambda iteration, _: seen.append(iteration.iteration),
    )
    assert facts(found) == facts(longer)
    assert seen == list(range(short.iterations + 1, found.iterations + 1))  # and no earlier ones
    assert [i.seconds for i in found.history] == sorted(i.seconds for i in found.history)


def test_a_run_with_bounds_shape_and_metadata_continues(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {
        "theta0": START.reshape(1, 5),
        "bounds": scipy.optimize.Bounds(-2, np.linspace(0.8, 1.6, 5)),
        "metadata": {"seed": np.int64(3), "bands": (1.0, np.inf), "name": "test", "gap": np.nan},
    }

    def misfit(fail_at: int | None = None) -> Any:
        inner = Rosenbrock(fail_at)
        return lambda x: inner(x.ravel())

    whole = quiet(misfit(), None, **arguments)
    with pytest.raises(Stop):
        quiet(misfit(6), tmp_path / "run.npz", **arguments)
    found = quiet(misfit(), tmp_path / "run.npz", resume=True, **arguments)
    assert facts(found) == facts(whole)
    assert found.theta.shape == (1, 5)


def test_a_run_with_rejected_trials_continues(tmp_path: Path) -> None:
    def misfit(x: Any) -> Any:
        if x.value.min() <= 0:
            raise ArithmeticError("there is no logarithm")
        return (np.array([1.0, 10.0, 100.0]) * x - np.log(x)).sum()

    def run(state: Any, **kwargs: Any) -> Any:
        return quiet(misfit, state, theta0=np.full(3, 0.5), reject=ArithmeticError, **kwargs)

    whole = run(None, options={"maxiter": 12})
    for stop in (1, 3, 7):
        run(tmp_path / "state.npz", options={"maxiter": stop})
        continued = run(tmp_path / "state.npz", options={"maxiter": 12}, resume=True)
        assert facts(continued) == facts(whole)


def test_a_continued_run_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = tmp_path / "run.npz"
    with pytest.raises(Stop):
        quiet(Rosenbrock(7), state)
    quiet(Rosenbrock(), state, resume=True, progress=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"continuing from {state}: 7 evaluations done"
    first = int(lines[1].split()[1])
    assert [int(line.split()[1]) for line in lines[1:]] == list(range(first, 10))


def test_without_resume_a_new_run_replaces_the_file(tmp_path: Path) -> None:
    state = tmp_path / "run.npz"
    state.write_bytes(b"something else")
    whole = quiet(Rosenbrock(), state)
    misfit = Rosenbrock()
    assert facts(quiet(misfit, state)) == facts(whole)
    assert misfit.calls == whole.evaluations


def damaged(whole: bytes) -> dict[str, bytes]:
    return {
        "empty": b"",
        "text": b"theta = 3\n",
        "truncated": whole[: len(whole) // 2],
        "last byte missing": whole[:-1],
        "zeros": bytes(len(whole)),
        "zero tail": whole[:-200] + bytes(200),
    }


@pytest.mark.parametrize("method", ["L-BFGS-B", "Adam"])
def test_damaged_and_foreign_files(method: str, tmp_path: Path) -> None:
    state = tmp_path / "run.npz"
    quiet(Rosenbrock(), state, method)
    contents = damaged(state.read_bytes())
    np.savez(tmp_path / "foreign.npz", a=np.arange(3))
    contents["foreign"] = (tmp_path / "foreign.npz").read_bytes()
    np.save(tmp_path / "array.npy", np.arange(3))
    contents["array"] = (tmp_path / "array.npy").read_bytes()
    np.save(tmp_path / "pickle.npy", np.array([{}]), allow_pickle=True)
    contents["pickle"] = (tmp_path / "pickle.npy").read_bytes()
    for name, content in contents.items():
        state.write_bytes(content)
        with pytest.raises(StateError, match=f"state file {state} is damaged or not a state file"):
            quiet(Rosenbrock(0), state, method, resume=True)
        assert state.read_bytes() == content, name


def test_a_flipped_bit_is_found_wherever_it_is(tmp_path: Path) -> None:
    state = tmp_path / "run.npz"
    options = {"maxiter": 1}
    whole = facts(quiet(Rosenbrock(), state, options=options))
    content = state.read_bytes()
    found = 0
    for position in range(0, len(content), 5):
        flipped = bytearray(content)
        flipped[position] ^= 1 << position % 8
        state.write_bytes(flipped)
        try:  # dates and the like in the archive's directory may change
            assert facts(quiet(Rosenbrock(0), state, options=options, resume=True)) == whole
        except StateError as error:
            assert str(state) in str(error)
            found += 1
        assert state.read_bytes() == flipped
    assert found > 0.7 * len(content) / 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "CG"}, "method 'L-BFGS-B', expected 'CG'"),
        ({"options": {"maxcor": 3}}, r"options\['maxcor'\] 50, expected 3"),
        ({"options": {"maxls": 3}}, r"options\['maxls'\] None, expected 3"),
        ({"theta0": np.zeros(6)}, r"shape \[5\], expected \[6\]"),
        ({"theta0": START.astype(np.float32)}, "dtype 'float64', expected 'float32'"),
        ({"theta0": np.nextafter(START, 9)}, "another theta0"),
        ({"bounds": [(0, 2)] * 5}, "bounds None, expected"),
        ({"metadata": {"seed": 1}}, r"metadata\['seed'\] None, expected 1"),
    ],
)
def test_files_of_other_runs(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    state = tmp_path / "run.npz"
    quiet(Rosenbrock(), state)
    content = state.read_bytes()
    with pytest.raises(StateError, match=rf"^minimize: state file {state} .*{message}"):
        quiet(Rosenbrock(0), state, resume=True, **change)
    assert state.read_bytes() == content
    assert os.listdir(tmp_path) == ["run.npz"]


def test_adams_file_of_another_layout(tmp_path: Path) -> None:
    state = tmp_path / "run.npz"
    quiet(Rosenbrock(), state, "Adam")
    with np.load(state) as archive:
        arrays = dict(archive)
    arrays["remembered"] = arrays["remembered"][:, :-1]
    with open(state, "wb") as file:
        np.savez(file, **arrays)
    with pytest.raises(StateError, match=f"state file {state} has another layout"):
        quiet(Rosenbrock(0), state, "Adam", resume=True)


def test_evaluations_that_the_method_does_not_ask_for(tmp_path: Path) -> None:
    state = tmp_path / "run.npz"
    quiet(Rosenbrock(), state)
    with np.load(state) as archive:
        arrays = dict(archive)
    arrays["evaluations"]["gradient"][4] *= 1 + 1e-15
    with open(state, "wb") as file:
        np.savez(file, **arrays)
    content = state.read_bytes()
    with pytest.raises(RuntimeError, match=rf"{state}: evaluation 5 is asked for at another point"):
        quiet(Rosenbrock(0), state, resume=True)
    assert state.read_bytes() == content


def test_configurations_that_no_file_can_hold(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"metadata\['grid'\]\['f'\] is a function"):
        quiet(Rosenbrock(0), tmp_path / "run.npz", metadata={"grid": {"f": lambda x: x}})


def test_places_where_no_file_can_be_written(tmp_path: Path) -> None:
    misfit = Rosenbrock(0)
    with pytest.raises(FileNotFoundError, match="cannot be written: No such file") as caught:
        quiet(misfit, tmp_path / "missing" / "run.npz")
    assert str(tmp_path / "missing" / "run.npz") in str(caught.value)
    with pytest.raises(IsADirectoryError, match=f"state file {tmp_path} is a directory"):
        quiet(misfit, tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="cannot be written"):
        quiet(misfit, tmp_path / "file" / "run.npz")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_is_not_ours(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="cannot be written"):
        quiet(Rosenbrock(0), tmp_path / "run.npz")


@pytest.mark.parametrize("method", ["L-BFGS-B", "Adam"])
def test_a_write_that_meets_a_limit_leaves_the_former_file(method: str, tmp_path: Path) -> None:
    state = tmp_path / "run.npz"
    whole = quiet(Rosenbrock(), None, method)
    with pytest.raises(Stop):
        quiet(Rosenbrock(4), state, method)
    content = state.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(content) + 40, hard))
        with pytest.raises(OSError, match="state file cannot be written: File too large") as caught:
            quiet(Rosenbrock(), state, method, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
    assert caught.value.filename == str(state)
    assert state.read_bytes() == content
    assert os.listdir(tmp_path) == ["run.npz"]
    assert facts(quiet(Rosenbrock(), state, method, resume=True)) == facts(whole)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_is_full_at_the_last_moment(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "run.npz"
    with pytest.raises(Stop):
        quiet(Rosenbrock(4), state)
    content = state.read_bytes()

    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(OSError, match="cannot be written: No space left on device"):
            quiet(Rosenbrock(), state, resume=True)
    assert state.read_bytes() == content
    assert os.listdir(tmp_path) == ["run.npz"]


def test_a_full_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, timeout=20).returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        state = disk / "run.npz"
        theta0 = np.linspace(-1, 1.5, 500)
        with pytest.raises(OSError, match="cannot be written: No space left on device"):
            quiet(Rosenbrock(), state, theta0=theta0, options={"maxiter": 60})
        assert os.listdir(disk) == ["run.npz"]
        size = state.stat().st_size
        assert size > 4000
        with pytest.raises(OSError, match="No space left"):
            quiet(Rosenbrock(), state, theta0=theta0, options={"maxiter": 60}, resume=True)
        assert state.stat().st_size == size
    finally:
        subprocess.run(["umount", str(disk)], check=True, timeout=20)


def test_a_failing_write_does_not_hide_what_ended_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def stop(iteration: Iteration, theta: Any) -> None:
        raise Stop

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(Stop):
        quiet(Rosenbrock(), tmp_path / "run.npz", callback=stop)
    assert "No space left on device" in capsys.readouterr().err
