"""The examples give their numbers, on any number of ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

from adjoint import Jacobian, Tape
from adjoint.comm import GatherField, rank, size
from adjoint.optimize import Iteration, minimize
from adjoint.testing import dot_test, taylor_test
from examples.basin import FLOWS, velocity
from examples.poisson_inversion import FIELDS, Inversion, errors
from examples.poisson_uncertainty import Prior, fit, uncertainty
from examples.polynomial import polynomial
from examples.source_inversion import SourceInversion
from examples.source_inversion import errors as source_errors


@pytest.mark.parallel([1, 2, 3, 4, 6])
def test_polynomial() -> None:
    value, derivative = polynomial(1.5)
    if rank() == 0:
        powers = np.arange(size())
        assert value == pytest.approx((1.5**powers).sum())
        assert derivative == pytest.approx((powers * 1.5 ** (powers - 1.0)).sum())


def value_and_gradient(inversion: Any, unknowns: Any) -> tuple[float, Any]:
    with Tape(comm=inversion.grid.comm) as tape:
        x = tape.watch(unknowns)
        loss = inversion.misfit(x)
    partial = tape.gradient(loss, [x])[0]
    return float(loss), inversion.grid.comm.allreduce(partial)


@pytest.mark.parallel([2, 3, 4])
@pytest.mark.parametrize("field", FIELDS)
def test_misfit_and_gradient_do_not_depend_on_the_ranks(field: str) -> None:
    shape = (13, 11)
    # Everything is observed, for what is picked at random depends on the patches.
    together = Inversion(shape, field, observed=1.0)
    alone = Inversion(shape, field, observed=1.0, comm=MPI.COMM_SELF)
    unknowns = together.network.initial(3)
    value, gradient = value_and_gradient(together, unknowns)
    expected, expected_gradient = value_and_gradient(alone, unknowns)
    assert value == pytest.approx(expected, rel=1e-8)
    np.testing.assert_allclose(
        gradient, expected_gradient, atol=1e-8 * abs(expected_gradient).max()
    )


@pytest.mark.parallel([1, 3])
def test_something_of_each_patch_is_observed() -> None:
    inversion = Inversion((5, 4), observed=1e-9)
    assert inversion.observed.sum() == 1
    assert inversion.energy > 0


@pytest.mark.parallel([1, 2, 3, 4])
def test_the_gradient_of_the_misfit() -> None:
    inversion = Inversion((12, 9))
    unknowns = inversion.network.initial(1)
    dot_test(inversion.misfit, unknowns, rtol=1e-8)
    rates = taylor_test(inversion.misfit, unknowns, h=5e-4)
    assert rates.min() > 1.95


@pytest.mark.parallel([1, 2, 3, 4])
def test_what_is_observed() -> None:
    inversion = Inversion((10, 10), observed=0.8, noise=0.1)
    assert inversion.observed.sum() == round(0.8 * inversion.data.size)
    clean = Inversion((10, 10), observed=0.8)
    np.testing.assert_array_equal(inversion.observed, clean.observed)
    difference = inversion.data - clean.data
    everyone = np.concatenate([d.ravel() for d in MPI.COMM_WORLD.allgather(difference)])
    solution = np.concatenate([d.ravel() for d in MPI.COMM_WORLD.allgather(clean.data)])
    rms = np.sqrt(np.mean(solution**2))
    assert everyone.std() == pytest.approx(0.1 * rms, rel=0.3)


@pytest.mark.parallel([2])
def test_the_quadratic_source_belongs_to_its_solution() -> None:
    inversion = Inversion((20, 20), "quadratic")
    x, y = inversion.grid.coordinates(1 / 21, 1 / 21)
    exact = x * (1 - x) * y * (1 - y)
    np.testing.assert_allclose(inversion.data, exact, atol=1e-4 * exact.max() * 10)


@pytest.mark.parallel([1, 3])
def test_the_inversion_finds_the_field() -> None:
    inversion = Inversion((24, 24), "quadratic")
    result = minimize(
        inversion.misfit,
        inversion.network.initial(0) / inversion.scale,
        options={"maxiter": 60, "maxcor": 60},
        progress=False,
    )
    assert result.value < 1e-5
    largest, relative = errors(inversion, inversion.fields(result.theta)["kappa"])
    assert relative < 0.02
    assert largest < 0.2


SOURCES = pytest.mark.parametrize(
    ("flow", "unknown", "course"),
    [("gyre", "field", "known"), ("channel", "field", "sought"), ("gyre", "network", "sought")],
)


def changed(inversion: SourceInversion) -> Any:
    """Return unknowns that are no longer alike; the same on all ranks."""
    generator = np.random.default_rng(4)
    return inversion.first + 0.02 * generator.random(len(inversion.first))


@pytest.mark.parallel([2, 3, 4])
@SOURCES
def test_a_source_and_its_gradient_do_not_depend_on_the_ranks(
    flow: str, unknown: str, course: str
) -> None:
    settings: Any = (11, 7, flow, 3, unknown, course, 0.1)
    together = SourceInversion(*settings)
    alone = SourceInversion(*settings, comm=MPI.COMM_SELF)
    np.testing.assert_allclose(together.data, alone.data[together.transport.sensors], atol=1e-9)
    unknowns = changed(alone)
    value, gradient = value_and_gradient(together, unknowns)
    expected, expected_gradient = value_and_gradient(alone, unknowns)
    assert value == pytest.approx(expected, rel=1e-8)
    np.testing.assert_allclose(
        gradient, expected_gradient, atol=1e-8 * abs(expected_gradient).max()
    )


@pytest.mark.parallel([1, 2, 3])
@SOURCES
def test_the_gradient_of_a_source(flow: str, unknown: str, course: str) -> None:
    inversion = SourceInversion(9, 6, flow, 3, unknown, course)
    unknowns = changed(inversion)
    dot_test(inversion.misfit, unknowns, rtol=1e-8)
    # Steps with which the part that is not linear is above what solves leave of an error.
    assert taylor_test(inversion.misfit, unknowns, h=2e-3, levels=3).min() > 1.95
    assert inversion.transport.solve.setups == 2


@pytest.mark.parallel([1])
@pytest.mark.parametrize("flow", FLOWS)
def test_the_flows_have_no_divergence_and_keep_to_their_walls(flow: str) -> None:
    line = np.linspace(0, 1000.0, 201)
    x, y = np.meshgrid(line, line, indexing="ij")
    u, v = velocity(flow, x, y)
    divergence = np.gradient(u, line, axis=0) + np.gradient(v, line, axis=1)
    assert np.abs(divergence[1:-1, 1:-1]).max() < 1e-2 * np.abs(np.gradient(u, line, axis=1)).max()
    np.testing.assert_allclose(v[:, [0, -1]], 0.0, atol=1e-15)
    assert (np.abs(u[[0, -1]]).max() < 1e-15) == (flow == "gyre")
    assert 0.4 < np.hypot(u, v).max() < 0.8


@pytest.mark.parallel([1])
def test_the_inversion_finds_the_source() -> None:
    inversion = SourceInversion(16, 20, sensors=5, noise=0.01, course="sought")
    result = minimize(
        inversion.misfit, inversion.first, bounds=inversion.bounds, options={"maxiter": 60},
        progress=False,
    )  # fmt: skip
    first, last = (float(inversion.relative(x)) for x in (inversion.first, result.theta))
    found = inversion.gathered(result.theta)
    assert inversion.transport.solve.setups == 2
    if rank() == 0:
        numbers = source_errors(found, inversion.exact_course)
        assert first / last > 2000
        assert numbers["source_error"] < 0.4
        assert numbers["mass_error"] < 0.01
        assert numbers["course_error"] < 0.08


@pytest.mark.timeout(240)  # many small solves, slow where ranks wait for cores
@pytest.mark.parallel([1, 2, 3, 4])
def test_gauss_newton_takes_a_third_of_the_solves() -> None:
    inversion = Inversion((9, 8))
    solve, start = inversion.poisson.solve, inversion.network.initial(0) / inversion.scale
    options = {"maxiter": 50, "maxcor": 50}
    before = solve.solves
    reached = minimize(inversion.misfit, start, options=options, progress=False).value
    allowed = (solve.solves - before) / 3

    def stop(iteration: Iteration, theta: Any) -> None:
        if iteration.loss <= reached:
            raise StopIteration

    before = solve.solves
    found = minimize(
        inversion.residual, start, "Gauss-Newton", callback=stop, options={"maxiter": 80},
        progress=False,
    )  # fmt: skip
    assert found.value <= reached
    assert solve.solves - before <= allowed
    with Tape() as tape:
        x = tape.watch(found.theta)
        assert float(inversion.misfit(x)) == pytest.approx(found.value, rel=1e-8)
    assert tape.records


@pytest.mark.timeout(240)  # many small solves, slow where ranks wait for cores
@pytest.mark.parallel([1, 2, 3, 4])
def test_what_noisy_data_leave_uncertain() -> None:
    inversion = Inversion((8, 7), "quadratic", observed=1.0, noise=0.02)
    noise = inversion.deviation / np.sqrt(inversion.energy)
    prior = Prior(inversion, 0.8, seed=0)
    result = fit(inversion, prior, noise, 8)
    _, fields = uncertainty(inversion, prior, result.theta, noise, 16)

    # The same by a dense Hessian, its rows by the reverse sweep.
    residual, kappa = (Jacobian(f, result.theta) for f in (inversion.residual, inversion.kappa))
    hessian = np.eye(result.theta.size) / prior.deviation**2
    for r in range(size()):
        for k in range(inversion.grid.comm.bcast(residual.shape[0], r)):
            w = np.zeros(residual.shape[0])
            if r == rank():
                w[k] = 1
            row = residual.rmatvec(w.reshape(residual.value.shape))
            hessian += np.outer(row, row) / noise**2
    covariance = np.linalg.inv(hessian)
    columns = np.stack([kappa.matvec(c) for c in np.eye(result.theta.size)], axis=-1)
    variances = np.einsum("xyi,ij,xyj->xy", columns, covariance, columns)
    interior = variances[inversion.grid.interior(1)].copy()
    expected = GatherField(inversion.grid)(np.sqrt(interior))
    if rank() == 0:
        assert fields["posterior"].shape == (8, 7)
        np.testing.assert_allclose(fields["posterior"], expected, rtol=0.01)
        assert (fields["posterior"] < fields["prior"]).all()
        assert np.median(fields["posterior"]) < 0.2 * np.median(fields["prior"])
