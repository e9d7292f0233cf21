"""The relay between network namespaces, and counts of messages and bytes, without any of them."""

from __future__ import annotations

from pathlib import Path

import links
import oversubscribed
import shares

from adjoint.comm import Blocks


def test_packets_know_their_node() -> None:
    def packet(destination: tuple[int, int, int, int], version: int = 4) -> bytes:
        return bytes([version << 4, *[0] * 15, *destination])

    for rank in (0, 7, 249, 250, 511):
        parts = [int(part) for part in links.address(rank).split(".")]
        assert links.node(packet((parts[0], parts[1], parts[2], parts[3]))) == rank
    assert links.node(packet((224, 0, 0, 22))) is None
    assert links.node(packet((10, 77, 0, 1), version=6)) is None


def test_counts_of_links_between_neighbours(tmp_path: Path) -> None:
    (tmp_path / "count.1").write_text("0 9 800\n3 5 1600\n")
    (tmp_path / "count.2").write_text("1 1 64\n")
    found = oversubscribed.traffic(tmp_path / "count")
    assert found == {(1, 0): (9, 800), (1, 3): (5, 1600), (2, 1): (1, 64)}
    # Of 2 × 2 patches 1 and 2 meet at a corner.
    assert oversubscribed.between_neighbours(found, Blocks((8, 8), (2, 2))) == {(1, 3): (5, 1600)}


def test_bytes_counted_by_open_mpi(tmp_path: Path) -> None:
    header, collective = "# POINT TO POINT\n", "C\t0\t1\t900 bytes\t8 msgs sent\n"
    lines = ["E\t0\t1\t1600 bytes\t12 msgs sent\t0,0\n", "E\t0\t2\t90 bytes\t6 msgs sent\t0\n"]
    (tmp_path / "sent.0.prof").write_text(header + "".join(lines) + collective)
    (tmp_path / "sent.1.prof").write_text(header + collective)
    assert shares.counted(tmp_path / "sent", 2) == [1690, 0]
    assert shares.counted(tmp_path / "elsewhere", 2) == []
