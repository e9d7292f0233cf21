"""Whole fields on one rank, distributed over a grid and collected again.

That rank needs memory for all of it. Fields in files, and pictures of them, need none of this: see
:func:`~adjoint.comm.read_field`, :func:`~adjoint.comm.write_field` and
:func:`~adjoint.comm.thumbnail`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..operator import Operator
from ..spans import span
from ..variable import Array, Spec
from ..world import agreed
from .grid import CartesianGrid, same_on_all_ranks
from .transport import gatherv, scatterv


class _WholeField(Operator):
    """What both operators do: move patches from root and to it, in one message for each rank."""

    needs_inputs = ()
    needs_outputs = ()
    communicates = True

    def __init__(self, grid: CartesianGrid, root: int = 0) -> None:
        with agreed(grid.comm):
            if not isinstance(root, int | np.integer) or not 0 <= root < grid.size:
                raise ValueError(
                    f"{self.name}: root is {root!r}, expected a rank from 0 to {grid.size - 1}"
                )
        same_on_all_ranks(grid.comm, self.name, root=int(root))
        self.grid = grid
        self.root = int(root)

    def _require_number(self, argument: str, value: Any) -> None:
        if not isinstance(value, np.ndarray):
            kind = type(value).__name__
            raise TypeError(f"{self.name}: {argument} is a {kind}, expected an array")
        dtype = value.dtype
        if dtype.kind not in "biufc" or dtype == np.float16 or not dtype.isnative:
            raise TypeError(
                f"{self.name}: {argument} has dtype {dtype}, expected a number's that MPI knows, "
                "in this machine's order of bytes"
            )

    def _scatter(self, whole: Any, dtype: np.dtype[Any]) -> Array:
        grid, packed = self.grid, None
        if grid.rank == self.root:
            packed = np.concatenate([whole[grid.patch_slices(r)].ravel() for r in range(grid.size)])
        part = Spec(grid.patch_shape, dtype)
        with span("wait"):
            return scatterv(grid.comm, packed, part, grid.counts, self.root)

    def _gather(self, patch: Array) -> Array:
        grid = self.grid
        with span("wait"):
            packed = gatherv(grid.comm, patch.ravel(), grid.counts, self.root)
        if grid.rank != self.root:
            return packed.reshape((0,) * grid.ndim)
        whole = np.empty(grid.shape, patch.dtype)
        for r, part in enumerate(np.split(packed, np.cumsum(grid.counts[:-1]))):
            slices = grid.patch_slices(r)
            whole[slices] = part.reshape(whole[slices].shape)
        return whole


class ScatterField(_WholeField):
    """A whole field on root, cut into patches. The transpose of :class:`GatherField`.

    Parameters
    ----------
    grid : CartesianGrid
    root : int
        Rank in ``grid.comm`` that has the field.

    Raises
    ------
    ValueError, TypeError
        On all ranks: bad or different arguments, or a wrong field on root.

    Notes
    -----
    Collective. The input is an array of shape ``grid.shape`` on root; the other ranks pass ``None``
    (whatever they pass is ignored). The output is an array of shape ``grid.patch_shape`` and of the
    field's dtype. With ``R_k`` the restriction to rank ``k``'s patch,

        y_k = R_k x,        x̄ = Σ_k R_kᵀ ȳ_k  on root;

    patches do not overlap, so the sum only puts them together. The output does not depend on what
    the other ranks pass: their cotangent is ``None``, which a tape reports as zeros.

    Examples
    --------
    >>> grid = CartesianGrid((6, 4))
    >>> field = np.arange(24.0).reshape(6, 4) if grid.rank == 0 else None
    >>> ScatterField(grid)(field).shape == grid.patch_shape
    True
    """

    def forward(self, whole: Any) -> Any:
        comm, root = self.grid.comm, self.root
        with agreed(comm):
            if comm.rank == root:
                self._require_number("field on root", whole)
                self.require("field on root", whole.shape, self.grid.shape)
        dtype = comm.bcast(whole.dtype if comm.rank == root else None, root)
        return self._scatter(whole, dtype)

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        return self._scatter(tangents[0], outputs[0].dtype)

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        whole = self._gather(cotangents[0])
        return (whole if self.grid.rank == self.root else None,)


class GatherField(_WholeField):
    """Patches, put together into the whole field on root. The transpose of :class:`ScatterField`.

    Parameters
    ----------
    grid : CartesianGrid
    root : int
        Rank in ``grid.comm`` that gets the field.

    Raises
    ------
    ValueError, TypeError
        On all ranks: bad or different arguments, a patch of a wrong shape, or ranks that bring
        different dtypes.

    Notes
    -----
    Collective. The input is an array of shape ``grid.patch_shape``; the output is an array of shape
    ``grid.shape`` on root, and an empty one of shape ``(0, …)`` on the other ranks. With ``R_k``
    the restriction to rank ``k``'s patch,

        y = Σ_k R_kᵀ x_k  on root,        x̄_k = R_k ȳ.

    Examples
    --------
    >>> grid = CartesianGrid((6, 4))
    >>> whole = GatherField(grid)(np.ones(grid.patch_shape))
    >>> whole.shape == (grid.shape if grid.rank == 0 else (0, 0))
    True
    """

    def forward(self, patch: Any) -> Any:
        comm = self.grid.comm
        with agreed(comm):
            self._require_number("patch", patch)
            self.require("patch", patch.shape, self.grid.patch_shape)
        same_on_all_ranks(comm, self.name, dtype=patch.dtype.name)
        return self._gather(patch)

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        return self._gather(tangents[0])

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        return (self._scatter(cotangents[0], outputs[0].dtype),)
