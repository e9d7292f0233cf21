"""SEG-Y files of traces and models; needs the package segyio.

Big-endian files of revision 1 with 32-bit floats: written in IEEE's format (code 5), read in IBM's
(code 1), too. Positions stand in the trace headers, whole numbers with a scalar. A source's depth
is ``SourceDepth − SourceSurfaceElevation``, a receiver's is ``−ReceiverGroupElevation``.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import numpy as np

from ..files import written_whole
from ..variable import Array

# The bytes of the format that are checked before segyio sees a file.
TEXT, BINARY, TRACE = 3200, 400, 240
FORMATS = (1, 5)  # IBM and IEEE floats
LARGEST_SHORT, LARGEST_INT = 2**15 - 1, 2**31 - 1

#: Trace identification codes of what is not seismic data: dead traces, time breaks, sweeps, ...
NOT_DATA = range(2, 10)


def import_segyio() -> Any:
    """Return the package; raise with advice where it is missing."""
    try:
        import segyio
    except ImportError as error:
        raise ImportError(
            f"SEG-Y files need the package segyio ({error}): install adjoint[segy], or use .npz"
        ) from None
    return segyio


def write_traces(path: str, traces: Array, dt: float, sources: Array, receivers: Array) -> None:
    """Write traces, shot by shot.

    Parameters
    ----------
    path : str
    traces : numpy.ndarray, shape (shots, receivers, samples)
    dt : float
        In seconds, a whole number of microseconds.
    sources : numpy.ndarray, shape (shots, 1, 2)
        Positions ``(z, x)`` in metres.
    receivers : numpy.ndarray, shape (shots, receivers, 2)
    """
    segyio = import_segyio()
    field = segyio.TraceField
    shots, count, samples = traces.shape
    interval = _interval(path, dt, 1e6, f"dt is {dt:g} s", "microseconds")
    places = np.concatenate([np.broadcast_to(sources, receivers.shape), receivers], axis=-1)
    vertical, depth = _scaled(path, places[..., 0::2].reshape(-1, 2))
    horizontal, x = _scaled(path, places[..., 1::2].reshape(-1, 2))
    offsets = np.rint(receivers[..., 1] - sources[..., 1]).astype(np.int64).ravel()
    headers = [
        {
            field.FieldRecord: row // count + 1,
            field.EnergySourcePoint: row // count + 1,
            field.TraceNumber: row % count + 1,
            field.offset: int(offsets[row]),
            field.ElevationScalar: vertical,
            field.SourceDepth: int(depth[row, 0]),
            field.ReceiverGroupElevation: -int(depth[row, 1]),
            field.SourceGroupScalar: horizontal,
            field.SourceX: int(x[row, 0]),
            field.GroupX: int(x[row, 1]),
        }
        for row in range(shots * count)
    ]
    title = ["TRACES OF WAVES, SHOT BY SHOT", "DEPTHS OF RECEIVERS ARE NEGATIVE ELEVATIONS"]
    common = {segyio.BinField.SortingCode: 5, segyio.BinField.Traces: min(count, LARGEST_SHORT)}
    _write(segyio, path, traces.reshape(-1, samples), interval, headers, common, title)


def read_traces(path: str) -> tuple[Array, float, Array, Array]:
    """Return traces, time step, sources and receivers, as :func:`write_traces` takes them.

    Traces of one shot have the same field record number and the same source; shots and receivers
    are in the order of the file.
    """
    with _opened(path) as file:
        values, interval = _samples(path, file)
        scale_z = _scalars(file, "ElevationScalar")
        scale_x = _scalars(file, "SourceGroupScalar")
        for name in ("SourceY", "GroupY"):
            if np.ptp(_column(file, name)):
                _refuse(path, f"has various {name}, expected positions (depth, x) in one plane")
        below = _column(file, "SourceDepth") - _column(file, "SourceSurfaceElevation")
        sources = np.column_stack([scale_z * below, scale_x * _column(file, "SourceX")])
        below = 0 - _column(file, "ReceiverGroupElevation")
        receivers = np.column_stack([scale_z * below, scale_x * _column(file, "GroupX")])
        keys = np.column_stack([_column(file, "FieldRecord"), sources])
    _, first, shot, counts = np.unique(
        keys, axis=0, return_index=True, return_inverse=True, return_counts=True
    )
    if counts.min() != counts.max():
        _refuse(
            path,
            f"has shots of {counts.min()} to {counts.max()} traces, expected as many in each "
            "(is it truncated?)",
        )
    # Shots by their first trace; the traces of each stay in order.
    order = np.argsort(first[shot.ravel()], kind="stable").reshape(len(counts), -1)
    return values[order], interval / 1e6, sources[order[:, :1]], receivers[order]


def write_model(path: str, field: Array, spacing: tuple[float, float], origin: float) -> None:
    """Write a field, a trace for each column.

    Parameters
    ----------
    path : str
    field : numpy.ndarray, shape (nz, nx)
    spacing : (float, float)
        Along depth and x, in metres; that along depth is a whole number of millimetres.
    origin : float
        The first column's x, in metres.
    """
    segyio = import_segyio()
    names = segyio.TraceField
    interval = _interval(path, spacing[0], 1e3, f"spacing is {spacing[0]:g} m", "millimetres")
    columns = origin + spacing[1] * np.arange(field.shape[1])
    scalar, x = _scaled(path, columns)
    headers = [
        {
            names.CDP: row + 1,
            names.SourceGroupScalar: scalar,
            names.SourceX: int(place),
            names.GroupX: int(place),
            names.CDP_X: int(place),
        }
        for row, place in enumerate(x)
    ]
    title = ["MODEL, A TRACE FOR EACH COLUMN", "SAMPLE INTERVAL IS A DEPTH IN MILLIMETRES"]
    common = {segyio.BinField.SortingCode: 4, segyio.BinField.Traces: 1}
    _write(segyio, path, field.T, interval, headers, common, title)


def read_model(path: str) -> tuple[Array, tuple[float, float], float]:
    """Return field, spacing and origin, as :func:`write_model` takes them.

    The columns' x are ``CDP_X``, or ``GroupX`` where that is the same for all.
    """
    with _opened(path) as file:
        values, interval = _samples(path, file)
        x = _column(file, "CDP_X")
        x = x if np.ptp(x) else _column(file, "GroupX")
        unit = _scalars(file, "SourceGroupScalar")
    x = x * unit
    even = np.linspace(x[0], x[-1], len(x))
    # Coordinates are whole numbers of their unit.
    if len(x) < 2 or np.diff(x).min() <= 0 or (np.abs(x - even) > unit).any():
        _refuse(path, "has columns whose x (CDP_X or GroupX) does not increase evenly")
    return values.T.copy(), (interval / 1e3, float(even[1] - even[0])), float(x[0])


def _write(
    segyio: Any,
    path: str,
    values: Array,
    interval: int,
    headers: list[dict[Any, int]],
    common: dict[Any, int],
    title: list[str],
) -> None:
    """Write traces under their headers, with what all of them have in common."""
    count, samples = values.shape
    if samples > LARGEST_SHORT:
        _refuse(path, f"cannot take {samples} samples a trace, at most {LARGEST_SHORT}; use .npz")
    if np.abs(values).max() > np.finfo(np.float32).max:
        _refuse(path, "cannot take values beyond the range of 32-bit floats; use .npz")
    field = segyio.TraceField
    spec = segyio.spec()
    spec.format, spec.samples, spec.tracecount = 5, np.arange(samples), count
    # segyio opens the very file that takes the place of the final one.
    with written_whole(path) as beside, segyio.create(beside.name, spec) as file:
        file.text[0] = segyio.create_text_header(dict(enumerate([*title, "UNIT: METRE"], 1)))
        file.bin.update(
            {
                segyio.BinField.Interval: interval,
                segyio.BinField.IntervalOriginal: interval,
                segyio.BinField.MeasurementSystem: 1,
                segyio.BinField.SEGYRevision: 1,
                segyio.BinField.TraceFlag: 1,
                **common,
            }
        )
        for row, header in enumerate(headers):
            file.header[row] = {
                field.TRACE_SEQUENCE_LINE: row + 1,
                field.TRACE_SEQUENCE_FILE: row + 1,
                field.TraceIdentificationCode: 1,
                field.CoordinateUnits: 1,
                field.TRACE_SAMPLE_COUNT: samples,
                field.TRACE_SAMPLE_INTERVAL: interval,
                **header,
            }
        file.trace = np.ascontiguousarray(values, np.float32)


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    """Open a file that has the size which its header says."""
    _measure(path)
    try:
        with import_segyio().open(path, ignore_geometry=True) as file:
            yield file
    except (RuntimeError, IndexError) as error:
        raise ValueError(f"{path}: not a SEG-Y file that segyio can read ({error})") from None


def _measure(path: str) -> None:
    """Raise where this is not a SEG-Y file, or not all of one."""
    with open(path, "rb") as file:
        head = file.read(TEXT + BINARY)
        size = file.seek(0, os.SEEK_END)
    if len(head) < TEXT + BINARY:
        _refuse(path, f"has {size} bytes, not a SEG-Y file")
    samples, code = (
        struct.unpack_from(f">{kind}", head, TEXT + offset)[0]
        for kind, offset in (("H", 20), ("h", 24))
    )
    if code not in FORMATS or samples == 0:
        _refuse(
            path,
            f"not a big-endian SEG-Y file of floats (sample format {code}, expected 1 or 5; "
            f"{samples} samples a trace)",
        )
    extended = struct.unpack_from(">h", head, TEXT + 304)[0]
    data = size - len(head) - TEXT * max(extended, 0)
    length = TRACE + 4 * samples
    if data < length or data % length:
        _refuse(
            path,
            f"has {data} bytes of traces, not a multiple of {length} for {samples} samples each: "
            "truncated, or its traces differ in length",
        )
    expected = struct.unpack_from(">h", head, TEXT + 12)[0]
    if data // length < expected:
        _refuse(path, f"has {data // length} traces, its header says {expected} a shot: truncated")


def _samples(path: str, file: Any) -> tuple[Array, int]:
    """Return the samples of all traces, (traces, samples), and their interval."""
    segyio = import_segyio()
    if file.bin[segyio.BinField.MeasurementSystem] == 2:
        _refuse(path, "has coordinates in feet, expected metres")
    if (units := _column(file, "CoordinateUnits").max()) > 1:
        _refuse(path, f"has coordinates in degrees (coordinate units {units:.0f}), expected metres")
    codes = _column(file, "TraceIdentificationCode")
    if np.isin(codes, NOT_DATA).any():
        row = int(np.flatnonzero(np.isin(codes, NOT_DATA))[0])
        _refuse(
            path,
            f"trace {row + 1} is not of seismic data (identification code {codes[row]:.0f})",
        )
    if _column(file, "DelayRecordingTime").any():
        _refuse(path, "has traces that begin late (DelayRecordingTime), expected all from zero")
    _agreed_number(path, file, "TRACE_SAMPLE_COUNT", len(file.samples))
    common = file.bin[segyio.BinField.Interval]
    interval = _agreed_number(path, file, "TRACE_SAMPLE_INTERVAL", common)
    values = np.asarray(file.trace.raw[:], np.float64)
    if not np.isfinite(values).all():
        _refuse(path, "has samples that are not finite")
    return values, interval


def _agreed_number(path: str, file: Any, name: str, common: int) -> int:
    """Return what the headers say that may be left out in that of the file or in the traces'.

    The fields are unsigned; segyio reads them as signed.
    """
    own = _column(file, name).astype(np.int64) & 0xFFFF
    expected = (common & 0xFFFF) or int(own[0])
    if expected == 0:
        _refuse(path, f"has no {name}")
    if (differ := (own != expected) & (own != 0)).any():
        row = int(np.flatnonzero(differ)[0])
        _refuse(path, f"trace {row + 1} has the {name} {own[row]}, expected {expected} for all")
    return expected


def _column(file: Any, name: str) -> Array:
    """Return a header field of all traces."""
    found: Array = np.asarray(
        file.attributes(getattr(import_segyio().TraceField, name))[:], np.float64
    )
    return found


def _scalars(file: Any, name: str) -> Array:
    """Return the factors of coordinates: those above zero multiply, those below divide."""
    scalars = _column(file, name)
    size = np.maximum(np.abs(scalars), 1)
    factors: Array = np.where(scalars < 0, 1 / size, size)
    return factors


def _scaled(path: str, values: Array) -> tuple[int, Array]:
    """Return a scalar and whole numbers for coordinates: exact ones, or the finest that fit."""
    largest = float(np.abs(values).max())
    rounding = 1e-13 * max(1.0, largest)  # of places that were computed
    if largest > LARGEST_INT // 2:  # so that offsets fit, too
        _refuse(path, f"cannot take the coordinate {largest:g} m; use .npz")
    for divisor in (1, 10, 100, 1000, 10000):
        if largest * divisor > LARGEST_INT:
            break
        whole = np.rint(values * divisor)
        scalar = 1 if divisor == 1 else -divisor
        if np.allclose(whole / divisor, values, rtol=0, atol=rounding):
            break
    return scalar, whole.astype(np.int64)


def _interval(path: str, value: float, per_unit: float, what: str, unit: str) -> int:
    """Return a sample interval as the format has it."""
    whole = round(value * per_unit)
    if not (0 < whole <= LARGEST_SHORT and abs(value * per_unit - whole) <= 1e-9 * max(1.0, whole)):
        _refuse(
            path, f"{what}, expected a whole number of {unit} up to {LARGEST_SHORT}; or use .npz"
        )
    return whole


def _refuse(path: str, reason: str) -> NoReturn:
    raise ValueError(f"{path}: {reason}")
