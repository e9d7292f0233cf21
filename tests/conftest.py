"""One verdict for all ranks, and one report.

Under ``mpiexec`` pytest runs once on every rank. A test that fails on one rank alone would send
that rank on to the next test while the others still wait for it in this one, so the ranks
exchange the outcome of every phase of every test, and what fails on one fails on all. Rank 0
prints; where another rank fails, rank 0 shows the traceback of the first that did.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Generator
from typing import Any

import pytest
from mpi4py import MPI

from tests.registry import leave_note

# After so many seconds in which the other ranks have not reached the end of a test that failed
# here, they are probably blocked in it, and the traceback is printed before the timeout ends all.
PATIENCE = 5.0

# The rank counts that `make test` runs; a test that asks for another would never run.
RANKS = (1, 2, 3, 4, 6, 9)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    # Known also where no test asks for them, so that an empty selection is just that.
    for ranks in RANKS:
        config.addinivalue_line("markers", f"parallel[{ranks}]: runs on {ranks} ranks")
    # trylast: the terminal reporter is registered by then, and can be replaced.
    if MPI.COMM_WORLD.size > 1:
        # A root of its own for each rank: pytest removes old folders while others list them.
        root = tempfile.mkdtemp(prefix=f"pytest-rank-{MPI.COMM_WORLD.rank}-")
        os.environ["PYTEST_DEBUG_TEMPROOT"] = root
        config.add_cleanup(lambda: shutil.rmtree(root, ignore_errors=True))
        config.pluginmanager.register(Agreement(config, MPI.COMM_WORLD.Dup()), "agreement")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for mark in item.iter_markers("parallel"):
            asked = mark.args[0] if mark.args else mark.kwargs.get("nprocs", 3)
            if unknown := {*([asked] if isinstance(asked, int) else asked)} - {*RANKS}:
                raise pytest.UsageError(
                    f"{item.nodeid} asks for {min(unknown)} ranks, but make test runs {RANKS}"
                )


def pytest_sessionfinish() -> None:
    leave_note(f"{MPI.COMM_WORLD.size}-{MPI.COMM_WORLD.rank}")


@pytest.fixture(autouse=True)
def barrier_finalize() -> None:
    """Replace the barrier of mpi-pytest, which a rank whose setup failed would never reach."""


class Agreement:
    """Keeps the ranks of one test run together.

    Parameters
    ----------
    config : pytest.Config
    comm : mpi4py.MPI.Comm
        Used for nothing else, so that a test's own messages are never met.
    """

    def __init__(self, config: pytest.Config, comm: MPI.Comm) -> None:
        self.comm = comm
        self.capture = config.pluginmanager.getplugin("capturemanager")
        self.status = 0
        self.uncollected: list[str] = []
        self.output: io.StringIO | None = None
        if comm.rank > 0:
            self.output = io.StringIO()
            plugins = config.pluginmanager
            plugins.unregister(name="terminalreporter")
            plugins.register(pytest.TerminalReporter(config, self.output), "terminalreporter")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, Any, Any]:
        return (yield from self.together(item))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        return (yield from self.together(item))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, Any, Any]:
        return (yield from self.together(item))

    def together(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Let a phase of a test run, then raise here what was raised on any rank."""
        try:
            result = yield
        except (KeyboardInterrupt, pytest.exit.Exception):
            raise
        except pytest.skip.Exception:
            self.exchange("skipped", "")
            raise
        except BaseException as error:
            found = pytest.ExceptionInfo.from_exception(error)
            text = f"{found.exconly()}\n{item.repr_failure(found)}"
            alarm = threading.Timer(PATIENCE, self.show, [item, text])
            alarm.daemon = True
            alarm.start()
            self.exchange("failed", text, own=True)
            alarm.cancel()
            raise
        self.exchange("passed", "")
        return result

    def exchange(self, outcome: str, text: str, own: bool = False) -> None:
        """Tell the others what happened here; fail where it was worse elsewhere."""
        outcomes = self.comm.allgather((outcome, text))
        if own:
            return
        for rank, (other, reason) in enumerate(outcomes):
            if other == "failed":
                pytest.fail(f"rank {rank}: {reason}", pytrace=False)
        if len({other for other, _ in outcomes}) > 1:
            listed = ", ".join(other for other, _ in outcomes)
            pytest.fail(f"the ranks must skip together, found: {listed}", pytrace=False)

    def show(self, item: pytest.Item, text: str) -> None:
        """Print what failed here past the capture, which a timeout would throw away."""
        with self.capture.global_and_fixture_disabled():
            print(
                f"\n{item.nodeid} failed on rank {self.comm.rank}, other ranks are still in it:\n"
                f"{text}",
                file=sys.stderr,
                flush=True,
            )

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> Generator[None, Any, Any]:
        """Start only if all ranks are about to run the same tests."""
        try:
            result = yield
        except BaseException as error:
            self.comm.allgather((f"{type(error).__name__}: {error}", []))
            raise
        names = [item.nodeid for item in session.items]
        ranks = self.comm.allgather(("\n".join(self.uncollected), names))
        if not self.uncollected:
            for rank, (errors, found) in enumerate(ranks):
                if errors:
                    raise pytest.UsageError(f"the collection failed on rank {rank}:\n{errors}")
                if found != names:
                    raise pytest.UsageError(f"rank {rank} has collected other tests")
        return result

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.uncollected.append(report.longreprtext)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self.status = int(session.exitstatus)

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        # Also a barrier: a rank that ends with an error aborts the job, rank 0 included, and
        # must not do so before rank 0 has printed its summary.
        statuses = self.comm.allgather(self.status)
        faulty = [rank for rank, status in enumerate(statuses) if status]
        if self.output and faulty and faulty[0] == self.comm.rank:
            print(f"on rank {self.comm.rank}:\n{self.output.getvalue()}", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        self.comm.Barrier()
