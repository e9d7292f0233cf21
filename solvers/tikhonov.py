"""Tikhonov's penalty on rough fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..comm import CartesianGrid
from ..world import agreed
from .penalty import Penalty


class Tikhonov(Penalty):
    """This rank's share of ``½ ∫ (α |∇m|² + β (m − m₀)²)``.

    Parameters
    ----------
    grid : CartesianGrid
    spacing : float or sequence of float
        Distance of nodes along each axis, in metres (or any unit).
    alpha, beta : float
        Weights of the gradient and of the distance to the reference.
    reference : float or numpy.ndarray, shape (*grid.patch_shape)
        ``m₀``.

    Raises
    ------
    ValueError
        On all ranks: a negative weight, a wrong spacing, shape or dtype.

    Notes
    -----
    Input: ``m``, float64 ``[*grid.padded_shape(1)]``, with the neighbours' nodes in its ghosts, as
    :class:`~adjoint.comm.HaloExchange` fills them; ghosts beyond the domain are not used. Output: a
    number. The shares of all ranks are to be summed, ``Allreduce()(misfit + tikhonov(halo(m)))``.

    With ``(D_a m)_i = (m_{i+1} − m_i) / h_a`` along each axis and ``V = Π h_a``,

        J = V/2 Σ_i (α Σ_a (D_a m)_i² + β (m_i − m₀_i)²),
        m̄ = J̄ V (α Σ_a D_aᵀ D_a m + β (m − m₀)),

    where ``Σ_a D_aᵀ D_a`` is ``−Δ`` with the natural boundary ``∂m/∂n = 0``: differences across the
    boundary of the domain are left out. Ghosts have cotangents too, which the halo exchange takes
    to their owners.

    References
    ----------
    A. N. Tikhonov and V. Y. Arsenin, Solutions of Ill-Posed Problems, 1977,
    doi:10.2307/2006360.

    Examples
    --------
    >>> from mpi4py import MPI
    >>> grid = CartesianGrid((3,), comm=MPI.COMM_SELF)
    >>> float(Tikhonov(grid, 0.5)(np.array([0.0, 1.0, 2.0, 4.0, 0.0])))  # ½ · ½ · (2² + 4²)
    5.0
    """

    def __init__(
        self,
        grid: CartesianGrid,
        spacing: float | Sequence[float],
        alpha: float = 1.0,
        beta: float = 0.0,
        reference: Any = 0.0,
    ) -> None:
        super().__init__(grid, spacing, alpha=alpha, beta=beta)
        self.alpha, self.beta = float(alpha), float(beta)
        with agreed(grid.comm):
            if np.shape(reference) not in ((), grid.patch_shape):
                raise ValueError(
                    f"{self.name}: reference has shape {np.shape(reference)}, "
                    f"expected {grid.patch_shape}"
                )
        self._reference = reference

    def forward(self, m: Any) -> Any:
        total = 0.0
        for axis in range(self.grid.ndim if self.alpha else 0):
            difference = self.difference(m, axis)
            total += self.alpha * float(np.vdot(difference, difference))
        if self.beta:
            distance = m[self._inner] - self._reference
            total += self.beta * float(np.vdot(distance, distance))
        return np.asarray(0.5 * self.cell * total)

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        (v,), (m,), total = tangents, inputs, 0.0
        for axis in range(self.grid.ndim if self.alpha else 0):
            pair = self.difference(m, axis), self.difference(v, axis)
            total += self.alpha * float(np.vdot(*pair))
        if self.beta:
            distance = m[self._inner] - self._reference
            total += self.beta * float(np.vdot(distance, v[self._inner]))
        return np.asarray(self.cell * total)

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        (w,), (m,) = cotangents, inputs
        scale = w * self.cell
        gradient = np.zeros(self._shape)
        if self.alpha:
            for axis in range(self.grid.ndim):
                flux = self.difference(m, axis)
                flux *= scale * self.alpha
                self.add_transposed(gradient, flux, axis)
        if self.beta:
            gradient[self._inner] += scale * self.beta * (m[self._inner] - self._reference)
        return (gradient,)
