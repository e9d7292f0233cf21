"""A distributed field as the unknown of the waveform inversions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from acoustic_inversion import AcousticInversion
from elastic_inversion import ElasticInversion
from mpi4py import MPI
from seismic import Model
from waveform import Inversion, errors
from waveform_unknowns import PENALTIES, PLAIN, Smoothness

from adjoint import Tape
from adjoint.comm import CartesianGrid, read_field
from adjoint.testing import taylor_test
from tests.mpi.test_waveform_inversion import small_model, small_space, value_and_gradient

pytestmark = [
    pytest.mark.filterwarnings("ignore:.* nodes for the shortest"),
    pytest.mark.timeout(300),  # the first test may have to wait for the compiler
]

WORLD = MPI.COMM_WORLD


def quick() -> Model:
    """Return the small model with thin layers and few steps."""
    model = small_model()
    return replace(model, wavelet=model.wavelet[:70], layer=5)


def units(inversion: Inversion, comm: MPI.Comm) -> Any:
    """Return a field between its bounds, that does not depend on the ranks, in this patch."""
    grid = CartesianGrid(inversion.shape, comm)
    random = np.random.default_rng(0).uniform(-0.5, 0.5, inversion.shape)
    return inversion.first + random[grid.patch_slices(grid.rank)]


@pytest.mark.parallel([1, 2, 3, 4])
@pytest.mark.parametrize(
    ("kind", "penalty", "make"),
    [
        (AcousticInversion, "none", quick),
        (ElasticInversion, "tikhonov", quick),
        (AcousticInversion, "tikhonov", small_space),
    ],
)
def test_groups_do_not_matter(
    kind: type[Inversion], penalty: str, make: Callable[[], Model]
) -> None:
    """Value and gradient are those of one rank, and without a penalty of values on all ranks."""
    model, smoothness = make(), Smoothness(penalty, 0.1)
    alone = kind(model, "field", comm=MPI.COMM_SELF, smoothness=smoothness)
    at = units(alone, MPI.COMM_SELF)
    expected, gradient = value_and_gradient(alone, MPI.COMM_SELF, at)
    for groups in range(1, min(WORLD.size, len(model.sources)) + 1):
        together = kind(model, "field", groups, smoothness=smoothness)
        with Tape() as tape:
            x = tape.watch(units(together, WORLD))
            loss = together.misfit(x)
        (slope,) = tape.gradient(loss, [x])
        grid = CartesianGrid(model.shape)
        assert x.shape == grid.patch_shape
        assert float(loss) == pytest.approx(expected, rel=1e-10)
        own = gradient[grid.patch_slices(grid.rank)]
        np.testing.assert_allclose(slope, own, rtol=0, atol=1e-10 * np.abs(gradient).max())
    if penalty == "none":
        values = kind(model, comm=MPI.COMM_SELF)
        change = (at - alone.first) * model.mask
        found, slope = value_and_gradient(values, MPI.COMM_SELF, change.ravel())
        held = value_and_gradient(alone, MPI.COMM_SELF, alone.first + change)
        assert found == pytest.approx(held[0], rel=1e-10)
        np.testing.assert_allclose(
            slope.reshape(model.shape), held[1] * model.mask, rtol=0, atol=1e-10 * abs(slope).max()
        )


@pytest.mark.parallel([3])
def test_the_gradient_of_the_misfit() -> None:
    smoothness = Smoothness("variation", 0.1)
    inversion = AcousticInversion(quick(), "field", groups=2, smoothness=smoothness)
    rates = taylor_test(inversion.misfit, units(inversion, WORLD), 0.3 * inversion.first)
    assert min(rates) >= 1.95


@pytest.mark.parallel([2])
@pytest.mark.parametrize("penalty", PENALTIES[1:])
def test_the_weight_is_that_of_an_even_rise(penalty: str) -> None:
    model, weight = quick(), 0.3
    inversion = AcousticInversion(model, "field", smoothness=Smoothness(penalty, weight))
    assert inversion.unknown.same == {"penalty": penalty, "weight": weight}  # or it is another run
    true = model.true["vp"]
    low, high = 0.9 * true.min() / inversion.unit, 1.1 * true.max() / inversion.unit
    rise = np.linspace(low, high, model.shape[0])[:, None] + np.zeros(model.shape)
    grid = CartesianGrid(model.shape)
    found = inversion.total(inversion.unknown.penalty(rise[grid.patch_slices(grid.rank)]))
    share = (model.shape[0] - 1) / model.shape[0]  # no slope leads out of the last row
    if penalty == "tikhonov":
        assert found == pytest.approx(weight * share, rel=1e-12)
    else:  # as gentle as the slopes that are rounded off
        assert found == pytest.approx(weight * (np.sqrt(2) * share + 1 - share), rel=1e-12)


@pytest.mark.parallel([1, 2, 4])
def test_an_inversion_comes_nearer_to_the_truth(directory: Path) -> None:
    """Between bounds, in as many groups as there may be, and the file has the whole field."""
    comm, model = WORLD, small_model()
    smoothness = PLAIN._replace(length=20.0)
    inversion = AcousticInversion(model, "field", min(comm.size, 3), smoothness=smoothness)
    result = inversion.unknown.minimised(inversion.misfit, inversion.first, 6, progress=False)
    assert result.value < 0.1
    lower, upper = inversion.bounds
    assert (lower <= result.theta).all()
    assert (result.theta <= upper).all()
    patch = inversion.patch(result.theta)
    found, energy = inversion.pictures.first(patch), inversion.illumination(patch)
    kept, files = inversion.unknown.written(directory, result.theta)
    assert (kept, files) == ({}, ["vp.npy"])
    whole = read_field(directory / "vp.npy", CartesianGrid(model.shape, MPI.COMM_SELF))
    if comm.rank == 0:
        np.testing.assert_array_equal(found, whole)
        np.testing.assert_array_equal(whole[~model.mask], model.start["vp"][~model.mask])
        numbers = errors(inversion, found, energy)
        assert numbers["model_error"] < 0.7 * numbers["start_error"]
    comm.Barrier()  # before rank 0 removes its folder


@pytest.mark.parallel([3])
def test_what_figures_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every so many-th node of the first group's field, or of the sum, without the layers."""
    monkeypatch.setattr("waveform.DRAWN", 8**2)
    model = quick()
    inversion = AcousticInversion(model, "field", groups=2)
    assert inversion.shape == (14, 22)
    assert inversion.pictures.step == 3
    assert inversion.model.spacing == 3 * model.spacing
    np.testing.assert_array_equal(inversion.model.true["vp"], model.true["vp"][::3, ::3])
    np.testing.assert_array_equal(inversion.model.mask, model.mask[::3, ::3])
    group = 1 + (WORLD.rank * 2) // 3
    width, grid = model.layer, inversion.grid
    numbers = np.full(grid.shape, np.nan)
    numbers[width:-width, width:-width] = np.arange(14 * 22.0).reshape(14, 22)
    patch = group * numbers[grid.patch_slices(grid.rank)]
    first, total = inversion.pictures.first(patch), inversion.pictures.sum(patch)
    if WORLD.rank == 0:
        expected = np.arange(14 * 22.0).reshape(14, 22)[::3, ::3]
        np.testing.assert_array_equal(first, expected)
        np.testing.assert_array_equal(total, 3 * expected)
    else:
        assert first is None
        assert total is None


@pytest.mark.parallel([3])
def test_nothing_whole_is_kept() -> None:
    """Of the model a rank keeps parts that are smaller, those for its waves and its unknowns."""
    model = replace(quick(), layer=4)
    inversion = AcousticInversion(model, "field", groups=1)
    arrays = [
        (name, part)
        for owner in (inversion, inversion.unknown)
        for name, value in vars(owner).items()
        for part in (value if type(value) is tuple else (value,))
        if isinstance(part, np.ndarray) and part.ndim == 2
    ]
    assert {"start", "first", "bounds"} <= {name for name, _ in arrays}
    for name, part in arrays:
        assert part.size < 0.9 * model.mask.size, name
        assert part.base is None or part.base.size < 0.9 * model.mask.size, name
