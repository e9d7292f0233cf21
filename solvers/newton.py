"""One nonlinear system in PETSc's hands: Newton's method around a matrix and its solver."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..variable import Array
from ..world import agreed_or_ended
from .errors import ConvergenceError
from .krylov import SLACK, KrylovSolver, Solved, reason_named
from .petsc import petsc

if TYPE_CHECKING:
    from mpi4py import MPI

Function = Callable[[Array], Array]


class NewtonSolver(KrylovSolver):
    """A PETSc ``SNES`` around a matrix, preconditioner and Krylov method, built once and refilled.

    The solves that derivatives ask for share them with Newton's steps. The tolerance of the steps
    is the option ``ksp_rtol``, or what ``snes_ksp_ew`` makes of it; that of :meth:`solve` is
    ``rtol``.

    Parameters
    ----------
    name, pattern, options, prefix, rtol
        As for :class:`KrylovSolver`; the options are those of a ``SNES``, too.

    Attributes
    ----------
    last : Solved or None
        How the last search or solve went. The residual of a search is relative to its start's.
    linear_iterations : int
        Of all steps of the last search together.
    """

    linear_iterations = 0

    def find_root(self, u: Array, residual: Function, jacobian: Function) -> None:
        """Change ``u`` until ``residual(u)`` vanishes; collective.

        Parameters
        ----------
        u : numpy.ndarray of float64
            This rank's part of the start. It becomes that of the solution or, where this raises, of
            the last iterate.
        residual : callable
            Takes such a part and returns one; it may communicate. For a state outside of its
            domain it gives ``nan``, on any rank, and the line search takes a shorter step.
        jacobian : callable
            Takes such a part and returns the values of the matrix.

        Raises
        ------
        ConvergenceError
            On all ranks.
        Exception
            On all ranks, what ``residual`` or ``jacobian`` raised on any of them.
        """
        PETSc, comm = petsc(), self._pattern.comm
        if self._owned is None:  # PETSc wants a matrix before it asks for one
            with agreed_or_ended(comm):
                values = jacobian(u.copy())
            self.install(values)
        calls, fault = self._calls, None
        calls.begin(residual, jacobian, self.install)
        self._ksp.setInitialGuessNonzero(False)
        self._ksp.setTolerances(rtol=self._step_rtol)
        self._snes.setUseEW(self._adaptive)
        self._solution.placeArray(u)
        try:
            self._snes.solve(None, self._solution)
        except PETSc.Error as error:
            fault = error
        finally:
            self._solution.resetArray()
            start, raised = calls.end()
        if fault is not None:
            self._give_up(fault)
        self._snes.setUseEW(False)
        self._ksp.setTolerances(rtol=self._rtol)
        self.linear_iterations = self._snes.getLinearSolveIterations()
        if raised is not None:
            raise raised
        with agreed_or_ended(comm):
            remainder = residual(u.copy())
        self.last = self._judged(u, remainder, start)

    def _judged(self, u: Array, remainder: Array, start: float) -> Solved:
        """Return how a search ended, by the residual at its end; raise if it is too large."""
        code, iterations = self._snes.getConvergedReason(), self._snes.getIterationNumber()
        reason = reason_named(petsc().SNES.ConvergedReason, code)
        rtol, atol = self._snes.getTolerances()[:2]
        self._work.setArray(remainder)
        found = float(self._work.norm())
        allowed = SLACK * max(rtol * start, atol)
        if not found <= allowed:
            norm = self._matrix.norm(petsc().NormType.NORM_INFINITY)
            self._work.setArray(u)
            rounding = 10 * np.finfo(float).eps * norm * self._work.norm()
            allowed = max(allowed, min(rounding, start))  # a state that has run away is none
        relative = found / start if found else 0.0
        if found <= allowed:
            return Solved(reason, iterations, relative)
        told = f"PETSc says {reason} after {iterations} iterations"
        linear = self._ksp.getConvergedReason()
        if linear < 0:
            told += f", of a linear solve {reason_named(petsc().KSP.ConvergedReason, linear)}"
        if not np.isfinite(start):
            text = f"the residual at the start is {start}, expected a finite one ({told})"
        else:
            text = (
                f"the residual is {relative:.3g} of that at the start, expected at most "
                f"{allowed / start:.3g} ({told})"
            )
        raise ConvergenceError(f"{self.name}: not solved: {text}", reason, iterations, relative)

    def _new_method(self) -> Any:
        self._snes = petsc().SNES().create(self._pattern.comm)
        self._calls = _Calls(self._pattern.comm)
        self._remainder = self._work.duplicate()
        self._snes.setFunction(self._calls.evaluate, self._remainder)
        self._snes.setJacobian(self._calls.differentiate, self._matrix, self._matrix)
        return self._snes.getKSP()

    def _objects(self) -> tuple[Any, ...]:
        return self._snes, self._remainder, *super()._objects()

    def _read_options(self, prefix: str) -> None:
        self._snes.setOptionsPrefix(prefix)
        self._snes.setFromOptions()
        super()._read_options(prefix)  # which methods without a Jacobian leave to us
        self._step_rtol = float(self._ksp.getTolerances()[0])
        self._adaptive = self._snes.getUseEW()


class _Calls:
    """What PETSc calls back. It keeps this object, which therefore knows no solver between calls.

    Where a function fails on any rank, PETSc gets ``nan`` from then on, which ends its search on
    all of them: an exception would leave PETSc's objects as they happen to be.
    """

    def __init__(self, comm: MPI.Comm) -> None:
        self._comm = comm
        self._functions: tuple[Any, Any, Any] | None = None
        self._start: float | None = None
        self._raised: Exception | None = None

    def begin(
        self, residual: Function, jacobian: Function, install: Callable[[Array], None]
    ) -> None:
        self._functions = residual, jacobian, install

    def end(self) -> tuple[float, Exception | None]:
        """Let go of the functions; return the residual's norm at the start, and what was raised."""
        found = float("nan") if self._start is None else self._start, self._raised
        self._functions = self._start = self._raised = None
        return found

    def evaluate(self, snes: Any, x: Any, f: Any) -> None:
        value = self._value(0, x)
        if value is None:
            f.set(np.nan)
        else:
            f.setArray(value)
        if self._start is None:
            self._start = float(f.norm())

    def differentiate(self, snes: Any, x: Any, matrix: Any, preconditioned: Any) -> None:
        value = self._value(1, x)
        if value is not None and self._functions is not None:
            self._functions[2](value)

    def _value(self, which: int, x: Any) -> Array | None:
        """Return what a function gives, or ``None`` on all ranks once one has failed on any."""
        if self._raised is None and self._functions is not None:
            try:
                with agreed_or_ended(self._comm):
                    value: Array = self._functions[which](x.getArray(readonly=True).copy())
                return value
            except Exception as error:
                self._raised = error
        return None
