"""Minimisations that are stopped, continued, and compared to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np

from adjoint import Variable
from adjoint.optimize import Result, minimize

START = np.linspace(-1.0, 1.5, 5)


class Stop(Exception):
    """Raised where a test wants a run to end."""


class Rosenbrock:
    """The misfit; counts its calls and fails at one of them."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.calls = 0
        self.fail_at = fail_at

    def __call__(self, x: Variable) -> Any:
        if self.calls == self.fail_at:
            raise Stop
        self.calls += 1
        return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def quiet(misfit: Any, state: Any, method: str = "L-BFGS-B", **kwargs: Any) -> Result:
    """Minimise on one rank, with a state file or without."""
    arguments = {"options": {"maxiter": 9}, "every": 1, "progress": False, **kwargs}
    return minimize(misfit, arguments.pop("theta0", START), method, state=state, **arguments)


def facts(result: Result) -> tuple[Any, ...]:
    """Return everything about a result but clock and memory, to the last bit."""
    history = [i[:4] for i in result.history]
    rest = (result.value, result.gradient_norm, result.iterations, result.evaluations)
    return result.theta.tobytes(), rest, result.success, result.message, history
