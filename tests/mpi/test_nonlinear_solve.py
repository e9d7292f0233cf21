"""Nonlinear solves and their derivatives against SciPy's and NumPy's dense ones."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
from scipy.optimize import fsolve

from adjoint import Tape, communicator
from adjoint.comm import Allreduce, Bcast
from adjoint.solvers import ConvergenceError, MatVec, NonlinearSolve, Pattern
from adjoint.solvers import petsc as door
from adjoint.testing import Prepared, check_jvp, check_vjp, dot_test, taylor_test

Array = np.ndarray[Any, Any]
COMM = communicator()
RANK, SIZE = COMM.rank, COMM.size
#: Rows of each rank: uneven, and one rank without any.
SPLITS = {1: [(12,)], 2: [(7, 5), (0, 12)], 3: [(4, 0, 8), (5, 4, 3)], 4: [(0, 5, 4, 3)]}.get(
    SIZE, []
)
TIGHT = {"rtol": 1e-13, "linear_rtol": 1e-14}

everywhere = pytest.mark.parallel([1, 2, 3, 4])
splits = pytest.mark.parametrize("split", SPLITS, ids=str)


class System:
    """``A u + θ sin u + u³ = b`` with a random ``A`` that every rank knows whole."""

    def __init__(self, split: tuple[int, ...], symmetric: bool = False) -> None:
        generator = np.random.default_rng(0)
        n = sum(split)
        entries = np.where(generator.random((n, n)) < 0.3, generator.uniform(-1, 1, (n, n)), 0.0)
        if symmetric:
            entries = entries + entries.T
        self.dense = entries + np.diag(2.0 + np.abs(entries).sum(axis=1))
        self.symmetric = symmetric
        self.part = slice(sum(split[:RANK]), sum(split[: RANK + 1]))
        self.pattern, self.values = Pattern.from_scipy(self.dense[self.part])
        rows = np.repeat(np.arange(*self.pattern.row_range), np.diff(self.pattern.indptr))
        self.diagonal = rows == self.pattern.indices
        self.rows = rows
        self.product = MatVec(self.pattern)
        self.b = 5 * generator.standard_normal(n)
        self.w = generator.standard_normal(n)
        self.theta = np.array(1.5)
        self.start = np.zeros(self.part.stop - self.part.start)

    def solve(self, **settings: Any) -> NonlinearSolve:
        return NonlinearSolve(
            self.pattern, self.residual, self.jacobian, symmetric=self.symmetric,
            **{**TIGHT, **settings},
        )  # fmt: skip

    def residual(self, u: Any, values: Any, b: Any, theta: Any) -> Any:
        return self.product(values, u) + theta * np.sin(u) + u**3 - b

    def jacobian(self, u: Array, values: Array, b: Array, theta: Array) -> Array:
        result = values.copy()
        result[self.diagonal] += theta * np.cos(u) + 3 * u**2
        return result

    def parameters(self) -> tuple[Array, Array, Array]:
        return self.values, self.b[self.part], self.theta

    def expected(self) -> tuple[Array, Array]:
        """Return the whole solution and its Jacobian, by SciPy."""
        theta = float(self.theta)

        def residual(u: Array) -> Array:
            return np.asarray(self.dense @ u + theta * np.sin(u) + u**3 - self.b)

        def jacobian(u: Array) -> Array:
            return np.asarray(self.dense + np.diag(theta * np.cos(u) + 3 * u**2))

        u = fsolve(residual, np.zeros(len(self.b)), fprime=jacobian, xtol=1e-14)
        u -= np.linalg.solve(jacobian(u), residual(u))
        return u, jacobian(u)


@everywhere
@splits
@pytest.mark.parametrize("symmetric", [False, True])
def test_solution_and_adjoint_are_those_of_the_dense_system(
    split: tuple[int, ...], symmetric: bool
) -> None:
    system = System(split, symmetric)
    with system.solve() as solve, Tape(persistent=True) as tape:
        start = tape.watch(system.start)
        watched = [tape.watch(p) for p in system.parameters()]
        u = solve(start, *watched)
        assert [type(r.operator) for r in tape.records] == [NonlinearSolve]
        tape.check_communication()
        assert solve.last is not None
        assert 3 <= solve.last.iterations <= solve.linear_iterations
        assert solve.last.residual <= 1e-12
        before = solve.setups
        w = system.w[system.part]
        of_start, of_values, of_b, of_theta = tape.vjp([u], [w], [start, *watched])
        assert solve.solves == 1
        assert solve.last.residual <= 1e-13
        assert solve.setups == before + 1
        (of_u,) = tape.jvp([u], [start, *watched[1:]], [w, w, np.array(0.3)])
        assert solve.solves == 2
        assert solve.setups == before + (1 if symmetric else 2)

    expected, jacobian = system.expected()
    adjoint = np.linalg.solve(jacobian.T, system.w)
    np.testing.assert_allclose(u.value, expected[system.part], atol=1e-12)
    np.testing.assert_array_equal(of_start, 0.0)
    np.testing.assert_allclose(of_b, adjoint[system.part], atol=1e-12)
    of_matrix = -np.outer(adjoint, expected)[system.rows, system.pattern.indices]
    np.testing.assert_allclose(of_values, of_matrix, atol=1e-12)
    mine = -adjoint[system.part] @ np.sin(expected[system.part])
    assert float(of_theta) == pytest.approx(mine, abs=1e-12)
    tangent = np.linalg.solve(jacobian, system.w - 0.3 * np.sin(expected))
    np.testing.assert_allclose(of_u, tangent[system.part], atol=1e-12)


@everywhere
@splits
def test_derivatives(split: tuple[int, ...]) -> None:
    system = System(split)
    solve = system.solve()

    def program(values: Any, b: Any, theta: Any) -> Any:
        return solve(system.start, values, b, Bcast()(theta))

    prepared = Prepared(program, *system.parameters())
    for check in dot_test, check_jvp, check_vjp:
        check(prepared)


@everywhere
def test_the_gradient_of_a_misfit_passes_a_taylor_test() -> None:
    system = System(SPLITS[0])
    solve = system.solve()

    def misfit(theta: Any) -> Any:
        u = solve(system.start, *system.parameters()[:2], Bcast()(theta))
        return Allreduce()(((u - 0.3) ** 2).sum())

    rates = taylor_test(misfit, system.theta, np.array(1.0), h=0.1, levels=4)
    assert 1.95 <= rates.min() <= rates.max() <= 2.1


@everywhere
def test_one_instance_many_times_on_one_tape() -> None:
    system = System(SPLITS[0])
    values, b, theta = system.parameters()
    solve = system.solve()

    def program(b: Any, theta: Any) -> Any:
        return solve(system.start, values, solve(system.start, values, b, theta), 2.0 * theta)

    with Tape() as tape:
        x, t = tape.watch(b), tape.watch(theta)
        u = program(x, t)
    w = system.w[system.part]
    of_b, of_theta = tape.vjp([u], [w], [x, t])
    step = 1e-5
    moved = [program(b + s * w, theta + s) for s in (step, -step)]
    slope = float(w @ (moved[0] - moved[1])) / (2 * step)
    found = COMM.allreduce(float(of_b @ w + of_theta))
    assert found == pytest.approx(COMM.allreduce(slope), rel=1e-8)


def pointwise(residual: Any, jacobian: Any, **settings: Any) -> NonlinearSolve:
    """Return a solve of three equations a rank, each of an unknown of its own."""
    pattern = Pattern(np.arange(4), 3 * RANK + np.arange(3))
    return NonlinearSolve(pattern, residual, jacobian, **settings)


@everywhere
def test_a_search_that_starts_at_its_end() -> None:
    """Its residual is of the size of rounding from the start, and cannot be made smaller."""
    system = System(SPLITS[0])
    solve = system.solve()
    u = solve(system.start, *system.parameters())
    np.testing.assert_allclose(solve(u, *system.parameters()), u, atol=1e-13)
    solve = pointwise(lambda u: u - 1.0, np.ones_like)
    np.testing.assert_array_equal(solve(np.ones(3)), 1.0)
    assert solve.last is not None
    assert solve.last[1:] == (0, 0.0)


@everywhere
@pytest.mark.parametrize("name", ["residual", "jacobian"])
@pytest.mark.parametrize("when", [1, 3])
def test_what_fails_on_one_rank_is_an_error_on_all(name: str, when: int) -> None:
    system = System(SPLITS[0])
    calls = []

    def failing(u: Any, *parameters: Any) -> Any:
        calls.append(1)
        result = getattr(system, name)(u, *parameters)
        if len(calls) == when and RANK == SIZE - 1:
            raise OverflowError("the well is dry")
        return result

    functions = {"residual": system.residual, "jacobian": system.jacobian, name: failing}
    solve = NonlinearSolve(system.pattern, functions["residual"], functions["jacobian"])
    prefix = f"rank {SIZE - 1}: " if SIZE > 1 else ""
    with pytest.raises(OverflowError, match=f"^{prefix}the well is dry$"):
        solve(system.start, *system.parameters())
    assert len(calls) == when  # it is not called again
    u = solve(system.start, *system.parameters())
    np.testing.assert_allclose(u, system.expected()[0][system.part], atol=1e-8)


@everywhere
def test_errors_that_are_agreed_within_name_their_rank_once() -> None:
    system = System(SPLITS[0])
    has_entries = [len(v) > 0 for v in COMM.allgather(system.values)]
    last = max(r for r in range(SIZE) if has_entries[r])

    def residual(u: Any, *parameters: Any) -> Any:
        return system.product(system.values[int(last == RANK) :], u)

    solve = NonlinearSolve(system.pattern, residual, system.jacobian)
    prefix = f"rank {last}: " if SIZE > 1 else ""
    with pytest.raises(ValueError, match=f"^{prefix}MatVec: values has shape"):
        solve(system.start, *system.parameters())


@everywhere
def test_a_search_that_does_not_arrive_is_an_error() -> None:
    system = System(SPLITS[0])
    solve = system.solve(max_iterations=2)
    with pytest.raises(ConvergenceError, match="DIVERGED_MAX_IT after 2 iterations") as caught:
        solve(system.start, *system.parameters())
    assert (caught.value.reason, caught.value.iterations) == ("DIVERGED_MAX_IT", 2)
    assert 1e-12 < caught.value.residual < 1

    rootless = pointwise(lambda u: u**2 + 1.0, lambda u: 2.0 * u)
    with pytest.raises(ConvergenceError, match=r"NonlinearSolve: not solved: .* DIVERGED_"):
        rootless(np.ones(3))
    singular = pointwise(lambda u: u**2 - 1.0, lambda u: 2.0 * u)
    said = r"PETSc says DIVERGED_\w+ after \d+ iterations, of a linear solve DIVERGED_"
    with pytest.raises(ConvergenceError, match=said):
        singular(np.zeros(3))
    outside = pointwise(np.log, lambda u: 1.0 / u)
    start = np.where(SIZE - 1 == RANK, -1.0, 1.0) * np.ones(3)
    with (
        np.errstate(invalid="ignore"),
        pytest.raises(
            ConvergenceError, match="the residual at the start is nan, expected a finite one"
        ),
    ):
        outside(start)


@everywhere
def test_success_that_petsc_reports_is_not_believed() -> None:
    """One Newton step is no solution, though PETSc calls it converged."""
    solve = pointwise(lambda u: u**2 - 4.0, lambda u: 2.0 * u, options={"snes_type": "ksponly"})
    with pytest.raises(ConvergenceError, match="PETSc says CONVERGED_ITS") as caught:
        solve(np.ones(3))
    assert caught.value.residual == pytest.approx((2.5**2 - 4) / 3, rel=1e-3)


@everywhere
def test_a_step_out_of_the_domain_is_made_shorter() -> None:
    """Newton's first step goes from 20 to 20 (1 − ln 20) = −40."""
    asked = []

    def residual(u: Any) -> Any:
        asked.append(float(np.min(getattr(u, "value", u))))
        return np.log(np.where(getattr(u, "value", u) > 0, u, np.nan))

    start = np.where(SIZE - 1 == RANK, 20.0, 1.0) * np.ones(3)
    u = pointwise(residual, lambda u: 1.0 / u)(start)
    np.testing.assert_allclose(u, 1.0, rtol=1e-8)
    assert (min(asked) < 0) == (SIZE - 1 == RANK)


@everywhere
@pytest.mark.parametrize("factor", [0.5, -1.0, 1.0 + 1e-6])
def test_a_wrong_jacobian_is_found(factor: float) -> None:
    """One that is almost right would find the solution, and give wrong derivatives."""
    system = System(SPLITS[0])

    def jacobian(u: Array, values: Array, b: Array, theta: Array) -> Array:
        result = system.jacobian(u, values, b, theta)
        result[system.diagonal] += (factor - 1) * theta * np.cos(u)
        return result

    solve = NonlinearSolve(system.pattern, system.residual, jacobian)
    for _ in range(2):
        with pytest.raises(ValueError, match="jacobian times a random vector differs by"):
            solve(system.start, *system.parameters())
    backwards = pointwise(lambda u: u**3 - 8.0, lambda u: -3.0 * u**2)
    with pytest.raises(ValueError, match=r"differs by 2 \(relative\)"):
        backwards(np.ones(3))


@pytest.mark.parallel([1, 3])
@pytest.mark.parametrize(
    "options",
    [
        {"snes_type": "newtontr"},
        {"snes_linesearch_type": "l2", "ksp_type": "bcgs", "pc_type": "bjacobi"},
        {"snes_ksp_ew": True, "pc_type": "jacobi"},
        {"snes_lag_preconditioner": 3, "ksp_rtol": 0.1},
    ],
    ids=str,
)
def test_other_methods_give_the_same(options: dict[str, Any]) -> None:
    """Derivatives are as accurate, however coarse the steps are."""
    system = System(SPLITS[0])
    solve = system.solve(options=options)
    expected, jacobian = system.expected()
    for _ in range(2):
        with Tape(persistent=True) as tape:
            b = tape.watch(system.b[system.part])
            u = solve(system.start, system.values, b, system.theta)
        w = system.w[system.part]
        (of_b,), (of_u,) = tape.vjp([u], [w], [b]), tape.jvp([u], [b], [w])
        np.testing.assert_allclose(u.value, expected[system.part], atol=1e-12)
        for found, matrix in ((of_b, jacobian.T), (of_u, jacobian)):
            solution = np.linalg.solve(matrix, system.w)
            np.testing.assert_allclose(found, solution[system.part], atol=1e-12)


@pytest.mark.parallel([1, 3])
def test_adaptive_tolerances_hold_for_every_search_and_for_no_derivative() -> None:
    system = System(SPLITS[0])
    adaptive = system.solve(options={"snes_ksp_ew": True, "pc_type": "jacobi"})
    fixed = system.solve(options={"ksp_rtol": 1e-12, "pc_type": "jacobi"})
    counts: dict[NonlinearSolve, list[int]] = {adaptive: [], fixed: []}
    for _ in range(2):
        for solve, found in counts.items():
            with Tape() as tape:
                b = tape.watch(system.b[system.part])
                u = solve(system.start, system.values, b, system.theta)
            found.append(solve.linear_iterations)
            tape.jvp([u], [b], [system.w[system.part]])
            assert solve.last is not None
            assert solve.last.residual <= 1e-13
    assert counts[adaptive][0] == counts[adaptive][1] < counts[fixed][0] == counts[fixed][1]


@pytest.mark.parallel([1, 3])
def test_options_of_petscs_database_come_first_and_ours_leave_it() -> None:
    database = door.petsc().Options()
    database["chosen_snes_max_it"] = 1
    before = database.getAll()
    system = System(SPLITS[0])
    with pytest.raises(ConvergenceError, match="after 1 iterations"):
        system.solve(prefix="chosen_")(system.start, *system.parameters())
    assert database.getAll() == before
    database.delValue("chosen_snes_max_it")


@everywhere
def test_parameters_of_every_kind() -> None:
    """Constants, integers, and none that the residual depends on."""
    system = System(SPLITS[0])
    b, w = system.b[system.part], system.w[system.part]

    def residual(u: Any, kinds: Any, values: Any, b: Any, unused: Any) -> Any:
        assert kinds.dtype.kind == "i"
        return system.residual(u, values, b, float(kinds.sum()))

    def jacobian(u: Array, kinds: Array, values: Array, b: Array, unused: Array) -> Array:
        return system.jacobian(u, values, b, np.array(float(kinds.sum())))

    solve = NonlinearSolve(system.pattern, residual, jacobian, **TIGHT)
    with Tape() as tape:
        x, unused = tape.watch(b), tape.watch(np.ones((2, 3), np.float32))
        u = solve(system.start, np.array([1, 1]), system.values, x, unused)
    of_b, of_unused = tape.vjp([u], [w], [x, unused])
    system.theta = np.array(2.0)
    expected, matrix = system.expected()
    np.testing.assert_allclose(u.value, expected[system.part], atol=1e-12)
    np.testing.assert_allclose(of_b, np.linalg.solve(matrix.T, system.w)[system.part], atol=1e-12)
    np.testing.assert_array_equal(of_unused, np.zeros((2, 3)))

    constant = pointwise(lambda u: 2.0 * u - 1.0, lambda u: np.full(3, 2.0))
    with Tape(persistent=True) as tape:
        start = tape.watch(np.zeros(3))
        u = constant(start)
    np.testing.assert_array_equal(tape.vjp([u], [np.ones(3)], [start])[0], 0.0)
    np.testing.assert_array_equal(tape.jvp([u], [start], [np.ones(3)])[0], 0.0)


@pytest.mark.parallel([2, 3])
def test_a_rank_without_rows_may_return_plain_arrays() -> None:
    rows = 0 if RANK == SIZE - 1 else 2
    pattern = Pattern(np.arange(rows + 1), 2 * RANK + np.arange(rows))
    solve = NonlinearSolve(
        pattern, lambda u, a: u**2 - a if rows else np.zeros(0), lambda u, a: 2 * u, **TIGHT
    )
    with Tape(persistent=True) as tape:
        a = tape.watch(np.array(4.0))
        u = solve(np.ones(rows), a)
    np.testing.assert_allclose(u.value, 2.0)
    np.testing.assert_allclose(tape.vjp([u], [np.ones(rows)], [a])[0], 0.25 * rows)
    np.testing.assert_allclose(tape.jvp([u], [a], [np.array(1.0)])[0], 0.25)


@everywhere
def test_bad_input_on_one_rank_is_an_error_on_all() -> None:
    last = SIZE - 1 == RANK
    solve = pointwise(lambda u, a: u**3 - a, lambda u, a: 3.0 * u**2)
    with pytest.raises(ValueError, match=r"NonlinearSolve: u0 has shape \(2,\), expected \(3,\)"):
        solve(np.ones(3)[int(last) :], np.ones(3))
    with pytest.raises(ValueError, match="NonlinearSolve: u0 has nan at entry 0, expected finite"):
        solve(np.full(3, np.nan if last else 1.0), np.ones(3))
    with pytest.raises(ValueError, match=r"NonlinearSolve: residual has shape \(1, 3\)"):
        solve(np.ones(3), np.ones((1, 3) if last else 3))
    with Tape() as tape:
        a = tape.watch(np.full(3, 8.0))
        u = solve(np.ones(3), a)
    with pytest.raises(ValueError, match="NonlinearSolve: cotangent of u has inf at entry 0"):
        tape.vjp([u], [np.full(3, np.inf if last else 1.0)], [a])
    for fault, message in (
        (np.full(3, np.nan if last else 1.0), "jacobian has nan at entry 0"),
        (np.ones(3 - int(last)), r"values has shape \(2,\), expected \(3,\)"),
    ):
        with pytest.raises(ValueError, match=f"NonlinearSolve: {message}"):
            pointwise(lambda u: u - 1.0, lambda u, fault=fault: fault)(np.zeros(3))
    rectangular, _ = Pattern.from_scipy(np.ones((2, SIZE)), columns=1)
    with pytest.raises(ValueError, match="NonlinearSolve: pattern has shape"):
        NonlinearSolve(rectangular, np.sin, np.cos)


@everywhere
def test_what_is_let_go_of_is_destroyed() -> None:
    """PETSc keeps what it calls back, which must not keep the solver."""
    system = System(SPLITS[0])
    gc.collect()
    solve = system.solve()
    solve(system.start, *system.parameters())
    shelf = door.shelf_of(system.pattern.comm)
    alive = len(shelf._objects)
    for _ in range(3):
        solve = system.solve()
        solve(system.start, *system.parameters())
    assert len(shelf._objects) <= alive + 1
    solve.close()
    assert len(shelf._objects) <= alive
    u = solve(system.start, *system.parameters())  # built anew
    np.testing.assert_allclose(u, system.expected()[0][system.part], atol=1e-12)
