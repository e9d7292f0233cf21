"""The matrix of ``−∇·(κ∇u)`` on a grid, and what Dirichlet values add to the right-hand side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..comm import CartesianGrid
from ..operator import Operator
from ..variable import Array
from ..world import agreed
from .spacing import node_spacing
from .stencil import Stencil

Slices = tuple[slice, ...]


class Faces:
    """The faces between nodes of a patch and its first ghost layer, along each axis.

    Parameters
    ----------
    name : str
        Of the operator that asks, for messages.
    grid : CartesianGrid
        Of the nodes inside the domain; the layer around them is its boundary.
    spacing : float or sequence of float
        Distance of nodes along each axis.

    Attributes
    ----------
    spacing : tuple of float
    weights : tuple of float
        ``1 / (2 h²)`` along each axis: times the sum of two nodes' ``κ``, the coupling of them.
    """

    def __init__(self, name: str, grid: CartesianGrid, spacing: float | Sequence[float]) -> None:
        self.grid = grid
        self.padded = grid.padded_shape(1)
        self.spacing = node_spacing(name, grid, spacing)
        with agreed(grid.comm):
            if any(grid.periodic):
                raise ValueError(
                    f"{name}: grid has periodic {grid.periodic}, expected none: all sides are "
                    "boundaries"
                )
        self.weights = tuple(0.5 / h**2 for h in self.spacing)

    def within(self, axis: int, along: slice) -> Slices:
        """Return slices of the padded patch: ``along`` one axis, owned nodes along the others."""
        slices = list(self.grid.interior(1))
        slices[axis] = along
        return tuple(slices)

    def across(self, axis: int, along: slice) -> Slices:
        """Return slices of the patch: ``along`` one axis, everything along the others."""
        slices = [slice(None)] * self.grid.ndim
        slices[axis] = along
        return tuple(slices)

    def boundary(self) -> Iterator[tuple[float, Slices, Slices, Slices]]:
        """Yield each side where the patch ends at the boundary of the domain.

        Yields
        ------
        weight : float
        outside, inside : tuple of slice
            The nodes beyond and before the faces, in the padded patch.
        nodes : tuple of slice
            The latter, in the patch.
        """
        for axis, weight in enumerate(self.weights):
            n = self.grid.patch_shape[axis]
            if self.grid.start[axis] == 0:
                yield (
                    weight, self.within(axis, slice(0, 1)), self.within(axis, slice(1, 2)),
                    self.across(axis, slice(0, 1)),
                )  # fmt: skip
            if self.grid.stop[axis] == self.grid.shape[axis]:
                yield (
                    weight, self.within(axis, slice(n + 1, n + 2)),
                    self.within(axis, slice(n, n + 1)), self.across(axis, slice(n - 1, n)),
                )  # fmt: skip


class DiffusionMatrix(Operator):
    """``κ ↦ values of the matrix of u ↦ −∇·(κ∇u)``, second order, zero Dirichlet values.

    Parameters
    ----------
    grid : CartesianGrid
        Of the nodes inside the domain, without periodic axes.
    spacing : float or sequence of float
        Distance of nodes along each axis, in metres (or any unit).

    Attributes
    ----------
    pattern : Pattern
        Of the matrix; rows are numbered as ``grid.numbers()`` is.

    Raises
    ------
    ValueError
        On all ranks: wrong shape, or ``κ`` anywhere not positive and finite.

    Notes
    -----
    Input: ``κ``, float64 ``[*grid.padded_shape(1)]``: at own nodes and one layer around them, which
    are other ranks' nodes (a halo exchange brings them) or the domain's boundary. The layer's edges
    and corners are not used.

    Along an axis with spacing ``h``, nodes ``i`` and ``i + 1`` are coupled by
    ``c = (κ_i + κ_{i+1}) / (2h²)``: ``A_{i,i+1} = A_{i+1,i} = −c``, and ``c`` adds to the diagonal
    of both (of one, if the other is on the boundary). This is linear in ``κ``. In the adjoint a
    face gets from row ``i`` ``c̄ = Ā_ii − Ā_{i,i+1}``, likewise from row ``i + 1`` if this rank has
    it, and ``κ̄_i`` and ``κ̄_{i+1}`` get ``c̄ / (2h²)`` each. What ghost nodes get, the halo exchange
    takes to their owners.

    Examples
    --------
    >>> from mpi4py import MPI
    >>> grid = CartesianGrid((2,), comm=MPI.COMM_SELF)
    >>> DiffusionMatrix(grid, 1.0)(np.ones(4))
    array([ 2., -1., -1.,  2.])
    """

    needs_inputs = ()
    needs_outputs = ()

    def __init__(self, grid: CartesianGrid, spacing: float | Sequence[float]) -> None:
        self.grid = grid
        self._faces = Faces(self.name, grid, spacing)
        self._stencil = Stencil(grid)
        self.pattern = self._stencil.pattern

    def check(self, kappa: Any) -> None:
        with agreed(self.grid.comm):
            self.require("kappa", np.shape(kappa), self._faces.padded)
            self.require("kappa", str(np.asarray(kappa).dtype), "float64", "dtype")
            for axis in range(self.grid.ndim):
                self._require_positive(kappa, axis)

    def forward(self, kappa: Any) -> Any:
        stencils, middle = self._stencil.fields, self._stencil.middle
        stencils[middle] = 0.0
        for axis, weight in enumerate(self._faces.weights):
            coupling = kappa[self._faces.within(axis, slice(0, -1))]
            coupling = coupling + kappa[self._faces.within(axis, slice(1, None))]
            coupling *= -weight
            before = coupling[self._faces.across(axis, slice(0, -1))]
            after = coupling[self._faces.across(axis, slice(1, None))]
            stencils[axis], stencils[2 * middle - axis] = before, after
            stencils[middle] -= before
            stencils[middle] -= after
        return self._stencil.packed()

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        return self.forward(tangents[0])

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        stencils, middle = self._stencil.fields, self._stencil.middle
        self._stencil.unpack(cotangents[0])
        kappa: Array = np.zeros(self._faces.padded)
        for axis, weight in enumerate(self._faces.weights):
            shape = list(self.grid.patch_shape)
            shape[axis] += 1
            coupling = np.zeros(shape)
            before = coupling[self._faces.across(axis, slice(0, -1))]
            after = coupling[self._faces.across(axis, slice(1, None))]
            before += stencils[middle]
            before -= stencils[axis]
            after += stencils[middle]
            after -= stencils[2 * middle - axis]
            coupling *= weight
            kappa[self._faces.within(axis, slice(0, -1))] += coupling
            kappa[self._faces.within(axis, slice(1, None))] += coupling
        return (kappa,)

    def _require_positive(self, kappa: Array, axis: int) -> None:
        used = kappa[self._faces.within(axis, slice(None))]
        if used.min() > 0 and used.max() < np.inf:
            return
        where = np.argwhere(~((used > 0) & (used < np.inf)))[0]
        local = where + np.array([int(a != axis) for a in range(self.grid.ndim)])
        node = tuple(int(i) for i in local - 1 + np.array(self.grid.start))
        raise ValueError(
            f"{self.name}: kappa is {used[tuple(where)]} at node {node}, "
            "expected positive and finite everywhere"
        )


class DirichletLoad(Operator):
    """``(κ, g) ↦ what the values g on the boundary add to the right-hand side``.

    Parameters
    ----------
    grid, spacing
        As for :class:`DiffusionMatrix`.

    Notes
    -----
    Inputs: ``κ`` and ``g``, float64 ``[*grid.padded_shape(1)]``; of ``g`` only the entries on the
    domain's boundary are used, without its edges and corners. Output: float64
    ``[*grid.patch_shape]``.

    A node next to the boundary node ``e`` gets ``(κ_i + κ_e) g_e / (2h²)``, the term of the
    eliminated ``u_e = g_e``. The rule is bilinear: with ``b̄`` of that node, ``ḡ_e`` gets
    ``(κ_i + κ_e) b̄ / (2h²)``, and ``κ̄_i`` and ``κ̄_e`` get ``g_e b̄ / (2h²)``.

    Examples
    --------
    >>> from mpi4py import MPI
    >>> grid = CartesianGrid((2,), comm=MPI.COMM_SELF)
    >>> DirichletLoad(grid, 1.0)(np.ones(4), np.array([5.0, 0.0, 0.0, 7.0]))
    array([5., 7.])
    """

    needs_outputs = ()

    def __init__(self, grid: CartesianGrid, spacing: float | Sequence[float]) -> None:
        self.grid = grid
        self._faces = Faces(self.name, grid, spacing)

    def check(self, kappa: Any, g: Any) -> None:
        with agreed(self.grid.comm):
            self.require("kappa", np.shape(kappa), self._faces.padded)
            self.require("g", np.shape(g), self._faces.padded)

    def forward(self, kappa: Any, g: Any) -> Any:
        load: Array = np.zeros(self.grid.patch_shape)
        for weight, outside, inside, nodes in self._faces.boundary():
            load[nodes] += weight * (kappa[inside] + kappa[outside]) * g[outside]
        return load

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        (dkappa, dg), (kappa, g) = tangents, inputs
        return self.forward(dkappa, g) + self.forward(kappa, dg)

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        (w,), (kappa, g) = cotangents, inputs

        def of_kappa() -> Array:
            result: Array = np.zeros(self._faces.padded)
            for weight, outside, inside, nodes in self._faces.boundary():
                shared = weight * g[outside] * w[nodes]
                result[inside] += shared
                result[outside] += shared
            return result

        def of_g() -> Array:
            result: Array = np.zeros(self._faces.padded)
            for weight, outside, inside, nodes in self._faces.boundary():
                result[outside] += weight * (kappa[inside] + kappa[outside]) * w[nodes]
            return result

        return of_kappa, of_g
