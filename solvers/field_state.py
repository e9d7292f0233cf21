"""The state of a distributed run on disk, of which each rank writes and reads its own part."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from math import prod
from typing import Any

import numpy as np

from ..comm import CartesianGrid
from ..comm.field_file import mapped, write_fields
from ..optimize.state import StateError, StateFile
from ..variable import Array
from ..world import agreed


class FieldState:
    """A small state file that names a large one beside it, in which fields lie in global order.

    The fields are written first, into ``<path>.0.npy`` or ``<path>.1.npy``, whichever the state
    file does not name; then the state file takes the place of the former one, and the fields that
    it named are removed. Whenever the job is killed, the one that is there names fields that are
    whole. Others that it has left there go when the run is continued.

    Parameters
    ----------
    path : str or path-like
        Of the state file; rank 0's counts.
    grid : CartesianGrid
    components : tuple of int
        Axes before those of the grid.
    configuration : dict
        What makes two runs the same, alike on all ranks.
    start : numpy.ndarray, shape (*components, *grid.patch_shape)
        The first point.

    Notes
    -----
    All methods are collective. A checksum of the fields that does not depend on how they are
    distributed is kept in the state file, so a run may be continued on another number of ranks.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        grid: CartesianGrid,
        components: tuple[int, ...],
        configuration: dict[str, Any],
        start: Array,
    ) -> None:
        self.grid = grid
        self._shape = (*components, *grid.patch_shape)
        self.path = grid.comm.bcast(os.path.realpath(path) if grid.rank == 0 else None, 0)
        first = np.array([checksum(grid, [start])], np.uint64)
        with agreed(grid.comm):
            self._file = StateFile(self.path, configuration, first, "minimize_field")
            if grid.rank == 0:
                self._file.probe()
        self._slot = grid.comm.bcast(1 - self._named() if grid.rank == 0 else None, 0)

    def write(self, fields: Sequence[Array], arrays: dict[str, Array]) -> None:
        """Replace the state by this one, in one step.

        Raises
        ------
        OSError
            On all ranks. The former state is intact then.
        """
        shaped = [field.reshape(self._shape) for field in fields]
        write_fields(self._fields(self._slot), self.grid, shaped)
        more = {
            "slot": np.array([self._slot]),
            "checksum": np.array([checksum(self.grid, shaped)], np.uint64),
        }
        with agreed(self.grid.comm):
            if self.grid.rank == 0:
                self._file.write({**arrays, **more})
        self._use(1 - self._slot)

    def read(self) -> tuple[list[Array], dict[str, Array]] | None:
        """Return this rank's part of the fields and all arrays, or ``None`` without a file.

        Raises
        ------
        StateError
            On all ranks, where a file is missing, damaged, or of another run.
        """
        comm = self.grid.comm
        arrays: dict[str, Array] | None = None
        with agreed(comm):
            if self.grid.rank == 0:
                arrays = self._file.read()
        arrays = comm.bcast(arrays, 0)
        if arrays is None:
            return None
        with agreed(comm):
            try:
                slot, expected = int(arrays.pop("slot")[0]), int(arrays.pop("checksum")[0])
                whole = mapped(self._fields(slot), self.grid)
                part = (..., *self.grid.patch_slices(self.grid.rank))
                fields = [np.array(field[part], np.float64) for field in whole]
                if any(field.shape != self._shape for field in fields):
                    raise ValueError(f"fields have shape {whole.shape[1:]}")
            except (OSError, KeyError, ValueError, TypeError) as error:
                raise StateError(
                    f"minimize_field: state file {self.path} has no fields beside it that fit "
                    f"({error})"
                ) from error
        if checksum(self.grid, fields) != expected:
            raise StateError(
                f"minimize_field: state file {self.path}: the fields in {self._fields(slot)} are "
                "damaged or of another state"
            )
        self._use(1 - slot)
        return [field.reshape(-1) for field in fields], arrays

    def _use(self, slot: int) -> None:
        """Remove the fields of this slot, which the state file does not name, and write it next."""
        with agreed(self.grid.comm):  # nobody goes on before
            if self.grid.rank == 0:
                with suppress(OSError):
                    os.remove(self._fields(slot))
        self._slot = slot

    def _named(self) -> int:
        """Return which fields the state file names that is there, of whatever run; 1 if none."""
        try:
            with np.load(self.path, allow_pickle=False) as archive:
                return int(archive["slot"][0] != 0)
        except Exception:  # whatever something else in its place makes the readers raise
            return 1

    def _fields(self, slot: int) -> str:
        return f"{self.path}.{slot}.npy"


def checksum(grid: CartesianGrid, fields: Sequence[Array]) -> int:
    """Return a number of 64 bits that changes with any entry of distributed fields; collective.

    Each entry's bits are mixed with where it is, and the results are summed modulo 2⁶⁴, in any
    order.
    """
    from mpi4py import MPI

    total = np.zeros(1, np.uint64)
    lines = [np.arange(a, b, dtype=np.uint64) for a, b in zip(grid.start, grid.stop)]
    numbers = np.zeros((1,) * grid.ndim, np.uint64)
    for axis, (n, line) in enumerate(zip(grid.shape, lines)):
        numbers = numbers * np.uint64(n) + line.reshape((-1,) + (1,) * (grid.ndim - 1 - axis))
    count = prod(grid.shape)
    first = 0
    for field in fields:
        for component in field.reshape(-1, *grid.patch_shape):
            bits = np.ascontiguousarray(component, np.float64).view(np.uint64)
            total += _mixed(bits ^ _mixed(numbers + np.uint64(first))).sum(dtype=np.uint64)
            first += count
    grid.comm.Allreduce(MPI.IN_PLACE, total, MPI.SUM)
    return int(total[0])


def _mixed(x: Array) -> Array:
    """Return a permutation of all numbers of 64 bits in which each bit changes half of the others.

    References
    ----------
    G. L. Steele, D. Lea and C. H. Flood, Fast splittable pseudorandom number generators, 2014,
    doi:10.1145/2660193.2660195.
    """
    z = x + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Array = z ^ (z >> np.uint64(31))
    return mixed
