"""One matrix in PETSc's hands, with a preconditioner and a Krylov method that fit it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

import numpy as np

from ..spans import span
from ..variable import Array
from ..world import agree, true_everywhere
from .errors import ConvergenceError
from .former_solutions import FormerSolutions
from .pattern import Pattern
from .petsc import Owned, petsc, require_hypre, update_values
from .scaled import DiagonalRoot, ScaledPreconditioner
from .transpose import Transpose

#: Methods that can measure the residual itself, not the preconditioned one.
_TRUE_NORM = {"cg", "pipecg", "gmres", "fgmres", "lgmres", "gcr", "bcgs", "fbcgs", "richardson"}

#: How far above the tolerance the true residual may be: the methods update it by recursion.
SLACK = 10.0

_instances = itertools.count()


class Solved(NamedTuple):
    """How an iterative solve went.

    Attributes
    ----------
    reason : str
        Why the iteration ended, as PETSc names it.
    iterations : int
    residual : float
        True relative residual ``‖b − A x‖ / ‖b‖``.
    """

    reason: str
    iterations: int
    residual: float


class KrylovSolver:
    """A PETSc matrix, preconditioner and Krylov method, built once and refilled.

    Parameters
    ----------
    name : str
        By which messages call the solver.
    pattern : Pattern
        Of a square matrix.
    options : mapping of str to object
        PETSc options, without prefix.
    prefix : str, optional
        Options in PETSc's own database under this prefix come before ``options``.
    warm : bool
        Start from what former solutions tell, of right-hand sides of the same kind.
    lag : float
        Keep the preconditioner when the matrix changes, scaled likewise, until a digit of accuracy
        takes so many times the iterations that it took when the preconditioner was new. 1 never
        keeps it.
    rtol : float, optional
        Tolerance of :meth:`solve`, whatever the options say.

    Attributes
    ----------
    setups : int
        How often a preconditioner was set up.
    solves : int
    last : Solved or None
        How the last solve went.
    """

    def __init__(
        self, name: str, pattern: Pattern, options: Mapping[str, Any], prefix: str | None = None,
        warm: bool = False, lag: float = 1.0, rtol: float | None = None,
    ) -> None:  # fmt: skip
        self.name = name
        self.setups = self.solves = 0
        self.last: Solved | None = None
        self._pattern = pattern
        self._options = dict(options)
        self._prefix = prefix
        self._asked_rtol = rtol
        self._owned: Owned | None = None
        self._installed: Array | None = None
        self._warm, self._lag = warm, lag
        self._root_of = DiagonalRoot(pattern) if warm or lag > 1 else None
        self._root: Array  # of the present matrix, where it is asked for
        self._root_then: Array  # of the one that the preconditioner was set up for
        self._scaled: ScaledPreconditioner | None = None
        self._former: dict[str, FormerSolutions] = {}
        self._pace = 0.0  # iterations of a digit when the preconditioner was new; 0 until measured

    def install(self, values: Array) -> None:
        """Make these the matrix's values, unless they are already; collective.

        An array that nobody can write to (as on a tape) is kept and recognised; of others a copy is
        kept and compared.
        """
        known = self._installed
        same = known is not None and (values is known or np.array_equal(values, known))
        if true_everywhere(self._pattern.comm, same):
            return
        if self._owned is None:
            self._build(values)
        else:
            self._fill(values)
        self._installed = values if _constant(values) else values.copy()
        self._ksp.setOperators(self._matrix)
        if self._root_of is not None:
            self._root = self._root_of(values)
        if self._pace == 0 or self._worn:  # without a lag it is never measured
            self._renew()
        else:
            self._keep()

    def _keep(self) -> None:
        """Have the next solves use the preconditioner of an earlier matrix."""
        self._ksp.getPC().setReusePreconditioner(True)
        self._kept = True
        if self._scaled is not None:
            self._scaled.scale(self._root_then / self._root)

    def _renew(self) -> None:
        """Have the next solve set up the preconditioner for the present matrix."""
        self._ksp.getPC().setReusePreconditioner(False)
        self._kept, self._worn, self._pace = False, False, 0.0
        if self._scaled is not None:
            self._root_then = self._root
            self._scaled.scale(None)
        self.setups += 1

    def solve(self, b: Array, kind: str = "direct") -> Array:
        """Return ``x`` with ``A x = b``, checked by its true residual; collective.

        Parameters
        ----------
        b : numpy.ndarray of float64
            This rank's rows.
        kind : str
            Right-hand sides of one kind are alike: of forward, or of adjoint solves.

        Raises
        ------
        ConvergenceError
            On all ranks.
        """
        PETSc = petsc()
        former = self._former_solutions(kind)
        guess = former.start(b, self._root, self._product) if former else None
        x = np.zeros(len(b)) if guess is None else guess
        self._rhs.placeArray(np.ascontiguousarray(b))
        self._solution.placeArray(x)
        fault: Any = None
        try:
            scale = self._rhs.norm()
            if scale == 0.0:
                self.last = Solved("ZERO_RIGHT_HAND_SIDE", 0, 0.0)
                x[...] = 0
                return x
            self.last = self._solved(scale, guess is not None)
        except PETSc.Error as error:
            fault = error
        finally:
            self._rhs.resetArray()
            self._solution.resetArray()
        if fault is not None:
            self._give_up(fault)
        self.solves += 1
        if former:
            former.remember(x, self._root, self._product)
        return x

    def _former_solutions(self, kind: str) -> FormerSolutions | None:
        if not self._warm or self._ksp.getType() == "preonly":  # which takes no guess
            return None
        if kind not in self._former:
            comm, rows = self._pattern.comm, self._pattern.local_shape[0]
            self._former[kind] = FormerSolutions(comm, rows)
        return self._former[kind]

    def _product(self, x: Array) -> Array:
        """Return the matrix times ``x``, in memory that the next product overwrites; collective."""
        self._solution.placeArray(np.ascontiguousarray(x))
        try:
            self._matrix.mult(self._solution, self._work)
        finally:
            self._solution.resetArray()
        product: Array = self._work.getArray()
        return product

    def asymmetry(self) -> float:
        """Return ``|⟨A u, v⟩ − ⟨u, A v⟩| / (‖A u‖ ‖v‖)`` for random vectors; collective."""
        generator = np.random.default_rng([0, self._pattern.comm.rank])
        u, v, w = (self._work.duplicate() for _ in range(3))
        for vector in (u, v):
            vector.setArray(generator.standard_normal(self._pattern.local_shape[0]))
        self._matrix.mult(u, w)
        size, left = w.norm() * v.norm(), w.dot(v)
        self._matrix.mult(v, w)
        difference = abs(left - w.dot(u))
        for vector in (u, v, w):
            vector.destroy()
        return float(difference / size) if size else 0.0

    def close(self) -> None:
        """Destroy PETSc's objects; collective. The next ``install`` builds them anew."""
        if self._owned is not None:
            self._owned.close()
        self._owned = self._installed = self._scaled = None
        self._former.clear()
        self._pace = 0.0

    def _give_up(self, fault: Exception) -> NoReturn:
        """Build everything anew next time, for PETSc has left it as it happened to be."""
        self.close()
        text = " ".join(str(fault).split())
        raise ConvergenceError(f"{self.name}: PETSc failed: {text}", "PETSC_ERROR") from fault

    def _solved(self, scale: float, guessed: bool) -> Solved:
        """Solve, once more with a new preconditioner where an old one does not do."""
        self._ksp.setInitialGuessNonzero(guessed)
        try:
            return self._iterate(scale)
        except ConvergenceError:
            if not self._kept:
                raise
            self._renew()
            self._ksp.setInitialGuessNonzero(False)
            return self._iterate(scale)

    def _iterate(self, scale: float) -> Solved:
        with span("set up"):
            self._ksp.setUp()
        with span("solve"):
            self._ksp.solve(self._rhs, self._solution)
        code, iterations = self._ksp.getConvergedReason(), self._ksp.getIterationNumber()
        reason = reason_named(petsc().KSP.ConvergedReason, code)
        self._matrix.mult(self._solution, self._work)
        self._work.aypx(-1.0, self._rhs)
        residual = self._work.norm() / scale
        allowed = SLACK * self._rtol
        if code > 0 and not residual <= allowed:
            allowed = max(allowed, self._rounding() / scale)
        if not residual <= allowed:
            raise ConvergenceError(
                f"{self.name}: not solved: true relative residual {residual:.3g}, expected at most "
                f"{allowed:.3g} (PETSc says {reason} after {iterations} iterations)",
                reason, iterations, residual,
            )  # fmt: skip
        self._watch()
        return Solved(reason, iterations, residual)

    def _watch(self) -> None:
        """Note how many iterations a digit took, and whether the preconditioner is worn."""
        if self._lag <= 1:
            return
        norms = self._ksp.getConvergenceHistory()
        if len(norms) < 2 or not norms[-1] < norms[0]:
            return
        least = max(norms[-1], np.finfo(float).eps * norms[0])  # an exact step may leave nothing
        pace = (len(norms) - 1) / np.log10(norms[0] / least)
        if self._pace == 0:
            self._pace = pace
        else:
            self._worn = self._worn or pace > self._lag * self._pace

    def _rounding(self) -> float:
        """Return a residual that rounding alone may leave: ``10 ε ‖A‖ ‖x‖``, within reason.

        On fine grids it exceeds the tolerances that people ask for, and no iteration gets below.
        """
        norm = self._matrix.norm(petsc().NormType.NORM_INFINITY) * self._solution.norm()
        return float(min(10 * np.finfo(float).eps * norm, 1e-6 * self._rhs.norm()))

    def _build(self, values: Array) -> None:
        PETSc, pattern = petsc(), self._pattern
        integer = PETSc.IntType
        largest = max(pattern.shape[1], pattern.nnz)
        error = None
        if largest > np.iinfo(integer).max:
            error = ValueError(
                f"{self.name}: {largest} columns or entries are more than this PETSc can count; "
                "it needs 64-bit indices"
            )
        agree(pattern.comm, error)
        self._entries = pattern.indptr.astype(integer), pattern.indices.astype(integer)
        self._values = values.copy()
        rows, columns = pattern.local_shape
        self._matrix = PETSc.Mat().createAIJWithArrays(
            ((rows, pattern.shape[0]), (columns, pattern.shape[1])),
            (*self._entries, self._values),
            comm=pattern.comm,
        )
        if pattern.comm.size > 1:
            del self._values  # PETSc has its own, in two blocks
        # The arrays of a solve take the place of these while it runs.
        self._rhs, self._solution = (
            PETSc.Vec().createWithArray(np.zeros(rows), (rows, pattern.shape[0]), comm=pattern.comm)
            for _ in range(2)
        )
        self._work = self._rhs.duplicate()
        self._ksp = self._new_method()
        self._configure()
        if self._lag > 1 and self._ksp.getType() != "preonly":
            self._wrap()
        self._owned = Owned(self, pattern.comm, self._objects())

    def _new_method(self) -> Any:
        return petsc().KSP().create(self._pattern.comm)

    def _objects(self) -> tuple[Any, ...]:
        kept = () if self._scaled is None else self._scaled.objects
        return self._ksp, *kept, self._matrix, self._rhs, self._solution, self._work

    def _wrap(self) -> None:
        """Let the method use the preconditioner that it was given through a scaling."""
        self._scaled = ScaledPreconditioner(self._ksp.getPC(), self._work)
        outer = petsc().PC().create(self._pattern.comm)
        outer.setType("python")
        outer.setPythonContext(self._scaled)
        self._ksp.setPC(outer)
        outer.destroy()  # the method holds it

    def _read_options(self, prefix: str) -> None:
        self._ksp.setOptionsPrefix(prefix)
        self._ksp.setFromOptions()

    def _configure(self) -> None:
        """Let PETSc read the options, and leave its database as it was."""
        database = petsc().Options()
        prefix = self._prefix or f"adjoint_{next(_instances)}_"
        settings = dict(self._options)
        for key in ("ksp_type", "pc_type"):
            if database.hasName(prefix + key):
                settings[key] = database.getString(prefix + key)
        if settings.get("ksp_type") in _TRUE_NORM:
            settings.setdefault("ksp_norm_type", "unpreconditioned")
        if settings.get("pc_type") == "hypre":
            require_hypre()
        added = [prefix + key for key in settings if not database.hasName(prefix + key)]
        try:
            for name in added:
                database[name] = settings[name.removeprefix(prefix)]
            self._read_options(prefix)
            if self._ksp.getType() == "preonly":  # which reads no tolerance, but is held to it
                self._ksp.setTolerances(rtol=database.getReal(prefix + "ksp_rtol", None))
        finally:
            for name in added:
                database.delValue(name)
        if self._asked_rtol is not None:
            self._ksp.setTolerances(rtol=self._asked_rtol)
        self._rtol = float(self._ksp.getTolerances()[0])
        if self._lag > 1:
            self._ksp.setConvergenceHistory(reset=True)

    def _fill(self, values: Array) -> None:
        if self._pattern.comm.size == 1:  # PETSc works on this very array
            np.copyto(self._values, values)
            self._matrix.assemble()  # forgets what PETSc has derived from the former values
            return
        update_values()(self._matrix, (*self._entries, np.ascontiguousarray(values)))


class TransposedSolver(KrylovSolver):
    """A solver for ``Aᵀ x = b`` that is given the values of ``A``, with a matrix of its own.

    Parameters
    ----------
    name, pattern, options, prefix, warm, lag, rtol
        As for the solver of ``A``.
    """

    def __init__(self, name: str, pattern: Pattern, *arguments: Any, **keywords: Any) -> None:
        self._transpose = Transpose(pattern)
        super().__init__(f"{name} (adjoint)", self._transpose.transposed, *arguments, **keywords)

    def install(self, values: Array) -> None:
        super().install(self._transpose.forward(values))


def _constant(values: Array) -> bool:
    """Return whether nobody can write to an array, nor to one that it is a view of."""
    memory: Any = values
    while isinstance(memory, np.ndarray) and not memory.flags.writeable:
        memory = memory.base
    return memory is None


def reason_named(names: Any, code: int) -> str:
    """Return the name of a reason: of KSP's and SNES's ``ConvergedReason``, or TAO's ``Reason``."""
    return next((name for name in dir(names) if getattr(names, name) == code), str(code))
