"""Advection and diffusion in time against matrix exponentials, dense steps, and one rank alone."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mpi4py import MPI
from scipy.linalg import expm

from adjoint import Tape, communicator
from adjoint.comm import Allreduce, CartesianGrid
from adjoint.solvers import AdvectionDiffusion
from adjoint.testing import Prepared, check_jvp, check_vjp, dot_test, taylor_test
from tests.schedules import SCHEDULES

Array = np.ndarray[Any, Any]
COMM = communicator()
RANK, SIZE = COMM.rank, COMM.size
everywhere = pytest.mark.parallel([1, 2, 3, 4])
schemes = pytest.mark.parametrize("scheme", ["euler", "bdf2"])

SIDES: dict[int, Any] = {
    1: [("value", "open")],
    2: [("value", "open"), "closed"],
    3: ["open", ("closed", "value"), "closed"],
}


class Case:
    """A medium and sources that vary, the same on any number of ranks."""

    def __init__(
        self, shape: tuple[int, ...], steps: int, dt: float = 0.1, comm: MPI.Comm | None = None,
        **settings: Any,
    ) -> None:  # fmt: skip
        self.grid = grid = CartesianGrid(shape, comm)
        generator = np.random.default_rng(5)
        whole = tuple(n + 2 for n in shape)
        padded = tuple(slice(a, b + 2) for a, b in zip(grid.start, grid.stop))
        own = grid.patch_slices(grid.rank)
        self.kappa = generator.uniform(0.2, 1.0, whole)[padded].copy()
        velocity = generator.standard_normal((len(shape), *whole))
        for end in (slice(0, 2), slice(-2, None)):  # rates have a kink where an open end is still
            velocity[0, end] = 0.2 + np.abs(velocity[0, end])
        self.velocity = velocity[(..., *padded)].copy()
        self.initial = generator.random(shape)[own].copy()
        self.source = generator.standard_normal((2, *shape))[(..., *own)].copy()
        self.series = generator.standard_normal((2, steps))
        self.inflow = generator.random(whole)[padded].copy()
        self.inflow_series = generator.random(steps)
        extent = np.asarray(shape) - 1
        self.sensors = extent * np.concatenate([generator.random((4, len(shape))), [extent * 0.0]])
        self.transport = AdvectionDiffusion(
            grid, 1.0, dt, steps, sides=SIDES[len(shape)],
            sensors=self.sensors, **{"rtol": 1e-14, **settings},
        )  # fmt: skip

    @property
    def inputs(self) -> list[Array]:
        return [self.kappa, self.velocity, self.source, self.series, self.initial, self.inflow,
                self.inflow_series]  # fmt: skip

    def run(self, *inputs: Any) -> Any:
        kappa, velocity, source, series, initial, inflow, course = inputs
        return self.transport(
            kappa, velocity, source, series, initial=initial, inflow=inflow, inflow_series=course
        )

    def misfit(self, *inputs: Any) -> Any:
        traces, u = self.run(*inputs)
        own = (traces**2).sum() + (u**2).sum()
        return Allreduce(self.grid.comm)(own)

    def gradient(self, inputs: Any) -> list[Any]:
        with Tape(comm=self.grid.comm) as tape:
            watched = [tape.watch(x) for x in inputs]
            loss = self.misfit(*watched)
        return tape.gradient(loss, watched)

    def dense(self) -> tuple[Array, Array, Array]:
        """Return matrix, inflow's load and interpolation; for one rank."""
        matrix, load = self.transport.matrix, self.transport.load
        propagator: Any = self.transport.evolution.propagator
        return (
            matrix.pattern.matrix(matrix(self.kappa, self.velocity)).toarray(),
            load(self.kappa, self.velocity, self.inflow).ravel(), propagator._record.toarray(),
        )  # fmt: skip


@pytest.mark.parallel([1])
@pytest.mark.parametrize(("scheme", "order"), [("euler", 0.95), ("bdf2", 1.9)])
def test_order_in_time(scheme: str, order: float) -> None:
    """Against the matrix exponential of the system with its source ``cos ωt``."""
    errors, rate = [], 3.0
    for steps in (40, 80):
        case = Case((6, 5), steps, 1 / steps, scheme=scheme, rtol=1e-12)
        times = np.arange(1, steps + 1) / steps
        _, u = case.transport(case.kappa, case.velocity, case.source[0], np.cos(rate * times),
                              initial=case.initial)  # fmt: skip
        a, _, _ = case.dense()
        n = len(a)
        whole = np.zeros((n + 2, n + 2))
        whole[:n, :n], whole[:n, n] = -a, case.source[0].ravel()
        whole[n, n + 1], whole[n + 1, n] = -rate, rate
        exact = expm(whole) @ np.concatenate([case.initial.ravel(), [1, 0]])
        errors.append(np.abs(u.ravel() - exact[:n]).max())
    assert order <= np.log2(errors[0] / errors[1]) <= order + 0.15


@pytest.mark.parallel([1])
@schemes
@pytest.mark.parametrize("shape", [(9,), (5, 4), (3, 4, 3)], ids=str)
def test_steps_are_those_of_dense_matrices(shape: tuple[int, ...], scheme: str) -> None:
    steps, dt = 5, 0.3
    case = Case(shape, steps, dt, scheme=scheme)
    traces, u = case.run(*case.inputs)
    a, load, p = case.dense()
    forces = case.series.T @ case.source.reshape(2, -1)
    forces += np.multiply.outer(case.inflow_series, load)
    one, levels, expected = np.eye(len(a)), [case.initial.ravel()], []
    for n, force in enumerate(forces):
        if scheme == "euler":
            new = np.linalg.solve(one / dt + a, levels[-1] / dt + force)
        elif n == 0:  # of order two, with θ = ⅔ in place of ½, and the source of the end
            right = (one / dt - a / 3) @ levels[0] + force
            new = np.linalg.solve(one / dt + 2 / 3 * a, right)
        else:
            right = (4 * levels[-1] - levels[-2]) / (2 * dt) + force
            new = np.linalg.solve(1.5 * one / dt + a, right)
        levels.append(new)
        expected.append(p @ new)
    np.testing.assert_allclose(u.ravel(), levels[-1], atol=1e-12)
    np.testing.assert_allclose(traces, np.transpose(expected), atol=1e-12)
    np.testing.assert_allclose(p.sum(axis=1), 1.0)


@everywhere
@schemes
@pytest.mark.parametrize("shape", [(11,), (5, 6), (3, 4, 4)], ids=str)
def test_derivatives(shape: tuple[int, ...], scheme: str) -> None:
    case = Case(shape, 3, scheme=scheme)
    program = Prepared(case.run, *case.inputs)
    for check in dot_test, check_jvp, check_vjp:
        check(program)


@everywhere
@schemes
def test_the_gradient_of_a_misfit_passes_a_taylor_test(scheme: str) -> None:
    case = Case((7, 6), 4, scheme=scheme)
    assert taylor_test(case.misfit, case.inputs, h=1e-2, levels=3).min() >= 1.95


@everywhere
@schemes
def test_one_preconditioner_each_way_serves_all_steps(scheme: str) -> None:
    steps = 4
    case = Case((8, 7), steps, scheme=scheme)
    case.gradient(case.inputs)
    solve = case.transport.solve
    assert (solve.setups, solve.solves) == (2, 2 * steps)
    case.gradient(case.inputs)  # of a medium that has not changed
    assert (solve.setups, solve.solves) == (2, 4 * steps)
    case.gradient([2 * case.kappa, *case.inputs[1:]])
    assert (solve.setups, solve.solves) == (4, 6 * steps)


@everywhere
def test_assembly_is_differentiated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case((8, 7), 3)
    matrix, calls = case.transport.matrix, []
    rule = type(matrix).vjp
    monkeypatch.setattr(
        type(matrix), "vjp", lambda self, *args: calls.append(1) or rule(self, *args)
    )
    case.gradient(case.inputs)
    assert len(calls) == 1


@everywhere
@schemes
def test_a_fixed_medium_keeps_nothing(scheme: str) -> None:
    known = Case((7, 6), 4, scheme=scheme)
    case = Case((7, 6), 4, scheme=scheme, fixed=True, memory=1, report=lambda text: None)
    expected = known.gradient(known.inputs)[2:]
    assert case.transport.plan.bytes == 0 < known.transport.plan.bytes
    with Tape() as tape:
        rest = [tape.watch(x) for x in case.inputs[2:-2]]
        loss = case.misfit(case.kappa, case.velocity, *rest, *case.inputs[-2:])
    for found, right in zip(tape.gradient(loss, rest), expected):
        np.testing.assert_allclose(found, right, atol=1e-10 * np.abs(right).max(initial=0))
    assert case.transport.solve.solves == 2 * 4  # and nothing was computed anew
    with Tape() as tape, pytest.raises(ValueError, match="Evolution: values is a variable, expect"):
        case.misfit(tape.watch(case.kappa), *case.inputs[1:])


@cache
def keeping_all() -> tuple[list[Array], list[Array]]:
    """Return inputs and the gradient with everything kept."""
    case = Case((6, 5), 9)
    assert case.transport.plan.recomputed == 0
    return case.inputs, case.gradient(case.inputs)


LOOPS: dict[str, dict[str, Any]] = {
    **{name: {"schedule": make} for name, make in SCHEDULES.items()},
    "Revolve by fours": {"schedule": SCHEDULES["Revolve"], "block": 4},
    "memory for five": {"fields": 5},
    "memory for three, and the disk": {"fields": 3, "storage": "both"},
}


@pytest.mark.parallel([1, 3])
@pytest.mark.parametrize("name", LOOPS)
def test_every_schedule(name: str, tmp_path: Path) -> None:
    inputs, expected = keeping_all()
    settings = dict(LOOPS[name])
    if "fields" in settings:
        field = COMM.allreduce(8 * int(np.prod(CartesianGrid((6, 5)).patch_shape)), MPI.MAX)
        settings["memory"] = settings.pop("fields") * field
    folder = COMM.bcast(str(tmp_path))
    case = Case((6, 5), 9, directory=folder, report=lambda text: None, **settings)
    plan = case.transport.plan
    assert (plan.recomputed > 0) == (name not in ("memory", "disk"))
    for found, right in zip(case.gradient(inputs), expected):
        most = COMM.allreduce(np.abs(right).max(initial=0), MPI.MAX)
        np.testing.assert_allclose(found, right, rtol=0, atol=1e-10 * most)
    assert case.transport.solve.solves == 18 + plan.recomputed
    if SIZE == 1:
        assert taylor_test(case.misfit, inputs, h=1e-2, levels=3).min() >= 1.95


@cache
def alone(scheme: str) -> list[Array]:
    """Return what one rank finds that has the whole grid."""
    return swept(Case((13, 11), 5, comm=MPI.COMM_SELF, scheme=scheme, rtol=1e-10))


def swept(case: Case) -> list[Array]:
    """Return the sensors' traces, u and gradients, put together on every rank."""
    grid, comm = case.grid, case.grid.comm
    traces, u = case.run(*case.inputs)
    of_kappa, of_v, of_source, of_series, of_initial, of_inflow, of_course = case.gradient(
        case.inputs
    )
    whole = [np.zeros((5, 5)), *(np.zeros(grid.shape) for _ in range(2))]
    whole += [np.zeros((2, *grid.shape)), np.zeros((2, 15, 13)), *np.zeros((2, 15, 13))]
    own = grid.patch_slices(grid.rank)
    padded = tuple(slice(a, b + 2) for a, b in zip(grid.start, grid.stop))
    whole[0][case.transport.sensors] = traces
    for field, part in zip(whole[1:3], (u, of_initial)):
        field[own] = part
    whole[3][(..., *own)] = of_source
    for field, part in zip(whole[4:], (of_v, of_kappa, of_inflow)):
        field[(..., *padded)] += part
    return [comm.allreduce(part) for part in (*whole, of_series, of_course)]


@pytest.mark.parallel([2, 3, 4])
@schemes
def test_does_not_depend_on_the_number_of_ranks(scheme: str) -> None:
    together = swept(Case((13, 11), 5, scheme=scheme, rtol=1e-10))
    for found, expected in zip(together, alone(scheme)):
        assert np.abs(expected).max() > 0
        assert np.abs(found - expected).max() <= 1e-9 * np.abs(expected).max()


@everywhere
@schemes
@pytest.mark.parametrize("flux", ["fitted", "upwind"])
def test_a_closed_box_keeps_its_content(scheme: str, flux: str) -> None:
    """Whatever the flow, also one that is not free of divergence; a source adds what it gives."""
    grid = CartesianGrid((9, 8))
    generator = np.random.default_rng(RANK)
    x, y = grid.coordinates(1.0, width=1)
    kappa, velocity = 0.05 + 0.05 * np.sin(x * y), np.stack([np.sin(3 * x + y), np.cos(x - 2 * y)])
    initial, source = generator.random(grid.patch_shape), generator.random(grid.patch_shape)
    course = np.array([1.0, 0.0, 2.0, 0.5, 0.0, 1.0, 3.0])
    dt = 0.4
    with AdvectionDiffusion(
        grid, (0.5, 2.0), dt, 7, scheme=scheme, flux=flux, sides="closed", rtol=1e-13
    ) as transport:
        _, kept = transport(kappa, velocity, initial=initial)
        _, grown = transport(kappa, velocity, source, np.ones(7), initial=initial)
        _, other = transport(kappa, velocity, source, course, initial=initial)
    content, given = (COMM.allreduce(field.sum()) for field in (initial, source))
    assert COMM.allreduce(kept.sum()) == pytest.approx(content, rel=1e-11)
    assert COMM.allreduce(grown.sum()) == pytest.approx(content + 7 * dt * given, rel=1e-11)
    if scheme == "euler":
        assert COMM.allreduce(other.sum()) == pytest.approx(
            content + dt * given * course.sum(), rel=1e-11
        )


@everywhere
@pytest.mark.parametrize("flux", ["fitted", "upwind"])
@pytest.mark.parametrize("peclet", [1e3, np.inf])
def test_a_strong_flow_makes_no_new_extremes_and_few_iterations(flux: str, peclet: float) -> None:
    """A rough field turned once around: positive, never above what it was, in few iterations."""
    n = 24
    grid = CartesianGrid((n, n))
    x, y = grid.coordinates(1 / n, 0.5 / n, width=1)
    velocity = np.stack([0.5 - y, x - 0.5])  # ∇·v = 0, exactly so on the grid
    kappa = np.full(grid.padded_shape(1), 0.5 / peclet)
    spot = ((x - 0.5) ** 2 + (y - 0.3) ** 2 < 0.01)[grid.interior(1)].astype(float)
    with AdvectionDiffusion(
        grid, 1 / n, 0.8, 8, scheme="euler", flux=flux, sides="open", rtol=1e-12
    ) as transport:
        with Tape() as tape:
            start = tape.watch(spot)
            _, u = transport(kappa, velocity, initial=start)
        weights = tape.vjp([u], [spot], [start])[0]
        solve = transport.solve
        iterations = [solver.last.iterations for solver in (solve._direct, solve._adjoint)]
    assert max(iterations) <= 16
    for field in (u.value, weights):
        assert COMM.allreduce(field.min(), MPI.MIN) >= -1e-12
        assert COMM.allreduce(field.max(), MPI.MAX) <= 1 + 1e-12
    assert COMM.allreduce(u.value.max(), MPI.MAX) > 0.02


@everywhere
@schemes
def test_an_open_channel_fills_with_what_flows_in(scheme: str) -> None:
    grid = CartesianGrid((12, 5))
    _, y = grid.coordinates(1.0, 0.5, width=1)
    velocity = np.stack([y * (6 - y) / 4, 0 * y])
    kappa = np.full(grid.padded_shape(1), 0.2)
    for first in ("open", "value"):
        with AdvectionDiffusion(
            grid, 1.0, 60.0, 12, scheme=scheme, sides=[(first, "open"), "closed"]
        ) as transport:
            _, u = transport(kappa, velocity, inflow=2.5)
        np.testing.assert_allclose(u, 2.5, rtol=1e-6)


@everywhere
def test_what_a_call_may_leave_out() -> None:
    case = Case((7, 6), 5)
    transport, source = case.transport, case.source[:1]
    ones, none = np.ones((1, 5)), np.zeros(case.grid.patch_shape)
    whole = transport(case.kappa, case.velocity, source, ones, initial=none, inflow=case.inflow,
                      inflow_series=ones[0])  # fmt: skip
    short = transport(case.kappa, case.velocity, source[0], inflow=case.inflow)
    for found, expected in zip(short, whole):
        np.testing.assert_array_equal(found, expected)
    for found in transport(case.kappa, case.velocity):
        np.testing.assert_array_equal(found, 0.0)


@everywhere
def test_bad_arguments_are_errors_on_all_ranks() -> None:
    grid = CartesianGrid((9, 8))
    transport = AdvectionDiffusion(grid, 1.0, 0.1, 4)
    kappa, velocity = np.ones(grid.padded_shape(1)), np.ones((2, *grid.padded_shape(1)))
    field, last = np.ones(grid.patch_shape), RANK == SIZE - 1
    bad = field[int(last) :]
    calls: list[tuple[str, dict[str, Any]]] = [
        ("source has shape", {"source": bad}),
        ("source is a list, expected an array", {"source": field.tolist() if last else field}),
        ("series has shape", {"source": field, "series": np.ones(4 - last)}),
        (r"series has shape .*, expected \(2, 4\)",
         {"source": np.stack([field, field]), "series": np.ones(4)}),
        ("got series without source", {"series": np.ones(4)}),
        ("initial has shape", {"initial": bad}),
        ("inflow_series has shape", {"inflow": 1.0, "inflow_series": np.ones(5)}),
        ("got inflow_series without inflow", {"inflow_series": np.ones(4)}),
        ("Evolution: terms has values that are not finite",
         {"source": np.where(last, np.inf, field)}),
        ("Evolution: initial has dtype float32", {"initial": field.astype(np.float32)}),
    ]  # fmt: skip
    for message, arguments in calls:
        with pytest.raises((ValueError, TypeError), match=message):
            transport(kappa, velocity, **arguments)
    makers: list[tuple[str, dict[str, Any]]] = [
        ("AdvectionDiffusionMatrix: scheme is 'central'", {"flux": "central"}),
        (r"sensors has shape \(1, 3\), expected \(points, 2\)", {"sensors": [[1, 2, 3]]}),
        (r"sensors: point 1 at \(3.0, 7.5\) m is off", {"sensors": [[8, 7], [3, 7.5]]}),
        ("sensors: point 0 at .* m is off", {"sensors": [[np.nan, 7]]}),
    ]
    for message, arguments in makers:
        with pytest.raises(ValueError, match=message):
            AdvectionDiffusion(grid, 1.0, 0.1, 4, **arguments)
