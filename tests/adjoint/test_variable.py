"""A variable behaves as a NumPy user expects."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import pytest

from adjoint import Tape, Variable
from adjoint.testing import dot_test

A = np.array([[1.0, -2.0, 3.0], [0.5, 4.0, -1.5]])
B = np.array([2.0, 3.0, -0.5])

PROGRAMS: dict[str, Any] = {
    "arithmetic": lambda a, b: 2 * a + b / 3 - a * b + 1 / (b + 9) - (3 - a) + (-a),
    "reflected array": lambda a, b: A + b,
    "reflected matmul": lambda a, b: A @ b,
    "powers": lambda a, b: (a + 5) ** 2 + 2.0**b + (a + 5) ** b,
    "matmul": lambda a, b: a @ b + a.T.sum(),
    "ufuncs": lambda a, b: np.exp(a) + np.log(a + 5) + np.tanh(b) + np.sin(a) * np.cos(b),
    "more ufuncs": lambda a, b: np.sqrt(a + 5) + np.maximum(a, b) + np.minimum(a, 0) + abs(a),
    "functions": lambda a, b: np.sum(a, axis=0) + np.mean(a) + np.max(a, axis=0) + np.min(b),
    "methods": lambda a, b: (
        a.sum(axis=1, keepdims=True) + a.max(1, keepdims=True) - a.mean((0, 1)) + a.min()
    ),
    "join": lambda a, b: np.concatenate([a, np.stack([b, b])], axis=1),
    "join vectors": lambda a, b: np.concatenate([a, b, [2.0]], axis=None) ** 2,
    "shape": lambda a, b: (
        a.reshape(3, 2) @ a + np.reshape(a, (3, -1))[:, :1] + a.transpose(1, 0)[0, 1]
    ),
    "ravel": lambda a, b: np.ravel(a)[:3] * b + np.expand_dims(b, 0) + np.squeeze(a[:1]),
    "index": lambda a, b: a[0] + a[:, 1][1] + b[::-1] + b[[0, 0, 2]] + b[b > 0].sum(),
    "where": lambda a, b: np.where(a > b, a, b) + np.clip(a, -1, 1),
    "broadcast": lambda a, b: np.broadcast_to(b, (2, 3)) * a + np.broadcast_to(a.sum(), 3),
    "iteration": lambda a, b: sum(row for row in a),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_give_numpys_values_and_right_derivatives(name: str) -> None:
    program = PROGRAMS[name]
    with Tape() as tape:
        result = program(tape.watch(A), tape.watch(B))
    assert isinstance(result, Variable)
    np.testing.assert_allclose(result.value, program(A, B), rtol=1e-15)
    dot_test(program, A, B)


@pytest.mark.parametrize(
    "compare", [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne]
)
def test_comparisons_give_plain_arrays(compare: Any) -> None:
    with Tape() as tape:
        a, b = tape.watch(A), tape.watch(B)
        for result in (compare(a, B), compare(a, b), compare(A, b)):
            assert type(result) is np.ndarray
            np.testing.assert_array_equal(result, compare(A, B))


def test_attributes_and_conversions() -> None:
    with Tape() as tape:
        a, s = tape.watch(A), tape.watch(2.5)
    assert (a.shape, a.ndim, a.size, a.dtype, len(a)) == ((2, 3), 2, 6, np.float64, 2)
    assert float(s) == 2.5 and bool(s)
    assert repr(s) == "Variable(array(2.5))"
    assert len({a, s, a}) == 2
    assert (+a) is a


def test_values_without_derivative() -> None:
    with Tape() as tape:
        a = tape.watch(A)
        assert np.isfinite(a).all()
        assert np.argmax(a) == 4
        assert np.shape(a) == (2, 3)
        np.testing.assert_array_equal(np.sign(a), np.sign(A))
    assert not tape.records


def test_a_derivative_is_never_lost_silently() -> None:
    with Tape() as tape:
        a = tape.watch(A)
    with pytest.raises(TypeError, match="would lose its derivative"):
        np.asarray(a)
    with pytest.raises(TypeError, match=r"no derivative rule for np.cumsum"):
        np.cumsum(a)
    with pytest.raises(TypeError, match=r"no derivative rule for np.add.reduce"):
        np.add.reduce(a)
    with pytest.raises(TypeError, match=r"no derivative rule for np.exp with where"):
        np.exp(a, where=A > 0)
    with pytest.raises(TypeError, match="never overwritten"):
        a[0] = 1.0
    with pytest.raises(ValueError, match="read-only"):
        a.value[0] = 1.0


def test_python_numbers_keep_single_precision() -> None:
    with Tape() as tape:
        x = tape.watch(np.ones(3, np.float32))
        y = (2.0 * x**2 + 1.5) / 3
        loss = y.sum()
    assert y.dtype == loss.dtype == np.float32
    (g,) = tape.gradient(loss, [x])
    assert g.dtype == np.float32
    np.testing.assert_allclose(g, 4 / 3, rtol=1e-6)
