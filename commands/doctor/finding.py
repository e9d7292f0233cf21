"""What a check finds, and what all ranks together have found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpi4py import MPI


class Verdict(IntEnum):
    """How bad it is.

    A fault stops programs or spoils results, a warning makes them slow or likely to stop, and a
    note is of something that may be left out.
    """

    OK = 0
    NOTE = 1
    WARNING = 2
    FAULT = 3


@dataclass(frozen=True)
class Finding:
    """What one check has found.

    Parameters
    ----------
    name : str
        Of the check.
    figure : str
        What there is: a version, a number.
    verdict : Verdict
    wrong, mend : str
        Where it is not ok: what is wrong in one sentence, and what mends it.
    same : bool
        Whether the figure must be the same on all ranks.
    path : str
        Where it is, on rank 0.
    """

    name: str
    figure: str = ""
    verdict: Verdict = Verdict.OK
    wrong: str = ""
    mend: str = ""
    same: bool = False
    path: str = ""


def fault(name: str, wrong: str, mend: str, figure: str = "") -> Finding:
    return Finding(name, figure, Verdict.FAULT, wrong, mend)


def warning(name: str, wrong: str, mend: str, figure: str = "") -> Finding:
    return Finding(name, figure, Verdict.WARNING, wrong, mend)


def note(name: str, wrong: str, mend: str, figure: str = "") -> Finding:
    return Finding(name, figure, Verdict.NOTE, wrong, mend)


def together(comm: MPI.Comm, finding: Finding) -> Finding:
    """Return the worst that any rank has found, on all ranks; collective."""
    return worst(comm.allgather(finding))


def worst(findings: Sequence[Finding]) -> Finding:
    """Return the worst of what the ranks have found, in order, and say who found it.

    That ranks differ in what must be the same is a fault, and so is what only some of them have.
    """
    first = findings[0]
    found = max(findings, key=lambda finding: finding.verdict)  # the first of the worst
    if found.verdict > Verdict.OK:
        who = [rank for rank, f in enumerate(findings) if f.verdict == found.verdict]
        if len(who) == len(findings):
            return found
        verdict = Verdict.FAULT if found.verdict == Verdict.NOTE else found.verdict
        return replace(found, verdict=verdict, wrong=f"{named(who)}: {found.wrong}")
    others = [rank for rank, f in enumerate(findings) if f.figure != first.figure]
    if first.same and others:
        other = findings[others[0]].figure
        return fault(
            first.name,
            f"{named(others)}: {first.name} is {other}, and {first.figure} on rank 0",
            "start all ranks with the same Python, environment and modules "
            "(mpiexec -x PATH -x PYTHONPATH, or srun --export=ALL)",
            first.figure,
        )
    return first


def named(ranks: Sequence[int]) -> str:
    """Return what some ranks are called in a sentence."""
    listed = ", ".join(map(str, ranks[:4]))
    more = f" and {len(ranks) - 4} more" if len(ranks) > 4 else ""
    return f"rank {listed}" if len(ranks) == 1 else f"ranks {listed}{more}"
