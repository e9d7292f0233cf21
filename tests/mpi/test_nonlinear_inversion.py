"""The example that learns a law inside a nonlinear equation gives its number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

from adjoint import Tape
from adjoint.comm import rank
from adjoint.optimize import minimize
from adjoint.solvers import ConvergenceError, NonlinearDiffusion
from adjoint.testing import dot_test, taylor_test
from examples.nonlinear_diffusion import PARAMETERS, Inversion, exact_law


def value_and_gradient(inversion: Inversion, theta: Any) -> tuple[float, Any]:
    with Tape(comm=inversion.grid.comm) as tape:
        x = tape.watch(theta)
        loss = inversion.misfit(x)
    partial = tape.gradient(loss, [x])[0]
    return float(loss), inversion.grid.comm.allreduce(partial)


@pytest.mark.parallel([2, 3])
def test_misfit_and_gradient_do_not_depend_on_the_ranks() -> None:
    shape = (9, 8)
    # All nodes are observed, for what is picked at random depends on the patches.
    together = Inversion(shape, observed=1.0, noise=0.0)
    alone = Inversion(shape, observed=1.0, noise=0.0, comm=MPI.COMM_SELF)
    assert together.range == pytest.approx(alone.range, rel=1e-9)
    theta = together.network.initial(3)
    value, gradient = value_and_gradient(together, theta)
    expected, expected_gradient = value_and_gradient(alone, theta)
    assert value == pytest.approx(expected, rel=1e-8)
    np.testing.assert_allclose(
        gradient, expected_gradient, atol=1e-8 * abs(expected_gradient).max()
    )


@pytest.mark.parallel([1, 3])
def test_the_gradient_of_the_misfit() -> None:
    inversion = Inversion((8, 7))
    theta = inversion.network.initial(1)
    dot_test(inversion.misfit, theta, rtol=1e-8)
    rates = taylor_test(inversion.misfit, theta, h=1e-3, levels=3)
    assert rates.min() > 1.95


@pytest.mark.parallel([2])
def test_what_is_observed() -> None:
    inversion = Inversion((10, 10), observed=0.5, noise=0.1)
    assert inversion.observed.sum() == round(0.5 * inversion.data[0].size)
    fields = inversion.fields(inversion.network.initial(0))
    if rank() == 0:
        assert fields["true"].shape == (4, 10, 10)
        seen = np.isfinite(fields["data"])
        assert seen.sum() == 4 * 50
        for u, data in zip(fields["true"], fields["data"]):
            difference = (data - u)[np.isfinite(data)]
            assert difference.std() == pytest.approx(0.1 * np.sqrt(np.mean(u**2)), rel=0.4)
        assert fields["u"].shape == fields["true"].shape
        known = set(fields["data"][seen])
        assert all(set(start.ravel()) <= known for start in inversion.starts)


@pytest.mark.parallel([1])
def test_the_inversion_finds_the_law() -> None:
    inversion = Inversion((12, 12), noise=0.0)
    result = minimize(
        inversion.misfit,
        inversion.network.initial(0),
        bounds=PARAMETERS,
        options={"maxiter": 140, "maxcor": 100},
        reject=ConvergenceError,
        progress=False,
    )
    largest, relative = inversion.errors(result.theta)
    assert relative <= 0.02
    assert largest <= 0.05
    u = np.linspace(*inversion.range, 50)
    np.testing.assert_allclose(inversion.law(u, result.theta), exact_law(u), rtol=0.05)


@pytest.mark.parallel([1, 2])
def test_a_law_for_which_there_is_no_solution_is_rejected() -> None:
    inversion = Inversion((8, 7))
    inversion.diffusion = NonlinearDiffusion(inversion.grid, inversion.law, max_iterations=1)
    with pytest.raises(ValueError, match=r"the misfit rejects theta0: .*not solved"):
        minimize(inversion.misfit, inversion.network.initial(1), reject=ConvergenceError)
