"""A run on the root: its evaluations, live or replayed, its history and its state."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ..variable import Array
from .method import Evaluate, Method, Outcome, Remembered
from .progress import Progress
from .ranks import Ranks
from .residuals import Residuals, Squares
from .result import Iteration
from .state import Journal, StateError, StateFile

Callback = Callable[[Iteration, Array], Any]


class StoppedByCallback(Exception):
    """The user's callback raised ``StopIteration``."""


class Run:
    """What the root does around a method: evaluate, report, save.

    Parameters
    ----------
    method : Method
    start : numpy.ndarray of float64
        The first point, a vector.
    shape, dtype
        Of theta as callbacks see it.
    state : StateFile or None
    every : int
        The state is written at every ``every``-th iteration.
    resume : bool
        Continue from the state file, if it exists.
    callback : callable or None

    Attributes
    ----------
    saving : bool
        Whether the state is being written.
    after_saving : callable or None
        What a signal handler that came meanwhile wants done next.
    """

    def __init__(
        self,
        method: Method,
        start: Array,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        state: StateFile | None,
        every: int,
        resume: bool,
        callback: Callback | None,
    ) -> None:
        self.method = method
        self.start = start
        self.shape = shape
        self.dtype = dtype
        self.state = state
        self.every = every
        self.callback = callback
        self.history: list[Iteration] = []
        self.evaluations = 0
        self.saving = False
        self.after_saving: Callable[[], None] | None = None
        self._recent: dict[bytes, tuple[float, float]] = {}
        self._theta = start
        self._seconds = self._memory = 0.0
        self._origin: float | None = None  # of the clock, once this process evaluates
        self._journal: Journal | None = None
        self._remembered: tuple[int, Remembered] | None = None
        self._pending: Callable[[], Remembered] | None = None
        if state is not None:
            state.probe()
            arrays = state.read() if resume else None
            if method.remembers:
                self._recall(state, arrays)
            else:
                self._journal = _journal(state, start.size, arrays)
        self._recorded = 0 if self._journal is None else len(self._journal.rows)
        self._written = self._version

    def minimise(self, ranks: Ranks, progress: Progress) -> Outcome:
        """Run the method to its end."""
        self._ranks, self._progress = ranks, progress
        if self._version and self.state is not None:
            done = f"{self._recorded} evaluations"
            if self._journal is None:
                done = f"{self._version - 1} iterations"
            progress.note(f"continuing from {self.state.path}: {done} done")
        remembered = None if self._remembered is None else self._remembered[1]
        evaluate: Evaluate = self.evaluate
        if isinstance(ranks, Residuals):
            evaluate = Squares(ranks, self.evaluate)
        try:
            outcome = self.method.run(self.start.copy(), evaluate, self.report, remembered)
        except StoppedByCallback:
            last = self.history[-1]
            gradient = np.full(1, last.gradient_norm)
            message = "the callback stopped the run"
            outcome = Outcome(self._theta, last.loss, gradient, False, message)
        self._remember()
        self.save()
        return outcome

    def evaluate(self, theta: Array) -> tuple[float, Array]:
        """Return value and gradient, recorded by an earlier run or computed by all ranks."""
        point = _digest(theta)
        if self.evaluations < self._recorded:
            assert self._journal is not None
            assert self.state is not None
            row = self._journal.rows[self.evaluations]
            if row["point"].tobytes() != point:
                raise RuntimeError(
                    f"minimize: state file {self.state.path}: evaluation {self.evaluations} is "
                    f"asked for at another point than was recorded; the file was written with "
                    f"{self.state.writer}, this is {self.state.configuration['_versions']}"
                )
            value, gradient = float(row["value"]), row["gradient"].copy()
            self._seconds, self._memory = float(row["seconds"]), float(row["memory"])
        else:
            if self._origin is None:
                self._origin = time.perf_counter() - self._seconds
            where = f"evaluation {self.evaluations}, after iteration {len(self.history) - 1}"
            value, gradient, self._memory = self._ranks.compute(theta, where)
            if value == np.inf and self.evaluations == 0:
                raise ValueError(f"minimize: the misfit rejects theta0: {self._ranks.rejection}")
            self._seconds = time.perf_counter() - self._origin
            if self._journal is not None:
                self._journal.append(point, value, gradient, self._seconds, self._memory)
        self.evaluations += 1
        self._recent[point] = (value, float(np.linalg.norm(gradient)))
        return value, gradient

    def report(
        self, theta: Array, remembered: Remembered | Callable[[], Remembered] | None = None
    ) -> None:
        """Take note of an iterate, show it, and save the state when it is time."""
        point = _digest(theta)
        last = [*self._recent.values()][-1]
        loss, norm = self._recent.get(point, last)
        length = float(np.linalg.norm(theta - self._theta)) if self.history else 0.0
        number = len(self.history)
        iteration = Iteration(number, loss, norm, length, self._seconds, self._memory)
        self._theta = np.array(theta)
        self._recent = {point: (loss, norm)}
        self.history.append(iteration)
        if callable(remembered):
            self._pending = remembered
        elif remembered is not None:
            self._keep(remembered)
        if self.evaluations <= self._recorded:
            return
        self._progress.update(iteration)
        try:
            if self.callback is not None:
                self.callback(iteration, self.reshaped(theta))
        except StopIteration:
            raise StoppedByCallback from None
        if number % self.every == 0:
            self._remember()
            self.save()

    def _remember(self) -> None:
        """Have a method say what it needs to continue, which may take all ranks."""
        if self._pending is not None and self.state is not None:
            self._keep(self._pending())
        self._pending = None

    def _keep(self, remembered: Remembered) -> None:
        made = np.array(self.evaluations)
        self._remembered = (len(self.history), {**remembered, "evaluations_made": made})

    def save(self) -> None:
        """Write the state, if there is anything new."""
        version = self._version
        if self.state is None or version == self._written:
            return
        if self._journal is not None:
            arrays = {"evaluations": self._journal.rows}
        else:
            assert self._remembered is not None
            count, remembered = self._remembered
            arrays = {**remembered, "history": np.array(self.history[:count])}
        self.saving = True
        try:
            self.state.write(arrays)
        finally:
            self.saving = False
        self._written = version
        pending, self.after_saving = self.after_saving, None
        if pending is not None:
            pending()

    def reshaped(self, theta: Array) -> Array:
        """Return a copy of a vector as users see theta."""
        return np.array(theta.reshape(self.shape), dtype=self.dtype)

    def norm_at(self, outcome: Outcome) -> float:
        """Return the gradient's norm where the method ended."""
        known = self._recent.get(_digest(outcome.theta))
        return float(np.linalg.norm(outcome.gradient)) if known is None else known[1]

    @property
    def _version(self) -> int:
        """How much there is to save."""
        if self._journal is not None:
            return len(self._journal.rows)
        return 0 if self._remembered is None else self._remembered[0]

    def _recall(self, state: StateFile, arrays: dict[str, Array] | None) -> None:
        """Continue from what a method that remembers handed to the last report."""
        if arrays is None:
            return
        rows, made = arrays.pop("history", None), arrays.get("evaluations_made")
        theta = self.method.recall(arrays, self.start.size)
        columns = len(Iteration._fields)
        if (
            rows is None
            or made is None
            or theta is None
            or rows.shape != (max(len(rows), 1), columns)
        ):
            raise StateError(f"minimize: state file {state.path} has another layout")
        self.history = [Iteration(int(row[0]), *map(float, row[1:])) for row in rows]
        self.evaluations = int(made)
        self._seconds, self._memory = self.history[-1].seconds, self.history[-1].memory
        self._theta = theta.copy()
        self._remembered = (len(rows), arrays)
        self._recent = {
            _digest(self._theta): (self.history[-1].loss, self.history[-1].gradient_norm)
        }


def _journal(state: StateFile, size: int, arrays: dict[str, Array] | None) -> Journal:
    if arrays is None:
        return Journal(size)
    try:
        return Journal(size, arrays["evaluations"])
    except (KeyError, ValueError) as error:
        raise StateError(f"minimize: state file {state.path} has another layout") from error


def _digest(theta: Array) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(theta).tobytes(), digest_size=16).digest()
