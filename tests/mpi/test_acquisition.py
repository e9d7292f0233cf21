"""Sources and receivers: interpolation by polynomials, the parts of ranks, and traces' owners."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mpi4py import MPI
from scipy.interpolate import lagrange

from adjoint import profiling
from adjoint.comm import CartesianGrid
from adjoint.solvers import ricker
from adjoint.solvers.acquisition import Points
from adjoint.solvers.padding import Padding

SHAPE, SPACING, GHOST = (11, 9), (10.0, 12.0), 3

# Near the sides and in corners, where the four nodes are not around the point; on nodes; inside,
# where patches of several ranks meet.
PLACES = np.array([
    [[0.0, 0.0], [100.0, 96.0], [2.0, 94.0], [97.0, 1.5], [50.0, 48.0],
     [53.1, 44.9], [38.0, 61.0]],
    [[4.0, 30.0], [98.0, 66.0], [30.0, 36.0], [67.7, 55.5], [45.0, 42.0],
     [20.0, 95.9], [51.0, 5.0]],
])  # fmt: skip


def points_of(comm: MPI.Comm, places: Any = PLACES, **settings: Any) -> tuple[Any, Points]:
    grid = CartesianGrid(SHAPE, comm)
    margins = ((0, 0), (0, 0))
    return grid, Points("points", grid, SPACING, places, 2, GHOST, margins, **settings)


def taps(nodes: int, place: float) -> dict[int, float]:
    """Return the four nodes of an axis that a point takes, and SciPy's polynomials there."""
    first = min(max(int(np.floor(place)) - 1, 0), nodes - 4)
    four = np.arange(first, first + 4)
    return {int(k): float(lagrange(four, np.equal(four, k))(place)) for k in four}


# Rows of as many entries as axis 1 has nodes would be of another length.
SPACE, APART = (6, 12, 8), (10.0, 12.0, 11.0)
SPOTS = np.array([[0.0, 0.0, 0.0], [50.0, 132.0, 77.0], [2.0, 131.0, 30.0], [27.1, 34.9, 40.0]])


@pytest.mark.parallel([1, 2, 3, 4, 6])
def test_weights_in_space_are_those_of_lagranges_polynomials() -> None:
    """All ranks' parts of the traces of a field, summed at the owners of points."""
    grid = CartesianGrid(SPACE, MPI.COMM_WORLD)
    points = Points("points", grid, APART, SPOTS, 1, GHOST, ((0, 0),) * 3)
    whole = np.random.default_rng(6).standard_normal(SPACE)
    field = Padding(grid, GHOST, np.float64).fields()
    field[grid.interior(GHOST)] = whole[grid.patch_slices(grid.rank)]
    collection = points.collection()
    parts = collection.new_parts(1, np.float64)
    parts[:, 0] = (points.weights[0] * field.reshape(-1)[points.nodes[0]]).sum(axis=1)
    expected = []
    for spot in SPOTS:
        each = [taps(n, x / h) for n, x, h in zip(SPACE, spot, APART)]
        value = whole
        for along in each:  # the first axis that is left
            value = sum(weight * value[node] for node, weight in along.items())
        expected.append(value)
    traces = collection.forward(parts)
    np.testing.assert_allclose(traces[0, :, 0], np.array(expected)[points.owned], rtol=1e-12)
    nearest = np.rint(SPOTS / APART)
    mine = ((nearest >= grid.start) & (nearest < grid.stop)).all(axis=1)
    np.testing.assert_array_equal(points.owned, np.flatnonzero(mine))


@pytest.mark.parallel([1, 2, 3, 4, 6])
@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.5, 0.0), (0.5, 0.5)])
def test_weights_are_those_of_lagranges_polynomials(shift: tuple[float, float]) -> None:
    """All ranks' weights together, and each at the node that the patch's array has there."""
    inner = np.clip(PLACES, 5.0, 90.0) if any(shift) else PLACES
    comm = MPI.COMM_WORLD
    grid, points = points_of(comm, inner, shift=shift)
    padding = Padding(grid, GHOST, np.float64)
    found = np.zeros((2, 7, *SHAPE))
    for run in range(2):
        for point, nodes, weights in zip(
            points.index[run], points.nodes[run], points.weights[run], strict=True
        ):
            field = padding.fields()
            np.add.at(field.reshape(-1), nodes, weights)
            found[run, point][grid.patch_slices(grid.rank)] = field[padding.inner]
            outside = field.copy()
            outside[padding.inner] = 0
            assert not outside.any()
    comm.Allreduce(MPI.IN_PLACE, found)
    expected = np.zeros_like(found)
    for run, point in np.ndindex(2, 7):
        z, x = (inner[run, point] / SPACING) - shift
        for i, along_z in taps(SHAPE[0], z).items():
            for j, along_x in taps(SHAPE[1], x).items():
                expected[run, point, i, j] = along_z * along_x
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parallel([1, 2, 3, 4, 6])
def test_points_belong_to_the_rank_of_the_nearest_node() -> None:
    grid, points = points_of(MPI.COMM_WORLD)
    nearest = np.rint(PLACES[0] / SPACING)
    mine = ((nearest >= grid.start) & (nearest < grid.stop)).all(axis=1)
    np.testing.assert_array_equal(points.owned, np.flatnonzero(mine))
    assert points.count == 7


@pytest.mark.parallel([1, 2, 3, 4, 6])
def test_owners_get_the_sum_of_parts_and_all_parts_the_owners_cotangent() -> None:
    comm = MPI.COMM_WORLD
    _, points = points_of(comm)
    collection = points.collection()
    parts = collection.new_parts(5, np.float64)
    assert not parts.any()
    whole = np.zeros((2, 7, 5))
    for run in range(2):
        rows = collection.rows(run)
        parts[rows] = np.random.default_rng([run, comm.rank]).standard_normal(parts[rows].shape)
        whole[run, points.index[run]] = parts[rows]
    comm.Allreduce(MPI.IN_PLACE, whole)
    with profiling() as there:
        traces = collection.forward(parts)
    np.testing.assert_allclose(traces, whole[:, points.owned], rtol=1e-13)
    others = sum(np.isin(index, points.owned, invert=True).sum() for index in points.index)
    assert there.sent == others * 5 * 8

    cotangents = np.random.default_rng(9).standard_normal((2, 7, 5))
    with profiling() as back_again:
        back = collection.adjoint(cotangents[:, points.owned])
    assert comm.allreduce(back_again.sent) == comm.allreduce(there.sent)
    assert back.shape == parts.shape
    for run in range(2):
        np.testing.assert_array_equal(
            back[collection.rows(run)], cotangents[run, points.index[run]]
        )


@pytest.mark.parallel([1, 2])
def test_one_set_of_positions_is_that_of_all_runs() -> None:
    _, points = points_of(MPI.COMM_WORLD, PLACES[0])
    for kept in (points.index, points.nodes, points.weights):
        np.testing.assert_array_equal(kept[0], kept[1])


@pytest.mark.parallel([1])
@pytest.mark.parametrize("margin", [0, 2])
def test_a_point_is_on_a_node_also_by_rounding(margin: int) -> None:
    """Also where its place, divided by the spacing, is more than the last node's number."""
    apart, margins = 0.1, ((margin, 1), (margin, 1))
    ends = np.array([[margin * apart - 1e-12, 0.3], [6 * apart, 6 * apart]])
    assert ends[1, 0] / apart > 6
    grid = CartesianGrid((8, 8), MPI.COMM_SELF)
    points = Points("points", grid, (apart, apart), ends, 1, GHOST, margins)
    np.testing.assert_allclose(points.weights[0].sum(axis=1), 1)
    within = f"{margin * apart:g} to 0.6 m"
    for places, where in (
        (ends - 1e-6, "inside an absorbing layer" if margin else "outside of the grid"),
        (ends + 1e-6, "inside an absorbing layer"),
        (ends + apart + 1e-6, "outside of the grid"),
    ):
        message = rf"points: point \d at .* is {where}, expected z and x in {within}, {within}"
        with pytest.raises(ValueError, match=message):
            Points("points", grid, (apart, apart), places, 1, GHOST, margins)


@pytest.mark.parallel([1])
def test_a_ricker_wavelet_peaks_when_and_where_it_says() -> None:
    times = np.arange(4000) * 1e-3
    for delay in (None, 0.7):
        wavelet = ricker(times, 8.0, delay)
        peak = 1.2 / 8.0 if delay is None else delay
        assert times[np.argmax(wavelet)] == pytest.approx(peak)
        assert wavelet.max() == pytest.approx(1.0)
    # Zeros at φ² = ½, and at its peak frequency the greatest amplitude.
    zero = np.sqrt(0.5) / (np.pi * 8.0)
    np.testing.assert_allclose(ricker(0.7 + np.array([-zero, zero]), 8.0, 0.7), 0, atol=1e-12)
    spectrum = np.abs(np.fft.rfft(wavelet))
    assert np.fft.rfftfreq(len(times), 1e-3)[np.argmax(spectrum)] == pytest.approx(8.0, abs=0.25)
