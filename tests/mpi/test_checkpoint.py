"""Every way to save memory gives the gradient that keeping everything gives."""

from __future__ import annotations

import gc
import resource
from pathlib import Path
from typing import Any
from weakref import ref

import checkpoint_schedules as schedules
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpi4py import MPI

from adjoint import Tape
from adjoint.checkpoint import TimeLoop
from adjoint.comm import Allreduce, CartesianGrid
from adjoint.solvers import AcousticWave, ricker
from adjoint.testing import check_jvp, check_vjp, dot_test, taylor_test
from tests.pendulums import Pendulums, ReversiblePendulums
from tests.schedules import SCHEDULES

STEPS = 23

LOOPS: dict[str, dict[str, Any]] = {
    **{name: {"schedule": make} for name, make in SCHEDULES.items()},
    "Revolve by fours": {"schedule": SCHEDULES["Revolve"], "block": 4},
    "budget": {"memory": 900},
    "small budget": {"memory": 420},
    "budget and disk": {"memory": 420, "storage": "both"},
    "disk and little memory": {"memory": 300, "storage": "disk"},
    "backwards": {"backwards": True},
    "backwards, in blocks": {"backwards": True, "schedule": SCHEDULES["Revolve"], "block": 4},
    "backwards, on disk": {"backwards": True, "schedule": SCHEDULES["disk"], "block": 4},
    "budget, backwards": {"memory": 200, "backwards": None},
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
    pendulums = ReversiblePendulums if "backwards" in settings else Pendulums
    return TimeLoop(
        pendulums(comm, 3, STEPS, runs), directory=folder, report=lambda text: None, **settings
    )


@pytest.mark.parallel([1, 2, 3, 4])
@pytest.mark.parametrize("name", LOOPS)
def test_every_schedule_gives_the_same_gradient(name: str, tmp_path: Path) -> None:
    comm = MPI.COMM_WORLD
    loop = loop_of(comm, 2, tmp_path, **LOOPS[name])
    chain: Any = loop.propagator
    plain = TimeLoop(Pendulums(comm, 3, STEPS, 2))
    # Also after the loop was evaluated at another control.
    for seed in (0, 1):
        inputs = control(comm, seed)
        chain.taken = 0
        for found, expected in zip(gradient(loop, *inputs), gradient(plain, *inputs)):
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
        assert chain.taken == 2 * STEPS + loop.plan.recomputed
        assert loop.plan.cost == pytest.approx(chain.taken / (2 * STEPS))
    snapshots = len(loop._store.pool._free)
    assert snapshots <= loop.plan.memory_snapshots
    assert chain.kept_bytes(loop.plan.block) * chain.allocated + 48 * snapshots <= loop.plan.bytes
    assert loop._store.folder is None or not list(loop._store.folder.path.iterdir())


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
        snapshots = len(loop._store.pool._free)
        assert snapshots <= loop.plan.memory_snapshots
        assert len(loop._store.kept) == chain.allocated
        taken = chain.kept_bytes(loop.plan.block) * chain.allocated + 48 * snapshots
        assert taken <= memory

    folder = comm.bcast(tmp_path)
    run()


@pytest.mark.parallel([1, 2])
def test_steps_are_taken_back_where_that_costs_less() -> None:
    comm = MPI.COMM_WORLD
    for memory, backwards in ((None, False), (1500, False), (400, True), (96, True)):
        loop = TimeLoop(
            ReversiblePendulums(comm, 3, STEPS, 2), memory=memory, report=lambda text: None
        )
        assert loop.plan.backwards == backwards == loop.propagator.backwards
        assert ("one backwards" in str(loop.plan)) == backwards
        # What is recomputed otherwise costs more than all steps back.
        kept = TimeLoop(
            ReversiblePendulums(comm, 3, STEPS, 2), memory=max(memory or 0, 128),
            backwards=False, report=lambda text: None,
        )  # fmt: skip
        assert not kept.plan.backwards
        assert backwards == (kept.plan.cost > loop.plan.cost + 0.5 if memory else False)
    with pytest.raises(ValueError, match="at least 48 bytes"):
        TimeLoop(ReversiblePendulums(comm, 3, STEPS), memory=40, backwards=True)


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
        ({"backwards": True}, "backwards is True, expected none: these steps cannot be taken back"),
    ],
)
def test_bad_arguments(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"TimeLoop: {message}"):
        TimeLoop(Pendulums(MPI.COMM_WORLD, 3, STEPS), **settings)


@pytest.mark.parallel([1, 3])
def test_calls_on_one_tape_share_a_budget() -> None:
    comm = MPI.COMM_WORLD
    m, q = control(comm)
    found: list[list[Any]] = []
    for memory in (None, 420):
        loop = TimeLoop(Pendulums(comm, 3, STEPS, 2), memory=memory, report=lambda text: None)
        chain: Any = loop.propagator
        with Tape(persistent=True) as tape:
            v = tape.watch(m)
            first = Allreduce(comm)((loop(v, q) ** 2).sum())
            second = Allreduce(comm)((loop(v * 1.1, q) ** 3).sum())
            both = first + second
        # What was kept for a sweep is used up by it: the second one replays.
        found += [tape.gradient(loss, [v]) for loss in (both, second, first, first)]
    for a, b in zip(found[:4], found[4:]):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    snapshots = len(loop._store.pool._free)
    assert chain.kept_bytes(loop.plan.block) * chain.allocated + 48 * snapshots <= 420


@pytest.mark.parallel([1, 3])
@pytest.mark.parametrize("memory", [None, 1100])
def test_a_sweep_after_one_that_failed(memory: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    comm = MPI.COMM_WORLD
    m, q = control(comm)
    chain = Pendulums(comm, 3, STEPS, 3)
    loop = TimeLoop(chain, memory=memory, report=lambda text: None)
    expected = gradient(TimeLoop(Pendulums(comm, 3, STEPS, 3)), m, q)
    with Tape(persistent=True) as tape:
        v, w = tape.watch(m), tape.watch(q)
        loss = Allreduce(comm)((loop(v, w) ** 2).sum())

    def fail(run: int) -> None:
        if run == 1:
            raise ArithmeticError("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(chain, "finish_reverse", fail)
        with pytest.raises(ArithmeticError):
            tape.gradient(loss, [v, w])
    for found, known in zip(tape.gradient(loss, [v, w]), expected):
        np.testing.assert_allclose(found, known, rtol=1e-12, atol=1e-12)


@pytest.mark.parallel([1, 2])
def test_a_loop_and_its_memory_go_together(tmp_path: Path) -> None:
    comm = MPI.COMM_WORLD
    loop = loop_of(comm, 1, tmp_path, memory=300, storage="disk")
    m, q = control(comm)
    gradient(loop, m, q)
    with Tape() as tape:
        loop(tape.watch(m), q)
    assert loop._store.folder is not None
    folder, chain = loop._store.folder.path, ref(loop.propagator)
    assert list(folder.iterdir())
    gc.disable()
    try:
        del loop, tape
        assert chain() is None
        assert not folder.exists()
    finally:
        gc.enable()


@pytest.mark.parallel([2, 3])
def test_the_least_budget_decides(capsys: pytest.CaptureFixture[str]) -> None:
    comm = MPI.COMM_WORLD
    loop = TimeLoop(Pendulums(comm, 3, STEPS), memory=420 if comm.rank == 1 else 10_000)
    assert len(set(comm.allgather(str(loop.plan)))) == 1
    assert loop.plan.bytes <= 420
    printed = capsys.readouterr().out
    assert printed == ("" if comm.rank else f"TimeLoop: {loop.plan}\n")
    for argument, wanted in {
        "memory": {"memory": 420 if comm.rank == 1 else None},
        "storage": {"memory": 420, "storage": "disk" if comm.rank == 1 else "both"},
        "schedule": {"schedule": SCHEDULES["Revolve"] if comm.rank == 1 else None},
        "block": {"block": 1 + (comm.rank == 1), "schedule": SCHEDULES["Revolve"]},
        "backwards": {"backwards": False if comm.rank == 1 else None},
    }.items():
        with pytest.raises(ValueError, match=f"rank 1: TimeLoop: {argument} is .* as on rank 0"):
            TimeLoop(Pendulums(comm, 3, STEPS), **wanted)  # type: ignore[arg-type]


@pytest.mark.parallel([1, 2])
def test_a_schedule_that_does_not_reverse_all() -> None:
    with pytest.raises(ValueError, match="NoneCheckpointSchedule does not reverse block 5 of 6"):
        TimeLoop(
            Pendulums(MPI.COMM_WORLD, 3, STEPS),
            schedule=lambda n: schedules.NoneCheckpointSchedule(),
            block=4,
        )


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("name", ["disk and little memory", "mixed, disk", "disk"])
def test_a_full_disk_is_an_error_on_all_ranks(name: str, tmp_path: Path) -> None:
    comm = MPI.COMM_WORLD
    loop = loop_of(comm, 2, tmp_path, **LOOPS[name])
    m, q = control(comm)
    expected = gradient(loop, m, q)
    folder = loop._store.folder
    assert folder is not None
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        if comm.rank == comm.size - 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (30, hard))
        with pytest.raises(OSError, match="TimeLoop: a snapshot cannot be written: File too large"):
            gradient(loop, m, q)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(folder.path.iterdir())
    for found, known in zip(gradient(loop, m, q), expected):
        np.testing.assert_array_equal(found, known)


@pytest.mark.parallel([1, 2, 3])
def test_a_lost_snapshot_is_an_error_on_all_ranks(tmp_path: Path) -> None:
    comm = MPI.COMM_WORLD
    loop = loop_of(comm, 1, tmp_path, memory=300, storage="disk")
    m, q = control(comm)
    with Tape() as tape:
        v = tape.watch(m)
        loss = Allreduce(comm)((loop(v, q) ** 2).sum())
    folder = loop._store.folder
    assert folder is not None
    if comm.rank == comm.size - 1:
        for path in folder.path.iterdir():
            path.write_bytes(b"")
    with pytest.raises(OSError, match="TimeLoop: a snapshot cannot be read: the file has lost"):
        tape.gradient(loss, [v])
    assert not list(folder.path.iterdir())


@pytest.mark.parallel([1, 2])
def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    comm = MPI.COMM_WORLD
    file = tmp_path / "file"
    file.write_bytes(b"")
    directory = file if comm.rank == comm.size - 1 else tmp_path
    loop = TimeLoop(
        Pendulums(comm, 3, STEPS), memory=300, storage="disk", directory=directory,
        report=lambda text: None,
    )  # fmt: skip
    with pytest.raises(OSError, match="TimeLoop: a snapshot cannot be written"):
        gradient(loop, *control(comm))
    assert not list(tmp_path.glob("*/*"))


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
