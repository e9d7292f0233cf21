"""Functions of the library in PyTorch's graph, against PyTorch's own check of gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adjoint import Tape, ops
from adjoint.bridges import as_torch
from adjoint.nn import MLP

torch = pytest.importorskip("torch", reason="PyTorch is not installed: make test-frameworks")


def random(*shape: int, seed: int = 0) -> Any:
    values = np.random.default_rng(seed).standard_normal(shape)
    return torch.tensor(values, requires_grad=True)


def test_gradcheck_of_a_network() -> None:
    mlp = MLP((2, 4, 1))
    theta = torch.tensor(mlp.initial(seed=0), requires_grad=True)
    assert torch.autograd.gradcheck(as_torch(mlp), (theta, random(3, 2)))


def test_gradcheck_of_several_outputs_and_a_constant() -> None:
    def function(x: Any, indices: Any, y: Any) -> Any:
        assert indices.dtype == np.int64
        return x[indices] * y, np.tanh(x).sum(), np.ones(2)

    bridged = as_torch(function)
    x, y, indices = random(4), random(3, seed=1), torch.tensor([2, 0, 2])
    assert torch.autograd.gradcheck(lambda x, y: bridged(x, indices, y)[:2], (x, y))
    first, second, third = bridged(x, indices, y)
    assert (first.shape, second.shape, third.shape) == ((3,), (), (2,))
    (gradient,) = torch.autograd.grad(second, [x])  # the others have no cotangent
    torch.testing.assert_close(gradient, 1 - torch.tanh(x.detach()) ** 2)


def test_between_torchs_own_layers() -> None:
    torch.manual_seed(0)
    before, after = torch.nn.Linear(2, 3).double(), torch.nn.Linear(3, 1).double()
    x = random(5, 2)
    weights = (*before.parameters(), *after.parameters())

    def loss(inner: Any) -> Any:
        return (after(inner(before(x))) ** 2).mean()

    found = torch.autograd.grad(loss(as_torch(ops.Tanh())), weights)
    for a, b in zip(found, torch.autograd.grad(loss(torch.tanh), weights)):
        torch.testing.assert_close(a, b)


def test_precision_and_views_are_kept() -> None:
    x = torch.arange(6, dtype=torch.float32).reshape(2, 3).requires_grad_()
    y = as_torch(lambda v: v**2)(x.T)  # not contiguous
    assert (y.dtype, y.shape) == (torch.float32, (3, 2))
    y.sum().backward()
    assert x.grad.dtype == torch.float32
    torch.testing.assert_close(x.grad, 2 * x.detach())
    with pytest.raises(TypeError, match="dtype float16, expected float32 or float64"):
        as_torch(ops.Tanh())(x.half())


def test_nothing_is_asked_of_inputs_without_gradients() -> None:
    x, y = random(3), torch.ones(3, dtype=torch.float64)
    seen: list[type] = []

    def function(*inputs: Any) -> Any:
        seen.extend(type(v) for v in inputs)
        return inputs[0] * inputs[1]

    as_torch(function)(x, y).sum().backward()
    assert [kind.__name__ for kind in seen] == ["Variable", "ndarray"]
    assert y.grad is None
    assert not as_torch(function)(y, y).requires_grad


def test_the_graph_can_be_swept_again_and_is_not_differentiated_twice() -> None:
    x = random(3)
    y = as_torch(lambda v: v**3)(x)
    for factor in (1, 2):
        y.sum().backward(retain_graph=True)
        torch.testing.assert_close(x.grad, factor * 3 * x.detach() ** 2)
    with pytest.raises(NotImplementedError, match="as_torch: there is no second derivative"):
        torch.autograd.grad(y.sum(), [x], create_graph=True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's own, of its own compiler
def test_what_is_not_there_is_refused() -> None:
    bridged = as_torch(ops.Tanh())
    with pytest.raises(TypeError, match=r"input 0 is on meta, expected cpu: use .cpu\(\)"):
        bridged(torch.ones(2, device="meta"))
    with pytest.raises(RuntimeError):  # no forward mode
        torch.func.jvp(bridged, (torch.ones(2),), (torch.ones(2),))
    with pytest.raises(RuntimeError, match=r"vmap|functorch|setup_context"):
        torch.func.vmap(bridged)(torch.ones(2, 2))


def test_the_gradient_is_the_tapes() -> None:
    mlp = MLP((2, 8, 1), lower=0.5)
    theta, x = mlp.initial(seed=1), np.random.default_rng(2).random((7, 2))
    with Tape() as tape:
        watched = tape.watch(theta)
        loss = (mlp(watched, x) ** 2).sum()
    (expected,) = tape.gradient(loss, [watched])
    parameters = torch.tensor(theta, requires_grad=True)
    (as_torch(mlp)(parameters, x) ** 2).sum().backward()
    np.testing.assert_allclose(parameters.grad.numpy(), expected, rtol=1e-13)
