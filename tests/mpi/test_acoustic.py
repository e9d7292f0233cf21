"""The acoustic wave on several ranks: exact transposes, and one result for all numbers of ranks."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

from adjoint import Tape, Variable
from adjoint.comm import Allreduce, CartesianGrid, GatherField
from adjoint.solvers import AcousticWave, ricker
from adjoint.testing import check_jvp, check_vjp, dot_test, taylor_test, taylor_to_dict

pytestmark = [
    pytest.mark.filterwarnings("ignore:AcousticWave. .* nodes for the shortest"),
    pytest.mark.timeout(300),  # the first test may have to wait for the compiler
]

SHAPE, SPACING, DT = (37, 41), 10.0, 2e-3
SPACE: dict[str, Any] = {
    "shape": (13, 15, 17), "spacing": (12.0, 11.0, 13.0), "pml_width": 3,
    "sources": [[[43.0, 70.0, 91.0]], [[60.0, 73.2, 104.0]]],
    "receivers": [
        [65.0, 88.0, 99.0], [85.5, 77.0, 65.0], [71.0, 57.7, 117.0], [60.0, 90.0, 91.0],
    ],
}  # fmt: skip
SETTINGS: dict[str, dict[str, Any]] = {
    "layers on all sides": {},
    "free surface": {"free_surface": True},
    "one layer": {"pml_sides": ("left",)},
    "second order": {"order": 2},
    "second order, free surface": {"order": 2, "free_surface": "top"},
    "two layers, second order": {"pml_sides": ("top", "right"), "order": 2},
    "different spacings": {"spacing": (10.0, 12.0)},
    # Enough rows on each rank for several steps in a sweep, with layers on both sides of borders.
    "many rows": {
        "shape": (161, 23), "pml_sides": ("top", "bottom"), "pml_width": 45,
        "sources": [[[803.0, 113.0]], [[611.0, 131.0]]],
        "receivers": [[485.5, 125.0], [799.0, 121.5], [1005.0, 108.0], [1111.0, 140.0]],
    },
    "space": SPACE,
    "space, free surfaces": {
        **SPACE, "shape": (17, 15, 13), "spacing": (13.0, 11.0, 12.0), "order": 2,
        "free_surface": ("top", "right"), "pml_sides": ("bottom", "back", "left"),
    },
}  # fmt: skip


def wave_of(
    comm: MPI.Comm, steps: int = 40, shape: tuple[int, ...] = SHAPE, **settings: Any
) -> tuple[AcousticWave, Any, Any]:
    """Return a wave with two shots, a velocity and wavelets; in space, with fewer steps."""
    grid = CartesianGrid(shape, comm)
    steps = steps if len(shape) == 2 else steps // 3
    sources = [[[73.0, 151.0]], [[110.0, 262.0]]]
    receivers = [[65.0, 100.0], [85.5, 245.0], [231.0, 157.7], [180.0, 200.0]]
    usual = {"spacing": SPACING, "pml_width": 6, "sources": sources, "receivers": receivers}
    wave = AcousticWave(grid, dt=DT, steps=steps, **{**usual, **settings})
    z, *_, x = grid.coordinates(SPACING)
    velocity = 2000 + 400 * np.sin(x / 90) * np.cos(z / 70)
    scale = np.array([1.0, -0.5])[:, None, None]
    wavelets = 1e3 * scale * ricker(DT * np.arange(steps), 14.0)
    return wave, velocity, wavelets.astype(wave.dtype)


def rough_fields(comm: MPI.Comm, shape: tuple[int, ...]) -> Any:
    """Return two initial fields, rough ones, so that every layer has something to absorb."""
    return np.random.default_rng([1, comm.rank]).standard_normal((2, *shape))


def gathered(comm: MPI.Comm, wave: AcousticWave, traces: Any) -> Any:
    whole = np.zeros((2, 4, traces.shape[2]))
    for index, found in comm.allgather((wave.receivers, traces)):
        whole[:, index] = found
    return whole


@pytest.mark.parallel([1, 2, 3, 4, 6])
@pytest.mark.parametrize("name", SETTINGS)
def test_tangent_and_adjoint(name: str) -> None:
    comm = MPI.COMM_WORLD
    wave, velocity, wavelets = wave_of(comm, **SETTINGS[name])
    inputs = velocity, wavelets, *rough_fields(comm, velocity.shape)
    dot_test(wave, *inputs, rtol=1e-12)
    check_jvp(wave, *inputs)
    check_vjp(wave, *inputs)


@pytest.mark.parallel([1, 2, 3, 4, 6])
@pytest.mark.parametrize("name", SETTINGS)
def test_taylor_rates_of_each_input(name: str) -> None:
    comm = MPI.COMM_WORLD
    wave, velocity, wavelets = wave_of(comm, **SETTINGS[name])
    inputs = [velocity, wavelets, *rough_fields(comm, velocity.shape)]
    data = wave(*(0.9 * x for x in inputs))
    energy = comm.allreduce(np.sum(data**2))

    def misfit(*changed: Variable) -> Variable:
        return Allreduce()(((wave(*changed) - data) ** 2).sum()) / energy

    for number, x in enumerate(inputs):
        # Wavelets are the same on all ranks, and so is their change.
        random = np.random.default_rng([number, 0 if x is wavelets else comm.rank])
        change = 0.02 * np.abs(x).max() * random.standard_normal(x.shape)
        rates = taylor_test(
            lambda v, n=number: misfit(*inputs[:n], v, *inputs[n + 1 :]), x, change, levels=3
        )
        assert min(rates) >= 1.95, (number, rates)


@pytest.mark.parallel([1, 2, 3, 4, 6])
@pytest.mark.parametrize(
    "settings",
    [{"order": order, "free_surface": free} for order in (2, 4) for free in (False, True)]
    + [SETTINGS["space"]],
)
def test_taylor_rate_of_the_velocity_in_the_layers_alone(settings: dict[str, Any]) -> None:
    comm = MPI.COMM_WORLD
    wave, velocity, wavelets = wave_of(comm, **settings)
    initial, previous = rough_fields(comm, velocity.shape)
    inside, width = np.ones(velocity.shape, bool), settings.get("pml_width", 6)
    for nodes, along in zip(wave.grid.shape, wave.grid.coordinates(1.0)):
        inside &= (along >= width) & (along < nodes - width)
    random = np.random.default_rng(comm.rank)
    change = np.where(inside, 0, 40 * random.standard_normal(velocity.shape))
    assert comm.allreduce(np.abs(change).max()) > 0

    def misfit(c: Variable) -> Variable:
        return Allreduce()((wave(c, wavelets, initial, previous) ** 2).sum())

    found = taylor_to_dict(misfit, velocity, change, levels=3)
    assert min(found["R1"]["Rate"]) >= 1.95
    assert max(found["R0"]["Rate"]) < 1.1  # the layers do matter


@pytest.mark.parallel([1, 2, 3, 4, 6])
@pytest.mark.parametrize("name", SETTINGS)
def test_the_number_of_ranks_does_not_matter(name: str) -> None:
    comm = MPI.COMM_WORLD
    results: list[list[Any]] = []
    for ranks in (comm, MPI.COMM_SELF):
        wave, velocity, wavelets = wave_of(ranks, steps=120, **SETTINGS[name])
        z, *_, x = wave.grid.coordinates(SPACING)
        initial = [np.cos(x / 17 + shift) * np.sin(z / 23) for shift in (0, 0.3)]
        with Tape(comm=ranks) as tape:
            inputs = [tape.watch(value) for value in (velocity, wavelets, *initial)]
            traces = wave(*inputs)
            loss = Allreduce(ranks)((traces**2).sum())
        c, w, *rest = tape.gradient(loss, inputs)
        whole = [comm.bcast(GatherField(wave.grid)(field)) for field in (c, *rest)]
        # Each rank has its own copy of the wavelets, and a gradient for it.
        results.append([gathered(ranks, wave, traces.value), ranks.allreduce(w), *whole])
    for found, expected in zip(*results):
        assert np.abs(expected).max() > 0
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


@pytest.mark.parallel([1, 2, 3])
def test_single_precision() -> None:
    comm = MPI.COMM_WORLD
    wave, velocity, wavelets = wave_of(comm, dtype=np.float32)
    exact, _, series = wave_of(comm)
    found = wave(velocity.astype(np.float32), wavelets)
    assert found.dtype == np.float32
    expected = exact(velocity, series)
    scale = comm.allreduce(np.abs(expected).max(initial=0), MPI.MAX)
    assert np.abs(found - expected).max(initial=0) < 1e-4 * scale
    dot_test(wave, velocity.astype(np.float32), wavelets)


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"dt": 4e-3},
            r"dt is 0.004 s, expected at most 0.00303\d* s for .* 2000 m/s",
        ),
        ({"value": np.nan}, "velocity has values that are not finite"),
        ({"value": -1.0}, "velocity has the value -1, expected positive"),
        ({"value": 0.0}, "velocity has the value 0, expected positive"),
        ({"sources": [[20.0, 200.0]]}, r"sources: point 0 at .* is inside an absorbing layer"),
        ({"receivers": [[200.0, 500.0]]}, r"receivers: point 0 at .* is outside of the grid"),
        ({"receivers": [[200.0, np.nan]]}, "receivers has positions that are not finite"),
        ({"receivers": [200.0, 200.0]}, r"receivers has shape \(2,\), expected \(points, 2\)"),
        ({"sources": np.zeros((0, 1, 2))}, r"sources has shape \(0, 1, 2\), expected one shot"),
        ({"order": 3}, "order is 3, expected 2 or 4"),
        ({"pml_width": 19}, r"layers of \(19, 19\) nodes leave none of the 37 along axis 0"),
        ({"pml_sides": ("up",)}, "pml_sides has 'up', expected of top, bottom, left, right"),
        ({"free_surface": "left"}, "free_surface is 'left', expected the top alone in two"),
        ({"wavelets": np.zeros(7)}, r"wavelets has shape \(7,\), expected \(1, 1, 20\)"),
        ({"wavelets": 1.0}, r"wavelets has shape \(\), expected \(1, 1, 20\)"),
        ({"pml_velocity": 0.0}, "pml_velocity is 0.0, expected a positive number of m/s"),
        ({"pml_frequency": -1.0}, "pml_frequency is -1.0, expected 0 Hz or more"),
        ({"spacing": 0.0}, "spacing is 0.0, expected a positive number or two"),
        ({"shape": (3, 3)}, "velocity has shape"),
    ],
)
def test_bad_input_is_one_error_on_all_ranks(change: dict[str, Any], message: str) -> None:
    comm = MPI.COMM_WORLD
    grid = CartesianGrid(SHAPE, comm)
    last = comm.rank == comm.size - 1
    velocity = np.full(change.pop("shape", grid.patch_shape), 2000.0)
    if "value" in change and last:
        velocity[1, 1] = change["value"]
    change.pop("value", None)
    settings: dict[str, Any] = {
        "spacing": SPACING, "dt": DT, "steps": 20, "sources": [[100.0, 200.0]],
        "receivers": [[200.0, 200.0]], "wavelets": np.zeros(20), "pml_width": 6, **change,
    }  # fmt: skip
    with pytest.raises(ValueError, match=f"AcousticWave: .*{message}"):
        AcousticWave(grid, **settings)(velocity)


@pytest.mark.parallel([1])
@pytest.mark.parametrize(
    ("shape", "periodic", "message"),
    [
        ((40,), False, r"grid has 1 axes, periodic \(False,\), expected 2 or 3 that are not"),
        (SHAPE, True, r"grid has 2 axes, periodic \(True, True\), expected 2 or 3 that are not"),
        ((3, 9), False, r"a patch has shape \(3, 9\), expected 4 nodes or more along each axis"),
    ],
)
def test_grids_that_do_not_fit(shape: Any, periodic: bool, message: str) -> None:
    grid = CartesianGrid(shape, MPI.COMM_SELF, periodic=periodic)
    with pytest.raises(ValueError, match=f"AcousticWave: {message}"):
        AcousticWave(grid, SPACING, DT, 20, [[0.0] * len(shape)], [[0.0] * len(shape)])


@pytest.mark.parallel([1, 3])
def test_bad_initial_fields_are_one_error_on_all_ranks() -> None:
    comm = MPI.COMM_WORLD
    wave, velocity, wavelets = wave_of(comm, steps=3)
    bad = np.zeros_like(velocity)
    bad[2, 3] = np.inf if comm.rank == comm.size - 1 else 0
    with pytest.raises(ValueError, match="initial has values that are not finite"):
        wave(velocity, wavelets, bad)
    with pytest.raises(ValueError, match="previous has values that are not finite"):
        wave(velocity, wavelets, previous=bad)
    with pytest.raises(ValueError, match="velocity has dtype int64, expected float64"):
        wave(velocity.astype(np.int64), wavelets)
    with pytest.raises(TypeError, match="velocity is a list, expected an array"):
        wave(velocity.tolist(), wavelets)
    with pytest.raises(TypeError, match="no wavelets, here or in the constructor"):
        wave(velocity)


@pytest.mark.parallel([1, 3])
@pytest.mark.parametrize(("order", "advised"), [(2, 10), (4, 5)])
def test_too_few_nodes_per_wavelength_are_a_warning(order: int, advised: int) -> None:
    """For half a node more than advised there is none, for half a node less one on rank 0."""
    comm, steps, frequency = MPI.COMM_WORLD, 200, 20.0
    grid = CartesianGrid(SHAPE, comm)
    velocity = np.full(grid.patch_shape, 2500.0)
    wave = AcousticWave(
        grid, (SPACING, 8.0), 1e-3, steps, [[150.0, 200.0]], [[200.0, 200.0]], pml_width=6,
        order=order,
        wavelets=np.sin(2 * np.pi * frequency * 1e-3 * np.arange(steps)),
    )  # fmt: skip
    for nodes, expected in ((advised + 0.5, 0), (advised - 0.5, 1), (advised - 0.5, 0)):
        if comm.rank == comm.size - 1:
            velocity[1, 1] = nodes * frequency * SPACING
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            wave(velocity)
        assert [warning.filename for warning in told] == [__file__] * expected * (comm.rank == 0)
        for warning in told:
            message = str(warning.message)
            assert f"AcousticWave: {nodes} nodes for the shortest wavelength" in message
            assert f", {advised} or more are advised" in message


@pytest.mark.parallel([1, 3])
@pytest.mark.parametrize(("order", "limit"), [(4, 6 / 7), (2, 1.0)])
def test_layers_are_for_half_of_the_greatest_stable_velocity(order: int, limit: float) -> None:
    """And for the frequency at which that has 20 of the wider spacings a wavelength."""
    speed = limit / np.hypot(1 / 10, 1 / 12) / DT / 2
    traces = []
    for given in ({}, {"pml_velocity": speed, "pml_frequency": speed / 240}, {"pml_frequency": 0}):
        wave, velocity, wavelets = wave_of(
            MPI.COMM_WORLD, order=order, spacing=(10.0, 12.0), **given
        )
        traces.append(gathered(MPI.COMM_WORLD, wave, wave(velocity, wavelets)))
    scale = np.abs(traces[0]).max()
    np.testing.assert_allclose(traces[1], traces[0], rtol=0, atol=1e-13 * scale)
    assert np.abs(traces[2] - traces[0]).max() > 1e-7 * scale


@pytest.mark.parallel([1, 3])
def test_initial_fields_without_sources_and_receivers() -> None:
    """No source acts on an initial field, and nobody may listen."""
    comm = MPI.COMM_WORLD
    grid, none = CartesianGrid(SHAPE, comm), np.zeros((0, 2))
    velocity = np.full(grid.patch_shape, 2000.0)
    rest, initial = np.zeros((1, 0, 5)), rough_fields(comm, grid.patch_shape)[0]
    wave = AcousticWave(grid, SPACING, DT, 5, none, [[200.0, 200.0]], pml_width=6)
    dot_test(wave, velocity, rest, initial, rtol=1e-12)
    assert comm.allreduce(np.abs(wave(velocity, rest, initial)).sum()) > 0
    at_rest = np.zeros_like(initial)
    for some, whole in (((initial,), (initial, at_rest)), ((None, initial), (at_rest, initial))):
        np.testing.assert_array_equal(wave(velocity, rest, *some), wave(velocity, rest, *whole))
    deaf = AcousticWave(grid, SPACING, DT, 5, none, none, pml_width=6)
    assert deaf(velocity, rest, initial).shape == (1, 0, 5)
