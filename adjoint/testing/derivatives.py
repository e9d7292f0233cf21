"""Checks of ``J v`` and ``Jᵀ w``, against each other and against central differences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .prepared import Function, Prepared, flat, name_of, note

if TYPE_CHECKING:
    from mpi4py import MPI


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
    note("dot_test", program.operators)
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
    found, expected = flat(program.jvp()), flat(program.differences(step))
    error = np.abs(found - expected)
    worst = int(np.argmax(np.where(np.isnan(error), np.inf, error))) if error.size else None
    pair = (0.0, 0.0, 0.0) if worst is None else (error[worst], found[worst], expected[worst])
    pairs = program.comm.allgather(pair)
    largest = max(program.comm.allgather(float(np.abs(expected).max(initial=0.0))))
    key = [np.inf if np.isnan(p[0]) else p[0] for p in pairs]
    rank = int(np.argmax(key))
    tolerance = program.rtol(rtol, 1e-7, 1e-2) * largest
    verdict = _judge(
        f"check_jvp of {name_of(function)}", f"Jv on rank {rank}", pairs[rank][1],
        "central difference", pairs[rank][2], key[rank], tolerance,
    )  # fmt: skip
    note("check_jvp", program.operators)
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
    note("check_vjp", program.operators)
    return verdict


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
        f"{check} of {name_of(function)}", left_name, left[0], right_name, right[0],
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
