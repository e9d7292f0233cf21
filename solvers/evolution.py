"""Linear systems in time, one implicit solve a step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..checkpoint import TimeLoop
from ..comm.grid import same_on_all_ranks
from ..variable import Array, Variable
from ..world import agreed
from .implicit_steps import SCHEMES, ImplicitSteps
from .linear_solve import LinearSolve
from .pattern import Pattern
from .petsc import Closing


class Evolution(Closing, TimeLoop):
    """``(values, terms, series, initial) ↦ (records, final)`` with ``u' + A u = Σ_k w_k(t) s_k``.

    One :class:`LinearSolve` a step. The matrix is the same in all steps, so one preconditioner
    serves them forwards, and one, of ``Aᵀ``, all adjoint steps.

    Parameters
    ----------
    pattern : Pattern
        Of ``A``, square, with all of the diagonal.
    dt : float
        Time step, in seconds.
    steps : int
    scheme : str
        ``"bdf2"``, of second order, or ``"euler"``, of first order.
    record : tuple of (Pattern, numpy.ndarray), optional
        A matrix ``P`` and its values: ``P u`` is recorded after each step.
    fixed : bool
        The matrix has no derivative: it is refused as a variable, and the steps keep nothing for
        the reverse sweep, because ``u`` is linear in everything else.
    rtol : float
        Tolerance of the linear solves, relative to their right-hand sides.
    options : mapping of str to object, optional
        PETSc options of the linear solves.
    prefix : str, optional
        Prefix of options in PETSc's own database.
    **loop
        What :class:`~adjoint.checkpoint.TimeLoop` takes: how much memory the derivative may use.

    Attributes
    ----------
    solve : LinearSolve
    steps : int
    dt : float

    Raises
    ------
    ValueError
        On all ranks: bad arguments, or others than rank 0's; wrong shapes, values that are not
        finite.
    ConvergenceError
        On all ranks.

    Notes
    -----
    Inputs of a call, all float64: ``values``, one for each of this rank's entries of ``A``;
    ``terms`` [term, row], this rank's rows; ``series`` [term, step], the ``w_k`` at the *end* of
    each step, the same on all ranks, each of which has the cotangent of its own copy; ``initial``
    [row]. Outputs: ``records`` [row of P, step], at the end of each step, and ``final`` [row].

    With ``B = σI + A`` and ``bⁿ⁺¹ = Σ_k w_kⁿ⁺¹ s_k``, implicit Euler is ``σ = 1/Δt`` and

        B uⁿ⁺¹ = σ uⁿ + bⁿ⁺¹,

    and BDF2 ``σ = 3/(2Δt)`` and ``B uⁿ⁺¹ = (4uⁿ − uⁿ⁻¹)/(2Δt) + bⁿ⁺¹``. It starts with Euler's step
    of length ⅔Δt, whose matrix is the same, continued in a straight line to Δt:

        B x = σ u⁰ + b¹,   u¹ = (3x − u⁰)/2,

    which errs by O(Δt²) once. In reverse, with ``ūⁿ⁺¹`` complete, ``Bᵀλ = ūⁿ⁺¹`` (at the start
    ``3ū¹/2``), and with ``x`` the solution of the step's system,

        Ā_ij −= λ_i x_j,   s̄_k += w_kⁿ⁺¹ λ,   w̄_kⁿ⁺¹ = ⟨s_k, λ⟩,
        ūⁿ += σ λ (Euler),   ūⁿ += 2λ/Δt, ūⁿ⁻¹ −= λ/(2Δt) (BDF2),   ū⁰ += σ λ − ū¹/2 (start).

    Only ``x`` is kept of a step. ``Ā`` is summed over the steps in place and leaves the loop once,
    so what made the matrix is differentiated once.

    Where ``A`` has no positive entry off the diagonal and no negative column sum, Euler's steps
    never make a negative value of data without any; no scheme of higher order does so for all Δt
    (Bolley and Crouzeix).

    References
    ----------
    Bolley, Crouzeix (1978). Conservation de la positivité lors de la discrétisation des problèmes
    d'évolution paraboliques. DOI 10.1051/m2an/1978120302371

    Examples
    --------
    >>> from mpi4py import MPI
    >>> decay = Pattern([0, 1], [0], comm=MPI.COMM_SELF)
    >>> with Evolution(decay, 0.01, 100) as evolution:
    ...     _, u = evolution(np.ones(1), np.zeros((0, 1)), np.zeros((0, 100)), np.ones(1))
    >>> bool(abs(u[0] - np.exp(-1)) < 2e-5)
    True
    """

    def __init__(
        self,
        pattern: Pattern,
        dt: float,
        steps: int,
        *,
        scheme: str = "bdf2",
        record: tuple[Pattern, Array] | None = None,
        fixed: bool = False,
        rtol: float = 1e-10,
        options: Mapping[str, Any] | None = None,
        prefix: str | None = None,
        **loop: Any,
    ) -> None:
        with agreed(pattern.comm):
            if scheme not in SCHEMES:
                raise ValueError(f"{self.name}: scheme is {scheme!r}, expected euler or bdf2")
            if not (np.isfinite(dt) and dt > 0):
                raise ValueError(f"{self.name}: dt is {dt}, expected a positive number of seconds")
            if int(steps) != steps or steps < 1:
                raise ValueError(f"{self.name}: steps is {steps}, expected a positive integer")
            _require_diagonal(self.name, pattern)
            if record is not None:
                _require_fitting(self.name, pattern, *record)
        self.pattern, self.dt, self.steps, self.fixed = pattern, float(dt), int(steps), bool(fixed)
        same_on_all_ranks(
            pattern.comm, self.name, dt=self.dt, steps=self.steps, scheme=scheme, fixed=self.fixed
        )
        if record is None:
            columns = pattern.local_shape[1]
            record = Pattern([0], [], columns, pattern.comm), np.empty(0)
        self.solve = LinearSolve(pattern, rtol=rtol, options=options, prefix=prefix)
        propagator = ImplicitSteps(self.solve, self.dt, self.steps, scheme, record, self.fixed)
        super().__init__(propagator, **loop)

    def __call__(self, values: Any, terms: Any, series: Any, initial: Any) -> Any:
        """Take all steps; see the class."""
        with agreed(self.comm):
            if self.fixed and isinstance(values, Variable):
                raise ValueError(
                    f"{self.name}: values is a variable, expected an array: fixed=True says that "
                    "there is no derivative by the matrix"
                )
        return super().__call__(values, terms, series, initial)

    def check(self, *inputs: Any) -> None:
        values, terms, series, initial = inputs
        with agreed(self.comm):
            self.pattern.check_values(self, values)
            count = np.shape(terms)[0] if np.ndim(terms) else 0
            self.require("terms", np.shape(terms), (count, self.pattern.local_shape[0]))
            self.require("series", np.shape(series), (count, self.steps))
            self.pattern.check_range(self, "initial", initial)
            arguments = zip(("values", "terms", "series", "initial"), inputs)
            for argument, array in arguments:
                self.require(argument, str(np.asarray(array).dtype), "float64", "dtype")
                if not np.isfinite(array).all():
                    raise ValueError(f"{self.name}: {argument} has values that are not finite")

    def close(self) -> None:
        """Destroy PETSc's objects; collective."""
        self.solve.close()


def _require_fitting(name: str, pattern: Pattern, recorded: Pattern, values: Array) -> None:
    if recorded.local_shape[1] != pattern.local_shape[0] or np.shape(values) != (recorded.nnz,):
        raise ValueError(
            f"{name}: record has {recorded.local_shape[1]} columns and values of shape "
            f"{np.shape(values)} on this rank, expected {pattern.local_shape[0]} and "
            f"({recorded.nnz},)"
        )


def _require_diagonal(name: str, pattern: Pattern) -> None:
    rows = pattern.rows
    missing = np.setdiff1d(np.arange(*pattern.row_range), rows[pattern.indices == rows])
    if missing.size:
        raise ValueError(
            f"{name}: row {missing[0]} of the pattern has no diagonal entry, expected one in each"
        )
