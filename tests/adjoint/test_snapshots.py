"""Snapshots on disk come back as they were, and nothing of them outlives its process for long."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from adjoint.schedules import parse_bytes
from adjoint.snapshots import Folder, MemoryPool
from tests.jobs import ROOT

KEEPER = """
import sys, time
import numpy as np
from adjoint.snapshots import Folder
folder = Folder(sys.argv[1])
folder.save([np.arange(4.0)])
print("saved", flush=True)
time.sleep(60)
"""


def test_arrays_come_back(tmp_path: Path) -> None:
    arrays = [
        np.arange(6.0).reshape(2, 3), np.float32([1.5]), np.zeros((0, 4)), np.array(2.5),
        np.arange(12.0).reshape(3, 4)[:, ::2], np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    ]  # fmt: skip
    into = [np.full_like(array, np.nan) for array in arrays]
    into[4] = np.full((3, 4), np.nan)[:, 1::2]
    folder = Folder(tmp_path)
    path = folder.save(arrays)
    folder.load(into, path)
    for found, expected in zip(into, arrays):
        np.testing.assert_array_equal(found, expected)
    folder.close()
    assert not list(tmp_path.iterdir())


def test_a_folder_goes_with_its_owner(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.save([np.ones(3)])
    del folder
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_leaves_goes_with_the_next(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", KEEPER, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == b"saved\n"
    assert len(list(tmp_path.glob("*/*.raw"))) == 2
    killed, living = processes
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert len(list(tmp_path.glob("*/*.raw"))) == 2
    folder = Folder(tmp_path)
    assert len(list(tmp_path.glob("*/*.raw"))) == 1
    assert list(tmp_path.glob(f"*.{living.pid}.*/*.raw"))
    living.send_signal(signal.SIGINT)
    living.wait(timeout=10)
    for process in processes:
        assert process.stdout is not None
        process.stdout.close()
    deadline = time.monotonic() + 5
    while list(tmp_path.glob("*/*.raw")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [path.name.split(".")[-2] for path in tmp_path.iterdir()] == [str(os.getpid())]
    folder.close()


@pytest.mark.parametrize("size", [0, 8, 39])
def test_a_file_without_its_end_is_an_error(tmp_path: Path, size: int) -> None:
    folder = Folder(tmp_path)
    path = folder.save([np.arange(2.0), np.arange(3.0)])
    os.truncate(path, size)
    with pytest.raises(OSError, match="the file has lost its end") as caught:
        folder.load([np.zeros(2), np.zeros(3)], path)
    assert caught.value.filename == str(path)
    folder.close()


def test_a_folder_of_a_dead_process_whose_number_lives_is_removed(tmp_path: Path) -> None:
    # As after the restart of a container, where processes get the same numbers again.
    abandoned = tmp_path / f"adjoint-snapshots.{socket.gethostname()}.{os.getpid()}.x"
    elsewhere = tmp_path / "adjoint-snapshots.another-host.1.x"
    for path in (abandoned, elsewhere):
        path.mkdir()
        (path / "0.raw").write_bytes(bytes(8))
    kept = Folder(tmp_path)
    assert not abandoned.exists()
    assert elsewhere.exists()
    Folder(tmp_path)
    assert kept.path.exists()
    kept.close()


def test_a_folder_in_use_is_left_alone_though_its_number_is_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As where containers with one host name share a disk.
    folder = Folder(tmp_path)
    monkeypatch.setattr("adjoint.snapshots._alive", lambda process: False)
    Folder(tmp_path)
    assert folder.path.exists()
    folder.close()


def test_without_locks_the_process_number_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adjoint.snapshots._lock", lambda name: None)
    folder = Folder(tmp_path)
    Folder(tmp_path)
    assert folder.path.exists()
    monkeypatch.setattr("adjoint.snapshots._alive", lambda process: False)
    Folder(tmp_path)
    assert not folder.path.exists()
    folder.close()


def test_a_fork_leaves_its_parents_folder(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    child = os.fork()
    if child == 0:
        folder.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert folder.path.exists()
    folder.close()
    assert not folder.path.exists()


def test_memory_is_used_again() -> None:
    pool = MemoryPool()
    first = pool.save([np.arange(3.0)])
    pool.release(first)
    second = pool.save([np.ones(3)])
    assert second[0] is first[0]
    np.testing.assert_array_equal(second[0], np.ones(3))
    assert pool.save([np.zeros(3)])[0] is not second[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("4GB", 4 * 10**9), ("512 MiB", 512 * 2**20), ("1.5k", 1500), (1e6, 10**6), ("7", 7),
     ("2e3", 2000), ("2e+3", 2000), (".5e1k", 5000), ("1 KiB", 1024)],
)  # fmt: skip
def test_numbers_of_bytes(text: str | float, expected: int) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize(
    "text", ["", "GB", "4 XB", "-4GB", "1.2.3GB", ".", 0, float("nan"), float("inf")]
)
def test_what_is_no_number_of_bytes(text: str | float) -> None:
    with pytest.raises(ValueError, match=r"memory is .*, expected"):
        parse_bytes(text)
