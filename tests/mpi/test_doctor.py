"""The doctor on several ranks: one report, one exit code."""

from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI

from adjoint.comm import HaloExchange
from adjoint.commands.doctor import doctor, run, self_test
from adjoint.commands.doctor.finding import Finding, Verdict, fault, together


@pytest.mark.parallel([1, 2, 3, 4])
def test_rank_0_prints_one_report(capsys: pytest.CaptureFixture[str]) -> None:
    world = MPI.COMM_WORLD
    code = doctor()
    printed = capsys.readouterr().out
    if world.rank:
        assert printed == ""
        return
    assert f"ok      ranks                   {world.size} on 1 host: " in printed
    assert printed.count("halo and its adjoint") == printed.count("network gradient") == 1
    faults = [line.split()[1] for line in printed.splitlines() if line.startswith("FAULT")]
    assert code == len(faults), printed
    assert set(faults) <= {"cores"}, printed  # which the tests may be given too few of


@pytest.mark.parallel([2, 3])
def test_what_one_rank_finds_is_found_by_all() -> None:
    world = MPI.COMM_WORLD
    last = world.size - 1
    own = fault("numpy", "numpy is broken", "mend it") if world.rank == last else Finding("numpy")
    found = together(world, own)
    assert (found.verdict, found.wrong) == (Verdict.FAULT, f"rank {last}: numpy is broken")


@pytest.mark.parallel([1, 3])
def test_a_ghost_that_is_not_filled_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run.tried("halo", lambda: self_test.halo(MPI.COMM_WORLD)).verdict == Verdict.OK
    right = HaloExchange.forward

    def wrong(self: HaloExchange, *fields: object) -> object:
        padded = right(self, *fields)
        if MPI.COMM_WORLD.rank == MPI.COMM_WORLD.size - 1:
            padded[0, 2:-2] = 0  # of a periodic axis: never beyond the domain
        return np.asarray(padded)

    monkeypatch.setattr(HaloExchange, "forward", wrong)
    found = run.tried("halo", lambda: self_test.halo(MPI.COMM_WORLD))
    assert found.verdict == Verdict.FAULT
    assert "nodes hold another node's value" in found.wrong
