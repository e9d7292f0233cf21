"""PyTorch and JAX on each rank, and a function of all ranks between them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

from adjoint import Tape
from adjoint.bridges import as_jax, as_torch
from adjoint.bridges.recorded import Recorded
from adjoint.comm import Allreduce, Bcast, CartesianGrid, HaloExchange


class Problem:
    """A misfit in which every rank's parameters, a halo and a sum over ranks take part."""

    def __init__(self) -> None:
        self.grid = CartesianGrid((5, 7))
        self.halo = HaloExchange(self.grid, width=1)
        generator = np.random.default_rng(MPI.COMM_WORLD.rank)
        self.theta = np.array([0.5, -0.3])
        self.field = generator.standard_normal(self.grid.patch_shape)

    def __call__(self, theta: Any, field: Any) -> Any:
        shared = Bcast(0)(theta)
        padded = self.halo(shared[0] * field + shared[1] * field**2)
        return Allreduce()((padded[2:, 1:-1] * padded[:-2, 1:-1]).sum())

    def gradients(self) -> list[Any]:
        """The gradient of rank 0's copy of the misfit."""
        with Tape() as tape:
            sources = [tape.watch(self.theta), tape.watch(self.field)]
            loss = self(*sources)
        return tape.gradient(loss, sources)


@pytest.mark.parallel([1, 2, 3])
def test_torch() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: make test-frameworks")
    problem = Problem()
    inputs = [torch.tensor(x, requires_grad=True) for x in (problem.theta, problem.field)]
    loss = as_torch(problem)(*inputs)
    (loss * (MPI.COMM_WORLD.rank == 0)).backward()  # one copy of what all ranks have
    for found, expected in zip(inputs, problem.gradients()):
        np.testing.assert_allclose(found.grad.numpy(), expected, rtol=1e-12, atol=1e-14)


@pytest.fixture
def jax() -> Iterator[Any]:
    module = pytest.importorskip("jax", reason="JAX is not installed: make test-frameworks")
    before = module.config.jax_enable_x64
    module.config.update("jax_enable_x64", True)
    yield module
    module.config.update("jax_enable_x64", before)


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("compiled", [False, True])
def test_jax(compiled: bool, jax: Any) -> None:
    problem = Problem()
    bridged = as_jax(problem, jax.ShapeDtypeStruct((), np.float64))

    def one_copy(theta: Any, field: Any) -> Any:
        return bridged(theta, field) * (MPI.COMM_WORLD.rank == 0)

    gradients = jax.grad(one_copy, argnums=(0, 1))
    found = (jax.jit(gradients) if compiled else gradients)(problem.theta, problem.field)
    for a, b in zip(found, problem.gradients()):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parallel([2, 3])
def test_ranks_that_will_not_reverse_a_call_are_named() -> None:
    last = MPI.COMM_WORLD.size - 1
    here = MPI.COMM_WORLD.rank != last
    with pytest.raises(ValueError, match=f"rank {last}: as_x: no input of this rank asks for a"):
        Recorded("as_x", Allreduce(), [np.ones(2)], [here], True, None)
    Recorded("as_x", Allreduce(), [np.ones(2)], [False], True, None)  # on none
    Recorded("as_x", np.tanh, [np.ones(2)], [here], True, None)  # nothing to wait for
