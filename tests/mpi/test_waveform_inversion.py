"""The waveform inversions: one misfit and gradient for all ranks and shot groups, and descent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from acoustic_inversion import AcousticInversion
from elastic_inversion import ElasticInversion
from layered_space import layered_space
from mpi4py import MPI
from seismic import Model, read_model, surveyed
from seismic_figures import draw_slices, section
from waveform import Inversion, errors
from waveform_options import MISFITS

from adjoint import Tape
from adjoint.optimize import minimize
from adjoint.solvers import read_traces, ricker, write_model
from adjoint.testing import taylor_test

pytestmark = [
    pytest.mark.filterwarnings("ignore:.* nodes for the shortest"),
    pytest.mark.timeout(300),  # the first test may have to wait for the compiler
]


CASES = [
    *(
        (AcousticInversion, misfit, unknown)
        for misfit in MISFITS
        for unknown in ("grid", "network")
    ),
    (ElasticInversion, "least-squares", "grid"),
    (ElasticInversion, "envelope", "network"),
]


def small_model() -> Model:
    rows, columns, spacing, dt, steps = 14, 22, 20.0, 3e-3, 140
    z, x = np.mgrid[:rows, :columns] * spacing
    start = 1800 + 1.5 * z
    true = start + 250 * np.exp(-((z - 150) ** 2 + (x - 220) ** 2) / 2 / 50**2)
    whole = [{"vp": vp, "vs": vp / 1.8, "rho": np.full_like(vp, 2000.0)} for vp in (true, start)]
    return Model(
        true=whole[0], start=whole[1], mask=z > 30, spacing=spacing, dt=dt,
        sources=np.array([[20.0, 100.0], [20.0, 210.0], [20.0, 330.0]]),
        receivers=np.stack([np.full(10, 20.0), np.linspace(30, 400, 10)], axis=1),
        wavelet=ricker(dt * np.arange(steps), 9.0), peak_frequency=9.0,
    )  # fmt: skip


def small_space() -> Model:
    shape, spacing = (12, 13, 14), 20.0
    z, y, x = np.mgrid[tuple(slice(n) for n in shape)] * spacing
    vp = 1800.0 + 200 * (z > 120 + 20 * np.sin((x + y) / 60))
    return surveyed(vp, spacing, 3e-3, 50, 7.0, shots=(1, 3), smooth=3, layer=3)


def value_and_gradient(inversion: Inversion, comm: MPI.Comm, unknowns: Any) -> tuple[float, Any]:
    with Tape(comm=comm) as tape:
        x = tape.watch(unknowns)
        loss = inversion.misfit(x)
    return float(loss), comm.allreduce(tape.gradient(loss, [x])[0])


@pytest.mark.parallel([1, 2, 3, 4])
@pytest.mark.parametrize(
    ("kind", "misfit", "unknown", "make"),
    [*((*case, small_model) for case in CASES), (*CASES[1], small_space)],
)
def test_ranks_and_groups_do_not_matter(
    kind: type[Inversion], misfit: str, unknown: str, make: Callable[[], Model]
) -> None:
    comm, model = MPI.COMM_WORLD, make()
    alone = kind(model, unknown, misfit=misfit, comm=MPI.COMM_SELF)
    random = np.random.default_rng(0)
    unknowns = alone.first + 0.3 * random.standard_normal(alone.first.shape)
    expected, gradient = value_and_gradient(alone, MPI.COMM_SELF, unknowns)
    assert np.abs(gradient).max() > 0
    for groups in sorted({1, min(comm.size, 3), max(1, comm.size - 2)}):
        together = kind(model, unknown, groups, misfit)
        found, slope = value_and_gradient(together, comm, unknowns)
        assert found == pytest.approx(expected, rel=1e-10)
        np.testing.assert_allclose(slope, gradient, rtol=0, atol=1e-10 * np.abs(gradient).max())


@pytest.mark.parallel([1, 3])
@pytest.mark.parametrize(
    ("kind", "make"),
    [(AcousticInversion, small_model), (ElasticInversion, small_model),
     (AcousticInversion, small_space)],
)  # fmt: skip
def test_the_gradient_of_the_misfit(kind: type[Inversion], make: Callable[[], Model]) -> None:
    inversion = kind(make(), noise=0.01)
    inversion.use_band(8.0)
    random = np.random.default_rng(1)
    shape = inversion.first.shape
    rates = taylor_test(
        inversion.misfit, 0.1 * random.standard_normal(shape), random.standard_normal(shape)
    )
    assert min(rates) >= 1.95


@pytest.mark.parallel([2])
@pytest.mark.parametrize(("groups", "memory"), [(1, None), (2, "600 kB")])
def test_an_inversion_comes_nearer_to_the_truth(groups: int, memory: str | None) -> None:
    comm, model = MPI.COMM_WORLD, small_model()
    inversion = AcousticInversion(model, groups=groups, memory=memory)
    result = minimize(
        inversion.misfit, inversion.first, bounds=inversion.bounds, options={"maxiter": 8},
        progress=False,
    )  # fmt: skip
    assert result.value < 0.1
    patch = inversion.patch(result.theta)
    whole = inversion.pictures.first(patch)
    energy = inversion.illumination(patch)
    if comm.rank == 0:
        numbers = errors(inversion, whole, energy)
        assert numbers["model_error"] < 0.8 * numbers["start_error"]
        assert numbers["illuminated"] > 0.3


@pytest.mark.parallel([2])
def test_an_inversion_in_space_comes_nearer_to_the_truth(tmp_path: Path) -> None:
    comm, model = MPI.COMM_WORLD, small_space()
    inversion = AcousticInversion(model)
    result = minimize(
        inversion.misfit, inversion.first, bounds=inversion.bounds, options={"maxiter": 6},
        progress=False,
    )  # fmt: skip
    assert result.value < 0.2
    patch = inversion.patch(result.theta)
    whole, energy = inversion.pictures.first(patch), inversion.illumination(patch)
    frames = inversion.wavefields(patch, 0, [0.06, 0.12])
    if comm.rank == 0:
        assert whole.shape == model.shape
        numbers = errors(inversion, whole, energy)
        assert numbers["model_error"] < numbers["start_error"]
        assert section(frames[1][1]).shape == (12, 14)
        draw_slices(tmp_path / "model.png", model, whole, "vp", "velocity (m/s)")
        assert (tmp_path / "model.png").stat().st_size > 10000


@pytest.mark.parallel([1])
def test_the_survey_of_a_model_in_space() -> None:
    model = layered_space()
    assert model.shape == (24, 32, 32)
    assert len(model.sources) == 6
    assert len(model.receivers) == 11 * 11
    assert len(np.unique(model.receivers, axis=0)) == 121
    np.testing.assert_array_equal(model.sources[0], [40.0, 160.0, 640 / 6])
    assert model.dt * 1.1 * model.true["vp"].max() * np.sqrt(3) / model.spacing < 6 / 7


@pytest.mark.parallel([1])
def test_where_a_model_is_nearer_to_the_truth() -> None:
    """Halved errors beneath the survey count, doubled ones beside it and in the dark do not."""
    rows, columns = 40, 60
    true, start = np.full((2, rows, columns), 2000.0)
    start[:] += 100
    mask = np.ones((rows, columns), bool)
    places = np.array([[20.0, 100.0], [20.0, 500.0]])  # columns 10 to 50
    model = Model(
        true={"vp": true}, start={"vp": start}, mask=mask, spacing=10.0, dt=1e-3,
        sources=places[:1], receivers=places, wavelet=np.ones(3), peak_frequency=50.0,
    )  # fmt: skip
    energy = np.ones((rows, columns))
    energy[30:] = 0.4
    found = np.full_like(true, 2200.0)
    found[:34, 6:55] = 2050  # wider than what counts by half a window
    inversion: Any = SimpleNamespace(model=model, name="vp")
    numbers = errors(inversion, found, energy)
    assert numbers["illuminated"] == 30 * 41 / (rows * columns)
    assert (numbers["window"], numbers["fine_window"]) == (40.0, 30.0)
    assert numbers["start_error"] == pytest.approx(0.05)
    assert numbers["model_error"] == pytest.approx(0.025)
    assert numbers["improved"] == numbers["fine_improved"] == 1
    assert numbers["worst"] == pytest.approx(0.5)
    found[10, 30] = 2400
    numbers = errors(inversion, found, energy)
    assert numbers["fine_worst"] == pytest.approx(np.sqrt((400**2 + 8 * 50**2) / 9) / 100)
    assert numbers["fine_improved"] == pytest.approx(1 - 9 / (30 * 41))
    assert numbers["worst"] == pytest.approx(np.sqrt((400**2 + 15 * 50**2) / 16) / 100)


@pytest.mark.parallel([1])
def test_model_files(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    keys: dict[str, Any] = {
        "vp": np.full((9, 5), 2000.0), "vp_smooth": np.full((9, 5), 1900.0), "spacing": 10.0,
        "dt": 1e-3, "nt": 4, "sources": [[1, 2]], "receivers": [[3, 1], [4, 1]],
        "source_time_function": [0.0, 1.0, 0.0, -1.0],
    }  # fmt: skip
    np.savez(path, **keys)
    model = read_model(path, ("vp",))
    assert model.shape == (5, 9)
    np.testing.assert_array_equal(model.sources, [[20.0, 10.0]])
    np.testing.assert_array_equal(model.receivers[0], [10.0, 30.0])
    for change, message in (
        ({"vp_smooth": None}, "lacks the keys vp_smooth"),
        ({"nt": 5}, r"source_time_function has shape \(4,\), expected \(5,\)"),
        ({"vp_smooth": np.ones((5, 9))}, r"vp_smooth has shape \(5, 9\), expected \(9, 5\)"),
        ({"vp": np.full((9, 5), np.nan)}, "vp has values that are not finite"),
        ({"receivers": [[3, 5]]}, r"receivers has \(3, 5\), expected nodes .* to \(8, 4\)"),
        ({"sources": [[1, 1], [-1, 1]]}, r"sources has \(-1, 1\), expected nodes from \(0, 0\)"),
        ({"sources": np.ones((0, 2))}, "sources is empty"),
        ({"source_time_function": np.zeros(4)}, "source_time_function is zero"),
    ):
        changed = {k: v for k, v in {**keys, **change}.items() if v is not None}
        np.savez(path, **changed)
        with pytest.raises(ValueError, match=message):
            read_model(path, ("vp",))
    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"model\.npz: not an \.npz file"):
        read_model(path, ("vp",))


@pytest.mark.parallel([1])
def test_velocities_in_segy_files(tmp_path: Path) -> None:
    path = tmp_path / "vp.sgy"
    vp = np.linspace(1500, 4500, 40)[:, None] + np.arange(60)
    write_model(path, vp, 12.5)
    model = read_model(path, ("vp", "vs", "rho"))
    np.testing.assert_allclose(model.true["vp"], vp, rtol=1e-7)
    assert model.spacing == 12.5
    assert model.dt * vp.max() * np.sqrt(2) / 12.5 < 0.5 * 6 / 7
    assert model.steps * model.dt * vp.mean() > np.hypot(2 * 40 * 12.5, 60 * 12.5)
    for places in (model.sources, model.receivers):
        assert ((places >= 0) & (places <= [39 * 12.5, 59 * 12.5])).all()
    start = model.start["vp"]
    np.testing.assert_array_equal(start[:6], model.true["vp"][:6])
    for field, spacing, message in (
        (vp, (10.0, 12.5), "spacing is 10 m and 12.5 m, expected the same"),
        (vp[:9], 10.0, "has 9×60 nodes, expected 12 or more"),
        (vp - 1500, 10.0, "has the velocity 0 m/s, expected positive ones"),
    ):
        write_model(path, field, spacing)
        with pytest.raises(ValueError, match=message):
            read_model(path, ("vp",))


@pytest.mark.parallel([1, 3])
@pytest.mark.parametrize("kind", [AcousticInversion, ElasticInversion])
def test_observed_traces_in_files(kind: type[Inversion], tmp_path: Path) -> None:
    comm, model = MPI.COMM_WORLD, small_model()
    path = Path(comm.bcast(str(tmp_path))) / "observed.sgy"
    alone = kind(model, comm=MPI.COMM_SELF)
    kind(model, groups=min(2, comm.size)).save_observed(path)
    for name, expected in zip(kind.kinds, alone.observed):
        found = read_traces(path if len(kind.kinds) == 1 else path.with_stem(f"observed-{name}"))
        np.testing.assert_allclose(found.traces, expected, atol=1e-6 * np.abs(expected).max())
        assert np.abs(expected).max() > 0
        assert found.dt == model.dt
        np.testing.assert_allclose(found.sources[:, 0], model.sources, atol=1e-4)
        np.testing.assert_allclose(found.receivers[1], model.receivers, atol=1e-4)
    comm.Barrier()  # before rank 0 removes its folder
