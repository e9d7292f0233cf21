"""Checks of gradients by Taylor's theorem."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..tape import Tape
from ..variable import Array
from ..world import communicator
from .prepared import Function, note, operators_of

if TYPE_CHECKING:
    from mpi4py import MPI


def taylor_test(
    misfit: Function,
    x: Any,
    dx: Any = None,
    *,
    h: float = 1e-2,
    levels: int = 5,
    seed: int = 0,
    comm: MPI.Comm | None = None,
) -> Array:
    """Return the rates at which ``|f(x + h dx) − f(x) − h ⟨∇f, dx⟩|`` falls as ``h`` is halved.

    A right gradient gives rates of 2, a wrong one 1.

    Parameters
    ----------
    misfit : callable
        Function of variables that returns a scalar variable; its value on rank 0 counts.
    x : array_like or sequence of array_like
        This rank's copy of the point.
    dx : array_like or sequence of array_like, optional
        Direction; random by default, and never the gradient, along which mistakes may hide.
    h : float
        First step.
    levels : int
        Number of steps, each half of the one before.
    seed : int
        Of the random direction.
    comm : mpi4py.MPI.Comm, optional
        The ranks that take part; ``COMM_WORLD`` by default.

    Returns
    -------
    numpy.ndarray of float64
        ``levels − 1`` rates, the same on all ranks; ``inf`` where the remainder vanishes to
        rounding, as it does for a linear function.
    """
    result = taylor_to_dict(misfit, x, dx, h=h, levels=levels, seed=seed, comm=comm)
    return np.array(result["R1"]["Rate"])


def taylor_to_dict(
    misfit: Function,
    x: Any,
    dx: Any = None,
    *,
    h: float = 1e-2,
    levels: int = 5,
    seed: int = 0,
    comm: MPI.Comm | None = None,
) -> dict[str, Any]:
    """Return remainders and rates without (``R0``) and with (``R1``) the gradient.

    Parameters
    ----------
    misfit, x, dx, h, levels, seed, comm
        As for :func:`taylor_test`.

    Returns
    -------
    dict
        ``{"eps": steps, "R0": {"Residual": …, "Rate": …}, "R1": {"Residual": …, "Rate": …}}``.
    """
    world = communicator(comm)
    points = [np.array(p) for p in (x if isinstance(x, list | tuple) else [x])]
    if dx is None:
        generator = np.random.default_rng([seed, world.rank])
        directions = [generator.standard_normal(p.shape).astype(p.dtype) for p in points]
    else:
        directions = [np.asarray(d) for d in (dx if isinstance(dx, list | tuple) else [dx])]

    def evaluate(step: float) -> float:
        with Tape(comm=comm) as tape:
            moved = [(p + step * d).astype(p.dtype) for p, d in zip(points, directions)]
            loss = misfit(*[tape.watch(p) for p in moved])
        return float(world.bcast(float(loss), 0))

    with Tape(comm=comm) as tape:
        watched = [tape.watch(p) for p in points]
        loss = misfit(*watched)
    value = float(world.bcast(float(loss), 0))
    operators = operators_of(tape)
    gradients = tape.gradient(loss, watched)
    slope = sum(float(np.vdot(g, d)) for g, d in zip(gradients, directions))
    slope = sum(world.allgather(slope))

    steps = h * 0.5 ** np.arange(levels)
    changes = np.array([evaluate(s) for s in steps]) - value
    evaluate(0.0)  # leave any state that the misfit keeps as it was
    floor = 64 * max(float(np.finfo(p.dtype).eps) for p in points) * abs(value)
    second = _remainder(np.abs(changes - steps * slope), floor)
    if min(second["Rate"], default=0.0) > 1.9:
        note("taylor_test", operators)
    return {"eps": steps.tolist(), "R0": _remainder(np.abs(changes), floor), "R1": second}


def _remainder(residual: Array, floor: float) -> dict[str, list[float]]:
    rates = [
        np.inf if fine <= floor else float(np.log2(coarse / fine))
        for coarse, fine in zip(residual, residual[1:])
    ]
    return {"Residual": residual.tolist(), "Rate": rates}
