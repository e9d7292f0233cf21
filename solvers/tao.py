"""One iteration of PETSc's bounded optimiser, again and again."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..optimize.rejection import above
from ..optimize.sums import summed
from ..variable import Array
from ..world import true_everywhere
from .krylov import reason_named
from .petsc import Owned, petsc

if TYPE_CHECKING:
    from mpi4py import MPI

Evaluate = Callable[[Array], tuple[float, Array]]
Direction = Callable[[Array, bool], Array]


class Stepped(NamedTuple):
    """Where a step ended, with value and gradient there."""

    moved: bool
    point: Array
    value: float
    gradient: Array
    reason: str


#: Of options in PETSc's database, ``-minimize_field_tao_ls_type armijo``.
PREFIX = "minimize_field_"

#: TAO's own quasi-Newton matrix never holds a pair here, and is to have room for no more than one.
_ROOM = f"{PREFIX}tao_blmvm_mat_lmvm_hist_size"

#: Relative difference of two values of a misfit that may be rounding.
_ROUNDING = 10 * np.finfo(float).eps


class BoundedStep:
    """A step of TAO's ``blmvm``: a direction that is projected, and a search along it.

    TAO is let run for one iteration and begins with nothing of the one before. What lasts, the
    quasi-Newton matrix above all, lies with the caller, who can keep it in a file and continue from
    there; TAO gets it as the matrix ``H₀`` on which its own, still empty one stands.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
    size : int
        Unknowns of this rank.
    bounds : tuple of numpy.ndarray, or None
        Lower and upper, of this rank.
    evaluate : callable
        ``x ↦ (f, ∇f)``, collective; f the same on all ranks, and infinite where no step may end.
    direction : callable
        ``(∇f, again) ↦ H ∇f``, collective. ``again``: along the direction just given from here no
        lower value was found, or it did not lead downhill; another is wanted.

    Notes
    -----
    The line search is that of Moré and Thuente, along the path that is projected on the bounds. The
    exceptions of ``evaluate`` pass through TAO: those raised on all ranks leave it on all of them.

    That search ends at once where it is told a value that is infinite, not a number, or huge: it
    interpolates, and the next step is not a number or too short. TAO is told a finite one; see
    :func:`~adjoint.optimize.rejection.above`.
    """

    def __init__(
        self,
        comm: MPI.Comm,
        size: int,
        bounds: tuple[Array, Array] | None,
        evaluate: Evaluate,
        direction: Direction,
    ) -> None:
        PETSc = petsc()
        self._comm = comm
        self._evaluate, self._direction = evaluate, direction
        sizes = (size, comm.allreduce(size))

        def vector(content: Array | None = None) -> Any:
            array = np.zeros(size) if content is None else np.array(content, float).reshape(-1)
            return PETSc.Vec().createWithArray(array, sizes, comm=comm)

        self._tao = tao = PETSc.TAO().create(comm)
        self._x, self._g = vector(), vector()
        self._limits = [] if bounds is None else [vector(b) for b in bounds]
        tao.setType("blmvm")
        calls = _Calls(self)
        tao.setObjectiveGradient(calls.objective, self._g)
        tao.setSolution(self._x)
        if bounds is not None:
            tao.setVariableBounds(*self._limits)
        tao.setTolerances(gatol=0.0, grtol=0.0, gttol=0.0)
        tao.setMaximumIterations(1)
        self._inverse = PETSc.Mat().createPython((sizes, sizes), calls, comm=comm)
        _configure(tao)
        tao.setLMVMH0(self._inverse)
        ksp = tao.getLMVMH0KSP()
        ksp.setType("preonly")
        ksp.getPC().setType("python")
        ksp.getPC().setPythonContext(calls)
        tao.setUp()
        objects = [tao, self._inverse, self._x, self._g, *self._limits]
        self._owned = Owned(self, comm, objects)

    def take(self, point: Array, value: float, gradient: Array) -> Stepped:
        """Make one iteration from a point whose value and gradient are known; collective."""
        self._known: tuple[float, Array] | None = (value, gradient)
        self._last = self._lowest = (point, value, gradient)
        self._begun = value
        self._directions = 0
        self._x.setArray(point)
        self._tao.solve()
        code = int(self._tao.getConvergedReason())
        reason = reason_named(petsc().TAO.Reason, code)
        found = self._x.getArray().copy()
        if true_everywhere(self._comm, np.array_equal(found, point)):
            return Stepped(False, point, value, gradient, reason)
        if not true_everywhere(self._comm, np.array_equal(found, self._last[0])):
            self._last = (found, *self._evaluate(found))  # the search went back to an earlier one
        # A search that fails leaves TAO at its last point, wherever that is.
        lower = self._last[1] < value - _ROUNDING * abs(value)
        failed = code < 0 and code != petsc().TAO.Reason.DIVERGED_MAXITS
        if (failed or self._last[1] == np.inf) and not lower:
            return Stepped(False, point, value, gradient, reason)
        return Stepped(True, *self._last, reason)

    def apply(self, form: Any, result: Any) -> None:
        """Apply ``H`` to a vector of PETSc's."""
        again, self._directions = self._directions > 0, self._directions + 1
        result.setArray(self._direction(form.getArray(readonly=True).copy(), again))

    def close(self) -> None:
        """Destroy PETSc's objects; collective."""
        self._owned.close()

    def objective(self, x: Any, g: Any) -> float:
        """Return the misfit, and set the gradient, of a vector of PETSc's."""
        if self._known is not None:  # TAO begins by evaluating where it starts
            (value, gradient), self._known = self._known, None
        else:
            point = x.getArray(readonly=True).copy()
            value, gradient = self._evaluate(point)
            self._last = (point, value, gradient)
            if value == np.inf:
                value = self._above_lowest(point)
            elif value < self._lowest[1]:
                self._lowest = self._last
        g.setArray(gradient)
        return value

    def _above_lowest(self, point: Array) -> float:
        """Return a value at which the search turns back; collective."""
        lowest, value, gradient = self._lowest
        descent = float(summed(self._comm, gradient @ (point - lowest)))
        return above(self._begun, value, descent)


class _Calls:
    """What PETSc calls. It does not keep the step alive, which keeps PETSc's objects."""

    def __init__(self, step: BoundedStep) -> None:
        self._step = weakref.proxy(step)

    def objective(self, tao: Any, x: Any, g: Any) -> float:
        value: float = self._step.objective(x, g)
        return value

    def apply(self, pc: Any, form: Any, result: Any) -> None:
        self._step.apply(form, result)


def _configure(tao: Any) -> None:
    """Let PETSc read the options, and leave its database as it was."""
    database = petsc().Options()
    added = not database.hasName(_ROOM)
    try:
        if added:
            database[_ROOM] = 1
        tao.setOptionsPrefix(PREFIX)
        tao.setFromOptions()
    finally:
        if added:
            database.delValue(_ROOM)
