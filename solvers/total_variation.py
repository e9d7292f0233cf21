"""The total variation: a penalty on rough fields that allows jumps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..comm import CartesianGrid
from ..variable import Array
from ..world import agreed
from .penalty import Penalty


class TotalVariation(Penalty):
    """This rank's share of ``α ∫ √(|∇m|² + ε²)``.

    Of all fields that rise by as much, steep and gentle ones cost the same, so jumps survive, while
    everything that oscillates is smoothed.

    Parameters
    ----------
    grid : CartesianGrid
    spacing : float or sequence of float
        Distance of nodes along each axis, in metres (or any unit).
    alpha : float
        Weight.
    epsilon : float
        Gradients below it, in units of ``m`` per metre, are penalised quadratically, as
        ``α (ε + |∇m|² / 2ε)``; where it is too small, optimisers are slow.

    Raises
    ------
    ValueError
        On all ranks: a negative weight, ``epsilon`` not positive, a wrong spacing, shape or dtype.

    Notes
    -----
    Input and output are those of :class:`~adjoint.solvers.Tikhonov`. With the same differences
    ``D_a``, those across the boundary of the domain zero,

        J = V α Σ_i s_i,   s_i = √(Σ_a (D_a m)_i² + ε²),
        m̄ = J̄ V α Σ_a D_aᵀ (D_a m / s):

    ``−∇·(∇m / s)`` diffuses along edges and hardly across them. A constant field has ``J = α ε``
    times the domain's volume.

    References
    ----------
    L. I. Rudin, S. Osher and E. Fatemi, Nonlinear total variation based noise removal algorithms,
    1992, doi:10.1016/0167-2789(92)90242-F.

    Examples
    --------
    >>> from mpi4py import MPI
    >>> grid = CartesianGrid((3,), comm=MPI.COMM_SELF)
    >>> rise = TotalVariation(grid, 0.5, epsilon=1e-6)(np.array([0.0, 1.0, 2.0, 4.0, 0.0]))
    >>> round(float(rise), 5)  # from 1 to 4
    3.0
    """

    def __init__(
        self,
        grid: CartesianGrid,
        spacing: float | Sequence[float],
        alpha: float = 1.0,
        epsilon: float = 1e-2,
    ) -> None:
        super().__init__(grid, spacing, alpha=alpha, epsilon=epsilon)
        with agreed(grid.comm):
            if not epsilon > 0:
                raise ValueError(f"{self.name}: epsilon is {epsilon}, expected more than 0")
        self.alpha, self.epsilon = float(alpha), float(epsilon)

    def forward(self, m: Any) -> Any:
        slopes = self._slopes([self.difference(m, axis) for axis in range(self.grid.ndim)])
        return np.asarray(self.alpha * self.cell * slopes.sum())

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        (v,), (m,) = tangents, inputs
        along = [self.difference(m, axis) for axis in range(self.grid.ndim)]
        slopes, total = self._slopes(along), 0.0
        for axis, difference in enumerate(along):
            difference /= slopes[self.pair(axis)[2]]
            total += float(np.vdot(difference, self.difference(v, axis)))
        return np.asarray(self.alpha * self.cell * total)

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        (w,), (m,) = cotangents, inputs
        along = [self.difference(m, axis) for axis in range(self.grid.ndim)]
        weights = self._slopes(along)
        np.divide(w * self.alpha * self.cell, weights, out=weights)
        gradient = np.zeros(self._shape)
        for axis, flux in enumerate(along):
            flux *= weights[self.pair(axis)[2]]
            self.add_transposed(gradient, flux, axis)
        return (gradient,)

    def _slopes(self, along: Sequence[Array]) -> Array:
        """Return ``√(|∇m|² + ε²)`` at each node, of the differences along each axis."""
        slopes: Array = np.full(self.grid.patch_shape, self.epsilon**2)
        for axis, difference in enumerate(along):
            slopes[self.pair(axis)[2]] += difference**2
        return np.sqrt(slopes, out=slopes)
