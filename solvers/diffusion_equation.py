"""The equation of a diffusivity that is a law of the solution, and its Jacobian."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..comm import CartesianGrid, HaloExchange
from ..tape import Tape
from ..variable import Array, Variable, value_of
from .diffusion_operator import Diffusion
from .stencil import Stencil

Law = Callable[..., Any]


class DiffusionEquation:
    """What is to vanish, ``−∇·(κ(u)∇u) − f`` with ``u = g`` on the boundary, and its Jacobian.

    Parameters
    ----------
    grid, law
        As for :class:`~adjoint.solvers.NonlinearDiffusion`.
    spacing : sequence of float

    Attributes
    ----------
    pattern : Pattern
        Of the Jacobian.
    """

    def __init__(self, grid: CartesianGrid, law: Law, spacing: Sequence[float]) -> None:
        self.grid = grid
        self.law = law
        self._stencil = Stencil(grid)
        self.pattern = self._stencil.pattern
        self._diffusion = Diffusion(grid, spacing)
        self._halo = HaloExchange(grid)
        beyond = np.indices(grid.padded_shape(1))
        ends = np.reshape(grid.padded_shape(1), (-1, *[1] * grid.ndim)) - 1
        outer = ((beyond == 0) | (beyond == ends)).sum(axis=0)
        self._corners = outer > 1
        self._boundary = (outer == 1) & (grid.numbers(1) < 0)

    def residual(self, u: Any, f: Any, g: Any, *parameters: Any) -> Any:
        """Return what is to vanish at this rank's nodes, ``nan`` where ``κ`` is not positive."""
        padded = self._padded(u, g)
        kappa = self._kappa(padded, parameters)
        kappa = np.where(value_of(kappa) > 0, kappa, np.nan)
        return (self._diffusion(kappa, padded) - f).reshape(-1)

    def jacobian(self, u: Any, f: Any, g: Any, *parameters: Any) -> Array:
        """Return the derivative of the residual with respect to ``u``, on ``pattern``."""
        padded = self._padded(u, g)
        with Tape(comm=self.grid.comm) as tape:
            x = tape.watch(padded)
            kappa = self._kappa(x, parameters)
        if isinstance(kappa, Variable):
            (slope,) = tape.jvp([kappa], [x], [np.ones(padded.shape)])
        else:
            slope = np.zeros(padded.shape)
        self._stencil.fields[...] = self._diffusion.stencils(value_of(kappa), slope, padded)
        return self._stencil.packed()

    def _kappa(self, padded: Any, parameters: Sequence[Any]) -> Any:
        kappa = self.law(padded, *parameters)
        if np.shape(kappa) != padded.shape:
            raise ValueError(
                f"NonlinearDiffusion: law returns an array of shape {np.shape(kappa)} for one of "
                f"shape {padded.shape}, expected the same"
            )
        return kappa

    def _padded(self, u: Any, g: Any) -> Any:
        """Return ``u`` at own nodes and around them.

        At corners, which no equation reads, it is one of the nodes' values, so that the law is
        never asked for what does not occur.
        """
        inside = u.reshape(self.grid.patch_shape)
        around = np.where(self._boundary, g, self._halo(inside))
        return np.where(self._corners, value_of(u)[0], around)
