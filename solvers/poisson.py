"""The stationary diffusion equation with Dirichlet values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..comm import CartesianGrid
from ..world import agreed
from .diffusion import DiffusionMatrix, DirichletLoad
from .linear_solve import LinearSolve
from .petsc import Closing
from .spacing import node_spacing
from .stencil import multigrid_options


class Poisson(Closing):
    """``(κ, f) ↦ u`` with ``−∇·(κ∇u) = f`` in a box and ``u = g`` on its boundary.

    Second order in the spacing, in one, two or three dimensions.

    Parameters
    ----------
    grid : CartesianGrid
        The nodes inside the domain, without periodic axes; the layer of nodes around them is the
        boundary, where ``u`` is known.
    spacing : float or sequence of float, optional
        Distance of nodes along each axis, in metres (or any unit).
    extent : float or sequence of float, optional
        Lengths of the box instead: with ``N`` nodes along an axis the spacing is
        ``extent / (N + 1)``. With neither, the unit square (interval, cube).
    boundary : float or array_like
        The Dirichlet values ``g`` where a call gives no others: one number, or float64
        ``[*grid.padded_shape(1)]`` of which the entries on the domain's boundary are used.
    rtol : float
        Tolerance of the linear solve, relative to its right-hand side.
    options : mapping of str to object, optional
        PETSc options of the linear solve.
    prefix : str, optional
        Prefix of options in PETSc's own database.
    warm : bool
    lag : float
        What solves take over from those before; see :class:`LinearSolve`.

    Attributes
    ----------
    spacing : tuple of float
    matrix : DiffusionMatrix
    load : DirichletLoad
    solve : LinearSolve

    Raises
    ------
    ValueError
        On all ranks: wrong shapes, or ``κ`` anywhere not positive and finite.
    ConvergenceError
        On all ranks.

    Notes
    -----
    The sign is that of a positive operator: a positive source ``f`` makes ``u`` positive. ADCME
    writes ``∇·(κ∇u) = f``; pass ``−f`` for that.

    At a node, with ``h`` the spacing of an axis and ``κ_{i+1/2} = (κ_i + κ_{i+1}) / 2``, the sum
    over axes of ``(κ_{i+1/2} (u_i − u_{i+1}) + κ_{i−1/2} (u_i − u_{i−1})) / h²`` is ``f_i``.
    :class:`DiffusionMatrix`, :class:`DirichletLoad` and :class:`LinearSolve` are applied one after
    the other and recorded on the active tape; the derivative is theirs. The adjoint solve reuses
    the forward solve's multigrid hierarchy.

    Examples
    --------
    >>> from mpi4py import MPI
    >>> grid = CartesianGrid((3,), comm=MPI.COMM_SELF)
    >>> with Poisson(grid) as poisson:
    ...     u = poisson(np.ones(5), np.full(3, 2.0))
    >>> np.allclose(u, [0.1875, 0.25, 0.1875])  # x (1 − x)
    True
    """

    def __init__(
        self,
        grid: CartesianGrid,
        spacing: float | Sequence[float] | None = None,
        *,
        extent: float | Sequence[float] | None = None,
        boundary: Any = 0.0,
        rtol: float = 1e-10,
        options: Mapping[str, Any] | None = None,
        prefix: str | None = None,
        warm: bool = False,
        lag: float = 1.0,
    ) -> None:
        self.grid = grid
        self.boundary = boundary
        self.spacing = node_spacing("Poisson", grid, spacing, extent)
        self.matrix = DiffusionMatrix(grid, self.spacing)
        self.load = DirichletLoad(grid, self.spacing)
        self.solve = LinearSolve(
            self.matrix.pattern, symmetric=True, rtol=rtol,
            options=multigrid_options(grid, options), prefix=prefix, warm=warm, lag=lag,
        )  # fmt: skip

    def __call__(self, kappa: Any, f: Any, boundary: Any = None) -> Any:
        """Solve, and record it on the active tape; collective.

        Parameters
        ----------
        kappa : array or Variable of float64
            ``[*grid.padded_shape(1)]``: at own nodes and one layer around them, which are other
            ranks' nodes (a halo exchange brings them) or the domain's boundary. The layer's edges
            and corners are not used.
        f : array or Variable of float64
            ``[*grid.patch_shape]``.
        boundary : float, array or Variable, optional
            Dirichlet values for this call, as for the class.

        Returns
        -------
        array or Variable of float64
            ``u``, ``[*grid.patch_shape]``.
        """
        with agreed(self.grid.comm):
            if np.shape(f) != self.grid.patch_shape:
                raise ValueError(
                    f"Poisson: f has shape {np.shape(f)}, expected {self.grid.patch_shape}"
                )
        values = self.matrix(kappa)
        g = self.boundary if boundary is None else boundary
        if not (isinstance(g, float | int) and g == 0):
            f = f + self.load(kappa, np.broadcast_to(g, self.grid.padded_shape(1)))
        return self.solve(values, f.reshape(-1)).reshape(self.grid.patch_shape)

    def close(self) -> None:
        """Destroy PETSc's objects; collective."""
        self.solve.close()
