"""What every inversion leaves in its folder, whatever ends it: configuration, log and report.

A program gets one like this:

    add_options(parser, out="results/mine")        # --out, --draw and --trace
    with Report(options, __doc__) as report:       # on all ranks
        result = minimize(..., callback=report.iteration, metadata=report.metadata(seed=0))
        ...                                        # figures and result.npz, on rank 0
        report.finish([("", result)], {"kappa.png": "κ"}, {"error": "0.1 %"})
        report.tell("result.npz")                  # prints how good the result is, and where it is
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import platform
import shlex
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any

from command_line import make_folder
from report_page import Page, draw_loss

from adjoint import Tape, agreed, communicator, profiling
from adjoint.files import written_whole
from adjoint.optimize import Iteration, Result
from adjoint.optimize.signals import flush_printed

#: Seconds before the first report of a run that goes on, and the share of time that they may take.
FIRST, SHARE = 5.0, 0.02

#: Packages whose version may matter, with what the project's name on PyPI is.
PACKAGES = ("adjoint", "numpy", "scipy", "mpi4py", "petsc4py", "numba", "checkpoint_schedules",
            "matplotlib")  # fmt: skip

COLUMNS = ("stage", *Iteration._fields)


def add_options(parser: argparse.ArgumentParser, out: str) -> None:
    """Add the options that all inversions have: the folder for results, and to look inside."""
    parser.add_argument("--out", type=Path, default=Path(out), metavar="FOLDER",
                        help=f"for figures and results (default {out})")  # fmt: skip
    parser.add_argument("--draw", action="store_true", help="draw the computational graph of a "
                        "misfit into --out")  # fmt: skip
    parser.add_argument("--trace", type=Path, metavar="FILE", help="write when each rank did what, "
                        "for ui.perfetto.dev (.json)")  # fmt: skip


class Report:
    """The record of a run in the folder ``options.out``; entered and finished by all ranks.

    On rank 0 it writes ``configuration.json``, ``log.csv`` with a line an iteration, ``loss.png``
    and ``report.html``, which holds all figures: after the first seconds, then now and again, at
    the end, and when an exception, SIGTERM or an interrupt ends the run. Nothing is written before
    the first iteration.

    Parameters
    ----------
    options : argparse.Namespace
        The command line, with those of :func:`add_options`.
    about : str or None
        The program's docstring: a title, and what it does.

    Attributes
    ----------
    configuration : dict
        Command line, settings, ranks, threads, versions, host and date.
    profile : Profile
        Of what happens inside of the context.
    """

    def __init__(self, options: argparse.Namespace, about: str | None) -> None:
        self.comm = communicator()
        self.out: Path = options.out
        self._trace: Path | None = getattr(options, "trace", None)
        self._draw = bool(getattr(options, "draw", False))
        self._about = about or ""
        self.configuration = configuration(options)
        self._figures: dict[str, str] = {}
        self._stage, self._names = 1, [""]
        self._rows: list[tuple[int, Iteration]] | None = None  # None: no iteration yet
        self._ended = False  # the last report is written, or being written
        self._numbers: dict[str, Any] = {}
        self._began = time.monotonic()
        self._stack = ExitStack()
        self._next = 0.0

    def __enter__(self) -> Report:
        with agreed(self.comm):
            if self._trace is not None and not self._trace.absolute().parent.is_dir():
                raise NotADirectoryError(f"--trace {self._trace}: there is no such folder")
        make_folder(self.out)
        self.profile = self._stack.enter_context(profiling(trace=self._trace is not None))
        if self.comm.rank == 0:
            self._stack.enter_context(_on_signals(self.comm.size > 1, self._stopped))
        self._next = time.monotonic() + FIRST
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()
        if error is not None:
            self._stopped(kind.__name__ if kind else "", str(error))

    def metadata(self, **same: Any) -> dict[str, Any]:
        """Return what ``minimize`` writes on top of its state file: ``metadata`` of its own.

        Parameters
        ----------
        **same
            What makes two runs the same; a run with others is not continued.
        """
        return {**same, "_run": self.configuration}

    def stage(self, name: str) -> None:
        """Begin a stage of the run; without it there is one without a name."""
        self._stage += self._names != [""]
        self._names = [*self._names[: self._stage - 1], name]

    def iteration(self, iteration: Iteration, theta: Any = None) -> None:
        """Add a line to the log on rank 0: a callback of ``minimize`` and ``minimize_field``."""
        if self.comm.rank:
            return
        with suppress(OSError):  # the run matters more; at the end it is an error
            self._note(iteration)
            if time.monotonic() > self._next:
                self._write_so_far(f"running: iteration {iteration.iteration}")

    def draw(self, misfit: Callable[[Any], Any], theta: Any) -> None:
        """Draw the graph of a misfit where ``--draw`` asks for it; collective."""
        if not self._draw:
            return
        with Tape(comm=self.comm) as tape:
            misfit(tape.watch(theta))
        tape.draw(self.out / "graph.svg")

    def finish(
        self,
        stages: Sequence[tuple[str, Result]],
        figures: Mapping[str, str],
        numbers: Mapping[str, Any],
    ) -> None:
        """Write log, loss curve and report, and the trace that ``--trace`` asks for; collective.

        Parameters
        ----------
        stages : sequence of (str, Result)
            Name and result of each; one without a name.
        figures : dict
            Names of files in the folder, with what they show.
        numbers : dict
            What was found, in words; ``iterations`` and ``misfit`` of the run's own by default.
        """
        table = self.profile.table(self.comm)
        if self._trace is not None:
            self.profile.write_trace(self._trace, self.comm)
        with agreed(self.comm):
            if self.comm.rank == 0:
                self._ended = True
                self._rows = [(i, row) for i, (_, r) in enumerate(stages, 1) for row in r.history]
                self._names = [name for name, _ in stages]
                self._write_log()
                self._figures = dict(figures)
                self._numbers = {**self._own_numbers([r for _, r in stages]), **numbers}
                self._write("finished", table, self._numbers)

    def tell(self, *files: str) -> None:
        """Print on rank 0 what :meth:`finish` was told, and where it lies.

        Parameters
        ----------
        *files : str
            Names of the files with results, beside those that every run leaves.
        """
        if self.comm.rank:
            return

        def listed(*names: str) -> str:
            return ", ".join(str(self.out / name) for name in names)

        lines = {
            **self._numbers,
            "figures": listed(*self._figures, "loss.png"),
            "results": listed(*files, "log.csv"),
            "report": listed("report.html", "configuration.json"),
        }
        width = max(14, *map(len, lines))
        print("", *(f"{name:{width}} {line}" for name, line in lines.items()), "", sep="\n")

    def _own_numbers(self, results: Sequence[Result]) -> dict[str, str]:
        """Return in words what is known of every run."""
        iterations = sum(result.iterations for result in results)
        evaluations = sum(result.evaluations for result in results)
        seconds = time.monotonic() - self._began
        return {
            "iterations": f"{iterations} ({evaluations} evaluations), {seconds:.1f} s",
            "misfit": f"{results[0].history[0].loss:.3e} → {results[-1].value:.3e}",
        }

    def _note(self, iteration: Iteration) -> None:
        if self._rows is None:
            earlier = _read_log(self.out / "log.csv")
            here = self._stage, iteration.iteration
            self._rows = [row for row in earlier if (row[0], row[1].iteration) < here]
            self._write_log()
            self._write_configuration()
        self._rows.append((self._stage, iteration))
        with open(self.out / "log.csv", "a", encoding="utf-8", newline="") as file:
            csv.writer(file).writerow([self._stage, *iteration])

    def _write_log(self) -> None:
        with written_whole(self.out / "log.csv") as file:
            text = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
            writer = csv.writer(text)
            writer.writerow(COLUMNS)
            writer.writerows([stage, *row] for stage, row in self._rows or ())
            text.detach()

    def _write_configuration(self) -> None:
        with written_whole(self.out / "configuration.json") as file:
            text = json.dumps(self.configuration, indent=1, ensure_ascii=False)
            file.write(text.encode() + b"\n")

    def _write_so_far(self, status: str) -> None:
        begin = time.monotonic()
        self._write(status, self.profile.own(), {})
        end = time.monotonic()
        self._next = end + (end - begin) / SHARE

    def _write(self, status: str, table: Any, numbers: Mapping[str, Any]) -> None:
        self._write_configuration()
        stages = self._curves()
        draw_loss(self.out / "loss.png", stages)
        graph = {"graph.svg": "Computational graph of the misfit"} if self._draw else {}
        loss = {"loss.png": "Misfit and its gradient over the iterations"}
        figures = {**loss, **self._figures, **graph}
        last = stages[-1][1][-1] if stages else None
        page = Page(self._about, status, self.configuration, figures, numbers, table, last)
        with written_whole(self.out / "report.html") as file:
            file.write(page.text(self.out).encode())

    def _curves(self) -> list[tuple[str, list[Iteration]]]:
        found: dict[int, list[Iteration]] = {}
        for stage, row in self._rows or ():
            found.setdefault(stage, []).append(row)
        names = dict(enumerate(self._names, 1))
        return [(names.get(stage) or f"stage {stage}", rows) for stage, rows in found.items()]

    def _stopped(self, kind: str, reason: str) -> None:
        """Write what there is, on rank 0, where something else ends the run."""
        if self.comm.rank or self._ended or self._rows is None:
            return
        self._ended = True
        with suppress(Exception):  # what ended the run is what matters
            self._write_so_far(f"stopped by {kind}{': ' if reason else ''}{reason}")


def configuration(options: argparse.Namespace) -> dict[str, Any]:
    """Return what was asked for and where it runs, as JSON can hold it."""
    ranks = communicator().size
    threads = os.environ.get("OMP_NUM_THREADS", "")
    settings = {
        name: value if isinstance(value, bool | int | float | list | None) else str(value)
        for name, value in vars(options).items()
    }
    return {
        "program": Path(sys.argv[0]).name,
        "command": f"mpiexec -n {ranks} python -m mpi4py {shlex.join(sys.argv)}",
        "settings": settings,
        "ranks": ranks,
        "threads": int(threads) if threads.isdigit() else os.cpu_count(),
        "host": f"{socket.gethostname()}, {platform.platform()}",
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    from mpi4py import MPI

    found = {"Python": platform.python_version()}
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    name, numbers = MPI.get_vendor()
    return {**found, "MPI": f"{name} {'.'.join(map(str, numbers))}"}


def _read_log(path: Path) -> list[tuple[int, Iteration]]:
    """Return the lines of a log as far as they are whole."""
    rows: list[tuple[int, Iteration]] = []
    with suppress(OSError, ValueError), open(path, encoding="utf-8", newline="") as file:
        lines = csv.reader(file)
        if tuple(next(lines, ())) != COLUMNS:
            return rows
        for line in lines:
            if len(line) != len(COLUMNS):
                break
            stage, number, *numbers = line
            rows.append((int(stage), Iteration(int(number), *map(float, numbers))))
    return rows


@contextmanager
def _on_signals(several: bool, stopped: Callable[[str, str], None]) -> Iterator[None]:
    """Write the report when this process is asked to end, and then end all ranks.

    ``minimize`` saves its state first and calls this after that. An interrupt of one rank alone is
    an exception as usual.
    """

    def stop(number: int, frame: Any) -> None:
        for other in numbers:  # mpiexec repeats what it was sent
            signal.signal(other, signal.SIG_IGN)
        stopped(signal.Signals(number).name, "")
        if several:
            flush_printed()
            communicator().Abort(128 + number)
        raise SystemExit(128 + number)

    numbers = (signal.SIGTERM, signal.SIGINT) if several else (signal.SIGTERM,)
    former = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
