"""Functions of the library in JAX, against JAX's own check of gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from adjoint import Variable, ops
from adjoint.bridges import as_jax
from adjoint.nn import MLP

jax = pytest.importorskip("jax", reason="JAX is not installed: make test-frameworks")


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def doubles(*shape: int) -> Any:
    return jax.ShapeDtypeStruct(shape, np.float64)


@pytest.mark.parametrize("compiled", [False, True])
def test_gradients_of_a_network(compiled: bool) -> None:
    from jax.test_util import check_grads

    mlp = MLP((2, 4, 1))
    bridged = as_jax(mlp, doubles(3, 1))
    points = np.random.default_rng(0).random((3, 2))
    function = jax.jit(bridged) if compiled else bridged
    check_grads(function, (mlp.initial(seed=0), points), order=1, modes=["rev"], rtol=1e-6)
    np.testing.assert_array_equal(
        function(mlp.initial(seed=0), points), mlp(mlp.initial(seed=0), points)
    )


def test_several_outputs_and_a_constant() -> None:
    def function(x: Any, indices: Any) -> Any:
        return x[indices] ** 2, np.tanh(x).sum(), np.ones(2)

    bridged = as_jax(function, (doubles(3), doubles(), np.ones(2)))
    x, indices = jax.numpy.arange(4.0), jax.numpy.array([2, 0, 2])
    outputs = bridged(x, indices)
    assert [y.shape for y in outputs] == [(3,), (), (2,)]
    gradient = jax.grad(lambda x: bridged(x, indices)[0].sum())(x)
    np.testing.assert_allclose(gradient, [0, 0, 8, 0])
    slope = jax.jit(jax.grad(lambda x: bridged(x, indices)[1]))(x)
    np.testing.assert_allclose(slope, 1 - np.tanh(x) ** 2)


def test_the_function_is_evaluated_once_where_its_reverse_sweep_follows() -> None:
    recorded = [0]

    def function(x: Any) -> Any:
        recorded[0] += isinstance(x, Variable)
        return x**2

    bridged = as_jax(function, doubles(2))
    x = jax.numpy.array([1.0, 2.0])
    for compiled in (False, True):
        recorded[0] = 0
        gradient = jax.grad(lambda x: bridged(x).sum())
        np.testing.assert_allclose((jax.jit(gradient) if compiled else gradient)(x), [2, 4])
        assert recorded == [1]
    _, pullback = jax.vjp(bridged, x)
    for _ in range(2):
        np.testing.assert_allclose(pullback(jax.numpy.ones(2))[0], [2, 4])


def test_calls_before_their_reverse_sweeps() -> None:
    bridged = as_jax(lambda x: x**3, doubles(2))
    x = jax.numpy.array([1.0, 2.0])
    chained = jax.jit(jax.grad(lambda x: (bridged(bridged(x)) + bridged(2 * x)).sum()))
    np.testing.assert_allclose(chained(x), 9 * x**8 + 24 * x**2)


def test_large_arrays_do_not_block() -> None:
    n = 2_000_000
    bridged = as_jax(lambda x: x * x, doubles(n))
    value, gradient = jax.jit(jax.value_and_grad(lambda x: bridged(2 * x).sum()))(np.ones(n))
    assert (float(value), float(gradient[0]), float(gradient[-1])) == (4.0 * n, 8.0, 8.0)


def test_single_precision() -> None:
    bridged = as_jax(ops.Tanh(), jax.ShapeDtypeStruct((2,), np.float32))
    x = jax.numpy.ones(2, np.float32)
    assert bridged(x).dtype == jax.grad(lambda x: bridged(x).sum())(x).dtype == np.float32


def test_what_is_not_there_is_refused() -> None:
    x = jax.numpy.ones(2)
    bridged = as_jax(lambda x: x**3, doubles(2))
    with pytest.raises(Exception, match="vmap"):
        jax.vmap(bridged)(jax.numpy.ones((2, 2)))
    with pytest.raises(TypeError, match=r"forward-mode|jvp"):
        jax.jvp(bridged, (x,), (x,))
    with pytest.raises(Exception, match=r"[Pp]ure callbacks do not support JVP"):
        jax.grad(lambda x: jax.grad(lambda x: bridged(x).sum())(x).sum())(x)
    wrong = as_jax(lambda x: x[:1], doubles(2))
    with pytest.raises(Exception, match=r"as_jax: the function returned \[\(\(1,\), dtype"):
        jax.block_until_ready(wrong(x))
