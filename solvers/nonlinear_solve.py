"""The root of a distributed nonlinear system, and its derivatives by the implicit function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..operator import Operator
from ..tape import Tape, unrecorded
from ..variable import Array, Variable
from ..world import agreed, agreed_or_ended
from .errors import ConvergenceError
from .krylov import KrylovSolver, TransposedSolver
from .linear_solve import linear_options, require_finite
from .newton import NewtonSolver
from .pattern import Pattern
from .petsc import Closing, started_for

if TYPE_CHECKING:
    from .krylov import Solved

#: Relative difference of ``J v`` and the residual's own tangent above which ``J`` is wrong.
_EXACT = 1e-8


class NonlinearSolve(Closing, Operator):
    """``(u₀, p, q, …) ↦ u`` with ``F(u, p, q, …) = 0``, by Newton's method from the start ``u₀``.

    Solved by PETSc's SNES with a line search and a hand-written Jacobian; its linear systems by
    GMRES, or conjugate gradients (``symmetric``), preconditioned by hypre's BoomerAMG. Derivatives
    take one linear solve each, however many steps Newton's method took.

    Parameters
    ----------
    pattern : Pattern
        Of the Jacobian ``∂F/∂u``, a square matrix.
    residual : callable
        ``residual(u, *parameters)``: this rank's rows of ``F``, float64, for this rank's part of
        ``u``, written with operators and NumPy's functions so that it takes Variables as well as
        arrays. It may communicate (a halo exchange). For a state outside of the domain of ``F`` it
        gives ``nan``, on any rank: the line search then takes a shorter step. An exception ends the
        search on all ranks; on a rank that others wait for, the job.
    jacobian : callable
        ``jacobian(u, *parameters)``: the values of ``∂F/∂u`` on this rank's entries of the pattern,
        float64, for arrays. It may communicate.
    symmetric : bool
        The Jacobian is symmetric and positive definite.
    rtol, atol : float
        Tolerances on ``‖F(u)‖``, relative to ``‖F(u₀)‖`` and absolute; one of them is enough.
    linear_rtol : float
        Tolerance of the solves for derivatives, relative to their right-hand sides.
    options : mapping of str to object, optional
        PETSc options, without prefix: ``{"snes_linesearch_type": "l2", "ksp_type": "bcgs"}``. The
        tolerance of Newton's steps is ``ksp_rtol``, by default 1e-4.
    prefix : str, optional
        Options of PETSc's own database (its command line) with this prefix come before all others.
    max_iterations : int
        Of Newton's method.

    Attributes
    ----------
    settings : dict
        The PETSc options, defaults included.
    setups, solves : int
        How often a preconditioner was set up, and how many solves derivatives took.
    last : Solved or None
        Reason, iterations and relative residual of the last call or, after a derivative, of its
        solve.
    linear_iterations : int
        Of all Newton steps of the last call together.

    Raises
    ------
    ValueError
        On all ranks: wrong shape or dtype, a Jacobian that is not finite, a pattern that is not
        square, or a Jacobian that is not the derivative of the residual.
    ConvergenceError
        On all ranks, if the residual is above ten times both tolerances and above what rounding
        leaves, ``10 ε ‖∂F/∂u‖ ‖u‖``; or if a derivative's solve fails, as for
        :class:`LinearSolve`.
    Exception
        On all ranks, what ``residual`` or ``jacobian`` raises on any of them.
    RuntimeError
        As for :class:`LinearSolve`, where PETSc is not running.

    Notes
    -----
    Inputs: ``u₀``, float64, this rank's rows; then the parameters, arrays of any shape. The output
    ``u`` is distributed as ``u₀`` is. All calls are collective. A parameter that the ranks share
    enters through ``Bcast``.

    Differentiating ``F(u(p), p) = 0`` gives, with ``J = ∂F/∂u`` at the solution, the tangent
    ``J u̇ = −(∂F/∂p) ṗ``. For the adjoint, ``⟨ū, u̇⟩ = −⟨J⁻ᵀ ū, (∂F/∂p) ṗ⟩``, hence with
    ``Jᵀ λ = ū``: ``p̄ = −(∂F/∂p)ᵀ λ``. The products with ``∂F/∂p`` are sweeps over a tape of the
    residual alone, which is recorded at the solution, so its own operators' rules are used, a
    network's as well. ``Jᵀ`` has a preconditioner of its own unless ``J`` is symmetric. ``u₀``
    decides which root is found; within a neighbourhood the root does not depend on it, so its
    cotangent is none.

    The first solution is where ``J`` is proven: ``J v`` for a random ``v`` is compared with the
    tangent of the residual. Newton's method forgives a Jacobian that is roughly right, but
    derivatives do not.

    Examples
    --------
    >>> from mpi4py import MPI
    >>> pattern = Pattern([0, 1], [0], comm=MPI.COMM_SELF)
    >>> with NonlinearSolve(pattern, lambda u, a: u**3 - a, lambda u, a: 3 * u**2) as cube_root:
    ...     u = cube_root(np.ones(1), np.array([8.0]))
    >>> np.allclose(u, [2.0])
    True

    References
    ----------
    S. Balay et al., PETSc/TAO users manual, ANL-21/39, doi:10.2172/1968587.
    A. Griewank and C. Faure, Reduced functions, gradients and Hessians from fixed-point iterations
    for state equations, 2002, doi:10.1023/A:1016051717120.
    """

    needs_outputs = (0,)
    communicates = True

    def __init__(
        self,
        pattern: Pattern,
        residual: Callable[..., Any],
        jacobian: Callable[..., Any],
        *,
        symmetric: bool = False,
        rtol: float = 1e-10,
        atol: float = 1e-50,
        linear_rtol: float = 1e-10,
        options: Mapping[str, Any] | None = None,
        prefix: str | None = None,
        max_iterations: int = 50,
    ) -> None:
        started_for(pattern.comm)
        with agreed(pattern.comm):
            pattern.check_square(self)
        self.pattern = pattern
        self.symmetric = symmetric
        self._residual = residual
        self._jacobian = jacobian
        self.settings = {
            **linear_options(symmetric, rtol=1e-4, max_iterations=1000),
            "snes_type": "newtonls",
            "snes_rtol": rtol,
            "snes_atol": atol,
            "snes_stol": 0.0,  # a short step is no proof of a small residual
            "snes_max_it": max_iterations,
            **(options or {}),
        }
        self._prefix, self._linear_rtol = prefix, linear_rtol
        self._newton = NewtonSolver(self.name, pattern, self.settings, prefix, rtol=linear_rtol)
        self._adjoint: KrylovSolver | None = self._newton if symmetric else None
        self._latest: KrylovSolver = self._newton
        self._proven = False

    def check(self, u0: Any, *parameters: Any) -> None:
        with agreed(self.pattern.comm):
            self.pattern.check_range(self, "u0", u0)
            require_finite(self, "u0", u0)

    def forward(self, u0: Any, *parameters: Any) -> Any:
        u = np.array(u0)
        self._latest = self._newton
        try:
            self._newton.find_root(
                u, lambda v: self._remainder(v, parameters), lambda v: self._values(v, parameters)
            )
        except ConvergenceError as error:
            if np.isfinite(error.residual):
                self._prove(u, parameters)  # a wrong Jacobian would be the reason
            raise
        self._prove(u, parameters)
        return u

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        (_, *dparameters), (_, *parameters), (u,) = tangents, inputs, outputs
        tape, watched, remainder = self._recorded(u, parameters)
        moved = [dparameters[i] for i in watched]
        (rhs,) = tape.jvp([remainder], list(watched.values()), moved)
        return self._solve(self._newton, u, parameters, -rhs, "tangent")

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        (w,), (_, *parameters), (u,) = cotangents, inputs, outputs
        with agreed(self.pattern.comm):
            require_finite(self, "cotangent of u", w)
        if self._adjoint is None:
            self._adjoint = TransposedSolver(
                self.name, self.pattern, self.settings, self._prefix, rtol=self._linear_rtol
            )
        adjoint = self._solve(self._adjoint, u, parameters, w, "adjoint")
        tape, watched, remainder = self._recorded(u, parameters)
        found = tape.vjp([remainder], [-adjoint], list(watched.values()))
        by_position = dict(zip(watched, found))
        return None, *(by_position.get(i) for i in range(len(parameters)))

    @property
    def setups(self) -> int:
        return sum(solver.setups for solver in self._solvers())

    @property
    def solves(self) -> int:
        return sum(solver.solves for solver in self._solvers())

    @property
    def last(self) -> Solved | None:
        return self._latest.last

    @property
    def linear_iterations(self) -> int:
        return self._newton.linear_iterations

    def close(self) -> None:
        """Destroy PETSc's objects; collective. The operator may still be used: it builds new ones.

        Without it they are destroyed some time after the operator is no longer used.
        """
        for solver in self._solvers():
            solver.close()

    def _solvers(self) -> list[KrylovSolver]:
        """Return the solvers there are, in the same order on all ranks."""
        others = [self._adjoint] if self._adjoint not in (None, self._newton) else []
        return [self._newton, *others]

    def _solve(
        self, solver: KrylovSolver, u: Array, parameters: Sequence[Any], b: Array, kind: str
    ) -> Array:
        """Solve with the Jacobian at the solution, or its transpose."""
        with agreed_or_ended(self.pattern.comm):
            values = self._values(u, parameters)
        self._latest = solver
        solver.install(values)
        return solver.solve(b, kind)

    def _remainder(self, u: Array, parameters: Sequence[Any]) -> Array:
        with unrecorded():
            value = np.asarray(self._residual(u, *parameters))
        self.pattern.check_range(self, "residual", value)
        return value

    def _values(self, u: Array, parameters: Sequence[Any]) -> Array:
        with unrecorded():
            values = np.asarray(self._jacobian(u, *parameters))
        self.pattern.check_values(self, values)
        require_finite(self, "jacobian", values)
        return values

    def _recorded(
        self, u: Array, parameters: Sequence[Any]
    ) -> tuple[Tape, dict[int, Variable], Variable]:
        """Return a tape of the residual at ``u``, the parameters on it by position, its value."""
        given = list(parameters)
        with Tape(comm=self.pattern.comm) as tape, agreed_or_ended(self.pattern.comm):
            watched = {i: tape.watch(p) for i, p in enumerate(parameters) if _is_float(p)}
            for i, p in watched.items():
                given[i] = p
            remainder = _variable(self._residual(u, *given))
        return tape, watched, remainder

    def _prove(self, u: Array, parameters: Sequence[Any]) -> None:
        """Raise, the first time, unless the Jacobian is the derivative of the residual."""
        if self._proven:
            return
        from mpi4py import MPI

        comm = self.pattern.comm
        with agreed_or_ended(comm):
            values = self._values(u, parameters)
        v = np.random.default_rng([0, comm.rank]).standard_normal(len(u))
        with Tape(comm=comm) as tape, agreed_or_ended(comm):
            x = tape.watch(u)
            remainder = _variable(self._residual(x, *parameters))
        (expected,) = tape.jvp([remainder], [x], [v])
        found = self.pattern.matrix(values) @ self.pattern.exchange.fetch(v)
        squares = np.array([np.sum((found - expected) ** 2), np.sum(expected**2)])
        comm.Allreduce(MPI.IN_PLACE, squares)
        difference, size = np.sqrt(squares)
        if not difference <= _EXACT * size:
            relative = difference / size if size else np.inf
            raise ValueError(
                f"{self.name}: jacobian times a random vector differs by {relative:.2g} (relative) "
                "from the tangent of residual, expected the same"
            )
        self._proven = True


def _variable(value: Any) -> Variable:
    """Return a residual as it is, or a variable of one that on this rank depends on nothing."""
    return value if isinstance(value, Variable) else Variable(np.asarray(value))


def _is_float(p: Any) -> bool:
    return np.asarray(p).dtype in (np.float32, np.float64)
