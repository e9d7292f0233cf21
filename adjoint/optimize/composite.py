"""A residual made of a part that is cheap and a part that is dear."""

from __future__ import annotations

from collections.abc import Callable

from ..variable import Variable


class Composite:
    """``θ ↦ outer(inner(θ))``: parameters to a field, and the field to the residual.

    Used as the residual of ``minimize(method="Gauss-Newton")``, it says where the equations are:
    the derivative of ``inner`` is then taken exactly, at every iterate and as often as it helps,
    while that of ``outer`` is learned from one forward and one adjoint evaluation an iterate.
    Everywhere else it is the function it stands for.

    Parameters
    ----------
    inner : callable
        Takes theta, which all ranks share, and returns a Variable: this rank's part of a field. A
        neural network at this rank's nodes, say; derivatives of it should cost little.
    outer : callable
        Takes that part of the field, and returns this rank's part of the residual, a Variable. A
        PDE and its observations; it may communicate, and need not know theta.

    Examples
    --------
    >>> import numpy as np
    >>> function = Composite(lambda theta: theta**2, lambda field: 3.0 * field - 1.0)
    >>> function(np.array([1.0, 2.0]))
    array([ 2., 11.])
    """

    def __init__(
        self, inner: Callable[[Variable], Variable], outer: Callable[[Variable], Variable]
    ) -> None:
        self.inner = inner
        self.outer = outer

    def __call__(self, theta: Variable) -> Variable:
        return self.outer(self.inner(theta))
