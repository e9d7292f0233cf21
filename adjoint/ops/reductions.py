"""Reductions over axes."""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar

import numpy as np

from ..operator import Operator
from ..variable import RULES

Axis = int | tuple[int, ...] | None


class Reduction(Operator):
    """A function that takes all entries along some axes to one.

    Parameters
    ----------
    axis : int or tuple of int, optional
        All axes by default.
    keepdims : bool
        Keep the reduced axes with length 1.
    """

    needs_inputs: ClassVar[tuple[int, ...] | None] = ()
    needs_outputs: ClassVar[tuple[int, ...] | None] = ()

    def __init__(self, axis: Axis = None, keepdims: bool = False) -> None:
        self.axis = axis
        self.keepdims = keepdims

    def expand(self, y: Any, like: Any) -> Any:
        """Give ``y`` back the reduced axes, with length 1, so that it broadcasts to the input."""
        if self.axis is None or np.ndim(y) == len(like.shape):  # a number, or they were kept
            return y
        return np.expand_dims(y, self.axis)


class Sum(Reduction):
    """``y = Σ x``; ``x̄ = ȳ`` at every entry."""

    def forward(self, x: Any) -> Any:
        return np.sum(x, self.axis, keepdims=self.keepdims)

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        return np.sum(tangents[0], self.axis, keepdims=self.keepdims)

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        (w,), (x,) = cotangents, inputs
        return (np.broadcast_to(self.expand(w, x), x.shape),)


class Mean(Reduction):
    """``y = Σ x / n``; ``x̄ = ȳ / n`` at every entry."""

    def forward(self, x: Any) -> Any:
        return np.mean(x, self.axis, keepdims=self.keepdims)

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        return np.mean(tangents[0], self.axis, keepdims=self.keepdims)

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        (w,), (x,) = cotangents, inputs
        count = x.size // max(np.size(w), 1)
        return (np.broadcast_to(self.expand(w / count, x), x.shape),)


class _Extremum(Reduction):
    """Greatest or least entry; the cotangent is shared equally among entries that attain it.

    Notes
    -----
    With ``m_i = 1`` where ``x_i = y`` and 0 elsewhere, the Jacobian's row is ``m / Σ m``.
    """

    needs_inputs = (0,)
    needs_outputs = (0,)

    def _weights(self, x: Any, y: Any) -> Any:
        attained = np.equal(x, self.expand(y, x)).astype(x.dtype)
        return attained / attained.sum(self.axis, keepdims=True)

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        weighted = tangents[0] * self._weights(inputs[0], outputs[0])
        return np.sum(weighted, self.axis, keepdims=self.keepdims)

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        (w,), (x,), (y,) = cotangents, inputs, outputs
        return (self.expand(w, x) * self._weights(x, y),)


class Max(_Extremum):
    """``y = max x``."""

    def forward(self, x: Any) -> Any:
        return np.max(x, self.axis, keepdims=self.keepdims)


class Min(_Extremum):
    """``y = min x``."""

    def forward(self, x: Any) -> Any:
        return np.min(x, self.axis, keepdims=self.keepdims)


def _rule(operator: type[Reduction]) -> Any:
    made = cache(operator)

    def apply(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        return made(tuple(axis) if isinstance(axis, list) else axis, keepdims)(x)

    return apply


RULES[np.sum] = _rule(Sum)
RULES[np.mean] = _rule(Mean)
RULES[np.max] = RULES[np.amax] = _rule(Max)
RULES[np.min] = RULES[np.amin] = _rule(Min)
