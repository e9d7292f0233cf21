"""One line an iteration in a log, a bar on a terminal."""

from __future__ import annotations

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

    Parameters
    ----------
    wanted : bool
        Whether to show anything at all.
    total : int or None
        Number of iterations, where there is a limit.
    """
    if not wanted:
        return _Silent()
    if sys.stdout.isatty():
        try:
            return _Bar(total)
        except ImportError:  # rich is optional
            pass
    return _Lines()


def describe(iteration: Iteration) -> str:
    """Return an iteration as a line."""
    return (
        f"iteration {iteration.iteration:5d}  loss {iteration.loss:.8e}  "
        f"gradient {iteration.gradient_norm:.3e}  step {iteration.step:.3e}  "
        f"{iteration.seconds:.1f} s  {iteration.memory / 1e6:.0f} MB"
    )


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
        print(describe(iteration), flush=True)

    def close(self) -> None:
        pass


class _Bar:
    def __init__(self, total: int | None) -> None:
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(BarColumn(20), TextColumn("{task.description}", markup=False))
        self._task = self._bar.add_task("", total=total)
        self._bar.start()

    def note(self, text: str) -> None:
        self._bar.console.print(text, markup=False, highlight=False)

    def update(self, iteration: Iteration) -> None:
        self._bar.update(self._task, completed=iteration.iteration, description=describe(iteration))

    def close(self) -> None:
        self._bar.stop()
