"""A function of this library as a function of JAX."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np

from .recorded import Recorded

if TYPE_CHECKING:
    from mpi4py import MPI


def as_jax(
    function: Callable[..., Any], result: Any, *, comm: MPI.Comm | None = None
) -> Callable[..., Any]:
    """Return a function of arrays as a function of JAX's arrays, with its gradient.

    Parameters
    ----------
    function : Operator or callable
        Takes arrays and variables, and returns one or a tuple of them; it may communicate.
    result : jax.ShapeDtypeStruct or array, or a tuple of them
        Shape and dtype of what the function returns, for JAX traces it without calling it.
    comm : mpi4py.MPI.Comm, optional
        The ranks that take part if it communicates; ``COMM_WORLD`` by default.

    Returns
    -------
    callable
        Takes arrays of any dtype, and is differentiated by those of float32 and float64. It works
        under ``jax.jit``, ``jax.grad``, ``jax.vjp`` and ``jax.value_and_grad``.

    Raises
    ------
    ImportError
        Without JAX.
    ValueError
        From the returned function, if the result is not as announced.

    Notes
    -----
    The call is a ``jax.custom_vjp`` of two ``jax.pure_callback``: forwards the function is
    recorded on a tape, in reverse the tape gives ``Jᵀ w``. JAX keeps arrays and no tapes between
    the two, so the tape of the last call waits here. Where it is that of another call, because
    several came before their reverse sweeps, the function is evaluated once more.
    There is no second derivative, no forward mode and no ``vmap``; asking for one is an error.

    JAX computes in float32 unless ``jax_enable_x64`` is set. Under MPI all ranks call the function
    and its gradient together; JAX is free to change the order of calls that do not depend on each
    other, so let each depend on the one before.

    Examples
    --------
    See the page on frameworks in the documentation.
    """
    try:
        import jax
    except ImportError as error:
        raise ImportError(f"as_jax needs JAX: pip install jax ({error})") from error

    expected = jax.tree.map(lambda y: jax.ShapeDtypeStruct(y.shape, y.dtype), result)
    numbers = count()
    waiting: dict[int, Recorded] = {}  # the last call's, by its number

    def evaluate(*inputs: Any) -> Any:
        return conform(function(*map(np.asarray, inputs)))

    def record(*inputs: Any) -> Any:
        waiting.clear()
        number = next(numbers)
        waiting[number] = call = recorded(inputs)
        return conform(call.outputs[0] if call.single else tuple(call.outputs)), np.int32(number)

    def reverse(number: Any, inputs: Any, cotangents: Any) -> Any:
        call = waiting.pop(int(number), None) or recorded(inputs)
        found = call.vjp([np.asarray(w) for w in jax.tree.leaves(cotangents)])
        return [w for w in found if w is not None]

    def recorded(inputs: Any) -> Recorded:
        arrays = [np.asarray(x) for x in inputs]
        return Recorded("as_jax", function, arrays, [is_float(x) for x in arrays], False, comm)

    def conform(found: Any) -> Any:
        got = [(np.shape(y), np.asarray(y).dtype) for y in jax.tree.leaves(found)]
        wanted = [(y.shape, y.dtype) for y in jax.tree.leaves(expected)]
        if got != wanted:
            raise ValueError(f"as_jax: the function returned {got}, expected {wanted}")
        return found

    def is_float(x: Any) -> bool:
        return x.dtype in (np.float32, np.float64)

    def plain(*inputs: Any) -> Any:
        return jax.pure_callback(evaluate, expected, *inputs)

    def forwards(*inputs: Any) -> Any:
        number = jax.ShapeDtypeStruct((), np.int32)
        found, kept = jax.pure_callback(record, (expected, number), *inputs)
        return found, (kept, inputs)

    def backwards(kept: Any, cotangents: Any) -> Any:
        number, inputs = kept
        like = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in inputs if is_float(x)]
        found = iter(jax.pure_callback(reverse, like, number, inputs, cotangents))
        return tuple(next(found) if is_float(x) else None for x in inputs)

    call = jax.custom_vjp(plain)
    call.defvjp(forwards, backwards)

    def with_arrays(*inputs: Any) -> Any:
        return call(*map(jax.numpy.asarray, inputs))

    return with_arrays
