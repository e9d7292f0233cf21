"""The stationary diffusion equation whose diffusivity is a law of the solution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..comm import CartesianGrid
from ..variable import value_of
from ..world import agreed
from .diffusion_equation import DiffusionEquation, Law
from .nonlinear_solve import NonlinearSolve
from .petsc import Closing
from .spacing import node_spacing
from .stencil import multigrid_options


class NonlinearDiffusion(Closing):
    """``(f, p, q, …) ↦ u`` with ``−∇·(κ(u; p, q, …)∇u) = f`` in a box, ``u = g`` on its boundary.

    Second order in the spacing, in one, two or three dimensions.

    Parameters
    ----------
    grid : CartesianGrid
        The nodes inside the domain, without periodic axes; the layer of nodes around them is the
        boundary, where ``u`` is known.
    law : callable
        ``law(u, *parameters)`` returns ``κ``, positive, for an array or Variable ``u`` of any
        shape, entry by entry: ``lambda u, theta: 1 + theta * u**2``, or a network. It is written
        with operators and NumPy's functions, whose rules give ``dκ/du`` as well as the derivatives
        with respect to the parameters.
    spacing, extent
        As for :class:`Poisson`.
    boundary : float or array_like
        The Dirichlet values ``g`` where a call gives no others: one number, or float64
        ``[*grid.padded_shape(1)]`` of which the entries on the domain's boundary are used.
    rtol, linear_rtol, options, prefix, max_iterations
        As for :class:`NonlinearSolve`.

    Attributes
    ----------
    spacing : tuple of float
    equation : DiffusionEquation
    solve : NonlinearSolve

    Raises
    ------
    ValueError
        On all ranks: wrong shapes, or a law that looks at more than one entry at a time.
    ConvergenceError
        On all ranks, also where ``κ`` is not positive at the start.

    Notes
    -----
    With ``κ_{i+1/2} = (κ(u_i) + κ(u_{i+1})) / 2`` on the face between two nodes, the equations are
    those of :class:`Poisson`. The Jacobian's entry of a node and a neighbour is that of the linear
    operator plus ``κ'(u_j) (u_i − u_j) / (2h²)``: it is not symmetric.

    Newton's method may try states that do not occur in the solution. Where the law is not positive
    for such a state, a shorter step is taken.

    Examples
    --------
    >>> from mpi4py import MPI
    >>> grid = CartesianGrid((3,), comm=MPI.COMM_SELF)
    >>> edges = np.array([0.0, 0.0, 0.0, 0.0, 3.0])
    >>> with NonlinearDiffusion(grid, lambda u: 1 + 2 * u, boundary=edges) as diffusion:
    ...     u = diffusion(np.zeros(3))
    >>> np.allclose(u + u**2, [3.0, 6.0, 9.0])  # the integral of κ over u is linear
    True
    """

    def __init__(
        self,
        grid: CartesianGrid,
        law: Law,
        spacing: float | Sequence[float] | None = None,
        *,
        extent: float | Sequence[float] | None = None,
        boundary: Any = 0.0,
        rtol: float = 1e-10,
        linear_rtol: float = 1e-10,
        options: Mapping[str, Any] | None = None,
        prefix: str | None = None,
        max_iterations: int = 50,
    ) -> None:
        self.grid = grid
        self.boundary = boundary
        self.spacing = node_spacing("NonlinearDiffusion", grid, spacing, extent)
        self.equation = DiffusionEquation(grid, law, self.spacing)
        self.solve = NonlinearSolve(
            self.equation.pattern, self.equation.residual, self.equation.jacobian, rtol=rtol,
            linear_rtol=linear_rtol, prefix=prefix, max_iterations=max_iterations,
            options=multigrid_options(grid, options),
        )  # fmt: skip

    def __call__(self, f: Any, *parameters: Any, boundary: Any = None, start: Any = 0.0) -> Any:
        """Solve, and record it on the active tape; collective.

        Parameters
        ----------
        f : array or Variable of float64
            ``[*grid.patch_shape]``.
        *parameters : array or Variable
            Of the law, the same on all ranks where they share them (through ``Bcast``).
        boundary : float, array or Variable, optional
            Dirichlet values for this call, as for the class.
        start : float or array of float64
            Where Newton's method starts, ``[*grid.patch_shape]``.

        Returns
        -------
        array or Variable of float64
            ``u``, ``[*grid.patch_shape]``.
        """
        g = self.boundary if boundary is None else boundary
        with agreed(self.grid.comm):
            for name, value, shape in (
                ("f", f, self.grid.patch_shape),
                ("start", start, self.grid.patch_shape),
                ("boundary", g, self.grid.padded_shape(1)),
            ):
                if np.shape(value) not in (shape, () if name != "f" else shape):
                    raise ValueError(
                        f"NonlinearDiffusion: {name} has shape {np.shape(value)}, expected {shape}"
                    )
        u0 = np.array(np.broadcast_to(value_of(start), self.grid.patch_shape), float).reshape(-1)
        return self.solve(u0, f, g, *parameters).reshape(self.grid.patch_shape)

    def close(self) -> None:
        """Destroy PETSc's objects; collective."""
        self.solve.close()
