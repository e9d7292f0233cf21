"""SEG-Y files against the bytes of the standard, against segyio alone, and damaged ones."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import segyio

from adjoint.solvers import read_model, read_traces, write_model, write_traces
from adjoint.solvers.segy import LARGEST_INT, LARGEST_SHORT, _scaled

FIELD = segyio.TraceField


def survey(shots: int = 3, receivers: int = 4, samples: int = 50) -> tuple[Any, ...]:
    """Return traces that 32-bit floats hold, and positions in millimetres."""
    random = np.random.default_rng(0)
    traces = random.standard_normal((shots, receivers, samples)).astype(np.float32)
    sources = np.round(random.uniform(0, 900, (shots, 2)), 3)
    return traces, 2e-3, sources, np.round(random.uniform(0, 900, (shots, receivers, 2)), 3)


def foreign(path: Path, headers: list[dict[int, int]], binary: Any = None, **spec: Any) -> Any:
    """Write a file with segyio alone; return its traces."""
    traces = np.random.default_rng(1).integers(-99, 99, (len(headers), 20)).astype(np.float32)
    settings = segyio.spec()
    settings.tracecount, settings.samples, settings.format = len(headers), np.arange(20), 5
    for name, value in spec.items():
        setattr(settings, name, value)
    with segyio.create(str(path), settings) as file:
        file.bin.update({segyio.BinField.Interval: 4000, **(binary or {})})
        for row, header in enumerate(headers):
            file.header[row] = header
            file.trace[row] = traces[row]
    return traces


@pytest.mark.parametrize("suffix", [".sgy", ".SEGY", ".npz"])
def test_traces_come_back(suffix: str, tmp_path: Path) -> None:
    traces, dt, sources, receivers = survey()
    traces[0, 0, :2] = np.finfo(np.float32).max, np.finfo(np.float32).min
    path = tmp_path / f"traces{suffix}"
    for places, all_places in ((receivers, receivers), (receivers[0], receivers[[0, 0, 0]])):
        write_traces(path, traces, dt, sources, places)
        found = read_traces(path)
        np.testing.assert_array_equal(found.traces, traces)
        assert found.traces.dtype == np.float64
        assert found.dt == dt
        assert found.sources.shape == (3, 1, 2)
        np.testing.assert_allclose(found.sources[:, 0], sources, rtol=0, atol=1e-9)
        np.testing.assert_allclose(found.receivers, all_places, rtol=0, atol=1e-9)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".sgy", ".npz"])
def test_a_model_comes_back(suffix: str, tmp_path: Path) -> None:
    field = np.random.default_rng(2).uniform(1e3, 5e3, (7, 9)).astype(np.float32)
    path = tmp_path / f"model{suffix}"
    write_model(path, field, (12.5, 6.25), origin=300.0)
    found = read_model(path)
    np.testing.assert_array_equal(found.field, field)
    assert found.spacing == (12.5, 6.25)
    assert found.origin == 300.0
    write_model(path, field, 10.0)
    assert read_model(path)[1:] == ((10.0, 10.0), 0.0)


def test_the_bytes_are_those_of_the_standard(tmp_path: Path) -> None:
    traces = np.arange(24.0).reshape(2, 3, 4)
    sources, receivers = [[12.5, 100.0], [12.5, 200.0]], [[3.0, 90.25], [4.0, 150.0], [5.0, 310.0]]
    write_traces(tmp_path / "a.sgy", traces, 1.5e-3, sources, receivers)
    content = (tmp_path / "a.sgy").read_bytes()
    assert len(content) == 3600 + 6 * (240 + 4 * 4)

    def number(kind: str, byte: int, start: int = 0) -> int:
        found: int = struct.unpack_from(f">{kind}", content, start + byte - 1)[0]
        return found

    # Traces in an ensemble, interval, samples, format, sorting, metres, revision 1, fixed length.
    assert [number("h", b) for b in (3213, 3217, 3221, 3225, 3229, 3255, 3501, 3503)] == [
        3, 1500, 4, 5, 5, 1, 256, 1,
    ]  # fmt: skip
    for row in range(6):
        start, shot, receiver = 3600 + row * 256, row // 3, row % 3
        values = np.frombuffer(content, ">f4", 4, start + 240)
        np.testing.assert_array_equal(values, traces[shot, receiver])
        # Numbers in line and file, field record, number in it, offset, elevation of the receiver
        # and of the surface, depth.
        assert [number("i", b, start) for b in (1, 5, 9, 13, 37, 41, 45, 49)] == [
            row + 1, row + 1, shot + 1, receiver + 1,
            round(receivers[receiver][1] - sources[shot][1]), -10 * receivers[receiver][0], 0, 125,
        ]  # fmt: skip
        # Scalars of elevations and coordinates; data, metres, samples, interval.
        assert [number("h", b, start) for b in (69, 71, 29, 89, 115, 117)] == [
            -10, -100, 1, 1, 4, 1500,
        ]  # fmt: skip
        assert [number("i", b, start) for b in (73, 77, 81, 85)] == [
            100 * sources[shot][1], 0, 100 * receivers[receiver][1], 0,
        ]  # fmt: skip


@pytest.mark.parametrize("code", [1, 5])
def test_a_file_of_another_program(code: int, tmp_path: Path) -> None:
    path = tmp_path / "foreign.sgy"
    shot = [8, 3, 8, 3, 8, 3]  # the shots' traces take turns
    headers = [
        {
            FIELD.FieldRecord: record,
            FIELD.ElevationScalar: -100, FIELD.SourceGroupScalar: 10,
            FIELD.SourceSurfaceElevation: -500, FIELD.SourceDepth: 250 * record,
            FIELD.ReceiverGroupElevation: -1000 - row,
            FIELD.SourceX: 7 * record, FIELD.GroupX: 20 * row,
        }
        for row, record in enumerate(shot)
    ]  # fmt: skip
    written = foreign(path, headers, format=code)
    found = read_traces(path)
    np.testing.assert_array_equal(found.traces, [written[0::2], written[1::2]])
    assert found.dt == 4e-3
    np.testing.assert_allclose(found.sources[:, 0], [[25, 560], [12.5, 210]], rtol=1e-15)
    rows = np.array([[0, 2, 4], [1, 3, 5]])
    np.testing.assert_allclose(
        found.receivers, np.stack([10 + rows / 100, 200.0 * rows], axis=-1), rtol=1e-15
    )


def test_shots_may_differ_by_their_source_alone(tmp_path: Path) -> None:
    headers = [{FIELD.SourceX: row // 2, FIELD.GroupX: row} for row in range(4)]
    written = foreign(tmp_path / "a.sgy", headers)
    found = read_traces(tmp_path / "a.sgy")
    np.testing.assert_array_equal(found.traces, written.reshape(2, 2, 20))


@pytest.mark.parametrize("name", [FIELD.CDP_X, FIELD.GroupX])
def test_a_model_of_another_program(name: int, tmp_path: Path) -> None:
    # Columns 3.75 m apart, in whole metres.
    x = np.rint(3.75 * np.arange(21)).astype(int)
    written = foreign(tmp_path / "a.sgy", [{name: int(place)} for place in x], format=1)
    found = read_model(tmp_path / "a.sgy")
    np.testing.assert_array_equal(found.field, written.T)
    assert found.spacing == (4.0, 3.75)


def test_positions_as_fine_as_they_fit(tmp_path: Path) -> None:
    traces, dt, _, _ = survey(1, 2)
    sources = [[10.0, 6_543_210.1234]]  # 32-bit integers have it in millimetres no more
    receivers = [[1 / 3, 6_543_210.0], [20.0, 6_544_000.0]]
    write_traces(tmp_path / "a.sgy", traces, dt, sources, receivers)
    found = read_traces(tmp_path / "a.sgy")
    assert found.sources[0, 0, 1] == pytest.approx(6_543_210.12, abs=1e-6)
    assert found.receivers[0, 0, 0] == pytest.approx(0.3333, abs=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"traces": np.ones((3, 4))}, r"traces has shape \(3, 4\), expected \(shots, receivers"),
        ({"traces": np.ones((0, 4, 5))}, r"traces has shape \(0, 4, 5\)"),
        ({"traces": np.full((3, 4, 5), np.nan)}, "traces has values that are not finite"),
        ({"traces": [["a"]]}, "traces is not an array of numbers"),
        ({"traces": [[[1.0], [1.0, 2.0]]]}, "traces is not an array of numbers"),
        (
            {"traces": np.ones((3, 4, 5)) - 1e39 * np.eye(4, 5)},
            "old.sgy: cannot take values beyond the range of 32-bit floats",
        ),
        (
            {"traces": np.ones((3, 4, 32768))},
            "old.sgy: cannot take 32768 samples a trace, at most 32767",
        ),
        ({"sources": np.ones((2, 2))}, r"sources has shape \(2, 2\), expected \(3, 2\)"),
        ({"receivers": np.ones((3, 2))}, r"receivers has shape \(3, 2\), expected \(4, 2\)"),
        ({"receivers": np.full((4, 2), np.inf)}, "receivers has values that are not finite"),
        ({"receivers": np.full((4, 2), 3e9)}, r"cannot take the coordinate 3e\+09 m"),
        ({"dt": 0}, "dt is 0, expected a positive number"),
        ({"dt": 1.23456e-3}, "dt is 0.00123456 s, expected a whole number of microseconds"),
        ({"dt": 0.033}, "expected a whole number of microseconds up to 32767"),
        ({"path": "traces.dat"}, "unknown kind of file, expected .npz, .sgy or .segy"),
    ],
)
def test_what_cannot_be_written(
    change: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    traces, dt, sources, receivers = survey()
    whole = {"traces": traces, "dt": dt, "sources": sources, "receivers": receivers}
    (tmp_path / "old.sgy").write_bytes(b"as before")
    with pytest.raises(ValueError, match=message):
        write_traces(**{"path": "old.sgy", **whole, **change})
    assert (tmp_path / "old.sgy").read_bytes() == b"as before"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"field": np.ones(4)}, r"field has shape \(4,\), expected \(nz, nx\)"),
        ({"spacing": (1, 2, 3)}, r"spacing has shape \(3,\), expected one number or two"),
        ({"spacing": -1}, "spacing is -1.0, expected a positive number"),
        ({"spacing": 50.0}, "spacing is 50 m, expected a whole number of millimetres up to 32767"),
        ({"origin": np.nan}, "origin has values that are not finite"),
    ],
)
def test_models_that_cannot_be_written(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        write_model(tmp_path / "a.sgy", **{"field": np.ones((3, 4)), "spacing": 10.0, **change})
    assert not list(tmp_path.iterdir())


def cut(content: bytes, byte: int, kind: str, value: int) -> bytes:
    return content[: byte - 1] + struct.pack(f">{kind}", value) + content[byte + 1 :]


DAMAGE: dict[str, tuple[Any, str]] = {
    "empty": (lambda c: b"", "has 0 bytes, not a SEG-Y file"),
    "short": (lambda c: c[:3599], "has 3599 bytes, not a SEG-Y file"),
    "no traces": (lambda c: c[:3600], "has 0 bytes of traces, not a multiple of 440"),
    "text": (lambda c: b"no seismic file\n" * 500, "not a big-endian SEG-Y file of floats"),
    "zeros": (lambda c: bytes(9000), r"sample format 0, expected 1 or 5; 0 samples a trace"),
    "integers": (lambda c: cut(c, 3225, "h", 2), "sample format 2, expected 1 or 5"),
    "cut in a trace": (lambda c: c[:-7], "not a multiple of 440 for 50 samples each: truncated"),
    "cut after a trace": (lambda c: c[:-440], "has shots of 3 to 4 traces, expected as many"),
    "cut in the first shot": (lambda c: c[: 3600 + 880], "has 2 traces, its header says 4 a shot"),
    "a longer trace": (lambda c: c + bytes(444), "or its traces differ in length"),
    "lengths": (lambda c: cut(c, 3715, "h", 49), "trace 1 has the TRACE_SAMPLE_COUNT 49, expected"),
    "intervals": (
        lambda c: cut(c, 3717, "h", 999),
        "trace 1 has the TRACE_SAMPLE_INTERVAL 999, expected 2000 for all",
    ),
    "feet": (lambda c: cut(c, 3255, "h", 2), "has coordinates in feet, expected metres"),
    "degrees": (lambda c: cut(c, 3689, "h", 3), "has coordinates in degrees"),
    "a dead trace": (lambda c: cut(c, 3629, "h", 2), "trace 1 is not of seismic data"),
    "a delay": (lambda c: cut(c, 3709, "h", 8), "has traces that begin late"),
    "off the plane": (lambda c: cut(c, 3677, "h", 1), "has various SourceY"),
    "not a number": (
        lambda c: cut(c, 3841, "h", 0x7FC0),
        "has samples that are not finite",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_files_that_cannot_be_read(name: str, tmp_path: Path) -> None:
    damage, message = DAMAGE[name]
    path = tmp_path / "traces.sgy"
    write_traces(path, *survey())
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=f"traces.sgy: .*{message}"):
        read_traces(path)


def test_models_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.sgy"
    for places, message in (
        ([0, 0, 0], r"whose x \(CDP_X or GroupX\) does not increase evenly"),
        ([0, 10, 30], "does not increase evenly"),
        ([20, 10, 0], "does not increase evenly"),
        ([5], "does not increase evenly"),
    ):
        foreign(path, [{FIELD.CDP_X: x} for x in places])
        with pytest.raises(ValueError, match=message):
            read_model(path)
    foreign(path, [{}, {}], binary={segyio.BinField.Interval: 0})
    with pytest.raises(ValueError, match="has no TRACE_SAMPLE_INTERVAL"):
        read_model(path)


def test_archives_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    traces, dt, sources, receivers = survey()
    np.savez(path, traces=traces, dt=dt, sources=sources)
    with pytest.raises(ValueError, match=r"a\.npz: lacks the keys receivers"):
        read_traces(path)
    with pytest.raises(ValueError, match=r"a\.npz: lacks the keys field, spacing, origin"):
        read_model(path)
    np.savez(path, traces=traces, dt=dt, sources=sources, receivers=receivers[0, :1])
    with pytest.raises(ValueError, match=r"a\.npz: receivers has shape \(1, 2\), expected"):
        read_traces(path)
    write_traces(path, traces, dt, sources, receivers)
    whole = path.read_bytes()
    np.savez(path, traces=np.array([None, 1]))
    objects = path.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:200] + b"x" + whole[201:], b"", objects):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.npz: not an \.npz file of numbers"):
            read_traces(path)


def test_without_segyio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_traces(tmp_path / "a.sgy", *survey())
    monkeypatch.setitem(__import__("sys").modules, "segyio", None)
    for call in (lambda: read_traces(tmp_path / "a.sgy"), lambda: write_traces("b.sgy", *survey())):
        with pytest.raises(ImportError, match=r"install adjoint\[segy\], or use \.npz"):
            call()
    write_traces(tmp_path / "a.npz", *survey())
    assert read_traces(tmp_path / "a.npz").traces.shape == (3, 4, 50)


@pytest.mark.parametrize(
    ("places", "scalar", "whole"),
    [
        ([0.0, 25.0], 1, [0, 25]),
        ([1000000.001, 5.0], -1000, [1000000001, 5000]),
        ([np.nextafter(5000012.1, np.inf)], -10, [50000121]),
        ([0.1 + 0.2], -10, [3]),
        ([1 / 3], -10000, [3333]),
        ([1000000 / 3], -1000, [333333333]),  # the finest that fit
        ([LARGEST_INT // 2], 1, [LARGEST_INT // 2]),
    ],
)
def test_coordinates_are_exact_or_the_finest_that_fit(
    places: list[float], scalar: int, whole: list[int]
) -> None:
    found, numbers = _scaled("traces.sgy", np.array(places, float))
    assert (found, numbers.tolist()) == (scalar, whole)


def test_the_longest_traces_come_back(tmp_path: Path) -> None:
    traces = np.random.default_rng(0).random((1, 1, LARGEST_SHORT)).astype(np.float32)
    path = tmp_path / "long.sgy"
    write_traces(path, traces, 2e-3, [[[0.0, 1.0]]], [[0.0, 2.0]])
    np.testing.assert_array_equal(read_traces(path).traces, traces)


def test_a_coordinate_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"traces.sgy: cannot take the coordinate"):
        _scaled("traces.sgy", np.array([LARGEST_INT // 2 + 1.0]))
