"""One trial of each kind of fault; `make faults` makes many."""

from __future__ import annotations

import time
from random import Random

import pytest

from tests.faults.cases import CASES, Bench

pytestmark = pytest.mark.timeout(200)

RANKS = {"poisson": 3, "acoustic": 2, "field": 2}


@pytest.fixture(scope="module")
def benches(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bench]:
    return {name: Bench(name, RANKS[name], tmp_path_factory.mktemp(name)) for name in RANKS}


# What is missing here is tested on the optimiser and on the examples themselves.
@pytest.mark.parametrize(
    ("case", "problem"),
    [
        ("kill -9 of any rank", "poisson"),
        ("kill -9 of any rank", "acoustic"),
        ("kill -9 of any rank", "field"),
        ("SIGTERM to rank 0", "acoustic"),
        ("SIGINT to rank 0", "poisson"),
        ("full disk", "poisson"),
        ("unwritable folder", "acoustic"),
        ("truncated state file", "acoustic"),
        ("state file of another run", "poisson"),
        ("another number of ranks", "poisson"),
        ("SIGINT to another rank", "acoustic"),
    ],
)
def test_a_run_survives(case: str, problem: str, benches: dict[str, Bench]) -> None:
    seed = time.time_ns()
    print(f"seed {seed}")
    CASES[case](benches[problem], Random(seed))
