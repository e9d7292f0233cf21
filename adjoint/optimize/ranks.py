"""The misfit on all ranks, told by rank 0 when to evaluate and when to end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from ..spans import sent, span
from ..variable import Array, Variable
from ..world import portable, restored
from .evaluation import resident, value_and_gradient
from .rejection import Rejecting, unless_rejected
from .result import Result

if TYPE_CHECKING:
    from mpi4py import MPI


class Ranks:
    """The misfit on all ranks, and what they tell each other.

    Rank 0 calls :meth:`compute` and :meth:`release`, the others are in :meth:`serve`.

    Parameters
    ----------
    misfit : callable
    shape, dtype
        Of theta.
    world : mpi4py.MPI.Comm
    reject : tuple of exception classes
        By which the misfit says on all ranks that a point is not admissible.

    Attributes
    ----------
    rejection : str
        What the last of these exceptions said.
    running : bool
        Whether an evaluation is under way. An exception that leaves it leaves it on all ranks, or
        ends the job: nothing may be sent then.
    """

    def __init__(
        self,
        misfit: Callable[[Variable], Variable],
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        world: MPI.Comm,
        reject: Rejecting = (),
    ) -> None:
        self.misfit = misfit
        self.shape = shape
        self.dtype = dtype
        self.world = world
        self.reject = reject
        self.rejection = ""
        self.running = False

    def compute(self, theta: Array, where: str) -> tuple[float, Array, float]:
        """Return value, gradient and the largest memory of any rank, in bytes.

        Where the misfit rejects the point, the value is infinite and the gradient zero.
        """
        with self._together("evaluate"):
            value, gradient, memory = self._evaluate(theta, where)
        try:
            finite(gradient, where)
        except self.reject as error:
            value, gradient, self.rejection = np.inf, np.zeros_like(theta), str(error)
        return value, gradient, memory

    def release(self, outcome: Result | BaseException) -> None:
        """Let the other ranks return the result, or raise the same exception."""
        if isinstance(outcome, Result):
            self.world.bcast("return", 0)
            self.world.bcast(outcome, 0)
            return
        content: tuple[type[BaseException], Any] = portable(outcome)
        if isinstance(outcome, SystemExit):
            content = SystemExit, outcome.code if isinstance(outcome.code, int) else 1
        self.world.bcast("raise", 0)
        self.world.bcast(content, 0)

    def serve(self) -> Result:
        """Do what rank 0 does until it is done."""
        while True:
            with span("wait for rank 0"):
                command = self.world.bcast(None, 0)
            if command not in ("return", "raise"):
                getattr(self, f"_{command}")(self._empty())
                continue
            content = self.world.bcast(None, 0)
            if command == "return":
                result: Result = content
                return result
            kind, message = content
            raise SystemExit(message) if kind is SystemExit else restored(kind, message, 0)

    @contextmanager
    def _together(self, command: str) -> Iterator[None]:
        """Have the other ranks run the method of this name, with an underscore, as rank 0 does."""
        self.running = True
        self.world.bcast(command, 0)
        yield
        self.running = False

    def _empty(self) -> Array:
        """Return a vector like theta, to be received."""
        return np.empty(int(np.prod(self.shape)))

    def _evaluate(self, theta: Array, where: str = "") -> tuple[float, Array, float]:
        if self.world.rank == 0 and self.world.size > 1:
            sent(theta.nbytes)
        self.world.Bcast(theta, 0)
        value, gradient, self.rejection = unless_rejected(
            lambda: self._value_and_gradient(theta, where), theta, self.reject, self.world
        )
        return value, gradient, self._memory()

    def _value_and_gradient(self, theta: Array, where: str) -> tuple[float, Array]:
        """Return the value at a theta that all ranks have, and its gradient, on rank 0."""
        from mpi4py import MPI

        point = theta.reshape(self.shape).astype(self.dtype, copy=False)
        value, partial = value_and_gradient(self.misfit, point, self.world, where)
        gradient = np.empty_like(theta)
        if self.world.rank:
            sent(gradient.nbytes)
        with span("wait"):
            self.world.Reduce(partial.ravel().astype(np.float64), gradient, MPI.SUM, 0)
        return value, gradient

    def _memory(self) -> float:
        """Return the largest resident set of any rank, on rank 0; collective."""
        from mpi4py import MPI

        memory = self.world.reduce(resident(), MPI.MAX, 0)
        return 0.0 if memory is None else memory


def finite(gradient: Array, where: str) -> None:
    """Raise a ``FloatingPointError`` unless all entries of a gradient are finite."""
    if not np.isfinite(gradient).all():
        raise FloatingPointError(f"minimize: the gradient is not finite at {where}")
