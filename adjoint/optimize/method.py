"""What an optimiser on the root is to the run that drives it.

A method asks for values and gradients with ``evaluate(theta)`` and announces every iterate, the
first included, with ``report(theta)``. It knows nothing of ranks, files and terminals. Where the
misfit rejects a point, it is told an infinite value and a gradient of zeros.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from ..variable import Array

Evaluate = Callable[[Array], tuple[float, Array]]
Report = Callable[..., None]
Bounds = tuple[Array, Array]
Remembered = dict[str, Array]


class Outcome(NamedTuple):
    """Where a method ended; ``theta`` is a vector here."""

    theta: Array
    value: float
    gradient: Array
    success: bool
    message: str


class Method(Protocol):
    """A root-driven optimiser.

    Attributes
    ----------
    name : str
    options : dict
        With the defaults filled in.
    remembers : bool
        Whether :meth:`run` hands ``report`` all that it needs to continue from there, as arrays by
        name, or as a function that returns them and may need all ranks; otherwise a run is
        continued by replaying its evaluations.
    squares : bool
        Whether what is minimised is the sum of squares of a residual; ``evaluate`` is then a
        :class:`LeastSquares`.
    """

    name: str
    options: dict[str, Any]
    remembers: bool
    squares: bool

    def run(
        self, theta: Array, evaluate: Evaluate, report: Report, remembered: Remembered | None = None
    ) -> Outcome:
        """Minimise from ``theta``, or from what was remembered."""

    def recall(self, arrays: Remembered, size: int) -> Array | None:
        """Return the iterate of what a state file holds; ``None`` where it is of another layout."""


def refuse_unknown(name: str, options: dict[str, Any], known: dict[str, Any]) -> None:
    """Raise on options that a method of ours does not have."""
    unknown = sorted({*options} - {*known})
    if unknown:
        raise ValueError(
            f"minimize: {name} has no option {', '.join(unknown)}; it has {', '.join(known)}"
        )
