"""Functions of one array, applied to each entry."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..operator import Operator
from ..variable import RULES


class Elementwise(Operator):
    """A function ``y_i = f(x_i)``.

    Notes
    -----
    The Jacobian is diagonal, ``J = diag(f'(x_i))``, so it is its own transpose: ``jvp`` and ``vjp``
    both multiply by :meth:`slope`. Subclasses keep whichever of ``x`` and ``y`` the slope is
    cheaper to compute from.
    """

    needs_inputs: ClassVar[tuple[int, ...] | None] = (0,)
    needs_outputs: ClassVar[tuple[int, ...] | None] = ()

    def slope(self, x: Any, y: Any) -> Any:
        """Return ``f'(x)`` from ``x`` or ``y = f(x)``."""
        raise NotImplementedError(f"{self.name}: slope is not defined")

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        return tangents[0] * self.slope(inputs[0], outputs[0])

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        return (cotangents[0] * self.slope(inputs[0], outputs[0]),)


class _FromOutput(Elementwise):
    needs_inputs = ()
    needs_outputs = (0,)


class Negative(Elementwise):
    """``y = −x``."""

    needs_inputs = ()

    def forward(self, x: Any) -> Any:
        return np.negative(x)

    def slope(self, x: Any, y: Any) -> Any:
        return -1.0


class Exp(_FromOutput):
    """``y = eˣ``, ``y' = y``."""

    def forward(self, x: Any) -> Any:
        return np.exp(x)

    def slope(self, x: Any, y: Any) -> Any:
        return y


class Expm1(_FromOutput):
    """``y = eˣ − 1``, ``y' = y + 1``."""

    def forward(self, x: Any) -> Any:
        return np.expm1(x)

    def slope(self, x: Any, y: Any) -> Any:
        return y + 1


class Log(Elementwise):
    """``y = ln x``, ``y' = 1/x``."""

    def forward(self, x: Any) -> Any:
        return np.log(x)

    def slope(self, x: Any, y: Any) -> Any:
        return 1 / x


class Log1p(Elementwise):
    """``y = ln(1 + x)``, ``y' = 1/(1 + x)``."""

    def forward(self, x: Any) -> Any:
        return np.log1p(x)

    def slope(self, x: Any, y: Any) -> Any:
        return 1 / (1 + x)


class Sqrt(_FromOutput):
    """``y = √x``, ``y' = 1/(2y)``."""

    def forward(self, x: Any) -> Any:
        return np.sqrt(x)

    def slope(self, x: Any, y: Any) -> Any:
        return 0.5 / y


class Square(Elementwise):
    """``y = x²``, ``y' = 2x``."""

    def forward(self, x: Any) -> Any:
        return np.square(x)

    def slope(self, x: Any, y: Any) -> Any:
        return 2 * x


class Reciprocal(_FromOutput):
    """``y = 1/x``, ``y' = −y²``."""

    def forward(self, x: Any) -> Any:
        return np.reciprocal(x)

    def slope(self, x: Any, y: Any) -> Any:
        return -np.square(y)


class Sin(Elementwise):
    """``y = sin x``, ``y' = cos x``."""

    def forward(self, x: Any) -> Any:
        return np.sin(x)

    def slope(self, x: Any, y: Any) -> Any:
        return np.cos(x)


class Cos(Elementwise):
    """``y = cos x``, ``y' = −sin x``."""

    def forward(self, x: Any) -> Any:
        return np.cos(x)

    def slope(self, x: Any, y: Any) -> Any:
        return -np.sin(x)


class Tan(_FromOutput):
    """``y = tan x``, ``y' = 1 + y²``."""

    def forward(self, x: Any) -> Any:
        return np.tan(x)

    def slope(self, x: Any, y: Any) -> Any:
        return 1 + np.square(y)


class Arctan(Elementwise):
    """``y = arctan x``, ``y' = 1/(1 + x²)``."""

    def forward(self, x: Any) -> Any:
        return np.arctan(x)

    def slope(self, x: Any, y: Any) -> Any:
        return 1 / (1 + np.square(x))


class Sinh(Elementwise):
    """``y = sinh x``, ``y' = cosh x``."""

    def forward(self, x: Any) -> Any:
        return np.sinh(x)

    def slope(self, x: Any, y: Any) -> Any:
        return np.cosh(x)


class Cosh(Elementwise):
    """``y = cosh x``, ``y' = sinh x``."""

    def forward(self, x: Any) -> Any:
        return np.cosh(x)

    def slope(self, x: Any, y: Any) -> Any:
        return np.sinh(x)


class Tanh(_FromOutput):
    """``y = tanh x``, ``y' = 1 − y²``."""

    def forward(self, x: Any) -> Any:
        return np.tanh(x)

    def slope(self, x: Any, y: Any) -> Any:
        return 1 - np.square(y)


class Absolute(Elementwise):
    """``y = |x|``, ``y' = sign x``, taken as 0 at 0."""

    def forward(self, x: Any) -> Any:
        return np.absolute(x)

    def slope(self, x: Any, y: Any) -> Any:
        return np.sign(x)


class Cast(Operator):
    """Conversion to another floating-point dtype; derivatives are converted back."""

    needs_inputs = ()
    needs_outputs = ()

    def __init__(self, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.float32, np.float64):
            raise TypeError(f"Cast: dtype {self.dtype}, expected float32 or float64")

    def forward(self, x: Any) -> Any:
        return np.asarray(x).astype(self.dtype)

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        return tangents[0].astype(self.dtype)

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        return (cotangents[0].astype(inputs[0].dtype),)


def astype(x: Any, dtype: Any) -> Any:
    """Convert to ``float32`` or ``float64``."""
    return Cast(dtype)(x)


def _positive(x: Any) -> Any:
    return x


RULES[np.positive] = _positive
RULES[np.ndarray.astype] = astype
RULES[np.negative] = Negative()
RULES[np.exp] = Exp()
RULES[np.expm1] = Expm1()
RULES[np.log] = Log()
RULES[np.log1p] = Log1p()
RULES[np.sqrt] = Sqrt()
RULES[np.square] = Square()
RULES[np.reciprocal] = Reciprocal()
RULES[np.sin] = Sin()
RULES[np.cos] = Cos()
RULES[np.tan] = Tan()
RULES[np.arctan] = Arctan()
RULES[np.sinh] = Sinh()
RULES[np.cosh] = Cosh()
RULES[np.tanh] = Tanh()
RULES[np.absolute] = Absolute()
