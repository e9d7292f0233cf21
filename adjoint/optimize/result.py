"""What a minimisation reports: its iterations, and where it ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..variable import Array


class Iteration(NamedTuple):
    """One iteration, as it is printed, kept in the history and handed to callbacks.

    Attributes
    ----------
    iteration : int
        0 is the start.
    loss : float
        Misfit at this iterate.
    gradient_norm : float
        Euclidean norm of the gradient there.
    step : float
        Euclidean length of the way from the iterate before.
    seconds : float
        Wall-clock time since the start; that of an earlier run included, where this one resumed it.
    memory : float
        Largest resident set of any rank so far, in bytes.
    """

    iteration: int
    loss: float
    gradient_norm: float
    step: float
    seconds: float
    memory: float


@dataclass(frozen=True)
class Result:
    """Where a minimisation ended; the same on all ranks, but for ``theta`` of a distributed field.

    Attributes
    ----------
    theta : numpy.ndarray
        The minimiser found, of theta0's shape and dtype; of a distributed field, this rank's part.
    value : float
        Misfit at ``theta``.
    gradient_norm : float
        Euclidean norm of the gradient at ``theta``.
    iterations, evaluations : int
        Both with those of an earlier run, where this one resumed it.
    success : bool
        Whether the method's own criterion of convergence was met; ``False`` at ``maxiter``.
    message : str
        Why the method stopped, in its own words.
    history : tuple of Iteration
        The start and every iteration.
    """

    theta: Array
    value: float
    gradient_norm: float
    iterations: int
    evaluations: int
    success: bool
    message: str
    history: tuple[Iteration, ...]
