"""Pictures of tapes: their text, read as Graphviz does."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

from adjoint import Tape
from adjoint.checkpoint import TimeLoop
from adjoint.comm import (
    Allreduce,
    Bcast,
    CartesianGrid,
    HaloExchange,
    Irecv,
    Isend,
    Recv,
    Reduce,
    Send,
    SendRecv,
    Wait,
    rank,
    size,
)
from tests.pendulums import Pendulums


def parsed(source: str) -> tuple[dict[str, str], list[tuple[str, str, str]]]:
    """Return labels of nodes by name, and edges with their attributes."""
    nodes = dict(re.findall(r'^ +(\w+) \[label="([^"]*)"', source, re.MULTILINE))
    edges = re.findall(r"^ +(\w+) -> (\w+)(?: \[(.*)\])?;$", source, re.MULTILINE)
    if rank() == 0 and shutil.which("dot"):
        done = subprocess.run(["dot", "-Tcanon"], input=source, text=True, capture_output=True,
                              check=False, timeout=30)  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "error" not in done.stderr.lower(), done.stderr
    return nodes, edges


def named(nodes: dict[str, str], name: str) -> list[str]:
    return [key for key, label in nodes.items() if re.split(r" × |\\n", label)[0] == name]


@pytest.mark.parallel([1, 2, 3])
def test_collectives_are_nodes_between_ranks() -> None:
    with Tape() as tape:
        theta = tape.watch(np.array(1.5))
        Reduce(0)(Bcast(0)(theta) ** 2.0)
    source = tape.draw()
    nodes, edges = parsed(source)
    assert len(named(nodes, "input")) == len(named(nodes, "Power")) == size()
    for name in ("Bcast", "Reduce"):
        (hub,) = named(nodes, name)
        assert len([edge for edge in edges if edge[1] == hub]) == size()
    assert len(edges) == 3 * size()
    assert all(f'label="rank {r}"' in source for r in range(size()))
    assert nodes[named(nodes, "Power")[0]] == r"Power\nscalar float64\nkeeps 16 B"
    assert MPI.COMM_WORLD.allgather(source) == [source] * size()


@pytest.mark.parallel([2, 3])
def test_messages_are_dashed_with_their_bytes() -> None:
    with Tape() as tape:
        x = tape.watch(np.ones(5, np.float32))
        if rank() == 0:
            pending = Isend(1, tag=3)(x)
            Send(1)(x[:2])
            Wait()(pending)
        elif rank() == 1:
            pending = Irecv(0, 5, np.float32, tag=3)()
            Recv(0, 2, np.float32)()
            Wait()(pending)
        SendRecv((rank() + 1) % size(), (rank() - 1) % size())(x)
    nodes, edges = parsed(tape.draw())
    dashed = {
        (*(nodes[end].split(r"\n")[0] for end in ends), re.findall('label="(.*?)"', style)[0])
        for *ends, style in edges
        if "dashed" in style
    }
    assert dashed == {
        ("Isend", "Irecv", "20 B"), ("Send", "Recv", "8 B"), ("SendRecv", "SendRecv", "20 B")
    }  # fmt: skip
    ring = [edge for edge in edges if "dashed" in edge[2] and nodes[edge[0]].startswith("SendRecv")]
    assert len(ring) == (1 if size() == 2 else size())


@pytest.mark.parallel([1, 2, 3])
def test_repeated_steps_are_folded_and_halos_join_neighbours() -> None:
    grid = CartesianGrid((9, 4), dims=(size(), 1))
    halo = HaloExchange(grid, 1)
    with Tape() as tape:
        u = tape.watch(np.ones(grid.patch_shape))
        for _ in range(20):
            u = u + 0.1 * halo(u)[1:-1, 1:-1]
        Allreduce()((u * u).sum())
    assert len(tape.records) == 83
    source = tape.draw()
    nodes, edges = parsed(source)
    assert source.count('label="× 20"') == size()
    assert len(named(nodes, "HaloExchange")) == size()
    between = [edge for edge in edges if "dashed" in edge[2]]
    assert len(between) == size() - 1
    assert all('label="32 B"' in style and "dir=both" in style for _, _, style in between)
    again = [edge for edge in edges if "dotted" in edge[2]]
    assert len(again) == 2 * size()  # to the exchange and to the sum of the next step
    # What is kept is that of all steps together; a view keeps all of the padded patch.
    total = 20 * 8 * int(np.prod(grid.padded_shape(1)))
    labels = [nodes[key] for key in named(nodes, "Multiply") if key.startswith(f"r{rank()}n")]
    assert sum(f"keeps {total / 1000:.3g} kB" in label for label in labels) == 1


@pytest.mark.parallel([1, 2])
def test_a_sequence_of_one_and_a_long_tape_without_repetitions() -> None:
    with Tape() as tape:
        x = tape.watch(np.ones(2))
        for _ in range(1000):
            x = x * 2.0
    nodes, edges = parsed(tape.draw())
    assert {nodes[key].split(r"\n")[0] for key in nodes} == {"input", "Multiply × 1000"}
    assert len([edge for edge in edges if "dotted" in edge[2]]) == size()

    with Tape() as tape:
        x = tape.watch(np.ones(2))
        for n in range(2, 202):
            x = np.concatenate([x, x[:1]]) if n % 3 else x.reshape(-1)[:n]
    source = tape.draw()
    nodes, _ = parsed(source)
    assert len(nodes) <= 121 * size()
    assert re.search(r"… \d+ more …", source)


@pytest.mark.parallel([2, 3])
def test_some_ranks_and_wrong_ones() -> None:
    with Tape() as tape:
        x = tape.watch(np.ones(2))
        x = SendRecv((rank() + 1) % size(), (rank() - 1) % size())(x)
        Allreduce()(x)
    source = tape.draw(ranks=[1])
    _, edges = parsed(source)
    assert f"{size() - 1} of {size()} ranks are not drawn" in source
    assert source.count("subgraph") == 1
    other = (1 + 1) % size()
    assert f'x{other} [shape=plain, style="", label="rank {other}"]' in source
    assert any(b == f"x{other}" and "dashed" in style for _, b, style in edges)
    with pytest.raises(
        ValueError, match=rf"ranks is \[0, 9\], expected at least 1 of the {size()}"
    ):
        tape.draw(ranks=[0, 9])
    with pytest.raises(ValueError, match="does not end in"):
        tape.draw("graph.jpg" if rank() == 0 else None)


@pytest.mark.parallel([1, 2])
def test_a_time_loop_is_one_node_of_all_ranks() -> None:
    with Tape() as tape:
        m = tape.watch(np.ones(3))
        TimeLoop(Pendulums(MPI.COMM_WORLD, 3, steps=4))(m, np.ones((4, 3)))
    source = tape.draw()
    nodes, _ = parsed(source)
    (loop,) = named(nodes, "TimeLoop")
    assert "keeps" in nodes[loop]
    assert "#fde3c8" in next(line for line in source.splitlines() if line.strip().startswith(loop))


@pytest.mark.parallel([1, 2])
def test_files_with_and_without_graphviz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder: Any = MPI.COMM_WORLD.bcast(tmp_path)
    with Tape() as tape:
        Allreduce()(tape.watch(np.ones(2)))
    source = tape.draw(folder / "graph.dot")
    assert (folder / "graph.dot").read_text() == source
    if shutil.which("dot"):
        tape.draw(folder / "graph.svg")
        assert "<svg" in (folder / "graph.svg").read_text()
    monkeypatch.setattr("adjoint.draw.shutil.which", lambda name: None)
    if rank() == 0:
        with pytest.warns(UserWarning, match=r"other.dot was written; with it, `dot -Tsvg"):
            tape.draw(folder / "other.svg")
    else:
        tape.draw(folder / "other.svg")
    assert (folder / "other.dot").read_text() == source
    with pytest.raises(OSError, match="No such file"):
        tape.draw(folder / "none" / "graph.dot")
