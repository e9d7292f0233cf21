"""One line an iteration in a log, a bar on a terminal."""

from __future__ import annotations

import os
import sys
from typing import Protocol

from .result import Iteration


class Progress(Protocol):
    """What shows how a run goes on."""

    def note(self, text: str) -> None:
        """Show a remark."""

    def update(self, iteration: Iteration) -> None:
        """Show an iteration."""

    def close(self) -> None:
        """Leave the last iteration on show and end."""


def open_progress(wanted: bool, total: int | None) -> Progress:
    """Return a bar if standard output is a terminal and rich is installed, else plain lines.

    Ranks under ``mpiexec`` print lines: what they write to looks like a terminal, wherever the
    job's output goes.

    Parameters
    ----------
    wanted : bool
        Whether to show anything at all.
    total : int or None
        Number of iterations, where there is a limit.
    """
    if not wanted:
        return _Silent()
    if _on_terminal():
        try:
            return _Bar(total)
        except ImportError:  # rich is optional
            pass
    return _Lines()


def _on_terminal() -> bool:
    """Whether a person looks at standard output.

    Open MPI gives each rank a pseudo-terminal without a size, also where the output of ``mpiexec``
    goes to a file.
    """
    try:
        return sys.stdout.isatty() and os.get_terminal_size(sys.stdout.fileno()).columns > 0
    except (OSError, ValueError):  # not a file of the system's
        return False


class _Silent:
    def note(self, text: str) -> None:
        pass

    def update(self, iteration: Iteration) -> None:
        pass

    def close(self) -> None:
        pass


class _Lines:
    def note(self, text: str) -> None:
        print(text, flush=True)

    def update(self, iteration: Iteration) -> None:
        print(
            f"iteration {iteration.iteration:5d}  loss {iteration.loss:.8e}  "
            f"gradient {iteration.gradient_norm:.3e}  step {iteration.step:.3e}  "
            f"{iteration.seconds:.1f} s  {iteration.memory / 1e6:.0f} MB",
            flush=True,
        )

    def close(self) -> None:
        pass


class _Bar:
    def __init__(self, total: int | None) -> None:
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(BarColumn(8), TextColumn("{task.description}", markup=False))
        self._task = self._bar.add_task("", total=total)
        self._bar.start()

    def note(self, text: str) -> None:
        self._bar.console.print(text, markup=False, highlight=False)

    def update(self, iteration: Iteration) -> None:
        text = (
            f"{iteration.iteration}  loss {iteration.loss:.5e}  "
            f"gradient {iteration.gradient_norm:.1e}  step {iteration.step:.1e}  "
            f"{iteration.seconds:.1f} s  {iteration.memory / 1e6:.0f} MB"
        )
        self._bar.update(self._task, completed=iteration.iteration, description=text)

    def close(self) -> None:
        self._bar.stop()
