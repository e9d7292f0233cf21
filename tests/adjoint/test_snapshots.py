"""Snapshots on disk come back as they were, and nothing of them outlives its process for long."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from checkpoint_schedules import optimal_steps_binomial

from adjoint.schedules import Sizes, binomial_steps, candidate_blocks, parse_bytes, plan
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
    arrays = [np.arange(6.0).reshape(2, 3), np.float32([1.5]), np.zeros((0, 4))]
    into = [np.full_like(array, np.nan) for array in arrays]
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
    assert len(list(tmp_path.glob("*/*.npy"))) == 2
    killed, living = processes
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert len(list(tmp_path.glob("*/*.npy"))) == 2
    folder = Folder(tmp_path)
    assert len(list(tmp_path.glob("*/*.npy"))) == 1
    assert list(tmp_path.glob(f"*.{living.pid}.*/*.npy"))
    living.send_signal(signal.SIGINT)
    living.wait(timeout=10)
    for process in processes:
        assert process.stdout is not None
        process.stdout.close()
    deadline = time.monotonic() + 5
    while list(tmp_path.glob("*/*.npy")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [path.name.split(".")[-2] for path in tmp_path.iterdir()] == [str(os.getpid())]
    folder.close()


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
     ("2e3", 2000), ("1 KiB", 1024)],
)  # fmt: skip
def test_numbers_of_bytes(text: str | float, expected: int) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "GB", "4 XB", "-4GB", 0, float("nan"), float("inf")])
def test_what_is_no_number_of_bytes(text: str | float) -> None:
    with pytest.raises(ValueError, match=r"memory is .*, expected"):
        parse_bytes(text)


def test_steps_of_binomial_schedules() -> None:
    for blocks in range(1, 40):
        for snapshots in range(1, max(blocks, 2)):
            assert binomial_steps(blocks, snapshots) == optimal_steps_binomial(blocks, snapshots)


def test_a_plan_for_many_steps() -> None:
    blocks = candidate_blocks(5000)
    sizes = Sizes(10**6, [10**5 * (b + 1) for b in blocks], blocks)
    found = plan(5000, 16, 4 * 10**7, "memory", sizes)
    assert found.bytes <= 4 * 10**7
    assert 1 < found.cost < 4
