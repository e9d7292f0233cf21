"""What matters at scale: costs by hand, and from how many ranks on they matter."""

from __future__ import annotations

from collections.abc import Callable

import limits
import pytest
from model import Network

NETWORK = Network(latency=1e-6, overhead=2e-6, per_byte=1e-9)
MEMORY = 1e10


@pytest.fixture(autouse=True)
def nothing_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def scaled(work: Callable[[int], None]) -> limits.Cost:
        return lambda ranks: 1e-3 * ranks

    monkeypatch.setattr(limits, "scaled", scaled)
    monkeypatch.setattr(limits, "large_network", lambda: 9.0)


def test_a_large_network_by_hand() -> None:
    costs = limits.costs(NETWORK, MEMORY)
    whole = next(cost for what, (_, _, cost) in costs.items() if "10⁷" in what)
    shares = next(cost for what, (_, _, cost) in costs.items() if "in shares" in what)
    vectors = 4 * 50 * 8e7 / MEMORY
    assert whole(8) == pytest.approx(2 * 3 * 3e-6 + 3 * 8e7 * 1e-9 + vectors)
    pieces = 2 * 7 * (3e-6 + 1e7 * 1e-9)
    assert shares(8) == pytest.approx(pieces + 4 * 10 * 1e7 / MEMORY + 30 * 3 * 3e-6)
    assert shares(1) == pytest.approx(4 * 10 * 8e7 / MEMORY)


def test_what_is_paid_once_may_take_ten_times_as_long() -> None:
    gradient = dict.fromkeys((1, 2, 4, 8, 16), 1.0)
    found = {
        row[0]: row[1:]
        for row in limits.rows(NETWORK, MEMORY, {"poisson": gradient, "acoustic": gradient})
    }
    assert len(found) == len(limits.costs(NETWORK, MEMORY))
    # A millisecond a rank beside a gradient of a second: a tenth of ten gradients.
    assert found["plan of traces: who records what"] == ["once", 0.016, 1.0, "1024 ranks"]
    network = next(row for what, row in found.items() if "10⁷" in what)
    assert network[2] == pytest.approx(10.0)
    assert network[3] == "2 ranks"  # 1.8 s of 10
