"""The relay between network namespaces, and the counts of messages, without either."""

from __future__ import annotations

from pathlib import Path

import links
import oversubscribed

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
