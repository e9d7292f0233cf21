"""A function at a point with random directions: what the checks compare."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..operator import Operator
from ..tape import Tape
from ..variable import Array, Variable
from ..world import communicator

if TYPE_CHECKING:
    from mpi4py import MPI

Function = Callable[..., Any]

#: The checks that operators have passed in this process, alone or within a function, by class.
passed: defaultdict[type[Operator], set[str]] = defaultdict(set)


def operators_of(tape: Tape) -> set[type[Operator]]:
    """Return the classes of the operators that a tape has recorded."""
    return {type(record.operator) for record in tape.records}


def note(check: str, operators: set[type[Operator]]) -> None:
    """Take note that operators have passed a check."""
    for operator in operators:
        passed[operator].add(check)


class Prepared:
    """A function recorded once at this rank's inputs, for several checks.

    Parameters
    ----------
    function, *inputs, seed, comm
        As for :func:`~adjoint.testing.dot_test`. The checks are given this object in place of
        function and inputs, and then do not evaluate again what one of them has evaluated before.

    Examples
    --------
    >>> from adjoint.ops import Tanh
    >>> from adjoint.testing import check_jvp, check_vjp, dot_test
    >>> prepared = Prepared(Tanh(), np.linspace(-1, 1, 5))
    >>> for check in dot_test, check_jvp, check_vjp:
    ...     _ = check(prepared)
    """

    def __init__(
        self, function: Function, *inputs: Any, seed: int = 0, comm: MPI.Comm | None = None
    ) -> None:
        self.name = name_of(function)
        self.comm = communicator(comm)
        self.function = function
        self.inputs = inputs
        self.active = [i for i, x in enumerate(inputs) if _is_float(x)]
        generator = np.random.default_rng([seed, self.comm.rank])
        points = [np.asarray(inputs[i]) for i in self.active]
        self.directions = [_random(generator, p) for p in points]
        self.tape = Tape(persistent=True, comm=comm)
        with self.tape:
            self.sources = [self.tape.watch(p) for p in points]
            self.outputs = self._apply(self.sources)
        self.operators = operators_of(self.tape)
        self.weights = [_random(generator, y.value) for y in self.outputs]
        self._differences: dict[float, list[Array]] = {}

    @classmethod
    def of(cls, function: Any, inputs: Sequence[Any], seed: int, comm: MPI.Comm | None) -> Prepared:
        """Return the function prepared, if it is not."""
        if isinstance(function, cls):
            return function
        return cls(function, *inputs, seed=seed, comm=comm)

    def _apply(self, active: Sequence[Any]) -> list[Variable]:
        arguments = list(self.inputs)
        for i, x in zip(self.active, active):
            arguments[i] = x
        result = self.function(*arguments)
        results = result if isinstance(result, tuple | list) else (result,)
        return [y for y in results if isinstance(y, Variable)]

    def jvp(self) -> list[Array]:
        return self.tape.jvp(self.outputs, self.sources, self.directions)

    def vjp(self) -> list[Array]:
        return self.tape.vjp(self.outputs, self.weights, self.sources)

    def differences(self, step: float | None) -> list[Array]:
        """Return the fourth-order central difference of all outputs along the directions."""
        if step is None:
            step = 1e-2 if self.rtol(None) > 1e-6 else 1e-3
        if step in self._differences:
            return self._differences[step]
        points = [x.value for x in self.sources]
        results = []
        for s in (step, -step, 2 * step, -2 * step):
            with Tape(comm=self.comm) as tape:
                moved = [(p + s * d).astype(p.dtype) for p, d in zip(points, self.directions)]
                results.append(self._apply([tape.watch(p) for p in moved]))
        self._differences[step] = [
            (8 * (a.value.astype(float) - b.value) - (c.value.astype(float) - d.value))
            / (12 * step)
            for a, b, c, d in zip(*results)
        ]
        return self._differences[step]

    def inner(self, left: Sequence[Array], right: Sequence[Array]) -> tuple[float, float]:
        """Return the inner product over all ranks, and the Euclidean norm of its terms."""
        terms = flat(left) * flat(right)
        total = np.sum(self.comm.allgather((terms.sum(), np.vdot(terms, terms))), axis=0)
        return float(total[0]), float(np.sqrt(total[1]))

    def rtol(self, rtol: float | None, double: float = 1e-12, single: float = 1e-4) -> float:
        """Return the tolerance asked for, or that of the coarsest dtype on any rank."""
        if rtol is not None:
            return rtol
        arrays = [x.dtype for x in (*self.sources, *self.outputs)]
        coarse = any(self.comm.allgather(any(dtype == np.float32 for dtype in arrays)))
        return single if coarse else double


def _is_float(x: Any) -> bool:
    return isinstance(x, float) or getattr(x, "dtype", None) in (np.float32, np.float64)


def _random(generator: np.random.Generator, like: Any) -> Array:
    return generator.standard_normal(np.shape(like)).astype(like.dtype)


def flat(arrays: Sequence[Any]) -> Array:
    """Return all entries as one vector, in double precision."""
    return np.concatenate([np.zeros(0), *(np.ravel(a) for a in arrays)])


def name_of(function: Function | Prepared) -> str:
    """Return the name by which messages call a function."""
    return str(getattr(function, "name", None) or getattr(function, "__name__", repr(function)))
