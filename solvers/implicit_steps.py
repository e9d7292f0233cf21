"""Implicit time steps of a linear system, with their tangents and transposes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..propagator import Propagator
from ..variable import Array
from .linear_solve import LinearSolve
from .pattern import Pattern

#: By name: what a step's matrix adds to the diagonal, times dt.
SCHEMES = {"euler": 1.0, "bdf2": 1.5}


class ImplicitSteps(Propagator):
    """Steps of ``u' + A u = Σ_k w_k(t) s_k``, each one linear solve with the same matrix.

    Inputs are the values of ``A``, the ``s_k``, the ``w_k`` and ``u`` at time 0; outputs what is
    recorded after each step, and the last ``u``. See :class:`~adjoint.solvers.Evolution`.

    Parameters
    ----------
    solve : LinearSolve
        For matrices of the pattern of ``A``, which has the whole diagonal.
    dt : float
    steps : int
    scheme : str
        ``"euler"`` or ``"bdf2"``.
    record : tuple of (Pattern, numpy.ndarray)
        The matrix ``P`` of which ``P u`` is recorded.
    fixed : bool
        Keep nothing of the steps, for there will be no derivative by the matrix.
    """

    def __init__(
        self,
        solve: LinearSolve,
        dt: float,
        steps: int,
        scheme: str,
        record: tuple[Pattern, Array],
        fixed: bool,
    ) -> None:
        pattern = solve.pattern
        self.comm, self.steps = pattern.comm, steps
        self._solve, self._pattern = solve, pattern
        self._dt, self._two = dt, scheme == "bdf2"
        self._shift = SCHEMES[scheme] / dt
        self._recorder, values = record
        self._record = self._recorder.matrix(values)
        self._fixed = fixed
        self._rows = pattern.local_shape[0]
        self._diagonal = np.flatnonzero(pattern.indices == pattern.rows)
        self._fields = self._new_fields()

    def _new_fields(self) -> Array:
        """Return u, and with two levels the one before it."""
        return np.zeros((1 + self._two, self._rows))

    # Forwards

    @property
    def state(self) -> Sequence[Array]:
        return list(self._fields)

    def new_kept(self, steps: int) -> Sequence[Array]:
        return [np.zeros((0 if self._fixed else steps, self._rows))]

    def kept_bytes(self, steps: int) -> int:
        return 0 if self._fixed else 8 * steps * self._rows

    def prepare(self, *inputs: Array) -> None:
        values, self._terms, self._series, self._initial = inputs
        self._matrix = np.array(values)
        self._matrix[self._diagonal] += self._shift
        self._matrix.flags.writeable = False  # so that the solver knows it again at once
        self._records = np.zeros((self._recorder.local_shape[0], self.steps))

    def begin(self, run: int) -> None:
        self._fields[...] = self._initial

    def advance(self, first: int, last: int, kept: Any = None) -> None:
        for n in range(first, last):
            x = self._step(n)
            if kept is not None and not self._fixed:
                kept[0][n - first] = x

    def _step(self, n: int) -> Array:
        """Take a step, and return what its system's solution was."""
        fields = self._fields
        b = self._series[:, n] @ self._terms + self._before(n, fields)
        x: Array = self._solve.forward(self._matrix, b)
        self._move(n, fields, x)
        self._records[:, n] = self._recorded(fields[0])
        return x

    def _before(self, n: int, fields: Array) -> Array:
        """Return what the state adds to the right-hand side."""
        if self._starts(n):
            part: Array = self._shift * fields[0]
        else:
            part = (2 / self._dt) * fields[0] - (0.5 / self._dt) * fields[1]
        return part

    def _move(self, n: int, fields: Array, x: Array) -> None:
        """Make the solution of the step's system the state after it."""
        if self._two:
            fields[1] = fields[0]
        if self._two and n == 0:
            fields[0] *= -0.5
            fields[0] += 1.5 * x
        else:
            fields[0] = x

    def _starts(self, n: int) -> bool:
        """Whether a step knows one level only."""
        return n == 0 or not self._two

    def _recorded(self, u: Array) -> Array:
        recorded: Array = self._record @ self._recorder.exchange.fetch(u)
        return recorded

    def results(self) -> tuple[Array, ...]:
        return self._records.copy(), self._fields[0].copy()

    # Tangents

    def prepare_tangent(self, tangents: Sequence[Array]) -> None:
        self._dvalues, self._dterms, self._dseries, self._dinitial = tangents
        self._drecords = np.zeros_like(self._records)

    def begin_tangent(self, run: int) -> None:
        self._dfields = self._new_fields()
        self._dfields[...] = self._dinitial

    def advance_tangent(self, first: int, last: int) -> None:
        for n in range(first, last):
            x = self._step(n)
            db = self._dseries[:, n] @ self._terms + self._series[:, n] @ self._dterms
            db += self._before(n, self._dfields)
            dx = self._solve.jvp((self._dvalues, db), (self._matrix, None), (x,))
            self._move(n, self._dfields, dx)
            self._drecords[:, n] = self._recorded(self._dfields[0])

    def result_tangents(self) -> tuple[Array, ...]:
        return self._drecords, self._dfields[0]

    # In reverse

    def prepare_reverse(self, cotangents: Sequence[Array]) -> None:
        self._records_bar, self._final_bar = cotangents
        self._values_bar: Array = np.zeros(0 if self._fixed else self._pattern.nnz)
        self._terms_bar, self._series_bar = np.zeros_like(self._terms), np.zeros_like(self._series)

    def begin_reverse(self, run: int) -> None:
        self._bar = self._new_fields()
        self._bar[0] = self._final_bar

    def reverse(self, last: int, first: int, kept: Any) -> None:
        for n in reversed(range(first, last)):
            self._bar[0] += self._recorder.exchange.add_back(
                self._record.T @ self._records_bar[:, n]
            )
            factor = 1.5 if self._two and n == 0 else 1.0
            lam = self._solve.transposed(self._matrix, factor * self._bar[0])
            if not self._fixed:
                x = self._pattern.exchange.fetch(kept[0][n - first])
                self._values_bar -= self._pattern.outer(lam, x)
            self._terms_bar += np.multiply.outer(self._series[:, n], lam)
            self._series_bar[:, n] = self._terms @ lam
            self._bar = self._moved_back(n, lam)

    def _moved_back(self, n: int, lam: Array) -> Array:
        """Return the cotangent of the state before a step: of `_before` and of `_move`."""
        bar = self._new_fields()
        if self._starts(n):
            bar[0] = self._shift * lam
            if self._two:
                bar[0] += self._bar[1] - 0.5 * self._bar[0]
            return bar
        bar[0] = self._bar[1] + (2 / self._dt) * lam
        bar[1] = (-0.5 / self._dt) * lam
        return bar

    def finish_reverse(self, run: int) -> None:
        self._initial_bar = self._bar.sum(axis=0)

    def gradients(self) -> tuple[Array | None, ...]:
        values = None if self._fixed else self._values_bar
        return values, self._terms_bar, self._series_bar, self._initial_bar
