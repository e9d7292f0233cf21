"""The product of a distributed sparse matrix with a vector."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..operator import Operator
from ..world import agreed
from .pattern import Pattern


class MatVec(Operator):
    """``(values, x) ↦ A x``.

    Parameters
    ----------
    pattern : Pattern

    Notes
    -----
    Inputs: ``values``, float64, one for each of this rank's entries; ``x``, float64, this rank's
    part of a vector distributed as the columns are. The output is distributed as the rows are.

    Forward ``y_i = Σ_j A_ij x_j``; tangent ``ẏ = A ẋ + Ȧ x``; adjoint ``x̄ = Aᵀ ȳ`` (this rank's
    part of the product, then what other ranks' columns got is sent to their owners and added) and
    ``Ā_ij = ȳ_i x_j`` on the pattern. The entries ``x_j`` that came from other ranks are kept, so
    ``Ā`` needs no message.

    Examples
    --------
    See :class:`Pattern`.
    """

    needs_inputs = (0, 1)
    needs_outputs = ()
    auxiliary = 1
    communicates = True

    def __init__(self, pattern: Pattern) -> None:
        self.pattern = pattern

    def check(self, values: Any, x: Any) -> None:
        with agreed(self.pattern.comm):
            self.pattern.check_values(self, values)
            self.pattern.check_domain(self, "x", x)

    def forward(self, values: Any, x: Any) -> Any:
        extended = self.pattern.exchange.fetch(x)
        return self.pattern.matrix(values) @ extended, extended[len(x) :].copy()

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        (dvalues, dx), (values, x), (_, ghosts) = tangents, inputs, outputs
        dy = self.pattern.matrix(values) @ self.pattern.exchange.fetch(dx)
        dy += self.pattern.matrix(dvalues) @ np.concatenate([x, ghosts])
        return dy

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        (w, *_), (values, x), (_, ghosts) = cotangents, inputs, outputs
        back = self.pattern.exchange.add_back(self.pattern.matrix(values).T @ w)
        return lambda: self.pattern.outer(w, np.concatenate([x, ghosts])), back

    def neighbours(self, inputs: Any, outputs: Any) -> dict[int, int]:
        """Return the bytes that a recorded call sends to each rank."""
        return self.pattern.exchange.sends
