"""Every local operator against finite differences, its own transpose and NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adjoint import Tape, ops
from adjoint.testing import check_jvp, check_vjp, dot_test

SHAPES = [((3, 4), (3, 4)), ((3, 4), (4,)), ((3, 1), (1, 4)), ((), (2, 3)), ((0, 3), (3,))]


def positive(shape: tuple[int, ...], seed: int = 0, dtype: Any = np.float64) -> Any:
    """Random values in [0.5, 1.5), away from every singularity and from each other."""
    return (np.random.default_rng(seed).random(shape) + 0.5).astype(dtype)


def check(operator: Any, *inputs: Any) -> None:
    dot_test(operator, *inputs)
    check_jvp(operator, *inputs)
    check_vjp(operator, *inputs)


ELEMENTWISE = {
    ops.Absolute: np.absolute, ops.Arctan: np.arctan, ops.Cos: np.cos, ops.Cosh: np.cosh,
    ops.Exp: np.exp, ops.Expm1: np.expm1, ops.Log: np.log, ops.Log1p: np.log1p,
    ops.Negative: np.negative, ops.Reciprocal: np.reciprocal, ops.Sin: np.sin, ops.Sinh: np.sinh,
    ops.Sqrt: np.sqrt, ops.Square: np.square, ops.Tan: np.tan, ops.Tanh: np.tanh,
}  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (0,)])
@pytest.mark.parametrize("operator", ELEMENTWISE, ids=lambda o: o.__name__)
def test_elementwise(operator: Any, shape: tuple[int, ...], dtype: Any) -> None:
    x = positive(shape, dtype=dtype)
    x = np.asarray(x * x.dtype.type(0.8))
    check(operator(), x)
    with Tape() as tape:
        y = ELEMENTWISE[operator](tape.watch(x))
    assert y.dtype == dtype
    np.testing.assert_array_equal(y.value, ELEMENTWISE[operator](x))


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize(
    "operator",
    [ops.Add, ops.Subtract, ops.Multiply, ops.Divide, ops.Power, ops.Maximum, ops.Minimum],
    ids=lambda o: o.__name__,
)
def test_binary(operator: Any, shapes: Any) -> None:
    check(operator(), positive(shapes[0]), positive(shapes[1], seed=1))


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, -1, 0.5, 2.0, -1.5])
def test_power_with_constant_exponent(exponent: float) -> None:
    check(lambda x: x**exponent, positive((4,)))


def test_constant_exponents_may_widen_the_power() -> None:
    exponents = np.array([[0.0, 1.0, 2.0], [0.5, -1.0, 3.0]])
    x, t = positive((3,)), positive((3,), seed=1)
    check(lambda x: x**exponents, x)
    with Tape() as tape:
        v = tape.watch(x)
        y = v**exponents
    (found,) = tape.jvp([y], [v], [t])
    np.testing.assert_allclose(found, t * exponents * x ** (exponents - 1), rtol=1e-13)
    assert found.shape == exponents.shape


@pytest.mark.parametrize("exponent", [0, 1, 2, np.array([0.0, 1.0, 2.0])])
def test_power_at_zero_has_a_finite_derivative(exponent: Any) -> None:
    with Tape() as tape:
        x = tape.watch(np.zeros(3))
        y = (x**exponent).sum()
    (g,) = tape.gradient(y, [x])
    np.testing.assert_array_equal(g, np.broadcast_to(np.equal(exponent, 1), 3).astype(float))


def test_power_of_zero_with_variable_exponent() -> None:
    with Tape() as tape:
        b = tape.watch(np.array([1.0, 2.0]))
        y = (np.zeros(2) ** b).sum()
    (g,) = tape.gradient(y, [b])
    np.testing.assert_array_equal(g, 0)


@pytest.mark.parametrize(
    "shapes",
    [
        ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((2, 3), (3, 4)), ((5, 2, 3), (3, 4)),
        ((3,), (5, 3, 2)), ((5, 2, 3), (3,)), ((4, 1, 2, 3), (5, 3, 2)), ((2, 0), (0, 3)),
    ],
    ids=str,
)  # fmt: skip
def test_matmul(shapes: Any) -> None:
    check(ops.Matmul(), positive(shapes[0]), positive(shapes[1], seed=1))


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_where(shapes: Any) -> None:
    a, b = positive(shapes[0]), positive(shapes[1], seed=1)
    check(ops.Where(), (a > b), a, b)


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [None, 0, 1, -1, (0, 2), (0, 1, 2)])
@pytest.mark.parametrize(
    "operator", [ops.Sum, ops.Mean, ops.Max, ops.Min], ids=lambda o: o.__name__
)
def test_reductions(operator: Any, axis: Any, keepdims: bool) -> None:
    check(operator(axis, keepdims), positive((2, 3, 4)))


@pytest.mark.parametrize("axis", [None, 0, -1, ()])
def test_reductions_of_a_number(axis: Any) -> None:
    for operator in (ops.Sum(axis), ops.Max(axis), ops.Min(axis), ops.Mean()):
        check(operator, np.array(1.5))


def test_extrema_share_the_cotangent_among_ties() -> None:
    for operator in (ops.Max(), ops.Min(axis=0)):
        x = np.full((2, 3), 7.0)
        dot_test(operator, x)
        with Tape() as tape:
            v = tape.watch(x)
            y = operator(v).sum()
        (g,) = tape.gradient(y, [v])
        np.testing.assert_allclose(g, 1 / 6 if operator.axis is None else 1 / 2)
    dot_test(ops.Maximum(), np.ones(3), np.ones(3))
    dot_test(ops.Minimum(), np.ones(3), np.ones(3))


INDICES = [
    0, -1, slice(None), slice(1, 3), slice(None, None, -1), (slice(None), 2), (0, 1), Ellipsis,
    (..., None, 0), [0, 0, 2], (slice(None), [1, 1, 3]), ([0, 0, 1], [2, 2, 3]),
    np.array([[0, 1], [1, 1]]), np.arange(3) > 0, (np.arange(3) > 0, slice(1, 2)), None,
]  # fmt: skip


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_index(index: Any) -> None:
    x = positive((3, 4))
    check(ops.Index(index), x)
    np.testing.assert_array_equal(ops.Index(index)(x), x[index])


@pytest.mark.parametrize("shape", [(12,), (4, 3), (2, -1), -1, (1, 3, 4)])
def test_reshape(shape: Any) -> None:
    check(ops.Reshape(shape), positive((3, 4)))


@pytest.mark.parametrize("axes", [None, (0, 1, 2), (2, 0, 1), (1, 2, 0), (-1, 0, 1)])
def test_transpose(axes: Any) -> None:
    check(ops.Transpose(axes), positive((2, 3, 4)))


@pytest.mark.parametrize("shape", [(2, 3), (4, 2, 3)])
def test_broadcast_to(shape: Any) -> None:
    check(ops.BroadcastTo(shape), positive((1, 3)))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_concatenate_and_stack(axis: int) -> None:
    a, b = positive((2, 3)), positive((2, 3), seed=1)
    check(ops.Stack(axis), a, b)
    other = positive((4, 3) if axis == 0 else (2, 5), seed=1)
    check(ops.Concatenate(axis), a, other)
    check(ops.Concatenate(0), a, a[:0], b)


@pytest.mark.parametrize(
    "dtypes", [(np.float32, np.float64), (np.float64, np.float32), (np.float64, np.float64)]
)
def test_cast_converts_derivatives_back(dtypes: Any) -> None:
    value = positive((4,), dtype=dtypes[0])
    check(ops.Cast(dtypes[1]), value)
    np.testing.assert_array_equal(ops.Cast(dtypes[1])(value), value.astype(dtypes[1]))
    with Tape() as tape:
        x = tape.watch(positive((4,), dtype=dtypes[0]))
        y = x.astype(dtypes[1]).sum()
    assert y.dtype == dtypes[1]
    assert tape.gradient(y, [x])[0].dtype == dtypes[0]
    with pytest.raises(TypeError, match="Cast: dtype int64, expected float32 or float64"):
        ops.Cast(np.int64)
