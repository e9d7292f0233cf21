"""The solution of a distributed sparse system, and its adjoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..operator import Operator
from ..variable import Array
from ..world import agree, agreed
from .krylov import KrylovSolver, TransposedSolver
from .pattern import Pattern
from .petsc import Closing, started_for

if TYPE_CHECKING:
    from .krylov import Solved

#: Short interpolation, and one sweep each way, forwards down and backwards up: symmetric together,
#: at half the cost of BoomerAMG's default in PETSc, and convergent on any number of ranks.
_BOOMERAMG = {
    "pc_hypre_boomeramg_P_max": 4,
    "pc_hypre_boomeramg_relax_type_down": "l1-Gauss-Seidel",
    "pc_hypre_boomeramg_relax_type_up": "backward-l1-Gauss-Seidel",
}

#: Relative difference of ⟨A u, v⟩ and ⟨u, A v⟩ above which a matrix is not symmetric.
_SYMMETRY = 1e-8


def linear_options(symmetric: bool, rtol: float, max_iterations: int) -> dict[str, Any]:
    """Return the PETSc options of a linear solve where the user gives no others."""
    return {
        "ksp_type": "cg" if symmetric else "gmres",
        "ksp_gmres_restart": 50,
        "ksp_rtol": rtol,
        "ksp_max_it": max_iterations,
        "pc_type": "hypre",
        **_BOOMERAMG,
    }


def require_finite(operator: Operator, argument: str, array: Array) -> None:
    """Raise, in the operator's name, unless all entries are finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(np.sum(array)):  # quick, and wrong only where the sum overflows
            return
    bad = np.flatnonzero(~np.isfinite(array))
    if bad.size:
        raise ValueError(
            f"{operator.name}: {argument} has {array[bad[0]]} at entry {bad[0]}, "
            "expected finite numbers"
        )


class LinearSolve(Closing, Operator):
    """``(values, b) ↦ x`` with ``A x = b``.

    Solved by PETSc, by default with conjugate gradients (``symmetric``) or GMRES, preconditioned by
    hypre's BoomerAMG. Solver and preconditioner are built on first use and refilled; they are set
    up again only when the values have changed. So a matrix that stays the same over many steps is
    set up once, and the adjoint of a symmetric solve reuses the forward solve's hierarchy.

    Parameters
    ----------
    pattern : Pattern
        Of a square matrix.
    symmetric : bool
        The matrix is symmetric and positive definite. The first one is checked for symmetry.
    rtol : float
        Tolerance on ``‖b − A x‖ / ‖b‖``, without preconditioning.
    options : mapping of str to object, optional
        PETSc options, without prefix: ``{"ksp_type": "fgmres", "pc_type": "bjacobi"}``. They hold
        for the forward and the adjoint solve.
    prefix : str, optional
        Options of PETSc's own database (its command line) with this prefix come before all others.
    max_iterations : int
    warm : bool
        Start each solve from the solution of the last one, corrected by the differences of nine
        former ones, adjoint solves from adjoint ones: for inversions, in which a matrix and a
        right-hand side differ little from those before. It takes 72 bytes a row for each of the
        two. Solutions are as accurate as without, but depend on what was solved before, so that a
        run that is resumed no longer repeats another bit for bit.
    lag : float
        Keep the preconditioner when the matrix changes, scaled likewise, until a digit of accuracy
        takes more than so many times the iterations that it took at first. By default 1, which
        never keeps it. An inversion with 1.2 may do with a single one. As with ``warm``, runs that
        are resumed no longer repeat others bit for bit.

    Attributes
    ----------
    settings : dict
        The PETSc options, defaults included.
    setups, solves : int
        How often a preconditioner was set up, and how many systems were solved, adjoint ones
        included.
    last : Solved or None
        Reason, iterations and true relative residual of the last forward solve or, after a
        derivative, of its solve.

    Raises
    ------
    ValueError
        On all ranks: wrong shape or dtype, values that are not finite, a matrix that is not square,
        or not symmetric though declared so.
    ConvergenceError
        On all ranks, if the true residual is above ten times ``rtol`` and, where PETSc says that
        the iteration converged, above what rounding leaves as well, ``10 ε ‖A‖ ‖x‖``.
    RuntimeError
        If PETSc is not running and the pattern is distributed over a part of the ranks: all
        start PETSc together. ``from petsc4py import PETSc`` on all ranks does it.

    Notes
    -----
    Inputs: ``values``, float64, one for each of this rank's entries; ``b``, float64, this rank's
    rows. The output ``x`` is distributed as ``b`` is. All calls are collective. The last matrix's
    values are kept; an array that the caller can write to is copied for it.

    Forward ``A x = b``; tangent ``A ẋ = ḃ − Ȧ x``. For the adjoint, ``⟨x̄, ẋ⟩ = ⟨A⁻ᵀ x̄, ḃ − Ȧ x⟩``,
    hence with ``Aᵀ λ = x̄``: ``b̄ = λ`` and ``Ā_ij = −λ_i x_j`` on the pattern, where the ``x_j`` of
    other ranks are fetched once. A symmetric matrix is its own transpose, and the same solver is
    used; otherwise ``Aᵀ`` is formed by :class:`Transpose` and has a solver of its own. (PETSc's own
    transposed solve is wrong with BoomerAMG: it applies no preconditioner and reports success.)

    A right-hand side of zeros has the solution zero.

    Examples
    --------
    >>> from mpi4py import MPI
    >>> pattern = Pattern([0, 2, 4], [0, 1, 0, 1], comm=MPI.COMM_SELF)
    >>> with LinearSolve(pattern, symmetric=True) as solve:
    ...     x = solve(np.array([2.0, 1.0, 1.0, 2.0]), np.array([3.0, 3.0]))
    >>> np.allclose(x, [1.0, 1.0])
    True

    References
    ----------
    V. E. Henson and U. M. Yang, BoomerAMG: a parallel algebraic multigrid solver and
    preconditioner, 2002, doi:10.1016/S0168-9274(01)00115-5.
    """

    needs_inputs = (0,)
    needs_outputs = (0,)
    communicates = True

    def __init__(
        self,
        pattern: Pattern,
        *,
        symmetric: bool = False,
        rtol: float = 1e-10,
        options: Mapping[str, Any] | None = None,
        prefix: str | None = None,
        max_iterations: int = 1000,
        warm: bool = False,
        lag: float = 1.0,
    ) -> None:
        started_for(pattern.comm)
        with agreed(pattern.comm):
            pattern.check_square(self)
            if not lag >= 1:
                raise ValueError(f"{self.name}: lag is {lag}, expected 1 or more")
        self.pattern = pattern
        self.symmetric = symmetric
        self.settings = {**linear_options(symmetric, rtol, max_iterations), **(options or {})}
        self._direct = KrylovSolver(self.name, pattern, self.settings, prefix, warm, lag)
        self._adjoint = self._direct
        self._prefix = prefix
        self._reuse = warm, lag
        self._latest = self._direct
        self._checked = False

    def check(self, values: Any, b: Any) -> None:
        with agreed(self.pattern.comm):
            self.pattern.check_values(self, values)
            self.pattern.check_range(self, "b", b)
            require_finite(self, "values", values)
            require_finite(self, "b", b)

    def forward(self, values: Any, b: Any) -> Any:
        self._direct.install(values)
        if self.symmetric and not self._checked:
            self._require_symmetry()
        return self._solve(self._direct, b)

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        (dvalues, db), (values, _), (x,) = tangents, inputs, outputs
        extended = self.pattern.exchange.fetch(x)
        self._direct.install(values)
        b = db - self.pattern.matrix(dvalues) @ extended
        return self._solve(self._direct, b, "tangent")

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        (w,), (values, _), (x,) = cotangents, inputs, outputs
        adjoint = self.transposed(values, w)
        extended = self.pattern.exchange.fetch(x)
        return lambda: -self.pattern.outer(adjoint, extended), adjoint

    def transposed(self, values: Any, w: Any) -> Any:
        """Return ``λ`` with ``Aᵀ λ = w``; collective, and not recorded."""
        with agreed(self.pattern.comm):
            require_finite(self, "cotangent of x", w)
        if self._adjoint is self._direct and not self.symmetric:
            self._adjoint = TransposedSolver(
                self.name, self.pattern, self.settings, self._prefix, *self._reuse
            )
        self._adjoint.install(values)
        return self._solve(self._adjoint, w, "adjoint")

    @property
    def setups(self) -> int:
        return sum(solver.setups for solver in {self._direct, self._adjoint})

    @property
    def solves(self) -> int:
        return sum(solver.solves for solver in {self._direct, self._adjoint})

    @property
    def last(self) -> Solved | None:
        return self._latest.last

    def close(self) -> None:
        """Destroy PETSc's objects; collective. The operator may still be used: it builds new ones.

        Without it they are destroyed some time after the operator is no longer used.
        """
        for solver in (self._direct, self._adjoint):
            solver.close()

    def _solve(self, solver: KrylovSolver, b: Any, kind: str = "direct") -> Any:
        self._latest = solver
        return solver.solve(b, kind)

    def _require_symmetry(self) -> None:
        difference = self._direct.asymmetry()
        error = None
        if not difference <= _SYMMETRY:
            error = ValueError(
                f"{self.name}: values are of a matrix with relative asymmetry {difference:.2g}, "
                "expected a symmetric one; use symmetric=False"
            )
        agree(self.pattern.comm, error)
        self._checked = True
