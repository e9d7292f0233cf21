"""The report: verdicts on made-up results, and a page with all tables and figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import report
import run
import targets


def result(benchmark: str, parameters: dict[str, Any], seconds: dict[str, list[float]],
           ranks: int = 1) -> dict[str, Any]:  # fmt: skip
    """Return what a benchmark would leave."""
    return {
        "benchmark": benchmark, "about": f"About {benchmark}.", "ranks": ranks, "threads": 1,
        "machine": {"processor": "abacus", "cores": 2, "system": "wood"},
        "versions": {"python": "3"}, "parameters": parameters,
        "tables": [{"title": "times", "header": ["", "s"], "rows": [["a", "1.5"]]}],
        "seconds": seconds, "medians": {n: sorted(s)[len(s) // 2] for n, s in seconds.items()},
    }  # fmt: skip


def verdicts(found: list[dict[str, Any]]) -> dict[str, tuple[str, str]]:
    return {row[0]: (row[2], row[3]) for row in targets.rows(found)}


def test_each_verdict_follows_the_measured_value() -> None:
    def network(ours: float) -> tuple[str, str]:
        seconds = {"ours": [ours, 9.0, ours], "PyTorch": [1.0, 9.0, 1.0]}
        found = verdicts([result("mlp", {"points": 10}, seconds)])
        return found["network, value and gradient: ours / PyTorch"]

    assert network(0.3) == ("0.3", "reached")
    assert network(0.7) == ("0.7", "missed")


def test_a_ratio_takes_repetitions_side_by_side() -> None:
    seconds = {"a": [1.0, 10.0, 100.0], "b": [2.0, 20.0, 50.0]}
    assert targets.ratio(result("x", {}, seconds), "a", "b") == 0.5
    assert targets.ratio(result("x", {}, seconds), "a", "c") is None


def test_the_worst_case_counts() -> None:
    seconds = {"w1, ours": [1.0], "w1, by hand": [1.0], "w2, ours": [3.0], "w2, by hand": [2.0]}
    found = verdicts([result("halo", {}, seconds)])
    assert found["halo exchange: ours / mpi4py by hand, worst case"] == ("1.5", "missed")


def waves(steps: int) -> dict[str, Any]:
    sizes = [(1000, 100, 1, 2), (1000, 100, 2, 2), (100, steps, 1, 1)]
    seconds = {
        "1000, 1 shots: adjoint forward": [9.0], "1000, 1 shots: Devito forward": [1.0],
        "1000, 2 shots: adjoint forward": [2.0], "1000, 2 shots: Devito forward": [3.0],
        "1000, 2 shots: Deepwave forward": [2.0], "1000, 2 shots: adjoint gradient": [4.0],
        "100, 1 shots: adjoint forward": [0.05], "100, 1 shots: adjoint gradient": [1.0],
        "12, without layers: forward": [0.02],
    }  # fmt: skip
    roofline = [32.0, 7.0, 10.0, 0.7, 20.0]
    return result("acoustic", {"sizes": sizes, "roofline": roofline, "tiny": (12, 2000)}, seconds)


def test_waves_are_compared_with_as_many_shots_as_threads_and_name_their_limit() -> None:
    found = verdicts([waves(2000)])
    assert found["acoustic, forward: Devito's time / ours"] == ("1.5", "reached")
    missed = "missed: 70% of the memory's 10 GB/s are used (7 GB/s)"
    assert found["acoustic, forward: Deepwave's time / ours"] == ("1", missed)
    assert found["acoustic: gradient / forward run"] == ("2", "reached")
    assert found["acoustic: a step besides its arithmetic, µs"] == ("10", "reached")


def test_the_paper_is_compared_at_its_own_number_of_steps_alone() -> None:
    claim = "acoustic, forward, 100×100: 1 core / the paper's 32"
    assert verdicts([waves(2000)])[claim] == ("0.0463", "reached")
    assert verdicts([waves(500)])[claim] == ("", "not measured in this run")


def test_shares_are_compared_on_the_most_ranks() -> None:
    def found(ranks: dict[str, list[int]], sent: list[int]) -> dict[str, dict[str, Any]]:
        same = {"parameters": 10**7, "evaluations": 2, "sent": sent}
        return {n: {**same, "allocated": most} for n, most in ranks.items()}

    by_where = {
        "on rank 0": found({"2": [9, 1], "10": [50, *[2] * 9]}, []),
        "in shares": found({"2": [7, 8], "10": [4, *[5] * 9]}, [10**8, 3 * 10**8]),
    }
    told = verdicts([result("shares", {"found": by_where}, {})])
    memory = "10⁷ parameters in shares: memory of a rank of 4 / rank 0 in minimize"
    sent = "a network's parameters in shares: bytes a rank sends for each"
    assert told[memory] == ("0.1", "reached")
    assert told[sent] == ("15", "reached")
    by_where["in shares"] = found({"2": [7, 8]}, [])  # of an MPI that does not count
    assert verdicts([result("shares", {"found": by_where}, {})])[sent][0] == ""


def test_what_was_not_run_is_not_called_reached() -> None:
    assert {verdict for _, verdict in verdicts([]).values()} == {"not measured in this run"}


def test_the_page_has_targets_tables_and_figures(tmp_path: Path) -> None:
    source = tmp_path / "json"
    source.mkdir()
    shape = {"physics": "acoustic", "mode": "strong", "shape": [1000, 1000], "steps": 100}
    for ranks, seconds in ((1, 2.0), (2, 1.25)):
        cases = {"forward": [seconds], "gradient": [3 * seconds]}
        text = json.dumps(result("scaling", shape, cases, ranks))
        (source / f"scaling-{ranks}.json").write_text(text)
    mlp = result("mlp", {"points": 1000}, {"ours": [1.0], "PyTorch": [4.0]})
    (source / "mlp.json").write_text(json.dumps(mlp))

    found = report.results(source)
    page = report.readme(found, report.draw(found, tmp_path))
    assert "| network, value and gradient: ours / PyTorch | ≤ 0.5 | 0.25 | reached |" in page
    assert "| acoustic, strong | 1000×1000 | 2 × 1 | forward | 1.25 | 1.60 | 0.80 |" in page
    assert "| a | 1.5 |" in page
    for name in ("mlp.png", "scaling-acoustic-strong.png"):
        assert f"figures/{name}" in page
        assert (tmp_path / name).stat().st_size > 1000


def test_a_folder_without_results_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="run the benchmarks with --json first"):
        report.results(tmp_path)


@pytest.mark.parametrize("quick", [False, True])
def test_every_job_has_a_script_and_a_file_of_its_own(quick: bool) -> None:
    jobs = run.all_jobs(2, quick)
    names = [run.name_of(job) for job in jobs]
    assert len(set(names)) == len(names)
    assert all((run.HERE / f"{job[0]}.py").exists() for job in jobs)
    assert {target.script for target in targets.TARGETS} <= {job[0] for job in jobs}
