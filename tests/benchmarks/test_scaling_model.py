"""The scaling model finds the programs that made-up measurements are of, and predicts others."""

from __future__ import annotations

from typing import Any

import pytest
import scaling_model
from links import Link
from model import Computing, Growth, Network, Solve, Wave
from scaling_model import EXCHANGES, LINES, SOLVES, WAVES, Runs, square

from adjoint.comm import Blocks

ITERATIONS = 12
SPEED = Computing((256.0, 2500.0, 10_000.0), (1e-5, 1e-4, 4e-4), layer=2e-8)


def made_up(name: str) -> Wave | Solve:
    if name in SOLVES:
        rounds, sent = Growth((2.0,), (9.0,), 0.0), Growth((2.0,), (700.0,), 0.0)
        return Solve(SPEED, Growth((1.0,), (ITERATIONS,), 0.0), rounds, sent)
    physics, case = name.split(", ")
    ways = 2 if case == "gradient" else 1
    once = Growth((2.0,), (11.0,), 0.0)
    return Wave(SPEED, ways * EXCHANGES[physics], ways * LINES[physics], once)


def probe(*arguments: Any, ranks: int, link: Link | None = None) -> dict[str, Any]:
    """Return what a machine would measure that the model describes exactly."""
    words = [*arguments]
    alone = "--alone" in words
    patches = [int(w) for w in words[words.index("--patch") + 1 : words.index("--repetitions")]]
    steps = words[words.index("--steps") + 1 :] if "--steps" in words else [2, 10]
    net = Network(1e-6, 1e-6, 1e-10) if link is None else Network(link[0], 2e-5, 1 / link[1])
    sizes = {f"{s}": s for s in [(1, 1, 8), (1, 2, 8000), (10, 10, 400_000), (5, 10, 80)]}
    medians = {name: net.seconds(*size) for name, size in sizes.items()}
    for p in patches:
        blocks = Blocks((p, p), (1, 1)) if alone else square(p, ranks)
        for name in WAVES:
            for n in steps:
                seconds = scaling_model.predicted(made_up(name), blocks, n, net)
                medians[f"{name}, {p} nodes with layers, {n} steps"] = seconds
                medians[f"{name}, {p} nodes bare, {n} steps"] = n * SPEED.at(p**2)
        for name in SOLVES:
            medians[f"{name}, {p} nodes"] = scaling_model.predicted(made_up(name), blocks, 0, net)
    by_patch = {str(p): ITERATIONS for p in patches}
    return {
        "medians": medians,
        "parameters": {"sizes": sizes, "iterations": by_patch,
                       "steps": {str(p): tuple(steps) for p in patches}},
    }  # fmt: skip


def test_made_up_programs_are_found_and_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling_model, "probe", probe)
    patches = [16, 50, 100]
    speeds = scaling_model.computing(probe("--alone", "--patch", *patches, "--repetitions", 1,
                                           ranks=2), patches)  # fmt: skip
    given = {p**2: float(ITERATIONS) for p in patches}
    known = Runs(50, [2], [Link(2e-3, 125e6), Link(1e-3, 1.25e6)], 1)
    programs = scaling_model.calibrated(speeds, given, known, cores=2)
    assert set(given) == {p**2 for p in patches}
    checked = scaling_model.validation(programs, Runs(60, [2], [Link(1.5e-3, 12.5e6)], 1), cores=2)
    assert [row[0] for row in checked] == [*WAVES, *SOLVES]
    for name, _, _, measured, expected in checked:
        assert expected == pytest.approx(measured, rel=1e-3), name
