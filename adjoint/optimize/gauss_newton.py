"""Gauss–Newton for sums of squares, damped after Levenberg and Marquardt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from ..variable import Array
from .damped_steps import KrylovSteps, RowSteps
from .method import Outcome, Remembered, Report, refuse_unknown

#: Damping after a step that brought less than this of what was predicted, and after others.
_RATIOS = ((0.3, 2.0), (0.7, 1.0), (np.inf, 0.5))
_REFUSED = 4.0

Steps = KrylovSteps | RowSteps

#: Of Eisenstat and Walker's second choice: η = γ (|h| / |h before|)², and above which η is kept
#: from falling at once.
_GAMMA, _GUARD = 0.9, 0.1


class LeastSquares(Protocol):
    """A sum of squares that all ranks compute, as the method on rank 0 sees it.

    Attributes
    ----------
    learns : bool
        Whether the derivative is learned (:meth:`rows`) or exact (:meth:`normal`).
    """

    learns: bool

    def __call__(self, theta: Array) -> tuple[float, Array]:
        """Return value and gradient; zeros where the value is not the lowest so far."""

    def normal(self, v: Array) -> Array:
        """Return ``JᵀJ v`` at the point of the lowest value, with the ridge's part."""

    def rows(self) -> tuple[Array, Array]:
        """Return the learned ``J`` there, and the residual in the coordinates of its rows."""

    def learned(self) -> dict[str, Array]:
        """Return what was learned, to be kept."""

    def restore(self, theta: Array, arrays: dict[str, Array]) -> None:
        """Go on at a point with what was kept."""


class GaussNewton:
    """Gauss–Newton with truncated conjugate gradients or a learned derivative.

    Notes
    -----
    For the misfit ``F = |r|²`` with ``h = Jᵀ r``, hence ``∇F = 2 h``, each iteration minimises
    ``|r + J p|² + λ |p|²``, that is, ``(JᵀJ + λ I) p = −h``. With a ``ridge`` µ, ``√µ (θ − θ₀)`` is
    appended to ``r``, with ``θ₀`` the start, and ``√µ I`` to ``J``. The step is taken if ``F``
    falls; otherwise ``λ`` grows and another one is tried. After a step, ``λ`` follows the ratio of
    what was gained to what the linear model promised (Marquardt). It begins with
    ``damping |h|² / F``; ``|h|² / F`` is at most the largest eigenvalue of ``JᵀJ``.

    Of a plain residual the system is solved by conjugate gradients, a forward and an adjoint sweep
    each, until its residual is ``η |h|``, with ``η`` after Eisenstat and Walker. Of a
    :class:`Composite`, ``J`` is a learned derivative of the outer function times the exact one of
    the inner, a matrix of at most ``memory`` rows, and the system is solved directly: an iteration
    then takes one forward and one adjoint sweep of the outer function and ``memory`` reverse
    sweeps of the inner.

    References
    ----------
    Marquardt (1963). An algorithm for least-squares estimation of nonlinear parameters.
    DOI 10.1137/0111030

    Eisenstat, Walker (1996). Choosing the forcing terms in an inexact Newton method.
    DOI 10.1137/0917003
    """

    name = "Gauss-Newton"
    remembers = squares = True

    def __init__(self, options: dict[str, Any], known: dict[str, Any]) -> None:
        self.options = options
        name = self.name
        refuse_unknown(name, options, known)
        if not options["damping"] > 0:
            raise ValueError(f"minimize: {name}: damping is {options['damping']}, expected > 0")
        if not options["ridge"] >= 0:
            raise ValueError(f"minimize: {name}: ridge is {options['ridge']}, expected 0 or more")
        if not 0 < options["forcing"] < 1:
            raise ValueError(f"minimize: {name}: forcing is {options['forcing']}, expected 0 to 1")
        for option in ("maxcg", "memory"):
            if options[option] < 1:
                raise ValueError(
                    f"minimize: {name}: {option} is {options[option]}, expected at least 1"
                )

    def run(
        self,
        theta: Array,
        evaluate: Any,
        report: Report,
        remembered: Remembered | None = None,
    ) -> Outcome:
        o, squares, centre = self.options, evaluate, theta
        if remembered is None:
            t, before, forcing = 0, 0.0, float(o["forcing"])
            value, gradient = squares(theta)
            damping = o["damping"] * np.sum((gradient / 2) ** 2) / value if value > 0 else 0.0
        else:
            theta, gradient = remembered["theta"].copy(), remembered["gradient"].copy()
            t = int(remembered["numbers"][0])
            value, damping, before, forcing = map(float, remembered["numbers"][1:])

        def keep() -> Remembered:
            numbers = np.array([t, value, damping, before, forcing])
            kept = {"theta": theta, "gradient": gradient, "numbers": numbers}
            return {**kept, **squares.learned()}

        def announce() -> None:
            report(theta, keep if squares.learns else keep())

        if remembered is None:
            announce()
        elif self._goes_on(t, gradient):
            squares.restore(theta.copy(), remembered)
        message = "maxiter iterations were made"
        while self._goes_on(t, gradient):
            norm = float(np.linalg.norm(gradient))
            forcing = _next_forcing(forcing, norm, before, o["forcing"])
            if squares.learns:
                steps: Steps = RowSteps(squares.rows, theta - centre, o["ridge"])
            else:
                steps = KrylovSteps(squares.normal, gradient / 2, forcing, o["maxcg"])
            found = _descend(squares, theta, value, steps, damping)
            if found is None:
                message = "no lower value was found"
                break
            t, before = t + 1, norm
            theta, value, gradient, damping = found
            announce()
        success = bool(np.abs(gradient).max() <= o["gtol"])
        if success:
            message = "the gradient is within gtol"
        return Outcome(theta, value, gradient, success, message)

    def recall(self, arrays: Remembered, size: int) -> Array | None:
        shapes: dict[str, tuple[int, ...]] = {
            "theta": (size,), "gradient": (size,), "numbers": (5,),
        }  # fmt: skip
        for name in {"left", "right"} & {*arrays}:
            counts = arrays.get(f"{name}_counts", np.zeros(0))
            shapes[name] = (len(arrays[name]), int(counts.sum()))
        fits = all(name in arrays and arrays[name].shape == s for name, s in shapes.items())
        return arrays["theta"] if fits else None

    def _goes_on(self, t: int, gradient: Array) -> bool:
        return bool(t < self.options["maxiter"] and np.abs(gradient).max() > self.options["gtol"])


def _descend(
    squares: Callable[[Array], tuple[float, Array]],
    theta: Array,
    value: float,
    steps: Steps,
    damping: float,
) -> tuple[Array, float, Array, float] | None:
    """Return the next iterate, its value and gradient, and the damping after it.

    ``None`` where rounding leaves no step that is expected to bring anything.
    """
    while True:
        step, promised = steps.step(damping)
        trial = theta + step
        if not promised > np.finfo(float).eps * value or np.array_equal(trial, theta):
            return None
        reached, gradient = squares(trial.copy())
        if reached < value:
            ratio = (value - reached) / promised
            damping *= next(factor for limit, factor in _RATIOS if ratio <= limit)
            return trial, reached, gradient, damping
        damping *= _REFUSED


def _next_forcing(forcing: float, norm: float, before: float, largest: float) -> float:
    """Return Eisenstat and Walker's tolerance, relative to the gradient."""
    if before == 0.0:
        return largest
    wanted, guard = _GAMMA * (norm / before) ** 2, _GAMMA * forcing**2
    return float(min(largest, max(wanted, guard) if guard > _GUARD else wanted))
