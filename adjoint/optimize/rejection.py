"""Points at which a misfit raises an exception that says they are not admissible."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..variable import Array
from ..world import agreed_or_ended

if TYPE_CHECKING:
    from mpi4py import MPI

Rejecting = tuple[type[Exception], ...]


def rejecting(reject: Any, name: str) -> Rejecting:
    """Return an exception class, or a tuple of them, as a tuple.

    Raises
    ------
    TypeError
        For anything else, naming the optimiser.
    """
    kinds = reject if isinstance(reject, tuple) else (reject,)
    if not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
        raise TypeError(f"{name}: reject is {reject!r}, expected classes of exceptions")
    return kinds


def unless_rejected(
    evaluate: Callable[[], tuple[float, Array]], point: Array, reject: Rejecting, world: MPI.Comm
) -> tuple[float, Array, str]:
    """Return value and gradient at a point, and what was said against it; collective.

    Where all ranks raise one of these exceptions, the value is infinite and the gradient zero. A
    rank that raises alone where others wait for it ends the job.
    """
    if not reject:
        return (*evaluate(), "")
    try:
        with agreed_or_ended(world):
            return (*evaluate(), "")
    except reject as error:
        return np.inf, np.zeros_like(point), str(error)


def above(start: float, lowest: float, descent: float) -> float:
    """Return what a line search is told of a point that was rejected, with a gradient of zero.

    Parameters
    ----------
    start : float
        The value where the search began.
    lowest : float
        The lowest value ``f`` so far, at the point ``y``.
    descent : float
        ``∇f·(x − y)``, with ``x`` the point that was rejected.

    Notes
    -----
    Line searches interpolate, which ends them where a value is infinite. Of ``f + |∇f·(x − y)|``
    the cubic and the quadratic through both ends of the way from ``y`` to ``x`` are least at a
    ninth and a quarter of it. But a value below that of the start, with a gradient of zero, is what
    a search looks for: where it has come down by more than is promised beyond ``y``, it is told
    more.
    """
    return float(np.nextafter(max(start, lowest + abs(descent)), np.inf))
