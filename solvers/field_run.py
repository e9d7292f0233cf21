"""A run of the field optimiser: evaluations, iterations, what is kept, and what ends it."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..comm import CartesianGrid
from ..optimize import Iteration, Result, StateError
from ..optimize.evaluation import resident, value_and_gradient
from ..optimize.progress import Progress
from ..optimize.rejection import Rejecting, unless_rejected
from ..optimize.signals import ENDING, handled
from ..variable import Array, Variable
from ..world import agree, all_arrive, true_everywhere
from .field_state import FieldState
from .quasi_newton import LimitedMemory, Riesz
from .tao import BoundedStep

Callback = Callable[[Iteration, Array], Any]


class Settings(NamedTuple):
    """How long to go on, and how much to keep."""

    maxiter: int = 1000
    memory: int = 10
    gtol: float = 0.0


class AskedToEnd(BaseException):
    """A rank has been sent a signal; raised on all of them."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


class FieldRun:
    """What all ranks do together around the steps of TAO.

    Parameters
    ----------
    misfit : callable
    start : numpy.ndarray of float64, shape (..., *grid.patch_shape)
    grid : CartesianGrid
    bounds : tuple of numpy.ndarray, or None
        Of ``start``'s shape.
    riesz : callable or None
        ``(g, free) ↦ R⁻¹ g`` for one field.
    settings : Settings
    state : FieldState or None
    every : int
    callback : callable or None
    reject : tuple of exception classes
    """

    def __init__(
        self,
        misfit: Callable[[Variable], Variable],
        start: Array,
        grid: CartesianGrid,
        bounds: tuple[Array, Array] | None,
        riesz: Riesz | None,
        settings: Settings,
        state: FieldState | None,
        every: int,
        callback: Callback | None,
        reject: Rejecting,
    ) -> None:
        self.misfit, self.grid, self.comm = misfit, grid, grid.comm
        self.settings, self.state, self.every, self.callback = settings, state, every, callback
        self.reject = reject
        self.history: list[Iteration] = []
        self.evaluations = self._reported = 0  # the latter at the last iterate
        self._shape = start.shape
        self._bounds = None
        if bounds is not None:
            self._bounds = bounds[0].reshape(-1), bounds[1].reshape(-1)
        self._x = start.reshape(-1)
        if self._bounds is not None:
            self._x = np.clip(self._x, *self._bounds)
        self._value, self._gradient = np.nan, np.zeros_like(self._x)
        self._riesz = riesz
        self._quasi_newton = LimitedMemory(
            self.comm, settings.memory, None if riesz is None else self._by_component
        )
        self._asked = 0
        self._handler: Callable[[], object] | None = None
        self._saved = 0
        self._seconds = self._memory = 0.0
        self._stopped = False

    def minimise(self, progress: Progress, resume: bool) -> Result:
        """Run to the end, and save the state whatever ends it."""
        if resume:
            self._continue(progress)
        self._progress = progress
        self._origin = time.perf_counter() - self._seconds
        step = BoundedStep(self.comm, self._x.size, self._bounds, self._evaluate, self._direction)
        try:
            with handled(self._note_signal, ENDING if self.state is not None else ()):
                success, message = self._iterate(step)
                self.save()
        except AskedToEnd as asked:
            self.save()
            self._end(asked.signum)
        except BaseException:
            # A rank that has left the misfit alone must not wait for the others: it ends the job.
            if self.state is not None and all_arrive(self.comm):
                self.save()
            raise
        step.close()
        last = self.history[-1]
        return Result(
            theta=self._x.reshape(self._shape).copy(),
            value=self._value,
            gradient_norm=last.gradient_norm,
            iterations=last.iteration,
            evaluations=self.evaluations,
            success=success,
            message=message,
            history=tuple(self.history),
        )

    def save(self) -> None:
        """Write the state, if there is anything new; collective. What fails is not tried again."""
        if self.state is None or len(self.history) == self._saved:
            return
        self._saved = len(self.history)
        fields = [self._x, self._gradient, *self._quasi_newton.rows()]
        numbers = np.array([self._value, self._reported])
        self.state.write(fields, {"numbers": numbers, "history": np.array(self.history)})

    def _iterate(self, step: BoundedStep) -> tuple[bool, str]:
        """Make iterations; return whether they converged, and why they end."""
        if not self.history:
            self._value, self._gradient = self._evaluate(self._x)
            self._report(0.0)
        start = self.history[0].gradient_norm
        while not self._stopped:
            last = self.history[-1]
            if last.gradient_norm <= self.settings.gtol * start:
                return True, "the projected gradient is within gtol"
            if last.iteration >= self.settings.maxiter:
                return False, "maxiter iterations were made"
            found = step.take(self._x, self._value, self._gradient)
            if not found.moved:
                return False, f"no lower value was found along the gradient ({found.reason})"
            before = self._projected()
            way = found.point - self._x
            self._x, self._value, self._gradient = found.point, found.value, found.gradient
            self._quasi_newton.update(way, self._projected() - before)
            self._report(np.sqrt(self._quasi_newton.dot(way, way)))
        return False, "the callback stopped the run"

    def _evaluate(self, x: Array) -> tuple[float, Array]:
        where = f"evaluation {self.evaluations}, after iteration {len(self.history) - 1}"
        value, gradient, refusal = unless_rejected(
            lambda: self._value_and_gradient(x, where), x, self.reject, self.comm
        )
        asked, self._memory = self._largest(self._asked, resident())
        self._seconds = time.perf_counter() - self._origin
        if asked:
            raise AskedToEnd(int(asked))
        if value == np.inf and self.evaluations == 0:
            raise ValueError(f"minimize_field: the misfit rejects theta0: {refusal}")
        self.evaluations += 1
        return value, gradient

    def _value_and_gradient(self, x: Array, where: str) -> tuple[float, Array]:
        point = x.reshape(self._shape)
        value, gradient = value_and_gradient(self.misfit, point, self.comm, where, "minimize_field")
        value = self.comm.bcast(value, 0)
        if not true_everywhere(self.comm, bool(np.isfinite(gradient).all())):
            raise FloatingPointError(f"minimize_field: the gradient is not finite at {where}")
        return value, gradient.reshape(-1)

    def _direction(self, gradient: Array, again: bool) -> Array:
        if again:
            self._quasi_newton.pairs.clear()
        return self._quasi_newton.apply(gradient, self._free(), self._value)

    def _free(self) -> Array:
        """Return where a node is not at a bound beyond which the misfit falls."""
        if self._bounds is None:
            return np.ones(self._x.shape, bool)
        lower, upper = self._bounds
        held = (self._x <= lower) & (self._gradient > 0)
        held |= (self._x >= upper) & (self._gradient < 0)
        return ~held

    def _projected(self) -> Array:
        return np.where(self._free(), self._gradient, 0.0)

    def _by_component(self, form: Array, free: Array) -> Array:
        assert self._riesz is not None
        shape = (-1, *self.grid.patch_shape)
        parts = [
            self._riesz(f, k).reshape(-1) for f, k in zip(form.reshape(shape), free.reshape(shape))
        ]
        return np.concatenate(parts)

    def _report(self, length: float) -> None:
        """Take note of an iterate, show it, and save the state when it is time."""
        projected = self._projected()
        norm = float(np.sqrt(self._quasi_newton.dot(projected, projected)))
        number = len(self.history)
        seconds, memory = self.comm.bcast((self._seconds, self._memory), 0)
        iteration = Iteration(number, self._value, norm, float(length), seconds, memory)
        self.history.append(iteration)
        self._reported = self.evaluations
        self._progress.update(iteration)
        if self.callback is not None:
            self._call(self.callback, iteration)
        if number % self.every == 0:
            self.save()

    def _call(self, callback: Callback, iteration: Iteration) -> None:
        error: Exception | None = None
        try:
            callback(iteration, self._x.reshape(self._shape).copy())
        except StopIteration:
            self._stopped = True
        except Exception as caught:
            error = caught
        agree(self.comm, error)
        self._stopped = bool(self._largest(float(self._stopped))[0])

    def _continue(self, progress: Progress) -> None:
        """Take up the state of an earlier run, if there is one."""
        assert self.state is not None
        found = self.state.read()
        if found is None:
            return
        fields, arrays = found
        empty = np.empty(0)
        rows, numbers = arrays.get("history", empty), arrays.get("numbers", empty)
        layout = (max(len(rows), 1), len(Iteration._fields))
        if rows.shape != layout or numbers.shape != (2,) or len(fields) % 2:
            raise StateError(f"minimize_field: state file {self.state.path} has another layout")
        self.history = [Iteration(int(row[0]), *map(float, row[1:])) for row in rows]
        self._value, self.evaluations = float(numbers[0]), int(numbers[1])
        self._reported = self.evaluations
        self._seconds, self._memory = self.history[-1].seconds, self.history[-1].memory
        self._x, self._gradient, *pairs = fields
        self._quasi_newton.recall(pairs)
        self._saved = len(self.history)
        done = self.history[-1].iteration
        progress.note(f"continuing from {self.state.path}: {done} iterations done")

    def _note_signal(self, signum: int, frame: Any, former: Any) -> None:
        """Remember a signal until all ranks have made the evaluation that is under way.

        The state lies on all ranks, and what they compute together cannot be left by one. A handler
        that there was before is called when the state is saved.
        """
        self._asked = signum
        if callable(former) and former is not signal.default_int_handler:
            self._handler = partial(former, signum, frame)

    def _end(self, signum: int) -> None:
        sys.stdout.flush()
        if self._handler is not None:
            self._handler()
        if signum == signal.SIGINT and self.comm.size == 1:
            raise KeyboardInterrupt
        raise SystemExit(128 + signum)

    def _largest(self, *numbers: float) -> list[float]:
        from mpi4py import MPI

        values = np.array(numbers, float)
        self.comm.Allreduce(MPI.IN_PLACE, values, MPI.MAX)
        return [float(v) for v in values]
