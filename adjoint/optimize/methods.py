"""The optimisers that run on the root by name: SciPy's, Adam, and Gauss-Newton."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..variable import Array
from .adam import Adam
from .gauss_newton import GaussNewton
from .method import Bounds, Evaluate, Method, Outcome, Remembered, Report
from .rejection import above

#: Options that differ from SciPy's own defaults. No tolerance is set where the scale of the misfit
#: is unknown: a gradient with respect to Pa or m/s may be tiny everywhere.
DEFAULTS: dict[str, dict[str, Any]] = {
    "L-BFGS-B": {"maxcor": 50, "ftol": 0.0, "gtol": 0.0, "maxiter": 1000, "maxfun": 100_000},
    "CG": {"gtol": 0.0},
    "BFGS": {"gtol": 0.0},
    "Newton-CG": {},
    "TNC": {},
    "SLSQP": {},
    "trust-constr": {},
    "Adam": {
        "learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8,
        "maxiter": 1000, "gtol": 0.0,
    },
    "Gauss-Newton": {
        "damping": 1e-3, "ridge": 0.0, "forcing": 0.5, "maxcg": 50, "memory": 40,
        "maxiter": 1000, "gtol": 0.0,
    },
}  # fmt: skip

BOUNDED = ("L-BFGS-B", "TNC", "SLSQP", "trust-constr", "Adam")


def make_method(name: str, options: dict[str, Any] | None, bounds: Bounds | None) -> Method:
    """Return the method of this name, upper and lower case alike."""
    names = {known.lower(): known for known in DEFAULTS}
    if str(name).lower() not in names:
        raise ValueError(f"minimize: method {name!r}, expected one of {', '.join(DEFAULTS)}")
    name = names[name.lower()]
    if bounds is not None and name not in BOUNDED:
        raise ValueError(f"minimize: {name} takes no bounds; {', '.join(BOUNDED)} do")
    merged = {**DEFAULTS[name], **(options or {})}
    if name == "Gauss-Newton":
        return GaussNewton(merged, DEFAULTS[name])
    if name == "Adam":
        return Adam(merged, DEFAULTS[name], bounds)
    return SciPy(name, merged, bounds)


def make_bounds(bounds: Any, shape: tuple[int, ...]) -> Bounds | None:
    """Return lower and upper bounds as vectors, ±inf where there are none.

    Parameters
    ----------
    bounds : scipy.optimize.Bounds, sequence of (lower, upper), or None
        As SciPy's; the bounds of a ``Bounds`` may also have theta's shape.
    shape : tuple of int
        Theta's.
    """
    if bounds is None:
        return None
    size = int(np.prod(shape))
    if hasattr(bounds, "lb"):
        pair = (bounds.lb, bounds.ub)
        try:
            lower, upper = (np.broadcast_to(b, shape).astype(float).ravel() for b in pair)
        except ValueError:
            shapes = " and ".join(str(np.shape(b)) for b in pair)
            raise ValueError(f"minimize: bounds have shapes {shapes}, expected {shape}") from None
    else:
        pairs = np.array(list(bounds) if isinstance(bounds, Iterable) else bounds, dtype=float)
        if pairs.shape != (size, 2):
            raise ValueError(
                f"minimize: bounds have shape {pairs.shape}, expected ({size}, 2), "
                "or scipy.optimize.Bounds"
            )
        lower, upper = pairs.T
    lower, upper = (
        np.where(np.isnan(lower), -np.inf, lower),
        np.where(np.isnan(upper), np.inf, upper),
    )
    if (lower > upper).any():
        i = int(np.argmax(lower > upper))
        raise ValueError(f"minimize: bounds of parameter {i} are ({lower[i]}, {upper[i]})")
    return lower, upper


class SciPy:
    """Any method of ``scipy.optimize.minimize`` that lives on values and gradients.

    Notes
    -----
    A point that the misfit rejects has a finite value here, from which line searches turn back; see
    :func:`~adjoint.optimize.rejection.above`.
    """

    remembers = squares = False

    def __init__(self, name: str, options: dict[str, Any], bounds: Bounds | None) -> None:
        self.name = name
        self.options = options
        self.bounds = bounds

    def recall(self, arrays: Remembered, size: int) -> Array | None:
        return None

    def run(
        self, theta: Array, evaluate: Evaluate, report: Report, remembered: Remembered | None = None
    ) -> Outcome:
        from scipy import optimize

        evaluations = 0
        lowest, begun = (theta, np.inf, np.zeros_like(theta)), -np.inf

        def both(x: Array) -> tuple[float, Array]:
            nonlocal evaluations, lowest, begun
            x = np.array(x, dtype=float)  # some methods reuse the array
            value, gradient = evaluate(x)
            evaluations += 1
            if evaluations == 1:
                begun = value
                report(x)
            if value == np.inf:
                value = above(begun, lowest[1], lowest[2] @ (x - lowest[0]))
                # trust-constr wonders about two equal gradients.
                warnings.filterwarnings("ignore", "delta_grad == 0.0")
            elif value < lowest[1]:
                lowest = x, value, gradient
            return value, gradient

        def iterate(x: Array, *state: Any) -> None:
            nonlocal begun
            begun = lowest[1]
            if evaluations > 1:  # trust-constr announces the start as well
                report(x)

        bounds = None if self.bounds is None else optimize.Bounds(*self.bounds)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Unknown solver options", optimize.OptimizeWarning)
            try:
                found = optimize.minimize(
                    both, theta, jac=True, method=self.name, bounds=bounds, callback=iterate,
                    options=self.options,
                )  # fmt: skip
            except optimize.OptimizeWarning as warning:
                raise ValueError(f"minimize: {self.name}: {warning}") from None
        gradient = found.grad if self.name == "trust-constr" else found.jac
        message = found.message
        return Outcome(
            np.array(found.x),
            float(found.fun),
            np.array(gradient),
            bool(found.success),
            message.decode() if isinstance(message, bytes) else str(message),
        )
