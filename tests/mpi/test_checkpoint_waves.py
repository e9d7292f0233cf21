"""Waves under every schedule and budget: the gradient of all inputs is that of keeping all."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

from adjoint import Tape
from adjoint.comm import Allreduce, CartesianGrid
from adjoint.solvers import AcousticWave, ElasticWave, Lame, ricker
from adjoint.testing import taylor_test
from tests.schedules import SCHEDULES

pytestmark = [
    pytest.mark.filterwarnings("ignore:.* nodes for the shortest"),
    pytest.mark.timeout(300),  # the first test may have to wait for the compiler
]

STEPS, DT, SHAPE = 23, 2e-3, (25, 29)
SURVEY: dict[str, Any] = {
    "sources": [[[100.0, 90.0]], [[151.0, 204.3]]],
    "receivers": [[110.0, 150.0], [63.0, 101.0], [180.0, 222.0]],
    "pml_width": 5,
}

LOOPS: dict[str, dict[str, Any]] = {
    **{name: {"schedule": make} for name, make in SCHEDULES.items()},
    "Revolve by fours": {"schedule": SCHEDULES["Revolve"], "block": 4},
    "a third of the memory": {"share": 3},
    "a tenth, and the disk": {"share": 10, "storage": "both"},
    "a tenth, all on the disk": {"share": 10, "storage": "disk"},
    "backwards": {"backwards": True},
    "backwards by fours": {"backwards": True, "schedule": SCHEDULES["Revolve"], "block": 4},
    "backwards, on disk": {"backwards": True, "schedule": SCHEDULES["disk"], "block": 4},
    "a quarter, backwards": {"backwards": True, "share": 4},
}


def acoustic(comm: MPI.Comm, **loop: Any) -> tuple[Any, list[Any]]:
    grid = CartesianGrid(SHAPE, comm)
    wave = AcousticWave(grid, 10.0, DT, STEPS, **SURVEY, **loop)
    z, x = grid.coordinates(10.0)
    velocity = 2000 + 200 * np.sin(x / 90) * np.cos(z / 70)
    initial = np.cos(x / 17) * np.sin(z / 23)
    series = np.broadcast_to(1e3 * ricker(DT * np.arange(STEPS), 40.0), (2, 1, STEPS)).copy()
    return wave, [velocity, series, initial, 0.9 * initial]


def space(comm: MPI.Comm, **loop: Any) -> tuple[Any, list[Any]]:
    grid = CartesianGrid((11, 12, 13), comm)
    wave = AcousticWave(
        grid, 12.0, DT, STEPS, [[[60.0, 70.0, 50.0]], [[70.0, 61.3, 83.1]]],
        [[50.0, 75.0, 60.0], [63.0, 66.1, 80.0]], pml_width=3, free_surface=("top", "left"), **loop,
    )  # fmt: skip
    z, y, x = grid.coordinates(12.0)
    velocity = 2000 + 200 * np.sin(x / 90) * np.cos(z / 70)
    initial = np.cos(x / 17) * np.sin(z / 23) * np.cos(y / 29)
    series = np.broadcast_to(1e3 * ricker(DT * np.arange(STEPS), 40.0), (2, 1, STEPS)).copy()
    return wave, [velocity, series, initial, 0.9 * initial]


def elastic(comm: MPI.Comm, **loop: Any) -> tuple[Any, list[Any]]:
    grid = CartesianGrid(SHAPE, comm)
    wave = ElasticWave(grid, 10.0, DT, STEPS, **SURVEY, record=("v0", "v1"), **loop)
    z, x = grid.coordinates(10.0)
    vp = 2500 + 200 * np.sin(x / 90) * np.cos(z / 70)
    rho = 2000 + 100 * np.cos(z / 60) + 0 * x
    series = np.broadcast_to(1e6 * ricker(DT * np.arange(STEPS), 40.0), (2, 1, STEPS)).copy()
    mechanisms = np.broadcast_to([50.0, 20.0, 1e3, 800.0, 500.0], (2, 1, 5)).copy()
    return wave, [*Lame()(vp, vp / 1.8, rho), rho, mechanisms, series]


KINDS: dict[str, Callable[..., tuple[Any, list[Any]]]] = {
    "acoustic": acoustic, "elastic": elastic, "space": space,
}  # fmt: skip


@cache
def energy(kind: str) -> float:
    """Return the traces' energy, which makes misfits about 1."""
    wave, inputs = KINDS[kind](MPI.COMM_WORLD)
    traces = wave(*order_of(kind, inputs))
    parts = traces if isinstance(traces, tuple) else (traces,)
    return float(MPI.COMM_WORLD.allreduce(sum(np.sum(part**2) for part in parts)))


def order_of(kind: str, inputs: Any) -> list[Any]:
    """Return the inputs in the order of the wave's arguments."""
    if kind != "elastic":
        return list(inputs)
    lam, mu, rho, mechanisms, series = inputs
    return [lam, mu, rho, series, mechanisms]


def misfit_of(kind: str, wave: Any) -> Callable[..., Any]:
    size = energy(kind)

    def misfit(*inputs: Any) -> Any:
        traces = wave(*order_of(kind, inputs))
        parts = traces if isinstance(traces, tuple) else (traces,)
        return Allreduce()(sum((part**2).sum() for part in parts)) / size

    return misfit


def gradient(kind: str, wave: Any, inputs: list[Any]) -> list[Any]:
    with Tape() as tape:
        watched = [tape.watch(x) for x in inputs]
        loss = misfit_of(kind, wave)(*watched)
    return tape.gradient(loss, watched)


@cache
def keeping_all(kind: str) -> tuple[int, list[Any], list[list[Any]]]:
    """Return the bytes this takes, and the gradients at two models."""
    wave, inputs = KINDS[kind](MPI.COMM_WORLD)
    assert wave.plan.recomputed == 0
    changed = [1.02 * inputs[0], *inputs[1:]]
    both = [gradient(kind, wave, values) for values in (inputs, changed)]
    return wave.plan.bytes, [inputs, changed], both


CASES = [
    *((name, "acoustic") for name in LOOPS if "backwards" not in name),
    *((name, "elastic") for name in LOOPS),
    *((name, "space") for name in ("Revolve by fours", "a tenth, all on the disk")),
]


@pytest.mark.parallel([1, 3])
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_every_schedule(kind: str, name: str, tmp_path: Path) -> None:
    comm = MPI.COMM_WORLD
    whole, models, gradients = keeping_all(kind)
    settings = dict(LOOPS[name])
    budget = None
    if "share" in settings:
        budget = settings["memory"] = whole // settings.pop("share")
    folder = Path(comm.bcast(str(tmp_path)))
    wave, _ = KINDS[kind](comm, directory=folder, report=lambda text: None, **settings)
    assert budget is None or wave.plan.bytes <= budget
    all_kept = ("memory", "disk", "backwards", "backwards, on disk")
    assert (wave.plan.recomputed > 0) == (name not in all_kept)
    for inputs, expected in zip(models, gradients):  # also after a call at another model
        for found, known in zip(gradient(kind, wave, inputs), expected):
            most = comm.allreduce(np.abs(known).max(initial=0), MPI.MAX)
            assert most > 0
            np.testing.assert_allclose(found, known, rtol=0, atol=1e-12 * most)
    inputs = models[0]
    random = np.random.default_rng(comm.rank)
    common = np.random.default_rng(7)
    change = [
        0.05
        * np.abs(x).max()
        * (common if x.shape[-1] == STEPS else random).standard_normal(x.shape)
        for x in inputs
    ]
    rates = taylor_test(misfit_of(kind, wave), inputs, change, levels=3)
    assert min(rates) >= 1.95
    on_disk = wave.plan.disk_snapshots > 0 or name in ("disk", "backwards, on disk")
    assert (wave._store.folder is not None) == on_disk
    assert not files_in(folder, comm)
    del wave
    comm.Barrier()
    assert not list(folder.iterdir())


def files_in(folder: Path, comm: MPI.Comm) -> list[Path]:
    """Return what all ranks have left in their folders, before any of them goes on."""
    comm.Barrier()
    found = list(folder.glob("*/*"))
    comm.Barrier()
    return found


@contextmanager
def files_no_longer_than(size: int, here: bool) -> Iterator[None]:
    """Let this process, if it is ``here``, write files of so many bytes only, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        if here:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("kind", ["acoustic", "elastic"])
@pytest.mark.parametrize("name", ["a tenth, all on the disk", "two-level, disk", "disk"])
def test_a_disk_that_fills_up(kind: str, name: str, tmp_path: Path) -> None:
    comm = MPI.COMM_WORLD
    whole, (inputs, _), (expected, _) = keeping_all(kind)
    settings = dict(LOOPS[name])
    if "share" in settings:
        settings["memory"] = whole // settings.pop("share")
    folder = Path(comm.bcast(str(tmp_path)))
    wave, _ = KINDS[kind](comm, directory=folder, report=lambda text: None, **settings)
    with (
        files_no_longer_than(100, here=comm.rank == comm.size - 1),
        pytest.raises(OSError, match="TimeLoop: a snapshot cannot be written: File too large"),
    ):
        gradient(kind, wave, inputs)
    assert not files_in(folder, comm)
    for found, known in zip(gradient(kind, wave, inputs), expected):
        most = comm.allreduce(np.abs(known).max(initial=0), MPI.MAX)
        np.testing.assert_allclose(found, known, rtol=0, atol=1e-12 * most)
