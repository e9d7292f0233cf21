"""Every way to save memory gives the gradient that keeping everything gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoint_schedules as schedules
import numpy as np
import pytest
from checkpoint_schedules import StorageType
from hypothesis import given, settings
from hypothesis import strategies as st
from mpi4py import MPI

from adjoint import Tape
from adjoint.checkpoint import TimeLoop
from adjoint.comm import Allreduce, CartesianGrid
from adjoint.solvers import AcousticWave, ricker
from adjoint.testing import check_jvp, check_vjp, dot_test, taylor_test
from tests.pendulums import Pendulums

STEPS = 23

SCHEDULES: dict[str, Callable[[int], Any]] = {
    "memory": lambda n: schedules.SingleMemoryStorageSchedule(),
    "disk": lambda n: schedules.SingleDiskStorageSchedule(),
    "Revolve": lambda n: schedules.Revolve(n, 3),
    "DiskRevolve": lambda n: schedules.DiskRevolve(n, 2),
    "PeriodicDiskRevolve": lambda n: schedules.PeriodicDiskRevolve(n, 2),
    "HRevolve": lambda n: schedules.HRevolve(n, 2, 2),
    "multistage": lambda n: schedules.MultistageCheckpointSchedule(n, 2, 1),
    "two-level, memory": lambda n: schedules.TwoLevelCheckpointSchedule(
        4, 2, binomial_storage=StorageType.RAM
    ),
    "two-level, disk": lambda n: schedules.TwoLevelCheckpointSchedule(4, 2),
    "mixed, memory": lambda n: schedules.MixedCheckpointSchedule(n, 2, storage=StorageType.RAM),
    "mixed, disk": lambda n: schedules.MixedCheckpointSchedule(n, 2),
}

LOOPS: dict[str, dict[str, Any]] = {
    **{name: {"schedule": make} for name, make in SCHEDULES.items()},
    "Revolve by fours": {"schedule": SCHEDULES["Revolve"], "block": 4},
    "budget": {"memory": 900},
    "small budget": {"memory": 420},
    "budget and disk": {"memory": 420, "storage": "both"},
    "disk and little memory": {"memory": 300, "storage": "disk"},
}


def control(comm: MPI.Comm, seed: int = 0) -> tuple[Any, Any]:
    random = np.random.default_rng([seed, comm.rank])
    return 1 + random.random(3), random.standard_normal((STEPS, 3))


def gradient(loop: TimeLoop, m: Any, q: Any) -> list[Any]:
    with Tape() as tape:
        v, w = tape.watch(m), tape.watch(q)
        loss = Allreduce(loop.propagator.comm)((loop(v, w) ** 2).sum())
    return tape.gradient(loss, [v, w])


def loop_of(comm: MPI.Comm, runs: int, tmp_path: Path, **settings: Any) -> TimeLoop:
    folder = comm.bcast(tmp_path)
    return TimeLoop(
        Pendulums(comm, 3, STEPS, runs), directory=folder, report=lambda text: None, **settings
    )


@pytest.mark.parallel([1, 2, 3, 4])
@pytest.mark.parametrize("name", LOOPS)
def test_every_schedule_gives_the_same_gradient(name: str, tmp_path: Path) -> None:
    comm = MPI.COMM_WORLD
    loop = loop_of(comm, 2, tmp_path, **LOOPS[name])
    plain = TimeLoop(Pendulums(comm, 3, STEPS, 2))
    # Also after the loop was evaluated at another control.
    for seed in (0, 1):
        inputs = control(comm, seed)
        for found, expected in zip(gradient(loop, *inputs), gradient(plain, *inputs)):
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    assert loop._folder is None or not list(loop._folder.path.iterdir())


@pytest.mark.parallel([1, 3])
@pytest.mark.parametrize("name", LOOPS)
def test_rates_and_transposes(name: str, tmp_path: Path) -> None:
    comm = MPI.COMM_WORLD
    loop = loop_of(comm, 1, tmp_path, **LOOPS[name])
    m, q = control(comm)
    direction = np.random.default_rng(comm.rank).standard_normal(3)
    rates = taylor_test(lambda v: Allreduce()((loop(v, q) ** 2).sum()), m, direction)
    assert min(rates) >= 1.95
    dot_test(loop, m, q, rtol=1e-12)
    check_jvp(loop, m, q)
    check_vjp(loop, m, q)


@pytest.mark.parallel([1, 2])
def test_the_steps_taken_are_those_of_the_plan(tmp_path: Path) -> None:
    comm = MPI.COMM_WORLD

    @settings(max_examples=30, deadline=None, derandomize=True, database=None)
    @given(st.integers(1, STEPS), st.integers(1, 3), st.integers(110, 2500),
           st.sampled_from(["memory", "disk", "both"]))  # fmt: skip
    def run(steps: int, runs: int, memory: int, storage: str) -> None:
        chain = Pendulums(comm, 3, steps, runs)
        loop = TimeLoop(
            chain, memory=memory, storage=storage, directory=folder, report=lambda text: None
        )
        m, q = control(comm)
        exact = TimeLoop(Pendulums(comm, 3, steps, runs))
        for found, expected in zip(gradient(loop, m, q[:steps]), gradient(exact, m, q[:steps])):
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
        assert chain.taken == steps * runs + loop.plan.recomputed
        assert loop.plan.cost == pytest.approx(chain.taken / (steps * runs))
        assert loop.plan.bytes <= memory
        snapshots = len(loop._pool._free)
        assert snapshots <= loop.plan.memory_snapshots
        assert len(loop._kept) == chain.allocated
        taken = chain.kept_bytes(loop.plan.block) * chain.allocated + 48 * snapshots
        assert taken <= memory

    folder = comm.bcast(tmp_path)
    run()


@pytest.mark.parallel([1, 2])
def test_nothing_is_kept_outside_of_a_tape() -> None:
    comm = MPI.COMM_WORLD
    loop = TimeLoop(Pendulums(comm, 3, STEPS))
    loop(*control(comm))
    assert loop.propagator.allocated == 0  # type: ignore[attr-defined]


@pytest.mark.parallel([1, 2])
def test_a_gradient_may_be_asked_for_twice() -> None:
    comm = MPI.COMM_WORLD
    loop = TimeLoop(Pendulums(comm, 3, STEPS, 2))
    m, q = control(comm)
    with Tape(persistent=True) as tape:
        v = tape.watch(m)
        first = Allreduce(comm)((loop(v, q) ** 2).sum())
        second = Allreduce(comm)((loop(v * 1.1, q) ** 2).sum())
    expected = [tape.gradient(loss, [v])[0] for loss in (first, second)]
    assert np.abs(expected[0] - expected[1]).max() > 0
    for loss, known in zip((first, second), expected):
        np.testing.assert_array_equal(tape.gradient(loss, [v])[0], known)


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"memory": 60}, r"memory is 60 bytes, expected at least 80 bytes a process"),
        ({"memory": "4 lots"}, "memory is '4 lots', expected bytes or a text like '4GB'"),
        ({"memory": -1}, "memory is -1, expected a positive number of bytes"),
        ({"storage": "tape"}, "storage is 'tape', expected memory, disk, both"),
        ({"block": 99}, "block is 99, expected 1 to 23 steps"),
        ({"memory": 900, "schedule": SCHEDULES["Revolve"]}, "got memory and schedule"),
    ],
)
def test_bad_arguments(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"TimeLoop: {message}"):
        TimeLoop(Pendulums(MPI.COMM_WORLD, 3, STEPS), **settings)


@pytest.mark.parallel([1, 2, 3])
def test_a_full_disk_is_an_error_on_all_ranks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comm = MPI.COMM_WORLD
    loop = loop_of(comm, 1, tmp_path, memory=300, storage="disk")
    m, q = control(comm)
    gradient(loop, m, q)
    if comm.rank == comm.size - 1:

        def full(*arguments: Any, **keywords: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="No space left on device"):
        gradient(loop, m, q)
    monkeypatch.undo()
    assert loop._folder is not None
    assert not list(loop._folder.path.iterdir())
    gradient(loop, m, q)


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.filterwarnings("ignore:AcousticWave. .* nodes for the shortest")
def test_a_wave_in_little_memory() -> None:
    comm = MPI.COMM_WORLD
    grid = CartesianGrid((31, 37), comm)
    velocity = 2000 + 100 * np.sin(np.arange(np.prod(grid.patch_shape))).reshape(grid.patch_shape)
    found = []
    for memory in (None, 400_000):
        wave = AcousticWave(
            grid, 10.0, 2e-3, 80, [[[100.0, 90.0]], [[151.0, 204.3]]], [[110.0, 150.0]],
            1e4 * ricker(2e-3 * np.arange(80), 14.0), pml_width=6,
            memory=memory, report=lambda text: None,
        )  # fmt: skip
        with Tape() as tape:
            c = tape.watch(velocity)
            loss = Allreduce()((wave(c) ** 2).sum())
        found.append(tape.gradient(loss, [c])[0])
    assert wave.plan.recomputed > 0
    assert wave.plan.bytes <= 400_000
    np.testing.assert_allclose(found[1], found[0], rtol=1e-12, atol=1e-12 * np.abs(found[0]).max())
