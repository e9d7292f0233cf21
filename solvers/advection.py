"""The matrix of ``∇·(v u) − ∇·(κ∇u)`` on a grid, and what flows in through the boundary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..comm import CartesianGrid
from ..operator import Operator
from ..variable import Array
from ..world import agreed
from .fluxes import Fluxes, Rates, Sides
from .stencil import Stencil


class AdvectionDiffusionMatrix(Operator):
    """``(κ, v) ↦ values of the matrix of u ↦ ∇·(v u) − ∇·(κ∇u)``, by finite volumes.

    Parameters
    ----------
    grid : CartesianGrid
        Without periodic axes.
    spacing : float or sequence of float
        Distance of nodes along each axis, in metres.
    sides, scheme
        See :class:`~adjoint.solvers.AdvectionDiffusion`.

    Attributes
    ----------
    pattern : Pattern
        Of the matrix; rows are numbered as ``grid.numbers()`` is.

    Raises
    ------
    ValueError
        On all ranks: wrong shapes, a negative ``κ``, or values that are not finite.

    Notes
    -----
    Inputs: ``κ``, float64 ``[*grid.padded_shape(1)]``, in m²/s, and ``v``, float64
    ``[ndim, *grid.padded_shape(1)]``, in m/s: at own nodes and one layer around them, which are
    other ranks' nodes (a halo exchange brings them) or beyond the domain's boundary. The layer's
    edges and corners are not used. The values are in 1/s.

    With the rates of :class:`~adjoint.solvers.fluxes.Fluxes`, the face between nodes ``i`` and
    ``i + 1`` adds ``a`` to ``A_ii``, ``−b`` to ``A_{i,i+1}``, ``b`` to ``A_{i+1,i+1}`` and ``−a``
    to ``A_{i+1,i}``: what one node loses, the other gets. Off the diagonal nothing is positive, and
    a column's sum is what leaves the domain from its node, so ``σI + A`` with ``σ > 0`` has an
    inverse without negative entries, whatever the flow.

    In the adjoint a face gets ``ā = Ā_ii − Ā_{i+1,i}`` and ``b̄ = Ā_{i+1,i+1} − Ā_{i,i+1}``, each
    row's part from the rank that has the row, and hands them on to ``κ`` and ``v`` of both nodes.
    What ghost nodes get, the halo exchange takes to their owners.

    Examples
    --------
    >>> from mpi4py import MPI
    >>> grid = CartesianGrid((2,), comm=MPI.COMM_SELF)
    >>> matrix = AdvectionDiffusionMatrix(grid, 1.0, "open", "upwind")
    >>> matrix(np.ones(4), np.full((1, 4), 3.0))
    array([ 4., -1., -4.,  4.])
    """

    needs_outputs = ()

    def __init__(
        self,
        grid: CartesianGrid,
        spacing: float | Sequence[float],
        sides: Sides = "open",
        scheme: str = "fitted",
    ) -> None:
        self.grid = grid
        self._fluxes = Fluxes(self.name, grid, spacing, sides, scheme)
        self._stencil = Stencil(grid)
        self.pattern = self._stencil.pattern

    def check(self, kappa: Any, velocity: Any) -> None:
        with agreed(self.grid.comm):
            self._fluxes.require(kappa, velocity)

    def forward(self, kappa: Any, velocity: Any) -> Any:
        return self._assembled(
            self._fluxes.rates(axis, kappa, velocity) for axis in range(self.grid.ndim)
        )

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        return self._assembled(
            self._fluxes.tangents(axis, inputs, tangents) for axis in range(self.grid.ndim)
        )

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        fields, middle = self._stencil.fields, self._stencil.middle
        self._stencil.unpack(cotangents[0])
        into = np.zeros(self._fluxes.padded), np.zeros((self.grid.ndim, *self._fluxes.padded))
        for axis in range(self.grid.ndim):
            rates = Rates(self._zero_faces(axis), self._zero_faces(axis))
            (_, a), (b, _) = (self._around(axis, rate) for rate in rates)
            a += fields[middle]
            b += fields[middle]
            self._around(axis, rates.a)[0][...] -= fields[axis]
            self._around(axis, rates.b)[1][...] -= fields[2 * middle - axis]
            self._fluxes.add_cotangents(axis, inputs, rates, into)
        return into

    def _assembled(self, of_axes: Any) -> Array:
        fields, middle = self._stencil.fields, self._stencil.middle
        fields[middle] = 0.0
        for axis, rates in enumerate(of_axes):
            (a_before, a), (b, b_behind) = (self._around(axis, rate) for rate in rates)
            fields[middle] += a
            fields[middle] += b
            np.negative(a_before, out=fields[axis])
            np.negative(b_behind, out=fields[2 * middle - axis])
        return self._stencil.packed()

    def _zero_faces(self, axis: int) -> Array:
        shape = list(self.grid.patch_shape)
        shape[axis] += 1
        return np.zeros(shape)

    def _around(self, axis: int, faces: Array) -> tuple[Array, Array]:
        """Return the faces before and behind each node, along an axis."""
        across = self._fluxes.across
        return faces[across(axis, slice(0, -1))], faces[across(axis, slice(1, None))]


class InflowLoad(Operator):
    """``(κ, v, g) ↦ what comes in through the boundary beyond which u is g``, per second.

    Parameters
    ----------
    grid, spacing, sides, scheme
        As for :class:`AdvectionDiffusionMatrix`.

    Notes
    -----
    Inputs: ``κ`` and ``v`` as there, and ``g``, float64 ``[*grid.padded_shape(1)]``, of which the
    entries beyond ends that are not closed are used. Output: float64 ``[*grid.patch_shape]``.

    A node behind the low end of an axis gets ``a g``, one before the high end ``b g``: the terms of
    the matrix that would meet ``g``. Of an open end these are ``v⁺ g`` and ``v⁻ g``, nothing where
    the flow leaves. Tangent ``ȧ g + a ġ``; adjoint ``ḡ += a s̄``, ``ā = g s̄``, handed on to ``κ``
    and ``v`` of both nodes.

    Examples
    --------
    >>> from mpi4py import MPI
    >>> grid = CartesianGrid((2,), comm=MPI.COMM_SELF)
    >>> load = InflowLoad(grid, 1.0, [("value", "open")], "upwind")
    >>> load(np.ones(4), np.full((1, 4), 3.0), np.array([5.0, 0.0, 0.0, 7.0]))
    array([20.,  0.])
    """

    needs_outputs = ()

    def __init__(
        self,
        grid: CartesianGrid,
        spacing: float | Sequence[float],
        sides: Sides = "open",
        scheme: str = "fitted",
    ) -> None:
        self.grid = grid
        self._fluxes = Fluxes(self.name, grid, spacing, sides, scheme)

    def check(self, kappa: Any, velocity: Any, g: Any) -> None:
        with agreed(self.grid.comm):
            self._fluxes.require(kappa, velocity)
            self.require("g", np.shape(g), self._fluxes.padded)

    def forward(self, kappa: Any, velocity: Any, g: Any) -> Any:
        load: Array = np.zeros(self.grid.patch_shape)
        for end in self._fluxes.ends():
            a, b = self._fluxes.rates(end.axis, kappa, velocity, end.faces)
            load[end.nodes] += (a if end.low else b) * g[end.outside]
        return load

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        (*changes, dg), (kappa, velocity, g) = tangents, inputs
        load = self.forward(kappa, velocity, dg)
        for end in self._fluxes.ends():
            da, db = self._fluxes.tangents(
                end.axis, (kappa, velocity), (changes[0], changes[1]), end.faces
            )
            load[end.nodes] += (da if end.low else db) * g[end.outside]
        return load

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        (w,), (kappa, velocity, g) = cotangents, inputs
        into = np.zeros(self._fluxes.padded), np.zeros((self.grid.ndim, *self._fluxes.padded))
        of_g: Array = np.zeros(self._fluxes.padded)
        for end in self._fluxes.ends():
            a, b = self._fluxes.rates(end.axis, kappa, velocity, end.faces)
            of_g[end.outside] += (a if end.low else b) * w[end.nodes]
            got = g[end.outside] * w[end.nodes]
            none = np.zeros_like(got)
            rates = Rates(got, none) if end.low else Rates(none, got)
            self._fluxes.add_cotangents(end.axis, (kappa, velocity), rates, into, end.faces)
        return (*into, of_g)
