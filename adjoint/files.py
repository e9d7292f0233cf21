"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

import numpy as np

from .variable import Array


def require_writable(path: str | os.PathLike[str]) -> None:
    """Raise ``OSError`` now where :func:`written_whole` could not write."""
    temporary = _beside(path)
    with open(temporary, "wb"):
        pass
    os.remove(temporary)


def _beside(path: str | os.PathLike[str]) -> str:
    return f"{os.path.realpath(path)}.tmp"


@contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a binary file that takes the place of ``path`` in one step, when the block has ended.

    The block writes beside the final place; its bytes are forced to the disk and moved there. So
    whenever the process is killed, there is either the former file or the new one, and where the
    block raises, the former file stays and nothing else is left behind.

    Parameters
    ----------
    path : str or path-like

    Yields
    ------
    binary file

    Raises
    ------
    OSError
        Where the file cannot be written.
    """
    final = os.path.realpath(path)
    temporary = _beside(final)
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        move_into_place(temporary, final)
    except BaseException:
        with suppress(OSError):
            os.remove(temporary)
        raise


def move_into_place(temporary: str, final: str) -> None:
    """Replace a file by one beside it, which is on the disk already, in one step."""
    os.replace(temporary, final)
    _sync_directory(os.path.dirname(final))


def _sync_directory(path: str) -> None:
    """Make a rename in a directory outlive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_npz(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Return the arrays of an ``.npz`` file, all of them numbers, as float64.

    Raises
    ------
    ValueError
        Where this is not such a file, or not all of one.
    OSError
        Where the file cannot be read.
    """
    with open(path, "rb") as file:
        try:
            with np.load(file, allow_pickle=False) as archive:
                return {key: np.asarray(archive[key], np.float64) for key in archive.files}
        except Exception as error:  # whatever a damaged archive makes the readers raise
            reason = f"{type(error).__name__}: {error}"
            raise ValueError(f"{path}: not an .npz file of numbers ({reason})") from None
