"""Fields continued beyond the edges of the domain."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..operator import Operator, require_float
from ..world import agreed
from .blocks import PerAxis
from .grid import CartesianGrid


class ContinueEdges(Operator):
    """Padded patches in, the same out: ghosts beyond the domain get the value of the nearest node.

    A halo exchange leaves zeros there. The diffusivity of a :class:`~adjoint.solvers.Poisson` that
    is unknown at the nodes of the grid, say, is needed on the boundary as well.

    Parameters
    ----------
    grid : CartesianGrid
    width : int or sequence of int
        Ghost layers on either side.

    Raises
    ------
    ValueError, TypeError
        On all ranks, for a field of a wrong shape or dtype.

    Notes
    -----
    Collective to make and to call, but only errors are communicated: ghosts that are other ranks'
    nodes have been filled before, those off the patch along two axes only by ``HaloExchange(…,
    corners=True)``.

    Input and output are of shape ``grid.padded_shape(width)``. Along one axis after the other the
    layers beyond an edge become copies of the first layer within, ``y_k = x_0`` for ``k < 0``. The
    transpose adds them to it, ``x̄_0 = ȳ_0 + Σ_{k<0} ȳ_k`` and ``x̄_k = 0``.

    Examples
    --------
    >>> from mpi4py import MPI
    >>> grid = CartesianGrid((3,), comm=MPI.COMM_SELF)
    >>> ContinueEdges(grid)(np.array([0.0, 5.0, 6.0, 7.0, 0.0]))
    array([5., 5., 6., 7., 7.])
    """

    needs_inputs = ()
    needs_outputs = ()

    def __init__(self, grid: CartesianGrid, width: PerAxis = 1) -> None:
        self.grid = grid
        with agreed(grid.comm):
            widths = grid.widths(width, self.name)
        self._shape = grid.padded_shape(widths)
        #: For each side at an edge: the axis, the layers beyond, and the first layer within.
        self._sides: list[tuple[int, slice, slice]] = []
        for axis, (w, n) in enumerate(zip(widths, grid.patch_shape)):
            if grid.periodic[axis]:
                continue
            if grid.start[axis] == 0:
                self._sides.append((axis, slice(0, w), slice(w, w + 1)))
            if grid.stop[axis] == grid.shape[axis]:
                self._sides.append((axis, slice(w + n, None), slice(w + n - 1, w + n)))

    def check(self, x: Any) -> None:
        with agreed(self.grid.comm):
            self.require("field", np.shape(x), self._shape)
            require_float(self.name, "field", x)

    def forward(self, x: Any) -> Any:
        y = np.array(x)
        for axis, beyond, within in self._sides:
            y[self._at(axis, beyond)] = y[self._at(axis, within)]
        return y

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        return self.forward(tangents[0])

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        x = np.array(cotangents[0])
        for axis, beyond, within in self._sides:  # axes commute
            layers = x[self._at(axis, beyond)]
            x[self._at(axis, within)] += layers.sum(axis=axis, keepdims=True)
            layers[...] = 0
        return (x,)

    def _at(self, axis: int, along: slice) -> tuple[slice, ...]:
        return (*(slice(None),) * axis, along)
