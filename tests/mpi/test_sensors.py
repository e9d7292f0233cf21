"""Interpolation between the nodes of a distributed grid."""

from __future__ import annotations

import numpy as np
import pytest

from adjoint import communicator
from adjoint.comm import CartesianGrid
from adjoint.solvers.sensors import Sensors

COMM = communicator()


@pytest.mark.parallel([1, 2, 3, 4])
def test_sensors_interpolate_linearly() -> None:
    grid, spacing = CartesianGrid((6, 7)), (0.5, 2.0)
    positions = np.random.default_rng(3).random((20, 2)) * (2.5, 12.0)
    positions[:2] = (1.5, 8.0), (2.5, 12.0)  # nodes
    sensors = Sensors("sensors", grid, spacing, positions)
    assert sorted(np.concatenate(COMM.allgather(sensors.owned))) == [*range(20)]
    nearest = np.rint(positions[sensors.owned] / spacing)
    assert (grid.start <= nearest).all()
    assert (nearest < grid.stop).all()
    x, y = grid.coordinates(spacing)
    u = sensors.pattern.exchange.fetch((2 + 3 * x - 0.5 * y + x * y).ravel())
    a, b = positions[sensors.owned].T
    found = sensors.pattern.matrix(sensors.values) @ u
    np.testing.assert_allclose(found, 2 + 3 * a - 0.5 * b + a * b, rtol=1e-12)
    assert (sensors.values > 0).all()  # so the nodes are those around a sensor
    assert (np.diff(sensors.pattern.indptr)[sensors.owned < 2] == 1).all()


@pytest.mark.parallel([1, 3])
def test_sensors_may_be_off_the_last_node_by_rounding_and_no_further() -> None:
    grid, spacing = CartesianGrid((6, 7)), (0.5, 2.0)
    sensors = Sensors("sensors", grid, spacing, [(2.5 * (1 + 1e-15), 12.0)])
    x, y = grid.coordinates(spacing)
    u = sensors.pattern.exchange.fetch((2 + 3 * x - 0.5 * y).ravel())
    found = sensors.pattern.matrix(sensors.values) @ u
    assert COMM.allreduce(found.sum()) == pytest.approx(2 + 3 * 2.5 - 0.5 * 12)
    with pytest.raises(ValueError, match=r"sensors: point 1 at \(2.6, 12.0\) m is off"):
        Sensors("sensors", grid, spacing, [(2.5, 12.0), (2.6, 12.0)])


@pytest.mark.parallel([2, 3])
@pytest.mark.parametrize("points", [1, 2])
def test_all_ranks_have_the_same_sensors(points: int) -> None:
    """Or each would look for its own among those of others, and some would be lost."""
    positions = np.full((points if COMM.rank else 2, 2), 0.5 + (COMM.rank == COMM.size - 1))
    with pytest.raises(ValueError, match=r"rank \d: sensors are not those of rank 0, expected"):
        Sensors("sensors", CartesianGrid((6, 7)), (1.0, 1.0), positions)
