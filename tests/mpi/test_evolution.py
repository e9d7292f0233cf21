"""Implicit steps of any distributed matrix, on ranks of which one has no rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adjoint import communicator
from adjoint.solvers import Evolution, Pattern
from adjoint.testing import Prepared, check_jvp, check_vjp, dot_test

Array = np.ndarray[Any, Any]
COMM = communicator()
RANK, SIZE = COMM.rank, COMM.size
everywhere = pytest.mark.parallel([1, 2, 3, 4])
N, STEPS, DT = 9, 4, 0.3


def system() -> tuple[Array, slice]:
    """Return a matrix without symmetry, and this rank's rows: the last of several has none."""
    generator = np.random.default_rng(3)
    dense = np.diag(3 + generator.random(N))
    dense[np.arange(1, N), np.arange(N - 1)] = -generator.random(N - 1)
    dense[0, -1], dense[2, 7] = -1.0, 0.5
    owners = max(SIZE - 1, 1)
    bounds = [*np.linspace(0, N, owners + 1).astype(int), N]
    return dense, slice(bounds[RANK], bounds[RANK + 1])


def problem(**settings: Any) -> tuple[Evolution, list[Array], list[Array]]:
    """Return an evolution, this rank's inputs, and those of all ranks."""
    dense, own = system()
    pattern, values = Pattern.from_scipy(dense[own], own.stop - own.start, COMM)
    generator = np.random.default_rng(4)
    terms, series = generator.random((2, N)), generator.random((2, STEPS))
    initial = generator.random(N)
    evolution = Evolution(pattern, DT, STEPS, rtol=1e-14, **settings)
    return evolution, [values, terms[:, own].copy(), series, initial[own].copy()], [
        dense, terms, series, initial
    ]  # fmt: skip


@everywhere
@pytest.mark.parametrize("scheme", ["euler", "bdf2"])
def test_steps_without_records(scheme: str) -> None:
    evolution, inputs, (dense, terms, series, initial) = problem(scheme=scheme)
    records, final = evolution(*inputs)
    assert records.shape == (0, STEPS)
    old, u = initial, initial
    for n in range(STEPS):
        # Of u_n+1 and of what is known, in Δt u'.
        new, now, before = (1, 1, 0) if scheme == "euler" else (1.5, 2, -0.5)
        force = DT * terms.T @ series[:, n]
        if scheme == "bdf2" and n == 0:
            x = np.linalg.solve(1.5 * np.eye(N) + DT * dense, 1.5 * u + force)
            old, u = u, 1.5 * x - 0.5 * u
            continue
        right = now * u + before * old + force
        old, u = u, np.linalg.solve(new * np.eye(N) + DT * dense, right)
    np.testing.assert_allclose(final, u[system()[1]], rtol=1e-11)
    program = Prepared(evolution, *inputs)
    for check in dot_test, check_jvp, check_vjp:
        check(program)
    evolution.close()


@everywhere
def test_records_are_products_with_any_matrix() -> None:
    generator = np.random.default_rng(RANK)
    _, own = system()
    recorded = Pattern.from_scipy(generator.random((RANK + 1, N)), own.stop - own.start, COMM)
    evolution, inputs, _ = problem(record=recorded)
    records, final = evolution(*inputs)
    assert records.shape == (RANK + 1, STEPS)
    whole = np.concatenate(COMM.allgather(final))
    np.testing.assert_allclose(records[:, -1], recorded[1].reshape(RANK + 1, N) @ whole, rtol=1e-12)
    program = Prepared(evolution, *inputs)
    for check in dot_test, check_jvp, check_vjp:
        check(program)


@everywhere
def test_bad_arguments_are_errors_on_all_ranks() -> None:
    evolution, inputs, _ = problem()
    last = RANK == SIZE - 1
    pattern = evolution.pattern
    for position, message in enumerate(("values", "terms", "series", "initial")):
        bad = list(inputs)
        if last:
            bad[position] = np.ones(99)
        with pytest.raises(ValueError, match=f"Evolution: {message} has shape"):
            evolution(*bad)
    inputs[2][0, 0] = np.nan
    with pytest.raises(ValueError, match="Evolution: series has values that are not finite"):
        evolution(*inputs)
    for dt, steps, message in ((0.0, 4, "dt is 0.0"), (0.1, 0, "steps is 0"), (0.1, 1.5, "steps")):
        with pytest.raises(ValueError, match=f"Evolution: {message}"):
            Evolution(pattern, dt, steps)  # type: ignore[arg-type]
    if SIZE > 1:  # a step that each rank has found for itself
        with pytest.raises(ValueError, match=r"Evolution: dt is 0\.2, expected 0\.1 as on rank 0"):
            Evolution(pattern, 0.2 if last else 0.1, STEPS)
    with pytest.raises(ValueError, match="Evolution: scheme is 'leapfrog', expected euler or bdf2"):
        Evolution(pattern, DT, STEPS, scheme="leapfrog" if last else "bdf2")
    with pytest.raises(ValueError, match=r"Evolution: record has .* columns and values of shape"):
        Evolution(pattern, DT, STEPS, record=(pattern, np.ones(pattern.nnz + last)))
    rows = pattern.local_shape[0]
    empty = Pattern(np.zeros(rows + 1, int), np.zeros(0, int), comm=COMM)
    with pytest.raises(ValueError, match="Evolution: row 0 of the pattern has no diagonal entry"):
        Evolution(empty, DT, STEPS)
