"""Activation functions, each an operator and a pair of in-place kernels for the network."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..ops import Elementwise
from ..variable import Array


class Activation(Elementwise):
    """A function applied to each entry, whose slope is known from its value.

    Notes
    -----
    Where ``y = f(x)``, a network needs ``f`` in place and ``w ← w f'(x)`` in place, both without a
    temporary array. ``slope`` computes ``f'`` from ``y`` alone, so nothing else is ever kept.
    """

    needs_inputs: ClassVar[tuple[int, ...] | None] = ()
    needs_outputs: ClassVar[tuple[int, ...] | None] = (0,)

    def forward(self, x: Any) -> Any:
        y = np.array(x)
        if y.dtype.kind != "f":  # as NumPy's functions do with integers
            y = y.astype(np.float64)
        self.apply(y)
        return y

    def slope(self, x: Any, y: Any) -> Any:
        result = np.array(y)
        self.to_slope(result)
        return result

    def apply(self, x: Array) -> None:
        """Replace ``x`` by ``f(x)``."""
        raise NotImplementedError(f"{self.name}: apply is not defined")

    def to_slope(self, y: Array) -> None:
        """Replace ``y = f(x)`` by ``f'(x)``."""
        raise NotImplementedError(f"{self.name}: to_slope is not defined")


class Identity(Activation):
    """``y = x``, ``y' = 1``."""

    def apply(self, x: Array) -> None:
        pass

    def to_slope(self, y: Array) -> None:
        y[...] = 1


class Tanh(Activation):
    """``y = tanh x``, ``y' = 1 − y²``."""

    def apply(self, x: Array) -> None:
        np.tanh(x, out=x)

    def to_slope(self, y: Array) -> None:
        np.multiply(y, y, out=y)
        np.subtract(1, y, out=y)


class Sigmoid(Activation):
    """``y = 1/(1 + e⁻ˣ)``, ``y' = y (1 − y)``; computed as ``(1 + tanh(x/2))/2``."""

    def apply(self, x: Array) -> None:
        x *= 0.5
        np.tanh(x, out=x)
        x *= 0.5
        x += 0.5

    def to_slope(self, y: Array) -> None:
        y -= 0.5
        np.multiply(y, y, out=y)
        np.subtract(0.25, y, out=y)


class Softplus(Activation):
    """``y = ln(1 + eˣ)``, ``y' = 1 − e⁻ʸ``."""

    def apply(self, x: Array) -> None:
        np.logaddexp(0, x, out=x)

    def to_slope(self, y: Array) -> None:
        np.negative(y, out=y)
        np.expm1(y, out=y)
        np.negative(y, out=y)


class Relu(Activation):
    """``y = max(x, 0)``, ``y' = 1`` where ``x > 0`` and 0 elsewhere."""

    def apply(self, x: Array) -> None:
        np.maximum(x, 0, out=x)

    def to_slope(self, y: Array) -> None:
        np.greater(y, 0, out=y, casting="unsafe")


ACTIVATIONS: dict[str, Activation] = {
    "identity": Identity(),
    "tanh": Tanh(),
    "sigmoid": Sigmoid(),
    "softplus": Softplus(),
    "relu": Relu(),
}


def activation_named(name: str) -> Activation:
    """Return an activation function by its name.

    Raises
    ------
    ValueError
        With the list of known names.
    """
    try:
        return ACTIVATIONS[name]
    except KeyError:
        known = ", ".join(ACTIVATIONS)
        raise ValueError(f"activation {name!r} is not known; choose one of {known}") from None
