"""Solves and their adjoints against NumPy's dense ones."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest

from adjoint import Tape, communicator
from adjoint.solvers import ConvergenceError, LinearSolve, Pattern
from adjoint.solvers import petsc as door
from adjoint.testing import check_jvp, check_vjp, dot_test

Array = np.ndarray[Any, Any]
COMM = communicator()
RANK, SIZE = COMM.rank, COMM.size
#: Rows of each rank: uneven, and one rank without any.
SPLITS = {1: [(12,)], 2: [(7, 5), (0, 12)], 3: [(4, 0, 8), (5, 4, 3)], 4: [(0, 5, 4, 3)]}.get(
    SIZE, []
)
TIGHT = 1e-14
#: Of Jacobi, which PETSc takes for a solution.
ONE_SWEEP = {"ksp_type": "preonly", "pc_type": "jacobi"}

everywhere = pytest.mark.parallel([1, 2, 3, 4])
splits = pytest.mark.parametrize("split", SPLITS, ids=str)


class System:
    """A random dominant matrix that every rank knows whole, and this rank's part of it."""

    def __init__(self, split: tuple[int, ...], symmetric: bool, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        n = sum(split)
        entries = np.where(generator.random((n, n)) < 0.3, generator.uniform(-1, 1, (n, n)), 0.0)
        if symmetric:
            entries = entries + entries.T
        self.dense = entries + np.diag(2.0 + np.abs(entries).sum(axis=1))
        self.part = slice(sum(split[:RANK]), sum(split[: RANK + 1]))
        self.pattern, self.values = Pattern.from_scipy(self.dense[self.part])
        self.b = generator.standard_normal(n)
        self.w = generator.standard_normal(n)

    def entries(self, whole: Array) -> Array:
        """Return the entries of a dense matrix on this rank's pattern."""
        rows = np.repeat(np.arange(*self.pattern.row_range), np.diff(self.pattern.indptr))
        return np.asarray(whole[rows, self.pattern.indices])


@everywhere
@splits
@pytest.mark.parametrize("symmetric", [False, True])
def test_solution_and_adjoint_are_those_of_the_dense_system(
    split: tuple[int, ...], symmetric: bool
) -> None:
    system = System(split, symmetric)
    with LinearSolve(system.pattern, symmetric=symmetric, rtol=TIGHT) as solve:
        with Tape() as tape:
            values, b = tape.watch(system.values), tape.watch(system.b[system.part])
            x = solve(values, b)
        assert solve.last is not None
        assert solve.last.residual <= 10 * TIGHT
        of_values, of_b = tape.vjp([x], [system.w[system.part]], [values, b])
        assert solve.setups == (1 if symmetric else 2)
        assert solve.solves == 2
    expected = np.linalg.solve(system.dense, system.b)
    adjoint = np.linalg.solve(system.dense.T, system.w)
    np.testing.assert_allclose(x.value, expected[system.part], atol=1e-12)
    np.testing.assert_allclose(of_b, adjoint[system.part], atol=1e-12)
    of_matrix = system.entries(-np.outer(adjoint, expected))
    np.testing.assert_allclose(of_values, of_matrix, atol=1e-12)


@everywhere
@splits
def test_derivatives(split: tuple[int, ...]) -> None:
    system = System(split, symmetric=False)
    solve = LinearSolve(system.pattern, rtol=TIGHT)
    for check in dot_test, check_jvp, check_vjp:
        check(solve, system.values, system.b[system.part])


@everywhere
def test_derivatives_of_a_symmetric_system() -> None:
    """Moved along symmetric directions: a solver for symmetric matrices is given no others."""
    system = System(SPLITS[0], symmetric=True)
    solve = LinearSolve(system.pattern, symmetric=True, rtol=TIGHT)
    diagonal = system.entries(np.eye(len(system.b)))

    def program(shift: Any, b: Any) -> Any:
        return solve(system.values + shift.sum() * diagonal, b)

    b = system.b[system.part]
    shift = np.full(int(SIZE == 1), 0.5)  # the ranks would have to agree on it
    for check in dot_test, check_jvp, check_vjp:
        check(program, shift, b)


@everywhere
def test_one_instance_on_one_tape_with_several_matrices() -> None:
    split = SPLITS[-1]
    first, second = System(split, False, seed=1), System(split, False, seed=1)
    second.dense = first.dense + np.diag(np.linspace(1, 3, len(first.b)))
    second.values = second.entries(second.dense)
    solve = LinearSolve(first.pattern, rtol=TIGHT)
    part = first.part
    with Tape(persistent=True) as tape:
        values = [tape.watch(s.values) for s in (first, second)]
        b = tape.watch(first.b[part])
        x = solve(values[1], solve(values[0], solve(values[1], b)))
    found = tape.vjp([x], [first.w[part]], [*values, b])
    moved = [np.sin(9 * v.value) for v in (*values, b)]
    (tangent,) = tape.jvp([x], [*values, b], moved)
    left = sum(float(g @ t) for g, t in zip(found, moved))
    right = float(tangent @ first.w[part])
    assert COMM.allreduce(left) == pytest.approx(COMM.allreduce(right), rel=1e-11)

    matrices, states, cotangent = [second, first, second], [first.b], first.w
    for system in matrices:
        states.append(np.linalg.solve(system.dense, states[-1]))
    expected = {id(first): np.zeros(len(found[0])), id(second): np.zeros(len(found[0]))}
    for system, state in zip(reversed(matrices), reversed(states)):
        cotangent = np.linalg.solve(system.dense.T, cotangent)
        expected[id(system)] = expected[id(system)] - first.entries(np.outer(cotangent, state))
    np.testing.assert_allclose(x.value, states[-1][part], atol=1e-12)
    np.testing.assert_allclose(found[0], expected[id(first)], atol=1e-12)
    np.testing.assert_allclose(found[1], expected[id(second)], atol=1e-12)
    np.testing.assert_allclose(found[2], cotangent[part], atol=1e-12)


@everywhere
def test_a_constant_matrix_is_set_up_once() -> None:
    system = System(SPLITS[0], symmetric=True)
    solve = LinearSolve(system.pattern, symmetric=True)
    with Tape() as tape:
        u = start = tape.watch(system.b[system.part])
        for _ in range(5):
            u = solve(system.values, u)
    tape.vjp([u], [u.value], [start])
    assert (solve.setups, solve.solves) == (1, 10)


@everywhere
def test_values_changed_in_place_are_noticed() -> None:
    """Also where they change on one rank alone."""
    system = System(SPLITS[0], symmetric=False)
    solve = LinearSolve(system.pattern)
    b = system.b[system.part]
    solve(system.values, b)
    dense = system.dense.copy()
    last = max(r for r in range(SIZE) if SPLITS[0][r])
    begin = sum(SPLITS[0][:last])
    dense[begin:] *= 2
    if last == RANK:
        system.values *= 2
    x = solve(system.values, b)
    assert solve.setups == 2
    np.testing.assert_allclose(x, np.linalg.solve(dense, system.b)[system.part], atol=1e-8)


@everywhere
def test_sweeps_are_of_the_present_diagonal() -> None:
    """Of which PETSc keeps the inverse; with that of 1 the iteration would diverge."""
    pattern = Pattern([0, 1], [RANK])
    options = {"ksp_type": "richardson", "pc_type": "sor"}
    solve = LinearSolve(pattern, options=options, max_iterations=5)
    for diagonal in (1.0, 4.0):
        x = solve(np.full(1, diagonal), np.ones(1))
        np.testing.assert_allclose(x, 1 / diagonal)


@everywhere
def test_values_changed_behind_a_view_that_is_read_only_are_noticed() -> None:
    system = System(SPLITS[0], symmetric=False)
    solve = LinearSolve(system.pattern)
    view = system.values.view()
    view.flags.writeable = False
    b = system.b[system.part]
    x = solve(view, b)
    system.values *= 2
    np.testing.assert_allclose(solve(view, b), x / 2, atol=1e-8)


@everywhere
def test_zero_has_the_solution_zero() -> None:
    system = System(SPLITS[0], symmetric=True)
    solve = LinearSolve(system.pattern, symmetric=True)
    x = solve(system.values, np.zeros_like(system.b[system.part]))
    np.testing.assert_array_equal(x, 0.0)
    assert solve.last == ("ZERO_RIGHT_HAND_SIDE", 0, 0.0)


@everywhere
@pytest.mark.parametrize("symmetric", [False, True])
def test_a_singular_matrix_is_an_error_on_all_ranks(symmetric: bool) -> None:
    """Ones on the diagonal but for a zero, which the last row's equation contradicts."""
    pattern = Pattern(np.arange(4), 3 * RANK + np.arange(3))
    values = np.ones(3)
    values[2] = 0.0 if RANK == SIZE - 1 else 1.0
    solve = LinearSolve(pattern, symmetric=symmetric)
    with pytest.raises(ConvergenceError, match="LinearSolve: ") as caught:
        solve(values, np.ones(3))
    assert caught.value.reason
    assert not caught.value.residual <= 1e-9
    values[2] = 2.0  # and it works again
    np.testing.assert_allclose(solve(values, np.ones(3)), 1 / values)


@everywhere
def test_too_few_iterations_are_an_error_in_the_adjoint_too() -> None:
    n = 30
    rows = np.arange(n * RANK, n * (RANK + 1))
    columns = np.stack([rows - 1, rows, rows + 1], axis=1)
    inside = (columns >= 0) & (columns < n * SIZE)
    pattern = Pattern(np.concatenate([[0], np.cumsum(inside.sum(axis=1))]), columns[inside])
    values = np.broadcast_to([-1.0, 2.0, -1.0], columns.shape)[inside]
    easy = np.zeros(n)
    hard = np.random.default_rng(RANK).standard_normal(n)
    solve = LinearSolve(pattern, symmetric=True, max_iterations=3, options={"pc_type": "none"})
    with pytest.raises(ConvergenceError, match="DIVERGED_MAX_IT after 3 iterations") as caught:
        solve(values, hard)
    assert caught.value.iterations == 3
    assert caught.value.residual > 1e-9
    with Tape() as tape:
        b = tape.watch(easy)
        x = solve(values, b)
    with pytest.raises(ConvergenceError, match="DIVERGED_MAX_IT"):
        tape.vjp([x], [hard], [b])


@everywhere
def test_success_that_petsc_reports_is_not_believed() -> None:
    """One sweep of Jacobi is no solution, though PETSc calls it converged."""
    system = System(SPLITS[0], symmetric=False)
    system.b *= 1e16  # what counts is relative
    solve = LinearSolve(system.pattern, options=ONE_SWEEP)
    with pytest.raises(ConvergenceError, match="PETSc says CONVERGED_ITS after 1") as caught:
        solve(system.values, system.b[system.part])
    x = system.b / np.diag(system.dense)
    residual = np.linalg.norm(system.b - system.dense @ x) / np.linalg.norm(system.b)
    assert caught.value.residual == pytest.approx(residual)


@everywhere
@pytest.mark.parametrize("within", [True, False])
@pytest.mark.parametrize(
    ("rtol", "large", "allowed"),
    [
        (1e-3, 1.0, 1e-2),  # ten times the tolerance
        (1e-20, 1e4, 10 * np.finfo(float).eps * 1e4),  # what rounding leaves
        (1e-20, 1e12, 1e-6),  # no more than that
    ],
)
def test_how_large_a_residual_may_be(
    rtol: float, large: float, allowed: float, within: bool
) -> None:
    """One sweep of Jacobi leaves ``δ/a`` of ``[[a, δ], [0, a]] x = [0, 1]``."""
    a = 2.0**-10
    delta = a * allowed * (0.95 if within else 1.05)
    pattern = Pattern([0, 2, 3, 4], 3 * RANK + np.array([0, 1, 1, 2]))
    values, b = np.array([a, delta, a, a * large]), np.array([0.0, 128.0, 0.0])
    solve = LinearSolve(pattern, rtol=rtol, options=ONE_SWEEP)
    if within:
        solve(values, b)
        assert solve.last is not None
        assert solve.last.residual == pytest.approx(delta / a, rel=1e-3)
    else:
        with pytest.raises(ConvergenceError, match=f"expected at most {allowed:.3g} "):
            solve(values, b)


@everywhere
def test_an_iteration_that_failed_has_no_rounding_to_allow() -> None:
    """Richardson's, which measures what is left, and never gets below rounding."""
    options = {"ksp_type": "richardson", "pc_type": "jacobi"}
    system = System(SPLITS[0], symmetric=False)
    solve = LinearSolve(system.pattern, rtol=1e-18, options=options, max_iterations=200)
    with pytest.raises(ConvergenceError, match="PETSc says DIVERGED_MAX_IT") as caught:
        solve(system.values, system.b[system.part])
    assert caught.value.residual < 1e-15


@everywhere
def test_tolerances_are_of_the_true_residual() -> None:
    """Of rows of very different size the preconditioned one says nothing."""
    system = System(SPLITS[0], symmetric=False)
    scale = np.logspace(-6, 6, len(system.b))
    dense, b = scale[:, None] * system.dense, scale * system.b
    solve = LinearSolve(system.pattern, rtol=1e-9, options={"pc_type": "jacobi"})
    solve(system.entries(dense), b[system.part])
    assert solve.last is not None
    assert solve.last.reason == "CONVERGED_RTOL"
    assert solve.last.residual <= 1.1e-9


@everywhere
def test_rounding_is_not_taken_for_failure() -> None:
    """With a condition of 1e10 no method reaches a residual of 1e-13."""
    system = System(SPLITS[0], symmetric=True)
    n = len(system.b)
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((n, n)))[0]
    dense = basis @ np.diag(np.logspace(-2, 8, n)) @ basis.T
    pattern, values = Pattern.from_scipy((dense + dense.T)[system.part] / 2)
    solve = LinearSolve(pattern, symmetric=True, rtol=1e-14, options={"pc_type": "jacobi"})
    x = solve(values, system.b[system.part])
    assert solve.last is not None
    assert 1e-13 < solve.last.residual < 1e-6
    expected = np.linalg.solve(dense, system.b)
    assert np.abs(x - expected[system.part]).max(initial=0) <= 1e-4 * np.abs(expected).max()


@pytest.mark.parallel([1, 3])
@pytest.mark.parametrize(
    "options",
    [
        {"ksp_type": "bcgs"},
        {"ksp_type": "fgmres", "pc_type": "bjacobi"},
        {"ksp_type": "gmres", "pc_type": "asm", "ksp_gmres_restart": 5},
    ],
    ids=str,
)
def test_other_methods(options: dict[str, Any]) -> None:
    system = System(SPLITS[0], symmetric=False)
    with LinearSolve(system.pattern, rtol=1e-12, options=options) as solve:
        x = solve(system.values, system.b[system.part])
    np.testing.assert_allclose(x, np.linalg.solve(system.dense, system.b)[system.part], atol=1e-10)


@pytest.mark.parallel([1, 3])
def test_options_of_petscs_database_come_first_and_ours_leave_it() -> None:
    database = door.petsc().Options()
    database["chosen_ksp_max_it"] = 1
    before = database.getAll()
    system = System(SPLITS[0], symmetric=False)
    solve = LinearSolve(
        system.pattern, options={"pc_type": "jacobi"}, prefix="chosen_", max_iterations=100
    )
    with pytest.raises(ConvergenceError, match="after 1 iterations"):
        solve(system.values, system.b[system.part])
    assert database.getAll() == before
    database.delValue("chosen_ksp_max_it")


@pytest.mark.parallel([1, 3])
def test_methods_of_petscs_database_come_with_their_own_defaults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One sweep measures no residual, and Jacobi needs no hypre."""
    monkeypatch.setattr("adjoint.solvers.krylov.require_hypre", lambda: pytest.fail("asked"))
    database = door.petsc().Options()
    for name, value in ONE_SWEEP.items():
        database["methods_" + name] = value
    pattern = Pattern([0, 1], [RANK])
    x = LinearSolve(pattern, prefix="methods_")(np.full(1, 2.0), np.ones(1))
    for name in ONE_SWEEP:
        database.delValue("methods_" + name)
    np.testing.assert_array_equal(x, 0.5)


@everywhere
def test_bad_input_on_one_rank_is_an_error_on_all() -> None:
    system = System(SPLITS[0], symmetric=False)
    solve = LinearSolve(system.pattern)
    bad = max(r for r in range(SIZE) if SPLITS[0][r]) == RANK
    values, b = system.values.copy(), system.b[system.part].copy()
    with pytest.raises(ValueError, match=r"LinearSolve: b has shape \(\d+,\), expected"):
        solve(values, b[int(bad) :])
    x = solve(values, b)
    if bad:
        b[1], values[0] = np.inf, np.nan
    with pytest.raises(ValueError, match="LinearSolve: b has inf at entry 1, expected finite"):
        solve(system.values, b)
    with pytest.raises(ValueError, match="LinearSolve: values has nan at entry 0"):
        solve(values, system.b[system.part])
    with Tape() as tape:
        b = tape.watch(system.b[system.part])
        x = solve(system.values, b)
    weights = np.full(len(x), np.nan if bad else 0.0)
    with pytest.raises(ValueError, match="LinearSolve: cotangent of x has nan"):
        tape.vjp([x], [weights], [b])


@everywhere
def test_a_large_sum_is_not_taken_for_infinity() -> None:
    pattern = Pattern(np.arange(4), 3 * RANK + np.arange(3))
    values, b = np.full(3, 1e308), np.full(3, 2e140)
    x = LinearSolve(pattern, options={"pc_type": "jacobi"})(values, b)
    np.testing.assert_allclose(x, b / values, rtol=1e-9)


@everywhere
def test_what_cannot_be_solved_is_refused() -> None:
    rectangular, _ = Pattern.from_scipy(np.ones((2, SIZE)), columns=1)
    with pytest.raises(ValueError, match="LinearSolve: pattern has shape"):
        LinearSolve(rectangular)
    system = System(SPLITS[0], symmetric=False)
    solve = LinearSolve(system.pattern, symmetric=True)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"asymmetry .*use symmetric=False"):
            solve(system.values, system.b[system.part])


@everywhere
def test_solvers_let_go_at_different_times_are_destroyed_together() -> None:
    gc.collect()  # what earlier tests have left is let go of now, not in between
    system = System(SPLITS[0], symmetric=True)
    b = system.b[system.part]
    solves = [LinearSolve(system.pattern, symmetric=True) for _ in range(3)]
    for solve in solves:
        solve(system.values, b)
    shelf = door.shelf_of(system.pattern.comm)
    alive = len(shelf._objects)
    solves[1].close()
    assert len(shelf._objects) == alive - 1
    solves[1](system.values, b)  # built anew
    if RANK == 0:
        del solve, solves
        gc.collect()
    another = LinearSolve(system.pattern, symmetric=True)
    another(system.values, b)
    if SIZE > 1:  # the others still use theirs
        assert len(shelf._objects) == alive + 1
    if RANK > 0:
        del solve, solves
        gc.collect()
    LinearSolve(system.pattern, symmetric=True)(system.values, b)
    assert len(shelf._objects) <= alive - 1
    assert shelf.abandoned <= {*shelf._objects}  # those destroyed are forgotten


@pytest.mark.parallel([1, 2, 3])
def test_solvers_end_with_their_communicator() -> None:
    """MPI gives the next one the same handle, and PETSc has one of its own for each."""

    def free_handles() -> tuple[int, ...]:
        comms = [COMM.Dup() for _ in range(12)]
        handles = tuple(comm.py2f() for comm in comms)
        for comm in comms:
            comm.Free()
        return handles

    door.petsc()  # starts on all ranks together
    handles, kept = [], []
    for turn in range(4):
        group = COMM.Split((RANK + turn) % 2)
        first = 3 * group.rank
        pattern = Pattern(np.arange(4), first + np.arange(3), comm=group)
        solve = LinearSolve(pattern, options={"pc_type": "jacobi"})
        np.testing.assert_allclose(solve(np.full(3, 2.0), np.ones(3)), 0.5)
        if turn == 0:
            solve.close()
        elif turn == 1:
            kept.append(solve)
        del solve
        gc.collect()
        group.Free()
        handles.append(free_handles())
    assert set(handles) == set(handles[:1])


@pytest.mark.parallel([1, 2, 3])
def test_what_one_rank_alone_still_refers_to_stops_no_other() -> None:
    """As garbage may: it keeps alive what PETSc has made of the communicator."""
    comm = COMM.Dup()
    pattern = Pattern(np.arange(4), 3 * RANK + np.arange(3), comm=comm)
    kept = []
    for _ in range(3):
        solve = LinearSolve(pattern, options={"pc_type": "jacobi"})
        np.testing.assert_allclose(solve(np.full(3, 2.0), np.ones(3)), 0.5)
        if RANK == 0:
            kept.append(solve._direct._ksp.getPC())
        solve.close()
    kept.clear()
    comm.Free()


@pytest.mark.parallel([2, 3])
def test_values_inserted_row_by_row_where_petsc_knows_no_better(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("adjoint.solvers.krylov.update_values", lambda: door._insert_values)
    system = System(SPLITS[0], symmetric=False)
    solve = LinearSolve(system.pattern, rtol=1e-12)
    for factor in (1.0, 3.0):
        x = solve(factor * system.values, system.b[system.part])
        expected = np.linalg.solve(factor * system.dense, system.b)
        np.testing.assert_allclose(x, expected[system.part], atol=1e-10)


@pytest.mark.parallel([2, 3])
def test_an_error_of_petscs_own_is_one_of_ours() -> None:
    """PETSc by itself factorises on one rank alone."""
    system = System(SPLITS[0], symmetric=False)
    solve = LinearSolve(
        system.pattern, options={"pc_type": "lu", "pc_factor_mat_solver_type": "petsc"}
    )
    for attempt in (1, 2):
        with pytest.raises(
            ConvergenceError, match="LinearSolve: PETSc failed: error code"
        ) as caught:
            solve(system.values, system.b[system.part])
        assert caught.value.reason == "PETSC_ERROR"
        assert solve.setups == attempt  # everything is built anew


@pytest.mark.parallel([1])
def test_a_factorisation_instead_of_an_iteration() -> None:
    system = System(SPLITS[0], symmetric=False)
    solve = LinearSolve(
        system.pattern, rtol=1e-12, options={"ksp_type": "preonly", "pc_type": "lu"}
    )
    for check in dot_test, check_jvp, check_vjp:
        check(solve, system.values, system.b)
