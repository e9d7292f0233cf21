"""The inner product in which a gradient is a direction: that of L², or one that smooths."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from ..comm import CartesianGrid
from ..variable import Array
from ..world import agreed
from .diffusion import DiffusionMatrix
from .linear_solve import LinearSolve
from .petsc import Closing
from .spacing import node_spacing
from .stencil import multigrid_options


class InnerProduct(Closing):
    """``⟨u, v⟩ = ∫ u v + ℓ² ∇u·∇v`` for fields on a grid, and its Riesz map.

    Parameters
    ----------
    grid : CartesianGrid
        Without periodic axes.
    spacing : float or sequence of float
        Distance of nodes along each axis, in metres (or any unit).
    length : float
        ``ℓ``, in the same unit: what is shorter is damped in a direction. 0 is the inner product of
        L², the mass matrix.
    rtol : float
        Tolerance of the solves.

    Attributes
    ----------
    name : str
        What a state file calls it.

    Raises
    ------
    ValueError
        On all ranks, for a wrong spacing or length, or a field of a wrong shape.

    Notes
    -----
    On the grid, ``⟨u, v⟩ = uᵀ R v`` with ``R = V (1 + ℓ² Σ_a D_aᵀ D_a)``, in the notation of
    :class:`Tikhonov`, whose matrix it is for ``α = ℓ²`` and ``β = 1``. The derivative ``g`` of a
    misfit with respect to all nodes is a linear form; the direction that represents it is
    ``R⁻¹ g``, and its steepest descent does not change as the grid is refined. ``R`` is symmetric
    and positive definite, and PETSc solves with it by conjugate gradients and BoomerAMG.

    Where a part of the nodes is held at bounds, the others are a space of their own: the inner
    product of it is ``R`` without the rows and columns of what is held.

    ``R / V`` has row sums of one and no positive entry beside its diagonal, so its inverse has none
    that is negative: ``V R⁻¹`` takes weighted means, which keep between the bounds of a field.

    Examples
    --------
    >>> from mpi4py import MPI
    >>> grid = CartesianGrid((4,), comm=MPI.COMM_SELF)
    >>> inner = InnerProduct(grid, 0.5)
    >>> inner.riesz(np.ones(4))
    array([2., 2., 2., 2.])
    """

    def __init__(
        self,
        grid: CartesianGrid,
        spacing: float | Sequence[float],
        length: float = 0.0,
        rtol: float = 1e-8,
    ) -> None:
        self.grid = grid
        with agreed(grid.comm):
            if not 0 <= length < np.inf:
                raise ValueError(f"InnerProduct: length is {length}, expected 0 or more")
        steps = node_spacing("InnerProduct", grid, spacing)
        matrix = DiffusionMatrix(grid, steps)
        self.length = float(length)
        self.cell = prod(steps)
        self.name = f"length {self.length!r}, spacing {[*steps]}"
        self._solve: LinearSolve | None = None
        if self.length:
            self._assemble(matrix)
            options = multigrid_options(grid, None)
            self._solve = LinearSolve(matrix.pattern, symmetric=True, rtol=rtol, options=options)

    def _assemble(self, matrix: DiffusionMatrix) -> None:
        # A face with κ = 1 before it and −1 behind has none in the mean: nothing crosses it.
        kappa: Array = np.full(self.grid.padded_shape(1), -1.0)
        kappa[self.grid.numbers(1) >= 0] = 1.0
        self._pattern = pattern = matrix.pattern
        self._rows = pattern.rows - pattern.row_range[0]
        self._diagonal = pattern.indices == pattern.rows
        self._values = self.cell * (self.length**2 * matrix.forward(kappa) + self._diagonal)

    def apply(self, u: Array) -> Array:
        """Return ``R u``, of ``[*grid.patch_shape]``; collective."""
        self._require_patch("u", u)
        if self._solve is None:
            return self.cell * u
        extended = self._pattern.exchange.fetch(u.ravel())
        product: Array = (self._pattern.matrix(self._values) @ extended).reshape(u.shape)
        return product

    def riesz(self, g: Array, free: Array | None = None) -> Array:
        """Return ``R⁻¹ g``, or at the free nodes that of their own space and zero at the others.

        Parameters
        ----------
        g : numpy.ndarray of float64, shape (*grid.patch_shape)
        free : numpy.ndarray of bool, shape (*grid.patch_shape), optional

        Returns
        -------
        numpy.ndarray of float64, shape (*grid.patch_shape)

        Notes
        -----
        Collective.
        """
        self._require_patch("g", g)
        kept = g if free is None else np.where(free, g, 0.0)
        if self._solve is None:
            return kept / self.cell
        values = self._values
        if free is not None:
            flags = free.reshape(-1).astype(np.float64)
            both = self._pattern.exchange.fetch(flags)[self._pattern.local_indices]
            both *= flags[self._rows]
            values = np.where(self._diagonal, values, values * both)
        found: Array = self._solve.forward(values, kept.reshape(-1)).reshape(g.shape)
        return found

    def smooth(self, m: Any) -> Any:
        """Return ``(1 − ℓ²Δ)⁻¹ m``, and record it on the active tape; collective.

        A field that is the mean of an unknown one over about ``ℓ``, with the same bounds.

        Parameters
        ----------
        m : array or Variable of float64, shape (*grid.patch_shape)
        """
        if self._solve is None:
            return m
        return self._solve(self._values, self.cell * m.reshape(-1)).reshape(self.grid.patch_shape)

    def _require_patch(self, argument: str, field: Array) -> None:
        with agreed(self.grid.comm):
            if np.shape(field) != self.grid.patch_shape:
                raise ValueError(
                    f"InnerProduct: {argument} has shape {np.shape(field)}, expected "
                    f"{self.grid.patch_shape}"
                )

    def close(self) -> None:
        """Destroy PETSc's objects; collective."""
        if self._solve is not None:
            self._solve.close()
