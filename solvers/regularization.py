"""Penalties on rough fields: Tikhonov's, and the total variation, which allows jumps."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from ..comm import CartesianGrid
from ..operator import Operator
from ..variable import Array
from ..world import agreed
from .spacing import node_spacing


class _Penalty(Operator):
    """What both penalties do: differences between the nodes of a patch and those that follow.

    Parameters
    ----------
    grid : CartesianGrid
    spacing : float or sequence of float

    Notes
    -----
    Each difference belongs to the rank that has the first of its two nodes, so that none is taken
    twice or left out; the second may be a ghost. The layers of ghosts before the patch and the
    edges of the layer behind it are not looked at.
    """

    needs_inputs = (0,)
    needs_outputs = ()

    def __init__(self, grid: CartesianGrid, spacing: float | Sequence[float], **weights: float):
        self.grid = grid
        self.spacing = node_spacing(self.name, grid, spacing)
        with agreed(grid.comm):
            for name, weight in weights.items():
                if not 0 <= weight < np.inf:
                    raise ValueError(f"{self.name}: {name} is {weight}, expected 0 or more")
        self.cell = prod(self.spacing)
        self._inner = grid.interior(1)
        self._shape = grid.padded_shape(1)

    def check(self, m: Any) -> None:
        with agreed(self.grid.comm):
            self.require("m", np.shape(m), self._shape)
            self.require("m", str(np.asarray(m).dtype), "float64", "dtype")

    def _pair(self, axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...], tuple[slice, ...]]:
        """Return first and second nodes of the differences along an axis, and the former's place.

        The last node of the domain has none that follows: across its boundary nothing differs.
        """
        grid = self.grid
        ends = grid.stop[axis] == grid.shape[axis] and not grid.periodic[axis]
        count = grid.patch_shape[axis] - int(ends)
        first, second, place = list(self._inner), list(self._inner), [slice(None)] * grid.ndim
        first[axis], second[axis] = slice(1, 1 + count), slice(2, 2 + count)
        place[axis] = slice(0, count)
        return tuple(first), tuple(second), tuple(place)

    def _difference(self, m: Array, axis: int) -> Array:
        first, second, _ = self._pair(axis)
        difference: Array = (m[second] - m[first]) / self.spacing[axis]
        return difference

    def _add_transposed(self, m: Array, flux: Array, axis: int) -> None:
        """Add the transpose of :meth:`_difference` applied to ``flux``, which is spent."""
        first, second, _ = self._pair(axis)
        flux /= self.spacing[axis]
        m[second] += flux
        m[first] -= flux


class Tikhonov(_Penalty):
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
            difference = self._difference(m, axis)
            total += self.alpha * float(np.vdot(difference, difference))
        if self.beta:
            distance = m[self._inner] - self._reference
            total += self.beta * float(np.vdot(distance, distance))
        return np.asarray(0.5 * self.cell * total)

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        (v,), (m,), total = tangents, inputs, 0.0
        for axis in range(self.grid.ndim if self.alpha else 0):
            pair = self._difference(m, axis), self._difference(v, axis)
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
                flux = self._difference(m, axis)
                flux *= scale * self.alpha
                self._add_transposed(gradient, flux, axis)
        if self.beta:
            gradient[self._inner] += scale * self.beta * (m[self._inner] - self._reference)
        return (gradient,)


class TotalVariation(_Penalty):
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
    Input and output are those of :class:`Tikhonov`. With the same differences ``D_a``, those across
    the boundary of the domain zero,

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
        slopes = self._slopes([self._difference(m, axis) for axis in range(self.grid.ndim)])
        return np.asarray(self.alpha * self.cell * slopes.sum())

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        (v,), (m,) = tangents, inputs
        along = [self._difference(m, axis) for axis in range(self.grid.ndim)]
        slopes, total = self._slopes(along), 0.0
        for axis, difference in enumerate(along):
            difference /= slopes[self._pair(axis)[2]]
            total += float(np.vdot(difference, self._difference(v, axis)))
        return np.asarray(self.alpha * self.cell * total)

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        (w,), (m,) = cotangents, inputs
        along = [self._difference(m, axis) for axis in range(self.grid.ndim)]
        weights = self._slopes(along)
        np.divide(w * self.alpha * self.cell, weights, out=weights)
        gradient = np.zeros(self._shape)
        for axis, flux in enumerate(along):
            flux *= weights[self._pair(axis)[2]]
            self._add_transposed(gradient, flux, axis)
        return (gradient,)

    def _slopes(self, along: Sequence[Array]) -> Array:
        """Return ``√(|∇m|² + ε²)`` at each node, of the differences along each axis."""
        slopes: Array = np.full(self.grid.patch_shape, self.epsilon**2)
        for axis, difference in enumerate(along):
            slopes[self._pair(axis)[2]] += difference**2
        return np.sqrt(slopes, out=slopes)
