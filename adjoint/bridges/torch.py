"""A function of this library as a node of PyTorch's graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .recorded import Recorded

if TYPE_CHECKING:
    from mpi4py import MPI


def as_torch(function: Callable[..., Any], *, comm: MPI.Comm | None = None) -> Callable[..., Any]:
    """Return a function of arrays as a function of torch tensors, with its gradient.

    Parameters
    ----------
    function : Operator or callable
        Takes arrays and variables, and returns one or a tuple of them; it may communicate.
    comm : mpi4py.MPI.Comm, optional
        The ranks that take part if it communicates; ``COMM_WORLD`` by default.

    Returns
    -------
    callable
        Takes tensors on the CPU, of float32 or float64 where they require a gradient, and returns
        tensors of the function's dtypes.

    Raises
    ------
    ImportError
        Without PyTorch.
    TypeError
        From the returned function, for tensors that are not on the CPU.

    Notes
    -----
    The call is one ``torch.autograd.Function``: ``forward`` records the function on a tape of its
    own, ``backward`` is the tape's ``Jᵀ w``. The tape lives as long as PyTorch's graph does. It is
    made under ``torch.no_grad()`` too: where no gradient is wanted, call the function itself.
    There is no second derivative (``create_graph=True``), no forward mode and no ``vmap``; asking
    for one is an error.

    A function that communicates is called by all ranks together, and so is ``backward``: on each
    rank at least one input must require a gradient, and the loss must depend on the output, if
    only by a factor of zero.

    Examples
    --------
    See the page on frameworks in the documentation.
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError(f"as_torch needs PyTorch: pip install torch ({error})") from error

    class Bridge(torch.autograd.Function):  # type: ignore[misc, unused-ignore]
        @staticmethod
        def forward(ctx: Any, *tensors: Any) -> Any:
            inputs = [_array(i, x) for i, x in enumerate(tensors)]
            wanted = ctx.needs_input_grad
            ctx.recorded = Recorded("as_torch", function, inputs, wanted, True, comm)
            outputs = tuple(torch.tensor(y) for y in ctx.recorded.outputs)
            return outputs[0] if ctx.recorded.single else outputs

        @staticmethod
        def backward(ctx: Any, *cotangents: Any) -> Any:
            if torch.is_grad_enabled():  # the result would pass for a constant
                raise NotImplementedError("as_torch: there is no second derivative (create_graph)")
            found = ctx.recorded.vjp([w.numpy() for w in cotangents])
            return tuple(None if w is None else torch.tensor(w) for w in found)

    def call(*inputs: Any) -> Any:
        return Bridge.apply(*(x if torch.is_tensor(x) else torch.as_tensor(x) for x in inputs))

    return call


def _array(position: int, tensor: Any) -> Any:
    """Return a tensor's numbers."""
    if tensor.device.type != "cpu":
        raise TypeError(
            f"as_torch: input {position} is on {tensor.device}, expected cpu: use .cpu()"
        )
    return np.asarray(tensor.detach().numpy())
