"""Where a time loop keeps copies of states: in memory that is used again, and in files."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from weakref import finalize

import numpy as np

from .variable import Array

_PREFIX = "adjoint-snapshots"


class MemoryPool:
    """Copies of arrays in memory that is allocated once: fresh pages cost more than the copy."""

    def __init__(self) -> None:
        self._free: list[list[Array]] = []

    def save(self, arrays: Sequence[Array]) -> list[Array]:
        """Return a copy."""
        copy = self._free.pop() if self._free else [np.empty_like(array) for array in arrays]
        load(copy, arrays)
        return copy

    def release(self, copy: list[Array]) -> None:
        """Give a copy's memory back."""
        self._free.append(copy)


def load(into: Sequence[Array], copy: Sequence[Array]) -> None:
    """Write a copy into the arrays it was made of."""
    for array, value in zip(into, copy):
        array[...] = value


class Folder:
    """A folder for this process's snapshots, which goes when the process ends.

    Parameters
    ----------
    directory : path-like, optional
        Where to make it; the system's folder for temporary files by default. Folders that dead
        processes of this machine have left there are removed.
    """

    def __init__(self, directory: str | os.PathLike[str] | None = None) -> None:
        parent = Path(tempfile.gettempdir() if directory is None else directory)
        parent.mkdir(parents=True, exist_ok=True)
        host = socket.gethostname()
        _remove_abandoned(parent, host)
        name = tempfile.mkdtemp(prefix=f"{_PREFIX}.{host}.{os.getpid()}.", dir=parent)
        self.path = Path(name)
        self._number = count()
        self._remove = finalize(self, shutil.rmtree, name, ignore_errors=True)

    def save(self, arrays: Sequence[Array]) -> Path:
        """Write arrays to a file; where that fails nothing is left of it."""
        path = self.path / f"{next(self._number)}.npy"
        try:
            with path.open("wb") as file:
                for array in arrays:
                    np.save(file, array, allow_pickle=False)
        except BaseException:
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        return path

    def load(self, into: Sequence[Array], path: Path) -> None:
        """Read what :meth:`save` has written into arrays of the same shapes."""
        with path.open("rb") as file:
            for array in into:
                array[...] = np.load(file, allow_pickle=False)

    def close(self) -> None:
        """Remove the folder."""
        self._remove()


def _remove_abandoned(parent: Path, host: str) -> None:
    for path in parent.glob(f"{_PREFIX}.{host}.*"):
        process = path.name[len(f"{_PREFIX}.{host}.") :].split(".")[0]
        if process.isdigit() and not _alive(int(process)):
            shutil.rmtree(path, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
