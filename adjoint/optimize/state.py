"""The state of a run on disk: whole or not at all, and never taken for another run's.

A state file is a NumPy ``.npz`` archive with the run's configuration, its first point and what its
method remembers. Whenever the process is killed there is either the former file or the new one. The
archive's checksums (CRC-32 of every array) are compared on reading.
"""

from __future__ import annotations

import json
import os
import zipfile
from typing import Any

import numpy as np

from ..files import require_writable, written_whole
from ..variable import Array

FORMAT = "adjoint.optimize state 1"


class StateError(ValueError):
    """The state file is damaged, or of another run."""


class StateFile:
    """One run's state file.

    Parameters
    ----------
    path : str or path-like
    configuration : dict
        What makes two runs the same: method, options, shape, ...; of plain numbers, strings, lists
        and dictionaries. Keys that start with an underscore, here or in a dictionary within, are
        information only.
    start : numpy.ndarray
        The first point, or a digest of it.
    name : str
        By which messages call the optimiser.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        configuration: dict[str, Any],
        start: Array,
        name: str = "minimize",
    ) -> None:
        self.name = name
        self.path = os.path.realpath(path)
        self.configuration = {"format": FORMAT, **_plain(name, configuration)}
        self.start = start
        self.writer = self.configuration.get("_versions")

    def probe(self) -> None:
        """Raise ``OSError`` if a file cannot be written here."""
        if os.path.isdir(self.path):
            raise IsADirectoryError(f"{self.name}: state file {self.path} is a directory")
        try:
            require_writable(self.path)
        except OSError as error:
            raise self._unwritable(error) from error

    def write(self, arrays: dict[str, Array]) -> None:
        """Replace the file by one with these arrays, in one step.

        Raises
        ------
        OSError
            The former file is intact then, and nothing else is left behind.
        """
        text = json.dumps(self.configuration).encode()
        members = {"configuration": np.frombuffer(text, np.uint8), "start": self.start, **arrays}
        try:
            with written_whole(self.path) as file, zipfile.ZipFile(file, "w") as archive:
                for name, array in members.items():
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                        np.save(member, array, allow_pickle=False)
        except OSError as error:
            raise self._unwritable(error) from error

    def read(self) -> dict[str, Array] | None:
        """Return the arrays of the file, or ``None`` where there is none.

        Raises
        ------
        StateError
            Where the file cannot be read, is damaged, or is not of this run.
        """
        if not os.path.lexists(self.path):
            return None
        try:
            with open(self.path, "rb") as file, np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            found = json.loads(arrays.pop("configuration").tobytes())
            start = arrays.pop("start")
            known = isinstance(found, dict) and found.get("format") == FORMAT
        except Exception as error:  # whatever a damaged archive makes the readers raise
            raise StateError(
                f"{self.name}: state file {self.path} is damaged or not a state file "
                f"({type(error).__name__}: {error})"
            ) from error
        if not known:
            raise StateError(f"{self.name}: state file {self.path} is not of the {FORMAT!r} format")
        for name, expected in self.configuration.items():
            if not name.startswith("_"):
                self._compare(name, found.get(name), expected)
        if start.dtype != self.start.dtype or start.tobytes() != self.start.tobytes():
            raise StateError(f"{self.name}: state file {self.path} is of a run from another theta0")
        self.writer = found.get("_versions")
        return arrays

    def _compare(self, name: str, found: Any, expected: Any) -> None:
        if isinstance(expected, dict) and isinstance(found, dict):
            for key in sorted({*found, *expected}):
                if key.startswith("_"):
                    continue
                self._compare(f"{name}[{key!r}]", found.get(key), expected.get(key))
        elif found != expected and repr(found) != repr(expected):  # nan is itself here
            raise StateError(
                f"{self.name}: state file {self.path} has {name} {found!r}, expected {expected!r}"
            )

    def _unwritable(self, error: OSError) -> OSError:
        reason = error.strerror or str(error)
        return OSError(
            error.errno, f"{self.name}: state file cannot be written: {reason}", self.path
        )


def read_configuration(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the configuration on top of a state file: whose state it is.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    dict
        Method, options, shape, metadata, ...; see :func:`~adjoint.optimize.minimize`.

    Raises
    ------
    StateError
        Where this is not a state file.
    OSError
        Where it cannot be read.
    """
    with open(path, "rb") as file:
        try:
            with np.load(file, allow_pickle=False) as archive:
                found: dict[str, Any] = json.loads(archive["configuration"].tobytes())
        except Exception as error:  # whatever a damaged archive makes the readers raise
            reason = f"{type(error).__name__}: {error}"
            raise StateError(f"{path} is damaged or not a state file ({reason})") from error
    return found


class Journal:
    """Every evaluation of a run, in order.

    An optimiser is a deterministic function of the values and gradients that it is given. Run again
    from the same start and handed the recorded ones, it comes to the point where it was stopped,
    whatever it keeps inside.

    Notes
    -----
    An evaluation takes 8 bytes a parameter, in memory and on disk; of its point only a digest is
    kept, which is compared when the evaluation is replayed.
    """

    def __init__(self, size: int, rows: Array | None = None) -> None:
        self.dtype = np.dtype(
            [
                ("point", np.uint64, (2,)),
                ("value", np.float64),
                ("seconds", np.float64),
                ("memory", np.float64),
                ("gradient", np.float64, (size,)),
            ]
        )
        if rows is not None and (rows.dtype != self.dtype or rows.ndim != 1):
            raise ValueError("the evaluations have another layout")
        self._rows = np.zeros(16, self.dtype) if rows is None else rows
        self._count = 0 if rows is None else len(rows)

    @property
    def rows(self) -> Array:
        return self._rows[: self._count]

    def append(
        self, point: bytes, value: float, gradient: Array, seconds: float, memory: float
    ) -> None:
        """Add an evaluation; whenever a signal interrupts this, the rows counted are whole."""
        if self._count == len(self._rows):
            grown = np.zeros(2 * self._count + 1, self.dtype)
            grown[: self._count] = self._rows
            self._rows = grown
        row = self._rows[self._count]
        row["point"] = np.frombuffer(point, np.uint64)
        row["value"], row["seconds"], row["memory"] = value, seconds, memory
        row["gradient"] = gradient
        self._count += 1


def _plain(name: str, value: Any, where: str = "") -> Any:
    """Return what JSON makes of a configuration; what it cannot hold is an error."""
    if isinstance(value, dict):
        names = {key: f"{where}[{key!r}]" if where else str(key) for key in value}
        return {str(key): _plain(name, entry, names[key]) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(name, entry, where) for entry in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(name, value.tolist(), where)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(
        f"{name}: {where} is a {type(value).__name__}, "
        "expected numbers, strings, lists and dictionaries, which a state file can hold"
    )
