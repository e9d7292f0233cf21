"""Traces and models in files, SEG-Y or .npz; rank 0 reads and writes for all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..files import read_npz, written_whole
from ..variable import Array
from ..world import agreed, communicator
from . import segy

if TYPE_CHECKING:
    from mpi4py import MPI

SEGY = (".sgy", ".segy")


class Traces(NamedTuple):
    """Traces with their geometry, as `AcousticWave` and `ElasticWave` take it.

    Attributes
    ----------
    traces : numpy.ndarray of float64, shape (shots, receivers, samples)
    dt : float
        In seconds.
    sources : numpy.ndarray of float64, shape (shots, 1, 2)
        Positions ``(z, x)`` in metres.
    receivers : numpy.ndarray of float64, shape (shots, receivers, 2)
    """

    traces: Array
    dt: float
    sources: Array
    receivers: Array


class FieldModel(NamedTuple):
    """A field of the subsurface.

    Attributes
    ----------
    field : numpy.ndarray of float64, shape (nz, nx)
    spacing : (float, float)
        Of the nodes along depth and x, in metres.
    origin : float
        The first column's x, in metres.
    """

    field: Array
    spacing: tuple[float, float]
    origin: float


def write_traces(
    path: str | os.PathLike[str],
    traces: Any,
    dt: float,
    sources: Any,
    receivers: Any,
    comm: MPI.Comm | None = None,
) -> None:
    """Write traces; the file is there whole or not at all.

    Parameters
    ----------
    path : str or path-like
        Ends in ``.sgy`` or ``.segy``, for which the package segyio is needed, or in ``.npz``.
    traces : array_like, shape (shots, receivers, samples)
        Of all shots and receivers. Like all that follows, it counts on rank 0 alone.
    dt : float
        In seconds; for SEG-Y a whole number of microseconds.
    sources : array_like, shape (shots, 2) or (shots, 1, 2)
        Positions ``(z, x)`` in metres.
    receivers : array_like, shape (receivers, 2) or (shots, receivers, 2)
        Positions ``(z, x)`` in metres, the first form for all shots.
    comm : mpi4py.MPI.Comm, optional
        ``COMM_WORLD`` by default.

    Raises
    ------
    ValueError
        On all ranks: shapes that do not fit, values that are not finite, or what the format does
        not hold.
    OSError
        On all ranks: the file cannot be written.
    ImportError
        On all ranks: segyio is not installed.

    Notes
    -----
    Collective. SEG-Y keeps values as 32-bit floats and positions to 0.1 mm, or the finest unit in
    which they fit into 32-bit integers. The .npz keys are those of :class:`Traces`.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_traces(
    ...         f"{folder}/t.npz", np.ones((1, 2, 50)), 1e-3, [[20.0, 0.0]], [[0, 10.0], [0, 30.0]]
    ...     )
    ...     found = read_traces(f"{folder}/t.npz")
    >>> found.dt, found.receivers.shape
    (0.001, (1, 2, 2))
    """
    with _on_first(comm) as first:
        if first:
            found = _checked_traces(path, traces, dt, sources, receivers)
            if _is_segy(path):
                segy.write_traces(os.fspath(path), *found)
            else:
                with written_whole(path) as file:
                    np.savez(file, **found._asdict())


def read_traces(path: str | os.PathLike[str], comm: MPI.Comm | None = None) -> Traces:
    """Return the traces of a file, all of them on every rank.

    Parameters
    ----------
    path : str or path-like
        Ends in ``.sgy``, ``.segy`` or ``.npz``.
    comm : mpi4py.MPI.Comm, optional
        ``COMM_WORLD`` by default.

    Returns
    -------
    Traces

    Raises
    ------
    ValueError
        On all ranks: not such a file, or not all of one; traces that differ in length or interval,
        or are not of one vertical plane; shots with different numbers of receivers.
    OSError
        On all ranks: the file cannot be read.
    ImportError
        On all ranks: segyio is not installed.

    Notes
    -----
    Collective. Of SEG-Y files, the traces of one field record and source are a shot.
    """
    arrays: tuple[Array, ...] = ()
    with _on_first(comm) as first:
        if first:
            if _is_segy(path):
                found = segy.read_traces(os.fspath(path))
            else:
                found = _entries(path, Traces._fields)
            arrays = tuple(map(np.asarray, _checked_traces(path, *found)))
    traces, dt, sources, receivers = _shared(comm, arrays)
    return Traces(traces, float(dt), sources, receivers)


def write_model(
    path: str | os.PathLike[str],
    field: Any,
    spacing: Any,
    origin: float = 0.0,
    comm: MPI.Comm | None = None,
) -> None:
    """Write a field of the subsurface; the file is there whole or not at all.

    Parameters
    ----------
    path : str or path-like
        Ends in ``.sgy`` or ``.segy``, for which the package segyio is needed, or in ``.npz``.
    field : array_like, shape (nz, nx)
        Like all that follows, it counts on rank 0 alone.
    spacing : float or pair of float
        Of the nodes along depth and x, in metres; for SEG-Y that along depth is a whole number of
        millimetres, at most 32767.
    origin : float
        The first column's x, in metres.
    comm : mpi4py.MPI.Comm, optional
        ``COMM_WORLD`` by default.

    Raises
    ------
    ValueError, OSError, ImportError
        As :func:`write_traces`.

    Notes
    -----
    Collective. In SEG-Y files the columns are traces with ``CDP_X``, and the sample interval is the
    spacing along depth in millimetres: the unit of time traces is milliseconds by a thousand, too.
    The .npz keys are those of :class:`FieldModel`.
    """
    with _on_first(comm) as first:
        if first:
            found = _checked_model(path, field, spacing, origin)
            if _is_segy(path):
                segy.write_model(os.fspath(path), *found)
            else:
                with written_whole(path) as file:
                    np.savez(file, **found._asdict())


def read_model(path: str | os.PathLike[str], comm: MPI.Comm | None = None) -> FieldModel:
    """Return the field of a file, all of it on every rank; see :func:`write_model`.

    Parameters
    ----------
    path : str or path-like
        Ends in ``.sgy``, ``.segy`` or ``.npz``.
    comm : mpi4py.MPI.Comm, optional
        ``COMM_WORLD`` by default.

    Returns
    -------
    FieldModel

    Raises
    ------
    ValueError, OSError, ImportError
        As :func:`read_traces`.
    """
    arrays: tuple[Array, ...] = ()
    with _on_first(comm) as first:
        if first:
            if _is_segy(path):
                found = segy.read_model(os.fspath(path))
            else:
                found = _entries(path, FieldModel._fields)
            arrays = tuple(map(np.asarray, _checked_model(path, *found)))
    field, spacing, origin = _shared(comm, arrays)
    return FieldModel(field, (float(spacing[0]), float(spacing[1])), float(origin))


@contextmanager
def _on_first(comm: MPI.Comm | None) -> Iterator[bool]:
    """Tell whether this is rank 0; what its block raises is raised on all ranks."""
    comm = communicator(comm)
    with agreed(comm):
        yield comm.rank == 0


def _shared(comm: MPI.Comm | None, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
    """Return rank 0's arrays of float64 on all ranks."""
    comm = communicator(comm)
    shapes = comm.bcast([array.shape for array in arrays])
    received = arrays if comm.rank == 0 else tuple(np.empty(shape) for shape in shapes)
    for array in received:
        comm.Bcast(array)
    return received


def _is_segy(path: str | os.PathLike[str]) -> bool:
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in (*SEGY, ".npz"):
        raise ValueError(f"{path}: unknown kind of file, expected .npz, .sgy or .segy")
    return suffix in SEGY


def _entries(path: str | os.PathLike[str], names: tuple[str, ...]) -> Any:
    """Return named arrays of an .npz file."""
    found = read_npz(path)
    if missing := [name for name in names if name not in found]:
        raise ValueError(f"{path}: lacks the keys {', '.join(missing)}")
    return [found[name] for name in names]


def _checked_traces(
    path: str | os.PathLike[str], traces: Any, dt: Any, sources: Any, receivers: Any
) -> Traces:
    """Return traces and positions in their full shapes; raise where they do not fit."""
    values = _numbers(path, "traces", traces)
    if values.ndim != 3 or not values.size:
        raise ValueError(
            f"{path}: traces has shape {values.shape}, expected (shots, receivers, samples)"
        )
    shots, count = values.shape[:2]
    places = _numbers(path, "sources", sources)
    if places.shape not in ((shots, 2), (shots, 1, 2)):
        raise ValueError(
            f"{path}: sources has shape {places.shape}, expected ({shots}, 2) or ({shots}, 1, 2)"
        )
    ends = _numbers(path, "receivers", receivers)
    if ends.shape not in ((count, 2), (shots, count, 2)):
        raise ValueError(
            f"{path}: receivers has shape {ends.shape}, expected ({count}, 2) or "
            f"({shots}, {count}, 2)"
        )
    return Traces(
        values,
        _positive(path, "dt", dt),
        np.ascontiguousarray(places.reshape(shots, 1, 2)),
        np.ascontiguousarray(np.broadcast_to(ends, (shots, count, 2))),
    )


def _checked_model(
    path: str | os.PathLike[str], field: Any, spacing: Any, origin: Any
) -> FieldModel:
    """Return a field with both spacings; raise where they do not fit."""
    values = _numbers(path, "field", field)
    if values.ndim != 2 or min(values.shape) < 2:
        raise ValueError(
            f"{path}: field has shape {values.shape}, expected (nz, nx), each 2 or more"
        )
    pair = _numbers(path, "spacing", spacing)
    if pair.shape not in ((), (2,)):
        raise ValueError(f"{path}: spacing has shape {pair.shape}, expected one number or two")
    z, x = (_positive(path, "spacing", value) for value in np.broadcast_to(pair, 2))
    return FieldModel(values, (z, x), float(_numbers(path, "origin", origin)))


def _numbers(path: str | os.PathLike[str], name: str, values: Any) -> Array:
    try:
        found: Array = np.ascontiguousarray(values, np.float64).reshape(np.shape(values))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {name} is not an array of numbers ({error})") from None
    if not np.isfinite(found).all():
        raise ValueError(f"{path}: {name} has values that are not finite")
    return found


def _positive(path: str | os.PathLike[str], name: str, value: Any) -> float:
    found = _numbers(path, name, value)
    if found.ndim or found <= 0:
        raise ValueError(f"{path}: {name} is {value}, expected a positive number")
    return float(found)
