"""One evaluation of a misfit on all ranks: its value, and its derivative on each of them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ..spans import span
from ..tape import Tape
from ..variable import Array, Variable
from ..world import agreed

if TYPE_CHECKING:
    from mpi4py import MPI


def value_and_gradient(
    misfit: Callable[[Variable], Variable],
    point: Array,
    world: MPI.Comm,
    where: str,
    name: str = "minimize",
) -> tuple[float, Array]:
    """Return a misfit's value, and its derivative with respect to this rank's point; collective.

    Parameters
    ----------
    misfit : callable
        Takes a Variable and returns a scalar Variable, whose value on rank 0 counts.
    point : numpy.ndarray
        This rank's.
    world : mpi4py.MPI.Comm
    where : str
        Names the evaluation, for messages.
    name : str
        By which messages call the optimiser.

    Raises
    ------
    TypeError, ValueError
        On all ranks, unless the misfit returns a scalar Variable.
    FloatingPointError
        On all ranks, where the value on rank 0 is not finite.
    """
    with span("misfit"), Tape(comm=world) as tape:
        x = tape.watch(point)
        loss = misfit(x)
    with agreed(world):
        if not isinstance(loss, Variable):
            raise TypeError(f"{name}: misfit returned a {type(loss).__name__}, expected a Variable")
        if loss.size != 1:
            raise ValueError(f"{name}: misfit has shape {loss.shape}, expected a scalar")
        value = float(loss.value.item())
        if world.rank == 0 and not np.isfinite(value):
            raise FloatingPointError(f"{name}: the misfit is {value} at {where}")
    with span("gradient"):
        (gradient,) = tape.gradient(loss, [x])
    return value, gradient


def resident() -> float:
    """Return this process's largest resident set so far, in bytes."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1.0 if sys.platform == "darwin" else 1024.0
    )
