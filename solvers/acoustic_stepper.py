"""How the acoustic wave's compiled steps are called, in two dimensions and in three."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..comm import CartesianGrid, HaloExchange
from ..spans import shown
from ..variable import Array
from .padding import Padding
from .pml import Strip
from .row_points import by_rows


class Medium(NamedTuple):
    """What a step takes of the medium and the layers, along each axis where it is a tuple.

    Attributes
    ----------
    c2 : numpy.ndarray
        Squared velocities at the nodes of the padded patch.
    half, node : tuple of Strip
        The layers at half points and at nodes.
    weights : tuple of float
        Of near and far nodes in half a flux, then of near and far fluxes in the divergence.
    surfaces : tuple of bool
        Whether the low and the high end of each axis are free surfaces.
    """

    c2: Array
    half: tuple[Strip, ...]
    node: tuple[Strip, ...]
    weights: tuple[Any, ...]
    surfaces: tuple[bool, ...]


class Fields(NamedTuple):
    """A field, and what layers remember.

    Attributes
    ----------
    u : numpy.ndarray
        Two levels, used in turns: in phase 0, the field before is level 0 and the present one 1.
    psi, phi : tuple of numpy.ndarray
        Of each axis, at half points and at nodes; for all axes but the last with two levels, of
        which level 0 is the present one in phase 0. Only reversed steps use both of ``phi``.
    """

    u: Array
    psi: tuple[Array, ...]
    phi: tuple[Array, ...]


class Stepper(ABC):
    """Takes steps on fields of a patch.

    Parameters
    ----------
    grid : CartesianGrid
    ghost : int
        Ghost layers on either side.
    dtype : numpy.dtype

    Attributes
    ----------
    ghost : int
    padding : Padding
        Of fields.
    halo : HaloBuffers
        That exchange a field's ghosts.
    """

    def __init__(self, grid: CartesianGrid, ghost: int, dtype: Any) -> None:
        self.grid, self.ghost = grid, ghost
        self.padding = Padding(grid, ghost, dtype)
        self.halo = HaloExchange(grid, ghost).buffers(1, dtype)

    @abstractmethod
    def take(
        self, back: bool, first: int, last: int, phase: int, medium: Medium, fields: Fields,
        kept: Sequence[Array], receivers: Any, sources: Any, totals: Sequence[Array] = (),
    ) -> None:  # fmt: skip
        """Take the steps ``first`` … ``last − 1``, forwards or ``back``, in place.

        Ghosts are exchanged before each step.

        Parameters
        ----------
        back : bool
        first, last : int
        phase : int
            Of ``fields``, 0 or 1; it alternates from step to step.
        medium : Medium
        fields : Fields
            Of the wave, or of its adjoint.
        kept : sequence of numpy.ndarray
            Levels of the field, and of what layers remember at half points along each axis, with
            which each step begins; or no levels. Written forwards, read back.
        receivers, sources : object
            What is recorded, of :meth:`recorder`, and what acts:
            :class:`~adjoint.solvers.row_points.RowPoints`. Forwards, sources act, and receivers do
            in reverse.
        totals : sequence of numpy.ndarray
            Sums of products of slopes at half points along each axis, that reversed steps add to.
        """

    def recorder(self, nodes: Array, weights: Array, series: Array) -> Any:
        """Return what records the values at points: nodes and weights, each a point a row.

        ``series``, of shape (points, steps), is where a step ``n`` writes them, to column ``n``.
        """
        return nodes, weights, series

    def exchange(self, field: Array) -> None:
        """Fill the ghosts of a padded array that belong to other ranks; collective."""
        self.halo.forward([self.padding.cut(field)])


class Stepper2D(Stepper):
    """Several steps in a sweep over the rows, where that can be.

    Attributes
    ----------
    steps : int
        In a sweep, at most.
    """

    def __init__(self, grid: CartesianGrid, dtype: Any) -> None:
        import numba

        from . import acoustic_kernels as kernels

        super().__init__(grid, kernels.GHOST, dtype)
        self._kernels = kernels
        self._neighbours = grid.start[0] > 0, grid.stop[0] < grid.shape[0]
        self.share(numba.get_num_threads())

    def share(self, threads: int, most: int | None = None) -> None:
        """Let threads share the rows, and take no more than so many steps in a sweep."""
        kernels, height = self._kernels, self.grid.patch_shape[0]
        self.work = self.padding.lines(threads + 1, kernels.ROWS)
        steps = kernels.STEPS if most is None else most
        if threads > 1 or any(self._neighbours):
            # What is left about both borders of a share must not meet.
            steps = max(1, min(steps, height // threads // (2 * kernels.GAP)))
        # Others' columns are needed behind each step.
        self.steps = steps if self.grid.dims[1] == 1 else 1

    def recorder(self, nodes: Array, weights: Array, series: Array) -> Any:
        points = by_rows([nodes], [weights], [np.arange(len(nodes))], series, self.padding)
        return (*points, np.zeros((len(points.point), self._kernels.STEPS), self.padding.dtype))

    def take(
        self, back: bool, first: int, last: int, phase: int, medium: Medium, fields: Fields,
        kept: Sequence[Array], receivers: Any, sources: Any, totals: Sequence[Array] = (),
    ) -> None:  # fmt: skip
        kernel = shown("steps", self._kernels.reverse if back else self._kernels.advance)
        u, psi, phi = fields
        at_nodes = phi[0] if back else phi[0][0]
        rest = (medium.c2, *medium.half, *medium.node, medium.weights, medium.surfaces[0],
                receivers, sources, self.work, self.padding.columns)  # fmt: skip
        more = (tuple(totals),) if back else ()

        def steps(a: int, b: int, parts: Array, done: int) -> None:
            kernel(a, b, phase + done, parts, self.steps, self._neighbours, u, *psi, at_nodes,
                   phi[1], *kept, a - first, *rest, *more)  # fmt: skip

        if self.grid.size == 1:
            steps(first, last, np.array([(0, 0, self.steps), (1, 1, self.steps)]), 0)
            return
        count = last - first
        for done in range(0, count, self.steps):
            size = min(self.steps, count - done)
            a = last - done - size if back else first + done
            for k in range(size):
                self.exchange(u[(phase + done + k + 1) % 2])
                steps(a, a + size, np.array([(1, k, k + 1) if k else (0, 0, size)]), done)


class Stepper3D(Stepper):
    """One step in a sweep over blocks of lines."""

    #: Bytes of a block's plane. A step takes about sixteen of these again and again, which fit half
    #: of a cache of a megabyte.
    BLOCK = 2**15

    def __init__(self, grid: CartesianGrid, dtype: Any) -> None:
        import numba

        from . import acoustic_kernels_3d as kernels

        super().__init__(grid, kernels.GHOST, dtype)
        self._kernels = kernels
        threads = numba.get_num_threads()
        block = self.BLOCK // (self.padding.pitch * self.padding.dtype.itemsize)
        self.share(threads, max(1, min(block, -(-grid.patch_shape[1] // threads))))

    def share(self, threads: int, block: int) -> None:
        """Let threads take so many lines at a time."""
        self._threads, self._block = threads, block
        self._work = self.padding.lines(threads * self._kernels.rows_of_work(block))

    def take(
        self, back: bool, first: int, last: int, phase: int, medium: Medium, fields: Fields,
        kept: Sequence[Array], receivers: Any, sources: Any, totals: Sequence[Array] = (),
    ) -> None:  # fmt: skip
        kernel = shown("steps", self._kernels.reverse if back else self._kernels.advance)
        u, psi, phi = fields
        arrays = [_rows(array) for array in (u, *psi, *phi, *kept)]
        rest = (_rows(medium.c2), *medium.half, *medium.node, medium.weights, receivers, sources,
                self._work, self.padding.shape, self._threads, self._block,
                *(_rows(total) for total in totals))  # fmt: skip
        for done in range(last - first):
            n = last - 1 - done if back else first + done
            odd = (phase + done) % 2
            self.exchange(u[1 - odd])
            self._mirror(u[1 - odd], medium.surfaces)
            kernel(n, odd, *arrays, n - first, *rest)
            self._mirror(u[odd], medium.surfaces)

    def _mirror(self, field: Array, surfaces: Sequence[bool]) -> None:
        """Make a field zero on free surfaces, and continue it oddly beyond them."""
        for side in np.flatnonzero(surfaces):
            lines = np.moveaxis(self.padding.cut(field), side // 2, 0)
            lines = lines[::-1] if side % 2 else lines
            lines[self.ghost] = 0
            lines[: self.ghost] = -lines[2 * self.ghost : self.ghost : -1]


def _rows(array: Array) -> Array:
    """Return a contiguous array as one of rows."""
    rows: Array = array.reshape(int(np.prod(array.shape[:-1])), array.shape[-1])
    return rows


#: By the number of axes.
STEPPERS: dict[int, type[Stepper2D] | type[Stepper3D]] = {2: Stepper2D, 3: Stepper3D}
