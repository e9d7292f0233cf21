"""Dense layers and activations as operators of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adjoint.nn import ACTIVATIONS, Dense
from adjoint.testing import check_jvp, check_vjp, dot_test

X = np.random.default_rng(0).uniform(-2, 2, (4, 3)) + 0.01


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name: str) -> None:
    function = ACTIVATIONS[name]
    before = X.copy()
    for check in (dot_test, check_jvp, check_vjp):
        check(function, X)
    np.testing.assert_array_equal(X, before)


def test_activation_values() -> None:
    expected: dict[str, Any] = {
        "identity": X, "tanh": np.tanh(X), "sigmoid": 1 / (1 + np.exp(-X)),
        "softplus": np.log(1 + np.exp(X)), "relu": X * (X > 0),
    }  # fmt: skip
    assert set(expected) == set(ACTIVATIONS)
    for name, values in expected.items():
        np.testing.assert_allclose(ACTIVATIONS[name](X), values, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_keep_precision_and_take_integers(name: str) -> None:
    function = ACTIVATIONS[name]
    assert function(X.astype(np.float32)).dtype == np.float32
    whole = np.arange(-2, 3)
    found = function(whole)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, function(whole.astype(float)))


def test_activations_are_finite_everywhere() -> None:
    x = np.array([-1e4, -40.0, 0.0, 40.0, 1e4])
    for function in ACTIVATIONS.values():
        y = function(x)
        assert np.isfinite(y).all()
        assert np.isfinite(function.slope(x, y)).all()


def test_dense() -> None:
    w, b = np.random.default_rng(1).standard_normal((3, 2)), np.array([0.5, -1.0])
    for check in (dot_test, check_jvp, check_vjp):
        check(Dense(), X, w, b)
    np.testing.assert_allclose(Dense()(X, w, b), np.einsum("np,pq->nq", X, w) + b)
    with pytest.raises(ValueError, match=r"Dense: W has shape \(2, 3\), expected \(3, 2\)"):
        Dense()(X, w.T, b)
    with pytest.raises(ValueError, match=r"Dense: X has shape \(3,\), expected \(points, feat"):
        Dense()(X[0], w, b)
