"""What a profile counts, against numbers known beforehand, and its trace, read as a viewer does."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

from adjoint import Operator, Tape, profiling, spans
from adjoint.checkpoint import TimeLoop
from adjoint.comm import (
    Allgather,
    Allreduce,
    Alltoall,
    Barrier,
    Bcast,
    CartesianGrid,
    Gather,
    GatherField,
    HaloExchange,
    Irecv,
    Isend,
    Recv,
    Reduce,
    ReduceScatter,
    Scatter,
    ScatterField,
    Send,
    SendRecv,
    Wait,
    rank,
    size,
)
from adjoint.jacobian import Jacobian
from adjoint.profile import Profile
from adjoint.solvers import MatVec, Pattern, Transpose
from tests.pendulums import Pendulums

N = 12  # entries of every vector here: it can be cut into as many parts as there are ranks
BYTES = 8 * N


def swept(program: Callable[[Any], Any]) -> Profile:
    """Run a program and its reverse sweep under a profile."""
    with profiling() as profile, Tape() as tape:
        x = tape.watch(np.arange(1.0, N + 1))
        y = program(x)
        assert y is not None
        tape.vjp([y], [np.ones(y.shape)], [x])
    return profile


def only(profile: Profile, name: str) -> Any:
    (row,) = [row for row in profile.own().rows if row.name == name]
    return row


def sent_by(root: bool, others: bool) -> int:
    """Return the bytes of a vector for those ranks that send it."""
    return BYTES * (size() > 1) * (root if rank() == 0 else others)


def part(n: int = N) -> int:
    """Return the bytes of this rank's even part."""
    return 8 * (n // size())


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("kind", ["Bcast", "Reduce", "Allreduce", "Gather", "Scatter", "Allgather",
                                  "ReduceScatter", "Alltoall"])  # fmt: skip
def test_bytes_of_collectives_forwards_and_back(kind: str) -> None:
    several = size() > 1
    own = N * 8  # what Gather and Allgather add to the whole
    operator, expected = {
        # forwards, and the adjoint
        "Bcast": (Bcast(0), sent_by(True, False) + sent_by(False, True)),
        "Reduce": (Reduce(0), sent_by(False, True) + sent_by(True, False)),
        "Allreduce": (Allreduce(), 2 * BYTES * several),
        "Gather": (Gather(0), sent_by(False, True) + (size() - 1) * own * (rank() == 0)),
        "Scatter": (Scatter(0), (BYTES - part()) if rank() == 0 else part()),
        "Allgather": (Allgather(), several * own + (size() - 1) * own),
        "ReduceScatter": (ReduceScatter(), several * (BYTES - part() + part())),
        "Alltoall": (Alltoall(), 2 * (BYTES - part())),
    }[kind]
    row = only(swept(lambda x: operator(x.reshape(N // 2, 2))), kind)
    assert row.sent.most == expected
    assert row.calls.most == 1


@pytest.mark.parallel([1, 2, 3])
def test_bytes_of_messages() -> None:
    right, left = (rank() + 1) % size(), (rank() - 1) % size()
    others = size() > 1  # a message to oneself is not sent
    assert only(swept(SendRecv(right, left)), "SendRecv").sent.most == 2 * BYTES * others

    def to_itself(x: Any) -> Any:
        pending = Irecv(rank(), N)()
        SendRecv(rank(), None)(x)
        return Wait()(pending)

    assert only(swept(to_itself), "SendRecv").sent.most == 0

    def ring(x: Any) -> Any:
        pending = Irecv(left, N)()
        sending = Isend(right)(x)
        y = Wait()(pending)
        Wait()(sending)
        return y

    profile = swept(ring)
    assert only(profile, "Isend").sent.most == BYTES * others
    assert only(profile, "Irecv").sent.most == 0
    assert only(profile, "Wait").sent.most == BYTES * others  # it posts the reversed message

    def pair(x: Any) -> Any:
        if rank() == 0 and others:
            Send(1)(x)
        if rank() == 1:
            x = Recv(0, N)() + x
        return x

    profile = swept(pair)
    if others and rank() < 2:
        assert only(profile, ("Send", "Recv")[rank()]).sent.most == BYTES


@pytest.mark.parallel([1, 2, 3])
def test_bytes_of_fields_and_halos() -> None:
    grid = CartesianGrid((7, 5), dims=(size(), 1))
    neighbours = (rank() > 0) + (rank() < size() - 1)
    patch = 8 * int(np.prod(grid.patch_shape))
    whole = 8 * 35
    halo = HaloExchange(grid, 1)
    with profiling() as profile, Tape() as tape:
        u = tape.watch(np.ones(grid.patch_shape))
        y = halo(u)
        z = GatherField(grid)(u)
        tape.vjp([y, z], [np.ones(y.shape), np.ones(z.shape)], [u])
        ScatterField(grid)(np.ones(grid.shape) if rank() == 0 else None)
        buffers = halo.buffers(2, np.float32)
        fields = [np.ones(buffers.padded_shape, np.float32) for _ in range(2)]
        for _ in range(3):
            buffers.forward(fields)
        buffers.adjoint(fields)
    assert only(profile, "HaloExchange").sent.most == 2 * neighbours * 8 * 5
    exchange = only(profile, "halo exchange")
    assert exchange.calls.most == 4
    assert exchange.sent.most == 4 * neighbours * 2 * 4 * 5
    root = whole - patch
    assert only(profile, "GatherField").sent.most == (root if rank() == 0 else patch)
    assert only(profile, "ScatterField").sent.most == (root if rank() == 0 else 0)
    with profiling() as profile:
        for _ in range(3):
            buffers.forward(fields)
        buffers.adjoint(fields)
    waits = [row.calls.most for row in profile.own().rows if row.name == "wait"]
    assert waits == [4] * (neighbours > 0)  # requests are persistent; their waiting is seen


@pytest.mark.parallel([1, 2, 3])
def test_bytes_of_sparse_matrices() -> None:
    rows = np.arange(*np.array([rank(), rank() + 1]) * 4)  # a tridiagonal matrix, 4 rows each
    columns = [[j for j in (i - 1, i, i + 1) if 0 <= j < 4 * size()] for i in rows]
    pattern = Pattern(np.cumsum([0, *map(len, columns)]), np.concatenate(columns), 4)
    neighbours = (rank() > 0) + (rank() < size() - 1)
    with profiling() as profile, Tape() as tape:
        values, x = tape.watch(np.ones(pattern.nnz)), tape.watch(np.ones(4))
        y = MatVec(pattern)(Transpose(pattern)(values), x)
        tape.vjp([y], [np.ones(4)], [values, x])
    # An entry of x and its cotangent, and an entry of the matrix and its cotangent.
    assert only(profile, "MatVec").sent.most == 2 * 8 * neighbours
    assert only(profile, "Transpose").sent.most == 2 * 8 * neighbours


class Slow(Operator):
    """Takes as long as it is told, forwards, and three times as long in reverse."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def forward(self, x: Any) -> Any:
        time.sleep(self.seconds)
        return x.copy()

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        return tangents[0]

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        time.sleep(self.seconds)

        def later() -> Any:
            time.sleep(2 * self.seconds)
            return cotangents[0]

        return (later,)


@pytest.mark.parallel([1, 2, 3])
def test_a_table_over_ranks() -> None:
    with Tape(profile=True) as tape:
        x = tape.watch(np.ones(3))
        y = Slow(0.01)(x)
        for _ in range(rank()):
            y = y * 2.0
    tape.vjp([y], [np.ones(3)], [x])
    table = tape.profile()
    rows = {row.name: row for row in table.rows}
    assert table.rows[0].name == "Slow"
    assert table.ranks == size()
    slow = rows["Slow"]
    assert slow.calls == (1, 1, 1)
    assert 0.01 <= slow.forward.least <= slow.forward.median <= slow.forward.most < table.seconds
    assert slow.reverse.least >= 0.03
    if size() > 1:
        multiply = rows["Multiply"]
        assert (multiply.calls.least, multiply.calls.most) == (0, size() - 1)
        assert multiply.calls.median == np.median(range(size()))
    lines = str(table).splitlines()
    assert lines[2].split()[0] == "operator"
    assert any(line.startswith("Slow") for line in lines)
    everyone = MPI.COMM_WORLD.allgather([row.name for row in table.rows])
    assert everyone == [everyone[0]] * size()


@pytest.mark.parallel([1, 2])
def test_numbers_in_a_file(directory: Path) -> None:
    table = swept(Allreduce()).table()
    if rank() == 0:
        table.to_csv(directory / "profile.csv")
        header, *lines = (directory / "profile.csv").read_text().splitlines()
        assert header.startswith("name,inside,calls_least,calls_median,calls_most,forward_least")
        cells = dict(zip(header.split(","), lines[0].split(",")))
        assert len(cells) == 17
        assert cells["name"] == "Allreduce"
        assert float(cells["sent_most"]) == 2 * BYTES * (size() > 1)


@pytest.mark.parallel([1, 2])
def test_memory_counts_each_array_once() -> None:
    with Tape(profile=True) as tape:
        x = tape.watch(np.ones(10))
        y = x * x  # keeps x
        z = x * y[2:5].sum()  # keeps a number besides, and x again
        big = np.ones(100)
        loss = np.where(big[:10] > 0, z, 0.0).sum()  # the condition is an array of its own
    before = {row.name: row.kept.most for row in tape.profile().rows}
    assert before["Multiply"] == 80 + 8
    assert before["Where"] == 10
    tape.vjp([loss], [1.0], [x])
    assert {row.name: row.kept.most for row in tape.profile().rows} == before


@pytest.mark.parallel([1, 2])
def test_memory_of_a_time_loop_is_what_its_steps_keep() -> None:
    loop = Pendulums(MPI.COMM_WORLD, 3, steps=7, runs=2)
    with profiling() as profile, Tape() as tape:
        m = tape.watch(np.ones(3))
        y = TimeLoop(loop)(m, np.ones((7, 3)))
        tape.vjp([y], [np.ones(y.shape)], [m])
    row = only(profile, "TimeLoop")
    inputs = 8 * (3 + 21)
    assert row.kept.most == 2 * loop.kept_bytes(7) + inputs
    assert only(profile, "allocate").calls.most == 2


@pytest.mark.parallel([1, 2])
def test_tangents_are_forward_sweeps() -> None:
    with profiling() as profile:
        Jacobian(Slow(0.005), np.ones(3)).matvec(np.ones(3))
    row = only(profile, "Slow")
    assert row.reverse.most == 0
    assert row.forward.most >= 0.005


@pytest.mark.parallel([1, 2])
def test_profiles_within_each_other_see_the_same() -> None:
    with profiling() as outer:
        with Tape(profile=True) as tape:
            x = tape.watch(np.ones(N))
            y = Allreduce()(x)
        tape.vjp([y], [np.ones(N)], [x])  # the tape is closed, and still watches
    assert spans.active is None
    inner = tape.profile()
    for rows in ([only(outer, "Allreduce")], [r for r in inner.rows if r.name == "Allreduce"]):
        assert rows[0].calls.most == 1
        assert rows[0].reverse.most > 0
        assert rows[0].sent.most == 2 * BYTES * (size() > 1)
    assert outer.sent == 2 * BYTES * (size() > 1)


@pytest.mark.parallel([1])
def test_an_exception_ends_the_watch() -> None:
    class Faulty(Slow):
        def forward(self, x: Any) -> Any:
            raise ArithmeticError("faulty")

    with pytest.raises(ArithmeticError), profiling() as profile, Tape(profile=True) as tape:
        Faulty(0.0)(tape.watch(np.ones(2)))
    assert spans.active is None
    assert only(profile, "Faulty").calls.most == 1
    with pytest.raises(RuntimeError, match=r"use Tape\(profile=True\)"):
        Tape().profile()


# The trace.


def events(path: Path) -> list[list[dict[str, Any]]]:
    """Return each rank's spans, having checked that they are as a viewer wants them."""
    whole = json.loads(path.read_text())["traceEvents"]
    names = {e["pid"]: e["args"]["name"] for e in whole if e["name"] == "process_name"}
    assert [names[r].split(" on ")[0] for r in range(size())] == [f"rank {r}" for r in names]
    found: list[list[dict[str, Any]]] = [[] for _ in range(size())]
    for event in whole:
        if event["ph"] == "X":
            assert event["ts"] >= 0
            assert event["dur"] >= 0
            found[event["pid"]].append(event)
    for row in found:
        require_nested(row)
    return found


def require_nested(row: list[dict[str, Any]]) -> None:
    """Raise unless of two spans one is in the other or after it; to the nanosecond."""
    open_until: list[int] = []
    for event in row:
        begin = round(1000 * event["ts"])
        end = begin + round(1000 * event["dur"])
        while open_until and open_until[-1] <= begin:
            open_until.pop()
        assert not open_until or end <= open_until[-1], event
        open_until.append(end)


def traced(path: Path, trace: bool | int = True) -> Profile:
    """Write the trace of a program with halos, barriers and a wait that is known."""
    grid = CartesianGrid((8, 6))
    buffers = HaloExchange(grid, 1).buffers(1)
    field = np.ones(buffers.padded_shape)
    with profiling(trace=trace) as profile:
        with Tape() as tape:
            x = tape.watch(np.ones(3))
            Barrier()()
            if rank() == size() - 1:
                time.sleep(0.08)
            y = Allreduce()(x)
            for _ in range(10):
                buffers.forward([field])
            tape.vjp([y], [np.ones(3)], [x])
    profile.write_trace(path)
    return profile


def require_causality(found: list[list[dict[str, Any]]], slack: float) -> None:
    """Raise unless every rank has come to a barrier before any has left it."""
    for name in ("Barrier", "Barrier (reverse)"):
        spans_of = [event for row in found for event in row if event["name"] == name]
        assert len(spans_of) == size()
        last = max(event["ts"] for event in spans_of)
        assert all(event["ts"] + event["dur"] > last - slack for event in spans_of)


@pytest.mark.parallel([1, 2, 3])
def test_a_trace_shows_waiting_and_halo_exchanges(directory: Path) -> None:
    traced(directory / "trace.json")
    found = events(directory / "trace.json")
    counts = [Counter(event["name"] for event in row) for row in found]
    assert {count["halo exchange"] for count in counts} == {10}
    assert {count["Allreduce (reverse)"] for count in counts} == {1}
    require_causality(found, 2000.0)
    for row in found[:-1]:  # those that wait for the last
        (reduction,) = [event for event in row if event["name"] == "Allreduce"]
        waits = [e["dur"] for e in row if e["name"] == "wait" and e["ts"] >= reduction["ts"]]
        assert waits[0] > 20e3
        assert reduction["dur"] >= waits[0]
    total = [event for row in found for event in row if event.get("args")]
    assert {event["args"]["bytes sent"] for event in total if event["name"] == "Allreduce"} <= {24}


@pytest.mark.parallel([2, 3])
def test_clocks_that_differ_and_drift_are_brought_together(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def skewed() -> int:
        now = time.perf_counter_ns()
        return now + rank() * (5_000_000_000 + now // 4)

    for module in ("profile", "trace"):
        monkeypatch.setattr(f"adjoint.{module}.perf_counter_ns", skewed)
    traced(directory / "trace.json")
    require_causality(events(directory / "trace.json"), 2000.0)


@pytest.mark.parallel([2, 3])
def test_messages_under_way_are_left_alone(directory: Path) -> None:
    with Tape() as tape:
        if rank() == 1:
            Send(0)(tape.watch(np.arange(3.0)))
        profile = traced(directory / "trace.json")
        profile.write_trace(directory / "trace.json")
        if rank() == 0:
            np.testing.assert_array_equal(Recv(1, 3)().value, np.arange(3.0))


@pytest.mark.parallel([1, 2])
def test_a_trace_has_a_constant_size(directory: Path) -> None:
    profile = traced(directory / "trace.json", trace=6)
    assert len(profile.spans) == 6
    assert profile.forgotten > 5
    found = events(directory / "trace.json")
    assert all(0 < len(row) <= 6 for row in found)
    assert min(event["ts"] for row in found for event in row) == 0


@pytest.mark.parallel([1, 2, 3])
def test_a_trace_that_cannot_be_written(tmp_path: Path) -> None:
    with profiling(trace=True) as profile:
        Barrier()()
    with pytest.raises(FileNotFoundError):
        profile.write_trace(tmp_path / "none" / "trace.json")
    Barrier()()
