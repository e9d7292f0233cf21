"""Where a time loop keeps copies of states: in memory that is used again, and in files."""

from __future__ import annotations

import contextlib
import errno
import fcntl
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

    Notes
    -----
    The living hold a lock on their folder, which the system lets go when they end, however that
    happens. Process numbers alone would not do: containers with the same host name and a common
    disk give the same numbers to different processes.
    """

    def __init__(self, directory: str | os.PathLike[str] | None = None) -> None:
        parent = Path(tempfile.gettempdir() if directory is None else directory)
        parent.mkdir(parents=True, exist_ok=True)
        host = socket.gethostname()
        _remove_abandoned(parent, host)
        name, lock = _locked_folder(f"{_PREFIX}.{host}.{os.getpid()}.", parent)
        self.path = Path(name)
        self._number = count()
        self._remove = finalize(self, _remove, name, lock, os.getpid())

    def save(self, arrays: Sequence[Array]) -> Path:
        """Write arrays to a file; where that fails nothing is left of it."""
        path = self.path / f"{next(self._number)}.raw"
        try:
            with path.open("wb") as file:
                for array in arrays:
                    file.write(np.ascontiguousarray(array).data)
        except BaseException as error:
            with contextlib.suppress(OSError):
                path.unlink()
            if isinstance(error, OSError):
                error.filename = str(path)
            raise
        return path

    def load(self, into: Sequence[Array], path: Path) -> None:
        """Read what :meth:`save` has written into arrays of the same shapes and dtypes.

        Raises
        ------
        OSError
            Where the file is not there any more, or not all of it.
        """
        # Unbuffered, and straight into place: a field's worth of fresh memory would cost more
        # than the reading.
        with path.open("rb", buffering=0) as file:
            for array in into:
                place = array if array.flags.c_contiguous else np.empty_like(array, order="C")
                rest = place.reshape(-1).view(np.uint8).data
                while rest:
                    taken = file.readinto(rest)
                    if not taken:
                        raise OSError(errno.EIO, "the file has lost its end", str(path))
                    rest = rest[taken:]
                if place is not array:
                    array[...] = place

    def close(self) -> None:
        """Remove the folder."""
        self._remove()


def _locked_folder(prefix: str, parent: Path) -> tuple[str, int | None]:
    """Make a folder and return it with the lock on it, ``None`` where the system has none."""
    while True:
        name = tempfile.mkdtemp(prefix=prefix, dir=parent)
        lock = None
        try:
            lock = _lock(name)
            if os.path.exists(name):
                return name, lock
        except (BlockingIOError, FileNotFoundError):
            pass  # taken for abandoned in the moment before it was locked; make another one
        if lock is not None:
            os.close(lock)


def _lock(name: str | os.PathLike[str]) -> int | None:
    """Lock a folder and return the descriptor that holds the lock.

    ``None`` where the file system does not lock.

    Raises
    ------
    BlockingIOError
        Where another process holds it.
    """
    descriptor = os.open(name, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _remove(name: str, lock: int | None, process: int) -> None:
    if os.getpid() != process:  # a fork of the owner
        return
    shutil.rmtree(name, ignore_errors=True)
    if lock is not None:
        os.close(lock)


def _remove_abandoned(parent: Path, host: str) -> None:
    for path in parent.glob(f"{_PREFIX}.{host}.*"):
        try:
            lock = _lock(path)
        except OSError:  # in use, another user's, or gone meanwhile
            continue
        process = path.name[len(f"{_PREFIX}.{host}.") :].split(".")[0]
        if lock is not None or (process.isdigit() and not _alive(int(process))):
            shutil.rmtree(path, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
