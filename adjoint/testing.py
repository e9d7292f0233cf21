"""Checks of hand-written derivatives, for our operators and for yours.

Each check takes an operator, or any function of variables, and this rank's inputs. In serial and
under ``mpiexec`` alike it treats the program on all ranks as one function: inner products are
summed over ranks, directions are random and different on every rank, and the verdict is the same
everywhere. Floating-point arrays are differentiated, all other inputs are constants.

Examples
--------
>>> import numpy as np
>>> from adjoint.ops import Tanh
>>> from adjoint.testing import check_jvp, check_vjp, dot_test
>>> for check in dot_test, check_jvp, check_vjp:
...     _ = check(Tanh(), np.linspace(-1, 1, 5))
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .operator import Operator
from .tape import Tape
from .variable import Array, Variable
from .world import communicator

if TYPE_CHECKING:
    from mpi4py import MPI

Function = Callable[..., Any]

#: The checks that operators have passed in this process, alone or within a function, by class.
passed: defaultdict[type[Operator], set[str]] = defaultdict(set)


class Comparison(NamedTuple):
    """Two numbers that should be equal, and how far apart they may be."""

    found: float
    expected: float
    error: float
    tolerance: float


def dot_test(
    function: Function | Prepared,
    *inputs: Any,
    rtol: float | None = None,
    seed: int = 0,
    comm: MPI.Comm | None = None,
) -> Comparison:
    """Check that ``jvp`` and ``vjp`` are each other's transpose: ``⟨J v, w⟩ = ⟨v, Jᵀ w⟩``.

    Parameters
    ----------
    function : Operator, callable or Prepared
    *inputs
        This rank's inputs.
    rtol : float, optional
        Relative to the Euclidean norm of the products that are summed; 1e-12 by default,
        1e-4 for float32.
    seed : int
        Of the random directions ``v`` and ``w``.
    comm : mpi4py.MPI.Comm, optional
        The ranks that take part; ``COMM_WORLD`` by default.

    Returns
    -------
    Comparison
        With both inner products.

    Raises
    ------
    AssertionError
        On all ranks, with both numbers.
    """
    program = Prepared.of(function, inputs, seed, comm)
    jv, jtw = program.jvp(), program.vjp()
    left = program.inner(jv, program.weights)
    right = program.inner(program.directions, jtw)
    rtol = program.rtol(rtol)
    verdict = _verdict("dot_test", function, "⟨Jv, w⟩", left, "⟨v, Jᵀw⟩", right, rtol)
    _note("dot_test", program.operators)
    return verdict


def check_jvp(
    function: Function | Prepared,
    *inputs: Any,
    rtol: float | None = None,
    step: float | None = None,
    seed: int = 0,
    comm: MPI.Comm | None = None,
) -> Comparison:
    """Check ``J v`` against central differences, entry by entry.

    Parameters
    ----------
    function, *inputs, seed, comm
        As for :func:`dot_test`.
    rtol : float, optional
        Relative to the largest entry of ``J v`` on any rank; 1e-7 by default, 1e-2 for float32.
    step : float, optional
        Length of the finite-difference step along ``v``, whose entries are of order one.

    Raises
    ------
    AssertionError
        On all ranks, with the two entries that differ most.
    """
    program = Prepared.of(function, inputs, seed, comm)
    found, expected = _flat(program.jvp()), _flat(program.differences(step))
    error = np.abs(found - expected)
    worst = int(np.argmax(np.where(np.isnan(error), np.inf, error))) if error.size else None
    pair = (0.0, 0.0, 0.0) if worst is None else (error[worst], found[worst], expected[worst])
    pairs = program.comm.allgather(pair)
    largest = max(program.comm.allgather(float(np.abs(expected).max(initial=0.0))))
    key = [np.inf if np.isnan(p[0]) else p[0] for p in pairs]
    rank = int(np.argmax(key))
    tolerance = program.rtol(rtol, 1e-7, 1e-2) * largest
    verdict = _judge(
        f"check_jvp of {_name(function)}", f"Jv on rank {rank}", pairs[rank][1],
        "central difference", pairs[rank][2], key[rank], tolerance,
    )  # fmt: skip
    _note("check_jvp", program.operators)
    return verdict


def check_vjp(
    function: Function | Prepared,
    *inputs: Any,
    rtol: float | None = None,
    step: float | None = None,
    seed: int = 0,
    comm: MPI.Comm | None = None,
) -> Comparison:
    """Check ``⟨v, Jᵀ w⟩`` against ``⟨d, w⟩``, where ``d`` is the central difference along ``v``.

    Parameters
    ----------
    function, *inputs, seed, comm
        As for :func:`dot_test`.
    rtol : float, optional
        Relative to the Euclidean norm of the products that are summed; 1e-7 by default,
        1e-2 for float32.
    step : float, optional
        As for :func:`check_jvp`.

    Raises
    ------
    AssertionError
        On all ranks, with both numbers.
    """
    program = Prepared.of(function, inputs, seed, comm)
    differences = program.differences(step)
    left = program.inner(program.directions, program.vjp())
    right = program.inner(differences, program.weights)
    tolerance = program.rtol(rtol, 1e-7, 1e-2)
    verdict = _verdict("check_vjp", function, "⟨v, Jᵀw⟩", left, "⟨d, w⟩", right, tolerance)
    _note("check_vjp", program.operators)
    return verdict


def taylor_test(
    misfit: Function,
    x: Any,
    dx: Any = None,
    *,
    h: float = 1e-2,
    levels: int = 5,
    seed: int = 0,
    comm: MPI.Comm | None = None,
) -> Array:
    """Return the rates at which ``|f(x + h dx) − f(x) − h ⟨∇f, dx⟩|`` falls as ``h`` is halved.

    A right gradient gives rates of 2, a wrong one 1.

    Parameters
    ----------
    misfit : callable
        Function of variables that returns a scalar variable; its value on rank 0 counts.
    x : array_like or sequence of array_like
        This rank's copy of the point.
    dx : array_like or sequence of array_like, optional
        Direction; random by default, and never the gradient, along which mistakes may hide.
    h : float
        First step.
    levels : int
        Number of steps, each half of the one before.
    seed : int
        Of the random direction.
    comm : mpi4py.MPI.Comm, optional
        The ranks that take part; ``COMM_WORLD`` by default.

    Returns
    -------
    numpy.ndarray of float64
        ``levels − 1`` rates, the same on all ranks; ``inf`` where the remainder vanishes to
        rounding, as it does for a linear function.
    """
    result = taylor_to_dict(misfit, x, dx, h=h, levels=levels, seed=seed, comm=comm)
    return np.array(result["R1"]["Rate"])


def taylor_to_dict(
    misfit: Function,
    x: Any,
    dx: Any = None,
    *,
    h: float = 1e-2,
    levels: int = 5,
    seed: int = 0,
    comm: MPI.Comm | None = None,
) -> dict[str, Any]:
    """Return remainders and rates without (``R0``) and with (``R1``) the gradient.

    Parameters
    ----------
    misfit, x, dx, h, levels, seed, comm
        As for :func:`taylor_test`.

    Returns
    -------
    dict
        ``{"eps": steps, "R0": {"Residual": …, "Rate": …}, "R1": {"Residual": …, "Rate": …}}``.
    """
    world = communicator(comm)
    points = [np.array(p) for p in (x if isinstance(x, list | tuple) else [x])]
    if dx is None:
        generator = np.random.default_rng([seed, world.rank])
        directions = [generator.standard_normal(p.shape).astype(p.dtype) for p in points]
    else:
        directions = [np.asarray(d) for d in (dx if isinstance(dx, list | tuple) else [dx])]

    def evaluate(step: float) -> float:
        with Tape(comm=comm) as tape:
            moved = [(p + step * d).astype(p.dtype) for p, d in zip(points, directions)]
            loss = misfit(*[tape.watch(p) for p in moved])
        return float(world.bcast(float(loss), 0))

    with Tape(comm=comm) as tape:
        watched = [tape.watch(p) for p in points]
        loss = misfit(*watched)
    value = float(world.bcast(float(loss), 0))
    operators = _operators(tape)
    gradients = tape.gradient(loss, watched)
    slope = sum(float(np.vdot(g, d)) for g, d in zip(gradients, directions))
    slope = sum(world.allgather(slope))

    steps = h * 0.5 ** np.arange(levels)
    changes = np.array([evaluate(s) for s in steps]) - value
    evaluate(0.0)  # leave any state that the misfit keeps as it was
    floor = 64 * max(float(np.finfo(p.dtype).eps) for p in points) * abs(value)
    second = _remainder(np.abs(changes - steps * slope), floor)
    if min(second["Rate"], default=0.0) > 1.9:
        _note("taylor_test", operators)
    return {"eps": steps.tolist(), "R0": _remainder(np.abs(changes), floor), "R1": second}


def _operators(tape: Tape) -> set[type[Operator]]:
    return {type(record.operator) for record in tape.records}


def _note(check: str, operators: set[type[Operator]]) -> None:
    for operator in operators:
        passed[operator].add(check)


def _remainder(residual: Array, floor: float) -> dict[str, list[float]]:
    rates = [
        np.inf if fine <= floor else float(np.log2(coarse / fine))
        for coarse, fine in zip(residual, residual[1:])
    ]
    return {"Residual": residual.tolist(), "Rate": rates}


class Prepared:
    """A function recorded once at this rank's inputs, for several of the checks above.

    Parameters
    ----------
    function, *inputs, seed, comm
        As for :func:`dot_test`. The checks are given this object in place of function and inputs,
        and then do not evaluate again what one of them has evaluated before.

    Examples
    --------
    >>> from adjoint.ops import Tanh
    >>> prepared = Prepared(Tanh(), np.linspace(-1, 1, 5))
    >>> for check in dot_test, check_jvp, check_vjp:
    ...     _ = check(prepared)
    """

    def __init__(
        self, function: Function, *inputs: Any, seed: int = 0, comm: MPI.Comm | None = None
    ) -> None:
        self.name = _name(function)
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
        self.operators = _operators(self.tape)
        self.weights = [_random(generator, y.value) for y in self.outputs]
        self._differences: dict[float, list[Array]] = {}

    @classmethod
    def of(cls, function: Any, inputs: Sequence[Any], seed: int, comm: MPI.Comm | None) -> Prepared:
        """Return the function prepared, if it is not."""
        return (
            function if isinstance(function, cls) else cls(function, *inputs, seed=seed, comm=comm)
        )

    def _apply(self, active: Sequence[Any]) -> list[Variable]:
        arguments = list(self.inputs)
        for i, x in zip(self.active, active):
            arguments[i] = x
        result = self.function(*arguments)
        if isinstance(result, Variable):
            return [result]
        return [y for y in result or () if isinstance(y, Variable)]

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
        terms = _flat(left) * _flat(right)
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


def _flat(arrays: Sequence[Any]) -> Array:
    flat = [np.ravel(a).astype(float) for a in arrays]
    return np.concatenate(flat) if flat else np.zeros(0)


def _name(function: Function | Prepared) -> str:
    return str(getattr(function, "name", None) or getattr(function, "__name__", repr(function)))


def _verdict(
    check: str,
    function: Function | Prepared,
    left_name: str,
    left: tuple[float, float],
    right_name: str,
    right: tuple[float, float],
    rtol: float,
) -> Comparison:
    tolerance = rtol * max(left[1], right[1])
    return _judge(
        f"{check} of {_name(function)}", left_name, left[0], right_name, right[0],
        abs(left[0] - right[0]), tolerance,
    )  # fmt: skip


def _judge(
    title: str, left_name: str, left: float, right_name: str, right: float,
    error: float, tolerance: float,
) -> Comparison:  # fmt: skip
    if not error <= tolerance:
        raise AssertionError(
            f"{title}: {left_name} = {left:.16g}, {right_name} = {right:.16g}, "
            f"error {error:.3g} > {tolerance:.3g}"
        )
    return Comparison(float(left), float(right), float(error), float(tolerance))
