"""Solves that take over guesses and preconditioners from those before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adjoint import Tape, communicator
from adjoint.comm import CartesianGrid
from adjoint.solvers import ConvergenceError, LinearSolve, Pattern, Poisson
from adjoint.solvers.scaled import DiagonalRoot
from adjoint.testing import check_vjp, dot_test

Array = np.ndarray[Any, Any]
N = 24
everywhere = pytest.mark.parallel([1, 2, 3, 4])


class Problem:
    """Diffusion whose coefficient is changed, with solvers that start anew to compare with."""

    def __init__(self, **settings: Any) -> None:
        self.grid = CartesianGrid((N, N - 3))
        self.x, self.y = self.grid.coordinates(1.0, 1.0, width=1)
        self.solver = Poisson(self.grid, 1 / N, rtol=1e-12, **settings)
        self.cold = Poisson(self.grid, 1 / N, rtol=1e-12)
        self.f = np.ones(self.grid.patch_shape)

    def kappa(self, share: float) -> Array:
        """Return 1 with so much of a coefficient that spans four decades."""
        rough = 10 ** (2 * np.sin(self.x) * np.cos(2 * self.y))
        return np.asarray((1 - share) + share * rough)

    def compare(self, share: float, f: Any = None) -> int:
        """Compare the solutions of both; return the iterations that the warm one took."""
        f = self.f if f is None else f
        kappa = self.kappa(share)
        u, expected = self.solver(kappa, f), self.cold(kappa, f)
        np.testing.assert_allclose(u, expected, rtol=0, atol=1e-9 * np.abs(self.f).max())
        u[...] = np.nan  # it is the caller's
        assert self.solver.solve.last is not None
        return self.solver.solve.last.iterations

    @property
    def setups(self) -> int:
        return self.solver.solve.setups


@everywhere
def test_a_solve_starts_from_the_last_solution() -> None:
    problem = Problem(warm=True)
    first = problem.compare(0.3)
    assert first > 3
    assert problem.compare(0.3) == 0
    assert 0 < problem.compare(0.3, 1.0001 * problem.f) < first
    assert problem.compare(0.3, 0 * problem.f) == 0
    assert problem.compare(0.3, 1.0001 * problem.f) == 0
    assert problem.compare(0.9) > 3


@everywhere
def test_a_guess_is_in_the_variables_of_the_present_diagonal() -> None:
    """With ``S A S`` for ``A`` and ``S b`` for ``b`` the solution is ``S⁻¹ x``."""
    problem = Problem()
    matrix = problem.solver.matrix
    pattern = matrix.pattern
    values, b = matrix(problem.kappa(0.3)), np.ravel(problem.f)
    scale = 2 + np.sin(np.arange(pattern.shape[0]))
    own = scale[slice(*pattern.row_range)]
    with LinearSolve(pattern, symmetric=True, rtol=1e-12, warm=True) as solve:
        x = solve(values, b)
        assert solve.last is not None and solve.last.iterations > 3
        y = solve(values * scale[pattern.rows] * scale[pattern.indices], own * b)
        assert solve.last.iterations <= 1
    np.testing.assert_allclose(y, x / own, rtol=1e-9)


@everywhere
def test_a_failed_solve_leaves_the_last_solution_to_start_from() -> None:
    problem = Problem(warm=True, options={"ksp_max_it": 15, "pc_type": "jacobi"})
    solve = problem.solver.solve
    matrix = problem.solver.matrix
    easy, hard = matrix(1e6 * problem.kappa(0.0)), matrix(problem.kappa(1.0))
    identity = easy * 0
    rows = matrix.pattern.rows
    identity[matrix.pattern.indices == rows] = 1.0
    b = np.ravel(problem.f)
    for _ in range(2):
        np.testing.assert_allclose(solve(identity, b), b)
        assert solve.last is not None
        with pytest.raises(ConvergenceError):
            solve(hard, b)
    solve(identity, b)
    assert solve.last.iterations == 0


@everywhere
@pytest.mark.parametrize(
    ("symmetric", "warm"), [(True, True), (False, True), (True, False), (False, False)]
)
def test_adjoint_solves_start_from_the_last_adjoint(symmetric: bool, warm: bool) -> None:
    problem = Problem()
    values = problem.solver.matrix(problem.kappa(0.3))
    b, bar = np.ravel(problem.f), np.sin(np.arange(problem.f.size))
    found = []
    with LinearSolve(
        problem.solver.matrix.pattern, symmetric=symmetric, rtol=1e-12, warm=warm
    ) as solve:
        for _ in range(2):
            with Tape() as tape:
                watched = tape.watch(b)
                x = solve(values, watched)
            assert solve.last is not None
            forward = solve.last.iterations
            (gradient,) = tape.vjp([x], [bar], [watched])
            found.append((forward, solve.last.iterations, gradient))
    assert min(found[0][:2]) > 3
    assert found[1][:2] == ((0, 0) if warm else found[0][:2])
    np.testing.assert_allclose(found[0][2], found[1][2], rtol=0, atol=1e-12)


@everywhere
def test_derivatives() -> None:
    problem = Problem(warm=True, lag=2.0)
    f = problem.f * (1 + np.sin(np.arange(problem.f.size)).reshape(problem.f.shape))
    values, b = problem.solver.matrix(problem.kappa(0.5)), f.ravel()
    dot_test(problem.solver.solve, values, b, rtol=1e-9)
    check_vjp(problem.solver.solve, values, b)


@everywhere
def test_a_preconditioner_is_kept_until_it_is_worn() -> None:
    problem = Problem(lag=2.0)
    for step in range(4):
        problem.compare(0.001 * step)
    assert problem.setups == 1
    kept = problem.compare(0.03)
    assert kept > 1.5 * problem.cold.solve.last.iterations
    assert problem.setups == 1
    assert problem.compare(0.031) == problem.cold.solve.last.iterations
    assert problem.setups == 2  # the solve before took too many iterations
    assert problem.cold.solve.setups == 6


@everywhere
def test_a_smooth_change_costs_a_kept_preconditioner_no_iterations() -> None:
    problem = Problem(lag=1.5)
    smooth = 2 * np.sin(problem.x / N) * np.cos(2 * problem.y / N)
    counts = []
    for amplitude in (0.0, 1.0, 2.0):
        kappa = 10 * amplitude + np.exp(amplitude * smooth)
        u, expected = problem.solver(kappa, problem.f), problem.cold(kappa, problem.f)
        np.testing.assert_allclose(u, expected, rtol=0, atol=1e-9)
        counts.append([p.solve.last.iterations for p in (problem.solver, problem.cold)])
    assert problem.setups == 1
    assert max(kept - new for kept, new in counts) <= 1


@everywhere
def test_adjoints_of_kept_preconditioners_that_are_not_symmetric() -> None:
    problem = Problem()
    pattern = problem.solver.matrix.pattern
    bar, b = np.sin(np.arange(problem.f.size)), np.ravel(problem.f)
    rows = np.repeat(np.arange(*pattern.row_range), np.diff(pattern.indptr))
    with (
        LinearSolve(pattern, rtol=1e-12, lag=2.0, warm=True) as kept,
        LinearSolve(pattern, rtol=1e-12) as new,
    ):
        for share in (0.3, 0.31, 0.33):
            values = problem.solver.matrix(problem.kappa(share))
            values[pattern.indices < rows] *= 0.8
            found = []
            for solve in (kept, new):
                x = solve(values, b)
                found.append((x, solve.transposed(values, bar)))
            for ours, expected in zip(*found):
                np.testing.assert_allclose(ours, expected, rtol=1e-8, atol=1e-10)
        assert kept.setups == 2 and new.setups == 6


@everywhere
def test_a_rank_without_rows_keeps_its_preconditioner_too() -> None:
    comm = communicator()
    own = 0 if 0 < comm.rank == comm.size - 1 else 3 + comm.rank
    begin = sum(comm.allgather(own)[: comm.rank])
    pattern = Pattern(own * np.arange(own + 1), begin + np.tile(np.arange(own), own))
    options = {"ksp_type": "cg", "pc_type": "jacobi"}
    with LinearSolve(
        pattern, symmetric=True, rtol=1e-12, warm=True, lag=3.0, options=options
    ) as solve:
        for factor in (1.0, 3.0, 7.0):
            block = np.diag(factor * (1.0 + begin + np.arange(own))) + 0.3
            x = solve(block.ravel(), np.ones(own))
            np.testing.assert_allclose(x, np.linalg.solve(block, np.ones(own)), rtol=1e-9)
        assert solve.setups == 1


@everywhere
def test_a_preconditioner_that_leaves_no_residual_is_kept() -> None:
    first = 2 * communicator().rank
    diagonal = Pattern([0, 1, 2], [first, first + 1])
    solve = LinearSolve(diagonal, symmetric=True, lag=2.0, options={"pc_type": "jacobi"})
    for factor, scale in ((1.0, 2.0**40), (2.0, 1.0), (4.0, 1.0), (8.0, 1.0)):
        values = factor * np.array([1.0, 4.0])
        np.testing.assert_allclose(solve(values, scale * values), scale, rtol=1e-12)
    assert solve.setups == 1  # how large the first right-hand side was does not matter


@everywhere
def test_the_root_of_a_diagonal_is_one_where_there_is_none() -> None:
    """Or where it is zero; it is of the absolute values."""
    begin = 4 * communicator().rank
    pattern = Pattern([0, 2, 4, 5, 6], begin + np.array([0, 1, 0, 1, 3, 3]))
    values = np.array([9.0, 5.0, 6.0, -4.0, 7.0, 0.0])
    np.testing.assert_array_equal(DiagonalRoot(pattern)(values), [3.0, 2.0, 1.0, 1.0])
    np.testing.assert_array_equal(values, [9.0, 5.0, 6.0, -4.0, 7.0, 0.0])


@everywhere
def test_by_default_each_matrix_has_its_own_preconditioner() -> None:
    problem = Problem()
    for step in range(3):
        problem.compare(0.1 * step)
    assert problem.setups == 3


@everywhere
def test_where_an_old_preconditioner_does_not_do_a_new_one_is_made() -> None:
    problem = Problem(warm=True, lag=1e9, options={"ksp_max_it": 25})
    problem.compare(0.0)
    taken = problem.compare(1.0)
    assert problem.setups == 2
    assert problem.cold.solve.last is not None
    assert taken == problem.cold.solve.last.iterations  # from the beginning


class Richardson:
    """``x ← x + 0.8 J (b − A x)``: of an eigenvalue ``a`` of ``A``, with ``J`` of 1, ``1 − 0.8 a``.

    A kept ``J`` is scaled as the diagonal changes, so that the matrices here have ones there.
    """

    def __init__(self, lag: float, rtol: float, most: int = 100) -> None:
        rank = communicator().rank
        self.solve = LinearSolve(
            Pattern([0, 2, 4], 2 * rank + np.array([0, 1, 0, 1])), rtol=rtol, lag=lag,
            options={"ksp_type": "richardson", "ksp_richardson_scale": 0.8, "pc_type": "jacobi"},
            max_iterations=most,
        )  # fmt: skip
        self.size = np.sqrt(communicator().size)

    def steps(self, upper: float, lower: float, b: tuple[float, float]) -> int:
        """Solve with ``[[1, upper], [lower, 1]]`` and return the iterations."""
        self.solve(np.array([1, upper, lower, 1]), np.array(b) / self.size)
        assert self.solve.last is not None
        return self.solve.last.iterations

    def mode(self, a: float, sign: int = -1) -> int:
        """Solve with the eigenvalue ``a`` along ``(1, −1)`` and ``2 − a`` along ``(1, 1)``."""
        return self.steps(1 - a, 1 - a, (np.sqrt(0.5), sign * np.sqrt(0.5)))


@everywhere
@pytest.mark.parametrize(("lag", "setups"), [(2.1, 2), (2.4, 1)])
def test_a_preconditioner_is_worn_by_the_iterations_of_a_digit(lag: float, setups: int) -> None:
    """2 for log₁₀ 25 digits when it is new, 5 for log₁₀ 32 later: 2.32 times as many."""
    richardson = Richardson(lag, rtol=0.05)
    assert richardson.mode(1.0) == 2
    assert richardson.mode(0.625) == 5
    assert richardson.mode(1.1) == 2
    assert richardson.solve.setups == setups


@everywhere
def test_a_worn_preconditioner_stays_worn_until_the_matrix_changes() -> None:
    richardson = Richardson(lag=2.1, rtol=0.05)
    richardson.mode(1.0)
    assert richardson.mode(0.625) == 5
    assert richardson.mode(0.625, sign=1) == 2
    richardson.mode(0.7, sign=1)
    assert richardson.solve.setups == 2


@everywhere
def test_one_iteration_and_a_residual_that_rises_first_tell_how_good_it_is() -> None:
    few = Richardson(lag=2.0, rtol=0.3)
    rising = Richardson(lag=2.0, rtol=0.05)
    for more in (0.0, 0.01):
        assert few.mode(1 + more) == 1
        assert rising.steps(5 + more, 0.0, (0.0, 1.0)) > 3
    assert few.solve.setups == rising.solve.setups == 1


@everywhere
def test_a_preconditioner_of_the_present_matrix_that_fails_is_not_made_again() -> None:
    """Nor does it say how good the next one is, or that it is good enough to be kept."""
    richardson = Richardson(lag=2.0, rtol=0.05, most=5)
    for _ in range(2):
        with pytest.raises(ConvergenceError):
            richardson.mode(0.05)
        assert richardson.solve.setups == 1
    assert richardson.mode(1.0) == 2
    assert richardson.solve.setups == 2
    for _ in range(2):
        with pytest.raises(ConvergenceError):
            richardson.mode(0.05)
        assert richardson.solve.setups == 3  # for the one kept does not do at first
    assert richardson.mode(1.1) == 2
    assert richardson.solve.setups == 4


@everywhere
def test_a_new_preconditioner_that_no_solve_has_used_is_not_kept() -> None:
    richardson = Richardson(lag=2.1, rtol=0.05)
    richardson.mode(1.0)
    assert richardson.mode(0.625) == 5
    assert richardson.steps(0.3, 0.3, (0.0, 0.0)) == 0
    assert richardson.solve.setups == 2
    richardson.mode(1.1)
    assert richardson.solve.setups == 3


@everywhere
def test_a_residual_that_is_larger_at_the_end_tells_nothing() -> None:
    """After two steps 1.6 times what it was, which so large a tolerance lets pass."""
    richardson = Richardson(lag=2.0, rtol=0.3, most=2)
    for setups in (1, 2):
        assert richardson.steps(5 + 0.01 * setups, 0.0, (0.0, 1.0)) == 2
        assert richardson.solve.setups == setups


@pytest.mark.parallel([1])
def test_a_factorisation_takes_no_guess() -> None:
    problem = Problem(warm=True, lag=2.0, options={"ksp_type": "preonly", "pc_type": "lu"})
    for share in (0.3, 0.3, 0.9):
        problem.compare(share)


@everywhere
@pytest.mark.parametrize("lag", [0.5, float("nan")])
def test_a_lag_below_one_is_refused(lag: float) -> None:
    with pytest.raises(ValueError, match=f"LinearSolve: lag is {lag}, expected 1 or more"):
        Problem(lag=lag)
