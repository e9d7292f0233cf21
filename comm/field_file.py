"""Distributed fields in ``.npy`` files, of which each rank reads and writes its own part."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from math import prod
from typing import Any

import numpy as np

from ..files import move_into_place
from ..variable import Array
from ..world import agreed
from .grid import CartesianGrid, same_on_all_ranks


def write_field(path: str | os.PathLike[str], grid: CartesianGrid, patch: Any) -> None:
    """Write a field into one ``.npy`` file, as ``numpy.save`` would write the whole of it.

    Every rank writes the part that it has at its place, so that no rank needs memory for more. The
    file takes the place of a former one in one step: it is there whole or not at all.

    Parameters
    ----------
    path : str or path-like
        Rank 0's counts; the folder is one that all ranks see.
    grid : CartesianGrid
    patch : numpy.ndarray, shape (..., *grid.patch_shape)
        Of numbers. Axes before those of the grid are components, of which each rank has all.

    Raises
    ------
    ValueError, TypeError
        On all ranks: a patch of a wrong shape or without numbers, or ranks that differ.
    OSError
        On all ranks, where the file cannot be written. A former file is intact then.

    Notes
    -----
    Collective. The file is in C order, ``[..., *grid.shape]``, and does not depend on the number of
    ranks. It holds nothing else, so ``numpy.load`` reads it; with ``mmap_mode="r"`` only what is
    looked at.

    Examples
    --------
    >>> import tempfile
    >>> from mpi4py import MPI
    >>> grid = CartesianGrid((6, 4), comm=MPI.COMM_SELF)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_field(f"{folder}/ones.npy", grid, np.ones(grid.patch_shape))
    ...     np.load(f"{folder}/ones.npy").shape
    (6, 4)
    """
    array = np.asarray(patch)
    with agreed(grid.comm):
        _require_patch(grid, array)
    kind = {"components": array.shape[: -grid.ndim], "dtype": array.dtype.str}
    same_on_all_ranks(grid.comm, "write_field", **kind)
    _write(path, grid, [array], array.shape[: -grid.ndim])


def write_fields(path: str | os.PathLike[str], grid: CartesianGrid, patches: Sequence[Any]) -> None:
    """Write fields one after the other into one file, as :func:`write_field` would write a stack.

    Nothing is stacked in memory. All fields have the same shape and dtype.
    """
    arrays = [np.asarray(patch) for patch in patches]
    with agreed(grid.comm):
        for array in arrays:
            _require_patch(grid, array)
            if (array.shape, array.dtype) != (arrays[0].shape, arrays[0].dtype):
                raise ValueError("write_field: fields of one file have different shapes or dtypes")
    components = (len(arrays), *arrays[0].shape[: -grid.ndim])
    same_on_all_ranks(
        grid.comm, "write_field", components=components, dtype=arrays[0].dtype.str
    )  # fmt: skip
    _write(path, grid, arrays, components)


def read_field(path: str | os.PathLike[str], grid: CartesianGrid) -> Array:
    """Return this rank's part of the field in a ``.npy`` file; the transpose of writing it.

    Parameters
    ----------
    path : str or path-like
        Of a file in C or Fortran order.
    grid : CartesianGrid
        On any number of ranks.

    Returns
    -------
    numpy.ndarray, shape (..., *grid.patch_shape)
        Of the file's dtype.

    Raises
    ------
    OSError
        On all ranks, where a rank cannot read the file.
    ValueError, TypeError
        On all ranks, where it is no such file, or a field of another grid.

    Notes
    -----
    Collective. The file is mapped into memory, and only this rank's part is looked at and copied.
    """
    own: Any = (..., *grid.patch_slices(grid.rank))
    with agreed(grid.comm):
        whole = mapped(path, grid)
        patch: Array = whole[own].copy(order="C")
    same_on_all_ranks(grid.comm, "read_field", shape=whole.shape, dtype=patch.dtype.str)
    return patch


def mapped(path: str | os.PathLike[str], grid: CartesianGrid) -> Array:
    """Return the field of a file, mapped into memory; not collective."""
    try:
        whole: Any = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"read_field: {path}: not the whole of a .npy file ({error})") from error
    if not isinstance(whole, np.ndarray):
        whole.close()
        raise ValueError(f"read_field: {path}: an archive of arrays, expected a .npy file")
    if whole.dtype.kind not in "biufc":
        raise TypeError(f"read_field: {path}: has dtype {whole.dtype}, expected a number's")
    if whole.shape[-grid.ndim :] != grid.shape:
        raise ValueError(
            f"read_field: {path}: has shape {whole.shape}, expected {grid.shape}, "
            "or more axes before these"
        )
    field: Array = whole
    return field


def _require_patch(grid: CartesianGrid, array: Array) -> None:
    if array.dtype.kind not in "biufc":
        raise TypeError(f"write_field: patch has dtype {array.dtype}, expected a number's")
    if array.shape[-grid.ndim :] != grid.patch_shape:
        raise ValueError(
            f"write_field: patch has shape {array.shape}, expected {grid.patch_shape}, "
            "or more axes before these"
        )


def _write(
    path: str | os.PathLike[str],
    grid: CartesianGrid,
    patches: Sequence[Array],
    components: tuple[int, ...],
) -> None:
    """Write patches one after the other behind the header of an array of all of them."""
    comm, dtype = grid.comm, patches[0].dtype
    shape = (*components, *grid.shape)
    final = comm.bcast(os.path.realpath(path) if comm.rank == 0 else None, 0)
    temporary = f"{final}.tmp"
    try:
        offset = 0
        with agreed(comm):
            if comm.rank == 0:
                offset = _begin(temporary, shape, dtype)
        offset = comm.bcast(offset, 0)
        with agreed(comm):
            _fill(temporary, grid, patches, offset, prod(shape) * dtype.itemsize // len(patches))
        with agreed(comm):
            if comm.rank == 0:
                move_into_place(temporary, final)
    except BaseException:
        if comm.rank == 0:
            with suppress(OSError):
                os.remove(temporary)
        raise


def _begin(path: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Write the header of a file of this length, and return how long the header is."""
    layout: Any = np.lib.format  # its functions have no types
    header = {"descr": layout.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with open(path, "wb") as file:
        layout.write_array_header_1_0(file, header)
        offset = file.tell()
        file.truncate(offset + prod(shape) * dtype.itemsize)
    return offset


def _fill(
    path: str, grid: CartesianGrid, patches: Sequence[Array], offset: int, stride: int
) -> None:
    """Write this rank's part of each field at its place, and force it to the disk.

    Not through MPI-IO: Open MPI's says nothing where the disk is full.
    """
    with open(path, "r+b", buffering=0) as file:
        for number, patch in enumerate(patches):
            array = np.ascontiguousarray(patch)
            content = array.reshape(-1).view(np.uint8).data
            places, length = _runs(grid, array.shape)
            length *= array.itemsize
            for i, place in enumerate(places.tolist()):
                begin = offset + number * stride + place * array.itemsize
                _write_at(file.fileno(), content[i * length : (i + 1) * length], begin)
        os.fsync(file.fileno())


def _runs(grid: CartesianGrid, shape: tuple[int, ...]) -> tuple[Array, int]:
    """Return where the parts of a patch begin that lie together in the whole, and their length.

    Both in entries. A patch that has all of the last axes has longer parts, and fewer of them.
    """
    lead = len(shape) - grid.ndim
    whole = (*shape[:lead], *grid.shape)
    start = (0,) * lead + grid.start
    axis = len(shape) - 1
    while axis > 0 and shape[axis] == whole[axis]:
        axis -= 1
    behind = prod(whole[axis + 1 :])
    places: Array = np.zeros((), np.int64)
    for first, n, of in zip(start[:axis], shape[:axis], whole[:axis]):
        places = np.add.outer(places * of, np.arange(first, first + n))
    return (places.ravel() * whole[axis] + start[axis]) * behind, shape[axis] * behind


def _write_at(descriptor: int, content: memoryview, place: int) -> None:
    """Write all of some bytes, of which the system may take a part at a time."""
    while len(content):
        written = os.pwrite(descriptor, content, place)
        content, place = content[written:], place + written
