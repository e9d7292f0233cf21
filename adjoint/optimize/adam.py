"""Adam, for misfits that are rough."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..variable import Array
from .method import Bounds, Evaluate, Outcome, Remembered, Report, refuse_unknown


class Adam:
    """Adaptive moment estimation.

    Notes
    -----
    With the gradient ``g_t`` at the iterate ``θ_{t−1}``, elementwise,

        m_t = β₁ m_{t−1} + (1 − β₁) g_t,    v_t = β₂ v_{t−1} + (1 − β₂) g_t²,
        θ_t = θ_{t−1} − α (m_t / (1 − β₁ᵗ)) / (√(v_t / (1 − β₂ᵗ)) + ε),

    then projected onto the bounds, if there are any.

    References
    ----------
    Kingma, Ba (2015). Adam: A method for stochastic optimization. ICLR.
    DOI 10.48550/arXiv.1412.6980
    """

    name = "Adam"
    remembers = True
    squares = False

    def __init__(
        self, options: dict[str, Any], known: dict[str, Any], bounds: Bounds | None
    ) -> None:
        refuse_unknown(self.name, options, known)
        for name in ("beta1", "beta2"):
            if not 0 <= options[name] < 1:
                raise ValueError(f"minimize: Adam: {name} is {options[name]}, expected 0 to 1")
        self.options = options
        self.bounds = bounds

    def run(
        self, theta: Array, evaluate: Evaluate, report: Report, remembered: Remembered | None = None
    ) -> Outcome:
        o = self.options
        if remembered is None:
            t = 0
            theta = self._project(theta)
            value, gradient = evaluate(theta)
            mean, square = np.zeros_like(theta), np.zeros_like(theta)
            report(theta, self._memory(t, value, theta, gradient, mean, square))
        else:
            rows = remembered["remembered"]
            t, value = int(rows[0, 0]), float(rows[1, 0])
            theta, gradient, mean, square = rows[:, 1:].copy()
        while t < o["maxiter"] and np.abs(gradient).max() > o["gtol"]:
            t += 1
            mean = o["beta1"] * mean + (1 - o["beta1"]) * gradient
            square = o["beta2"] * square + (1 - o["beta2"]) * gradient**2
            unbiased_mean = mean / (1 - o["beta1"] ** t)
            unbiased_square = square / (1 - o["beta2"] ** t)
            step = o["learning_rate"] * unbiased_mean / (np.sqrt(unbiased_square) + o["epsilon"])
            theta = self._project(theta - step)
            value, gradient = evaluate(theta)
            report(theta, self._memory(t, value, theta, gradient, mean, square))
        success = bool(np.abs(gradient).max() <= o["gtol"])
        message = "the gradient is within gtol" if success else "maxiter iterations were made"
        return Outcome(theta, value, gradient, success, message)

    def _project(self, theta: Array) -> Array:
        return theta if self.bounds is None else np.clip(theta, *self.bounds)

    def recall(self, arrays: Remembered, size: int) -> Array | None:
        rows = arrays.get("remembered")
        return None if rows is None or rows.shape != (4, size + 1) else rows[0, 1:]

    @staticmethod
    def _memory(t: int, value: float, *vectors: Array) -> Remembered:
        """Return iterate, gradient and moments as rows, with iteration and value before them."""
        numbers = np.array([[t], [value], [0.0], [0.0]])
        return {"remembered": np.concatenate([numbers, np.stack(vectors)], axis=1)}
