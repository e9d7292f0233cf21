"""All checks in turn, on all ranks; rank 0 prints."""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from . import cores, launch, packages, resources
from .finding import Finding, Verdict, fault, together

if TYPE_CHECKING:
    from mpi4py import MPI

#: Seconds after which a check will not end: its messages do not arrive.
PATIENCE = 60.0

#: Seconds that processes without MPI leave to the one that prints.
GRACE = 1.0

_MARKS = {
    Verdict.OK: "ok", Verdict.NOTE: "note", Verdict.WARNING: "warning", Verdict.FAULT: "FAULT"
}  # fmt: skip


def doctor() -> int:
    """Check this environment, print what was found on rank 0, and return the exit code.

    Collective over all processes that ``mpiexec`` has started: 1 on all of them where any of them
    has found a fault, else 0.
    """
    started = launch.launched()
    report = Report(printing=started.rank == 0)
    local = packages.packages()
    mpi, comm = launch.start(started)
    if comm is None:
        for finding in [*local, mpi]:
            report.add(finding)
        if not report.printing:  # the first to end with 1 ends the job: let rank 0 print
            time.sleep(GRACE)
        return report.end()
    report.printing = comm.rank == 0
    try:
        with patience("a first message between the ranks"):
            found = [together(comm, finding) for finding in [*local, mpi]]
        for finding in found:
            report.add(finding)
        if not any(f.verdict == Verdict.FAULT for f in found if f.name in packages.REQUIRED):
            examine(comm, started, report)
        code = report.end()
        comm.Barrier()  # the first to end with 1 ends the job, and rank 0 has printed by now
        return code
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        if comm.size > 1:  # the others wait for this rank
            comm.Abort(1)
        raise SystemExit(1) from None


def examine(comm: MPI.Comm, started: launch.Launch, report: Report) -> None:
    """Run all checks that need MPI; collective."""
    from . import self_test

    with patience("the start of PETSc"):
        petsc = self_test.start_petsc(comm)
    report.add(petsc)
    with patience("the survey of the hosts"):
        report.add(together(comm, launch.libraries()))
        report.add(comm.bcast(launch.launcher(started) if comm.rank == 0 else None))
        places = comm.allgather(cores.place())
        report.add(cores.spread(places))
        report.add(cores.enough_cores(places))
        report.add(resources.enough_memory(comm.allgather(resources.memory()), places))
        report.add(resources.bandwidth(comm, places))
        report.add(together(comm, resources.writable()))
        report.add(together(comm, resources.results()))
    tests = {"halo and its adjoint": partial(self_test.halo, comm)}
    if petsc.verdict == Verdict.OK:
        tests["hypre solve"] = partial(self_test.solve, comm, "forward")
        tests["transposed hypre solve"] = partial(self_test.solve, comm, "adjoint")
    tests["network gradient"] = partial(self_test.network, comm)
    for name, test in tests.items():
        with patience(name):
            finding = together(comm, tried(name, test))
        report.add(finding)


def tried(name: str, test: Callable[[], str]) -> Finding:
    """Run a self-test, which returns its figure or raises the same exception on all ranks."""
    try:
        return Finding(name, test())
    except Exception as error:
        said = " ".join(str(error).split())
        return fault(
            name,
            f"the self-test has failed: {type(error).__name__}: {said}",
            "do not trust results of this installation; mend the faults above, or report it with "
            "this text",
        )


@contextmanager
def patience(name: str) -> Iterator[None]:
    """End the process, and with it the job, where a block does not end in time.

    Waiting for a message lets other threads of the process run, among them this one's clock.
    """

    def give_up() -> None:
        print(
            f"FAULT: {name} has not ended in {PATIENCE:.0f} s: a message does not arrive, or a "
            "rank is gone.\n       mend: check the network and firewall between the hosts, and try "
            "one host alone",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)

    timer = threading.Timer(PATIENCE, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class Report:
    """What was found so far, printed line by line on the rank that prints."""

    def __init__(self, printing: bool) -> None:
        self.printing = printing
        self.counts = dict.fromkeys(Verdict, 0)

    @property
    def faults(self) -> int:
        return self.counts[Verdict.FAULT]

    def add(self, finding: Finding) -> None:
        self.counts[finding.verdict] += 1
        path = f" ({finding.path})" if finding.figure and finding.path else finding.path
        self._print(f"{_MARKS[finding.verdict]:8}{finding.name:24}{finding.figure}{path}".rstrip())
        if finding.verdict > Verdict.OK:
            self._print(f"        {finding.wrong}")
            self._print(f"        mend: {finding.mend}")

    def end(self) -> int:
        """Print the verdict and return the exit code."""
        words = {Verdict.FAULT: "fault", Verdict.WARNING: "warning", Verdict.NOTE: "note"}
        counted = [f"{n} {w}{'s' * (n != 1)}" for v, w in words.items() if (n := self.counts[v])]
        self._print(", ".join(counted) or "all is well")
        return int(self.faults > 0)

    def _print(self, line: str) -> None:
        if self.printing:
            print(line, flush=True)
