"""The elastic wave on several ranks: exact transposes, and one result for all numbers of ranks."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

from adjoint import Tape, Variable
from adjoint.comm import Allreduce, CartesianGrid, GatherField
from adjoint.solvers import ElasticWave, Lame, ricker
from adjoint.testing import check_jvp, check_vjp, dot_test, taylor_test, taylor_to_dict

pytestmark = [
    pytest.mark.filterwarnings("ignore:ElasticWave. .* nodes for the shortest"),
    pytest.mark.timeout(300),  # the first test may have to wait for the compiler
]

SHAPE, SPACING, DT = (37, 41), 10.0, 1.5e-3
FIELDS = ("v0", "v1", "s00", "s11", "s01")
UNITS = np.array([100.0, 50.0, 1e5, 3e4, 4e4])
SETTINGS: dict[str, dict[str, Any]] = {
    "layers on all sides": {},
    "free surface": {"free_surface": True},
    "free surface, taken back": {"free_surface": True, "backwards": True},
    "no layers": {"pml_sides": ()},
    "two layers, other spacing": {"pml_sides": ("left", "bottom"), "spacing": (10.0, 12.0)},
}


def wave_of(comm: MPI.Comm, steps: int = 40, **settings: Any) -> tuple[ElasticWave, list[Any]]:
    """Return a wave with two shots, and λ/GPa, µ/GPa, ρ/(g/cm³)."""
    grid = CartesianGrid(SHAPE, comm)
    top = 0.0 if settings.get("free_surface") else 65.0
    settings = {"spacing": SPACING, "pml_width": 6, "record": FIELDS, **settings}
    wave = ElasticWave(
        grid, dt=DT, steps=steps,
        sources=[[[max(top, 20.0), 151.0]], [[110.0, 262.0]]],
        receivers=[[top, 100.0], [85.5, 245.0], [231.0, 157.7], [180.0, 200.0]],
        wavelets=1e6 * ricker(DT * np.arange(steps), 14.0), mechanisms=UNITS, **settings,
    )  # fmt: skip
    z, x = grid.coordinates(SPACING)
    vp = 2500 + 200 * np.sin(x / 90) * np.cos(z / 70)
    vs = vp / 1.8 * (1 + 0.05 * np.cos(x / 50))
    rho = 2000 + 100 * np.cos(z / 60) + 0 * x
    lam, mu = Lame()(vp, vs, rho)
    return wave, [lam / 1e9, mu / 1e9, rho / 1e3]


def scaled(wave: ElasticWave, *inputs: Any) -> Any:
    """Traces of parameters in handy units, all of about the same size."""
    lam, mu, rho, mechanisms, wavelets = inputs
    traces = wave(
        lam * 1e9, mu * 1e9, rho * 1e3, wavelets * 1e6, mechanisms * UNITS.astype(mechanisms.dtype)
    )
    return tuple(trace * unit for trace, unit in zip(traces, (1e6, 1e6, 1.0, 1.0, 1.0)))


def series_and_mechanisms() -> list[Any]:
    """Mechanisms and wavelets in handy units, in the order of the inputs of :func:`scaled`."""
    wavelet = ricker(DT * np.arange(40), 14.0)
    return [np.ones((2, 1, 5)), np.broadcast_to(wavelet, (2, 1, 40)).copy()]


@pytest.mark.parallel([1, 2, 3, 4, 6])
@pytest.mark.parametrize("name", SETTINGS)
def test_tangent_and_adjoint(name: str) -> None:
    wave, model = wave_of(MPI.COMM_WORLD, **SETTINGS[name])
    random = np.random.default_rng(5)
    inputs = (*model, random.standard_normal((2, 1, 5)), random.standard_normal((2, 1, 40)))

    def function(*parameters: Any) -> Any:
        return scaled(wave, *parameters)

    dot_test(function, *inputs, rtol=1e-12)
    check_jvp(function, *inputs)
    check_vjp(function, *inputs)


@pytest.mark.parallel([1, 2, 3, 4, 6])
@pytest.mark.parametrize("name", SETTINGS)
def test_taylor_rates_of_each_input(name: str) -> None:
    comm = MPI.COMM_WORLD
    wave, model = wave_of(comm, **SETTINGS[name])
    inputs = [*model, *series_and_mechanisms()]
    misfit = misfit_of(wave, [0.9 * x for x in inputs])
    for number, x in enumerate(inputs):
        # Mechanisms and wavelets are the same on all ranks, and so is their change.
        random = np.random.default_rng([number, comm.rank if number < 3 else 0])
        change = 0.05 * np.abs(x).max() * random.standard_normal(x.shape)
        rates = taylor_test(
            lambda v, n=number: misfit(*inputs[:n], v, *inputs[n + 1 :]), x, change, levels=3
        )
        assert min(rates) >= 1.95, (number, rates)


def misfit_of(wave: ElasticWave, others: list[Any]) -> Any:
    """Return how far traces are from those of other inputs, as a share of these."""
    data = scaled(wave, *others)
    energy = MPI.COMM_WORLD.allreduce(sum(np.sum(d**2) for d in data))

    def misfit(*inputs: Any) -> Variable:
        traces = scaled(wave, *inputs)
        return Allreduce()(sum(((t - d) ** 2).sum() for t, d in zip(traces, data))) / energy

    return misfit


@pytest.mark.parallel([1, 2])
def test_single_precision() -> None:
    comm = MPI.COMM_WORLD
    wave, model = wave_of(comm, dtype=np.float32)
    exact, _ = wave_of(comm)
    single = [x.astype(np.float32) for x in (*model, *series_and_mechanisms())]
    found = scaled(wave, *single)
    for mine, expected in zip(found, scaled(exact, *model, *series_and_mechanisms())):
        assert mine.dtype == np.float32
        scale = comm.allreduce(np.abs(expected).max(initial=0), MPI.MAX)
        assert np.abs(mine - expected).max(initial=0) < 1e-4 * scale
    dot_test(lambda *inputs: scaled(wave, *inputs), *single)


@pytest.mark.parallel([1, 2, 3, 4, 6])
@pytest.mark.parametrize("free_surface", [False, True])
def test_taylor_rates_in_the_layers_alone(free_surface: bool) -> None:
    comm = MPI.COMM_WORLD
    wave, model = wave_of(comm, free_surface=free_surface)
    others = series_and_mechanisms()
    misfit = misfit_of(wave, [*(0.9 * x for x in model), *others])
    z, x = wave.grid.coordinates(1.0)
    inside = (z >= 6) & (z < SHAPE[0] - 6) & (x >= 6) & (x < SHAPE[1] - 6)
    for number, field in enumerate(model):
        random = np.random.default_rng([number, comm.rank])
        change = np.where(inside, 0, 0.05 * field * random.standard_normal(field.shape))
        found = taylor_to_dict(
            lambda v, n=number: misfit(*model[:n], v, *model[n + 1 :], *others), field, change,
            levels=3,
        )  # fmt: skip
        assert min(found["R1"]["Rate"]) >= 1.95
        assert max(found["R0"]["Rate"]) < 1.1  # the layers do matter


@pytest.mark.parallel([1, 2, 3, 4, 6])
@pytest.mark.parametrize("name", SETTINGS)
def test_the_number_of_ranks_does_not_matter(name: str) -> None:
    comm = MPI.COMM_WORLD
    results: list[list[Any]] = []
    for ranks in (comm, MPI.COMM_SELF):
        wave, model = wave_of(ranks, steps=120, **SETTINGS[name])
        with Tape(comm=ranks) as tape:
            own = np.ones((2, 1, 5)), wave.wavelets / 1e6
            inputs = [tape.watch(value) for value in (*model, *own)]
            traces = scaled(wave, *inputs)
            loss = Allreduce(ranks)(sum((trace**2).sum() for trace in traces))
        *fields, mechanisms, wavelets = tape.gradient(loss, inputs)
        gathered = [comm.bcast(GatherField(wave.grid)(field)) for field in fields]
        # Each rank has its own copy of mechanisms and wavelets, and a gradient for it.
        gathered += [ranks.allreduce(mechanisms), ranks.allreduce(wavelets)]
        for trace in traces:
            whole = np.zeros((2, 4, 120))
            for index, found in ranks.allgather((wave.receivers, trace.value)):
                whole[:, index] = found
            gathered.append(whole)
        results.append(gathered)
    for found, expected in zip(*results):
        assert np.abs(expected).max() > 0
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


@pytest.mark.parallel([1, 2, 3, 4, 6])
@pytest.mark.parametrize("free_surface", [False, True])
def test_velocities_and_density(free_surface: bool) -> None:
    comm = MPI.COMM_WORLD
    wave, model = wave_of(comm, free_surface=free_surface)
    random = np.random.default_rng(comm.rank)
    shape = model[0].shape
    vp, vs = 2.5 + 0.1 * random.random(shape), 1.4 + 0.1 * random.random(shape)
    inputs = [vp, vs, model[2]]
    others = series_and_mechanisms()

    def function(p: Variable, s: Variable, density: Variable) -> Any:
        lam, mu = Lame()(p, s, density)
        return scaled(wave, lam, mu, density, *others)

    dot_test(function, *inputs, rtol=1e-12)
    check_vjp(function, *inputs)
    distance = misfit_of(wave, [*(0.9 * x for x in model), *others])

    def misfit(p: Variable, s: Variable, density: Variable) -> Variable:
        lam, mu = Lame()(p, s, density)
        return distance(lam, mu, density, *others)

    for number, x in enumerate(inputs):
        change = 0.05 * random.standard_normal(shape)
        rates = taylor_test(
            lambda v, n=number: misfit(*inputs[:n], v, *inputs[n + 1 :]), x, change, levels=3
        )
        assert min(rates) >= 1.95, (number, rates)


@pytest.mark.parallel([1, 3])
def test_layers_are_for_half_of_the_greatest_stable_velocity() -> None:
    """And for the frequency at which that has 20 of the wider spacings a wavelength."""
    comm = MPI.COMM_WORLD
    speed = 6 / 7 / np.hypot(1 / 10, 1 / 12) / DT / 2
    traces = []
    for given in ({}, {"pml_velocity": speed, "pml_frequency": speed / 240}, {"pml_frequency": 0}):
        wave, model = wave_of(comm, spacing=(10.0, 12.0), record="v0", **given)
        lam, mu, rho = model
        traces.append(wave(lam * 1e9, mu * 1e9, rho * 1e3))
    scale = comm.allreduce(np.abs(traces[0]).max(initial=0), MPI.MAX)
    np.testing.assert_allclose(traces[1], traces[0], rtol=0, atol=1e-13 * scale)
    off = comm.allreduce(np.abs(traces[2] - traces[0]).max(initial=0), MPI.MAX)
    assert off > 1e-7 * scale


@pytest.mark.parallel([1, 3])
def test_too_few_nodes_per_s_wavelength_are_a_warning() -> None:
    """The slowest S wave counts, here with 5.5 nodes at the wavelets' only frequency."""
    comm, steps = MPI.COMM_WORLD, 200
    grid = CartesianGrid(SHAPE, comm)
    rho = np.full(grid.patch_shape, 2000.0)
    lam, mu = Lame()(np.full(rho.shape, 2600.0), np.full(rho.shape, 1200.0), rho)
    for vs, nodes in ((1100.0, None), (900.0, "4.5")):
        if comm.rank == comm.size - 1:
            mu[1, 1] = 2000.0 * vs**2
        wave = ElasticWave(
            grid, (8.0, SPACING), 1e-3, steps, [[150.0, 200.0]], [[200.0, 200.0]], pml_width=6,
            wavelets=np.sin(2 * np.pi * 20.0 * 1e-3 * np.arange(steps)),
        )  # fmt: skip
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            wave(lam, mu, rho)
        if nodes is None or comm.rank:
            assert not told
        else:
            assert f"{nodes} nodes for the shortest wavelength (900 m/s at" in str(told[0].message)
            assert told[0].filename == __file__


@pytest.mark.parallel([1])
def test_a_grid_in_space_is_refused() -> None:
    grid = CartesianGrid((12, 12, 12), MPI.COMM_SELF)
    with pytest.raises(ValueError, match=r"ElasticWave: grid has 3 axes, .* expected 2 that are"):
        ElasticWave(grid, SPACING, DT, 20, [[0.0] * 3], [[0.0] * 3])


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dt": 4e-3}, r"dt is 0.004 s, expected at most 0.00202\d* s for the .* P velocity 3000"),
        ({"mu": np.nan}, "mu has values that are not finite"),
        ({"rho": -1.0}, "rho has the value -1, expected positive ones"),
        ({"mu": 0.0}, "mu has the value 0, expected positive ones"),
        ({"sources": [[20.0, 200.0]]}, r"sources: point 0 at .* is inside an absorbing layer"),
        ({"receivers": [[200.0, 500.0]]}, r"receivers: point 0 at .* is outside of the grid"),
        ({"record": ("v2",)}, r"record is \('v2',\), expected some of v0, v1, s00, s11, s01"),
        ({"mechanisms": (1.0, 2.0)}, r"mechanisms has shape \(2,\), expected \(1, 1, 5\)"),
        (
            {"free_surface": ("left",)},
            r"free_surface is \('left',\), expected the top alone in two",
        ),
        ({"memory": 1000}, r"memory is 1000 bytes, expected at least \d+ bytes a process"),
    ],
)
def test_bad_input_is_one_error_on_all_ranks(change: dict[str, Any], message: str) -> None:
    comm = MPI.COMM_WORLD
    grid = CartesianGrid(SHAPE, comm)
    rho = np.full(grid.patch_shape, 2000.0)
    lam, mu = Lame()(np.full(grid.patch_shape, 3000.0), np.full(grid.patch_shape, 1500.0), rho)
    for name, field in (("mu", mu), ("rho", rho)):
        value = change.pop(name, None)
        if value is not None and comm.rank == comm.size - 1:
            field[1, 1] = value
    settings: dict[str, Any] = {
        "spacing": SPACING, "dt": DT, "steps": 20, "sources": [[100.0, 200.0]],
        "receivers": [[200.0, 200.0]], "wavelets": np.zeros(20), "pml_width": 6, **change,
    }  # fmt: skip
    with pytest.raises(ValueError, match=f"(ElasticWave|TimeLoop): .*{message}"):
        ElasticWave(grid, **settings)(lam, mu, rho)
