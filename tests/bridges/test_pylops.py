"""The Jacobian as a linear operator of SciPy and of PyLops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.sparse.linalg import lsqr

from adjoint import Jacobian
from adjoint.nn import MLP

pylops = pytest.importorskip("pylops", reason="PyLops is not installed: make test-mpich")


def function(theta: Any) -> Any:
    return MLP((1, 3, 2))(theta, np.linspace(0, 1, 9)[:, None])


@pytest.fixture
def jacobian() -> Jacobian:
    return Jacobian(function, MLP((1, 3, 2)).initial(seed=3))


def test_dottest_of_pylops(jacobian: Jacobian) -> None:
    operator = pylops.aslinearoperator(jacobian.linear_operator())
    assert operator.shape == jacobian.shape == (18, 14)
    assert pylops.utils.dottest(operator, 18, 14, rtol=1e-12)


def test_pylops_composes_and_solves(jacobian: Jacobian) -> None:
    """Damped least squares through a product of two operators, against NumPy's dense solution."""
    operator = pylops.aslinearoperator(jacobian.linear_operator())
    rough = pylops.FirstDerivative(18)
    dense = np.stack([jacobian.matvec(e).ravel() for e in np.eye(14)], axis=1)
    stacked = (rough @ operator).todense()
    np.testing.assert_allclose(stacked, rough.todense() @ dense, atol=1e-14)
    data = np.random.default_rng(0).standard_normal(18)
    found = pylops.optimization.leastsquares.regularized_inversion(
        operator, data, [pylops.Identity(14)], epsRs=[0.1], damp=0, iter_lim=200, atol=1e-14,
        btol=1e-14,
    )[0]  # fmt: skip
    normal = dense.T @ dense + 0.01 * np.eye(14)
    np.testing.assert_allclose(found, np.linalg.solve(normal, dense.T @ data), rtol=1e-7, atol=1e-9)
    scipys = lsqr(jacobian.linear_operator(), data, damp=0.1, atol=1e-14, btol=1e-14)[0]
    np.testing.assert_allclose(found, scipys, rtol=1e-7, atol=1e-9)
