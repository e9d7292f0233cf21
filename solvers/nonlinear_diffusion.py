"""The stationary diffusion equation whose diffusivity is a law of the solution."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..comm import CartesianGrid, HaloExchange
from ..operator import Operator
from ..tape import Tape
from ..variable import Array, Variable, value_of
from ..world import agreed
from .diffusion import Faces
from .nonlinear_solve import NonlinearSolve
from .petsc import Closing
from .spacing import node_spacing
from .stencil import Stencil, multigrid_options

Law = Callable[..., Any]


class Diffusion(Operator):
    """``(κ, u) ↦ −∇·(κ∇u)`` at this rank's nodes, second order.

    Parameters
    ----------
    grid : CartesianGrid
        Of the nodes inside the domain, without periodic axes; the layer around them is its
        boundary.
    spacing : float or sequence of float
        Distance of nodes along each axis, in metres (or any unit).

    Notes
    -----
    Inputs: ``κ`` and ``u``, float64 ``[*grid.padded_shape(1)]``, at own nodes and one layer around
    them, without its edges and corners. Output: float64 ``[*grid.patch_shape]``.

    A face between nodes ``i`` and ``i + 1`` of an axis has ``q = (κ_i + κ_{i+1}) (u_{i+1} − u_i) /
    (2h²)``, and a node ``q`` of the face before it less ``q`` of the face after it, summed over
    axes. The rule is bilinear. In the adjoint a face gets ``q̄``, the cotangent of the node after it
    less that of the node before it (this rank's nodes only); ``κ̄_i`` and ``κ̄_{i+1}`` get
    ``q̄ (u_{i+1} − u_i) / (2h²)`` each, ``ū_{i+1}`` gets ``q̄ (κ_i + κ_{i+1}) / (2h²)`` and ``ū_i``
    the negative of it.

    Examples
    --------
    >>> from mpi4py import MPI
    >>> grid = CartesianGrid((2,), comm=MPI.COMM_SELF)
    >>> Diffusion(grid, 1.0)(np.ones(4), np.array([0.0, 1.0, 4.0, 9.0]))
    array([-2., -2.])
    """

    needs_outputs = ()

    def __init__(self, grid: CartesianGrid, spacing: float | Sequence[float]) -> None:
        self.grid = grid
        self._faces = Faces(self.name, grid, spacing)

    def check(self, kappa: Any, u: Any) -> None:
        self.require("kappa", np.shape(kappa), self._faces.padded)
        self.require("u", np.shape(u), self._faces.padded)

    def forward(self, kappa: Any, u: Any) -> Any:
        result: Array = np.zeros(self.grid.patch_shape)
        for axis, before, after in self._sides():
            q = self._couplings(axis, kappa) * self._differences(axis, u)
            result += q[before] - q[after]
        return result

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        (dkappa, du), (kappa, u) = tangents, inputs
        return self.forward(dkappa, u) + self.forward(kappa, du)

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        (w,), (kappa, u) = cotangents, inputs
        faces = self._faces

        def of_kappa() -> Array:
            result: Array = np.zeros(faces.padded)
            for axis, _, _ in self._sides():
                c = faces.weights[axis] * self._face_cotangents(axis, w)
                c *= self._differences(axis, u)
                result[faces.within(axis, slice(0, -1))] += c
                result[faces.within(axis, slice(1, None))] += c
            return result

        def of_u() -> Array:
            result: Array = np.zeros(faces.padded)
            for axis, _, _ in self._sides():
                d = self._face_cotangents(axis, w) * self._couplings(axis, kappa)
                result[faces.within(axis, slice(0, -1))] -= d
                result[faces.within(axis, slice(1, None))] += d
            return result

        return of_kappa, of_u

    def stencils(self, kappa: Array, slope: Array, u: Array) -> Array:
        """Return the derivatives of each node's value with respect to ``u`` there and around it.

        Parameters
        ----------
        kappa, slope, u : numpy.ndarray of float64
            ``κ``, ``dκ/du`` and ``u``, ``[*grid.padded_shape(1)]``.

        Returns
        -------
        numpy.ndarray of float64
            The fields of a :class:`~adjoint.solvers.stencil.Stencil`.

        Notes
        -----
        With ``c = (κ_i + κ_{i+1}) / (2h²)`` and ``d = (u_{i+1} − u_i) / (2h²)``, the derivative of
        ``q`` is ``κ'_i d − c`` with respect to ``u_i`` and ``κ'_{i+1} d + c`` with respect to
        ``u_{i+1}``.
        """
        faces, middle = self._faces, self.grid.ndim
        result: Array = np.zeros((2 * middle + 1, *self.grid.patch_shape))
        for axis, before, after in self._sides():
            coupling = self._couplings(axis, kappa)
            slopes = faces.weights[axis] * self._differences(axis, u)
            of_first = slope[faces.within(axis, slice(0, -1))] * slopes - coupling
            of_second = slope[faces.within(axis, slice(1, None))] * slopes + coupling
            result[axis] = of_first[before]
            result[middle] += of_second[before] - of_first[after]
            result[2 * middle - axis] = -of_second[after]
        return result

    def _sides(self) -> list[tuple[int, tuple[slice, ...], tuple[slice, ...]]]:
        """Return for each axis the faces before and after each node, among all faces along it."""
        across = self._faces.across
        return [
            (axis, across(axis, slice(0, -1)), across(axis, slice(1, None)))
            for axis in range(self.grid.ndim)
        ]

    def _couplings(self, axis: int, kappa: Array) -> Array:
        """Return ``(κ_i + κ_{i+1}) / (2h²)`` on faces."""
        faces = self._faces
        total = kappa[faces.within(axis, slice(0, -1))] + kappa[faces.within(axis, slice(1, None))]
        result: Array = faces.weights[axis] * total
        return result

    def _differences(self, axis: int, u: Array) -> Array:
        """Return ``u_{i+1} − u_i`` on faces."""
        faces = self._faces
        result: Array = u[faces.within(axis, slice(1, None))] - u[faces.within(axis, slice(0, -1))]
        return result

    def _face_cotangents(self, axis: int, w: Array) -> Array:
        """Return what each face gets from the nodes after and before it."""
        result: Array = np.diff(w, axis=axis, prepend=0.0, append=0.0)
        return result


class DiffusionEquation:
    """What is to vanish, ``−∇·(κ(u)∇u) − f`` with ``u = g`` on the boundary, and its Jacobian.

    Parameters
    ----------
    grid, law
        As for :class:`NonlinearDiffusion`.
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
