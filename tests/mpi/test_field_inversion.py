"""The inversion for a diffusivity at every node, on any number of ranks."""

from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI

from adjoint import Tape
from adjoint.solvers import minimize_field
from adjoint.testing import taylor_test
from examples.field_inversion import BOUNDS, WEIGHTS, Inversion


@pytest.mark.parallel([3])
@pytest.mark.parametrize("penalty", WEIGHTS)
def test_misfit_and_gradient_do_not_depend_on_the_ranks(penalty: str) -> None:
    found = []
    for comm in (MPI.COMM_WORLD, MPI.COMM_SELF):
        inversion = Inversion((13, 11), penalty, observed=0.6, noise=0.01, comm=comm)
        with Tape(comm=comm) as tape:
            kappa = tape.watch(0.5 * (inversion.start + inversion.exact))
            loss = inversion.misfit(kappa)
        gradient = tape.gradient(loss, [kappa])[0]
        found.append((float(loss), gradient, inversion.grid.patch_slices(inversion.grid.rank)))
    (value, gradient, own), (expected, whole, _) = found
    assert value == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(gradient, whole[own], atol=1e-6 * abs(whole).max())


@pytest.mark.parallel([1, 3])
def test_the_gradient_of_the_misfit() -> None:
    inversion = Inversion((9, 8), noise=0.1)
    rates = taylor_test(inversion.misfit, inversion.start, h=2e-3)
    assert rates.min() > 1.95


@pytest.mark.parallel([3])
def test_that_nothing_is_observed_is_refused() -> None:
    with pytest.raises(ValueError, match="a share of 1e-09 leaves none of the 4×3 nodes"):
        Inversion((4, 3), observed=1e-9)


@pytest.mark.parallel([1])
def test_the_total_variation_finds_the_jumps() -> None:
    """A step of κ takes a node or two with it, and Tikhonov's penalty does worse."""
    errors = {}
    for penalty in WEIGHTS:
        inversion = Inversion((40, 40), penalty)
        result = minimize_field(
            inversion.misfit, inversion.start, inversion.grid, bounds=BOUNDS,
            inner=inversion.inner, options={"maxiter": 80}, progress=False,
        )  # fmt: skip
        errors[penalty] = inversion.error(result.theta)
        assert result.value < 0.02 * result.history[0].loss
        assert result.theta.min() >= BOUNDS[0]
        assert result.theta.max() <= BOUNDS[1]
    assert errors["variation"] < 0.12
    assert errors["variation"] < 0.8 * errors["tikhonov"]
