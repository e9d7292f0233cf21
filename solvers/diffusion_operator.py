"""Diffusion as a function of the diffusivity and the solution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..comm import CartesianGrid
from ..operator import Operator
from ..variable import Array
from .diffusion import Faces


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
