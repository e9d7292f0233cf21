"""The elastic steps against the scheme written out plainly, on grids small enough to interpret.

``NUMBA_DISABLE_JIT=1`` runs the kernels as Python: faults in them are then tried without compiling.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adjoint.solvers import ElasticWave
from adjoint.testing import check_jvp, check_vjp, dot_test
from tests.plain_layers import DT, damping
from tests.schedules import SCHEDULES
from tests.small_acoustic import same
from tests.small_elastic import FIELDS, SETTINGS, SHAPE, SPACING, results_of, scaled, wave_of

pytestmark = [
    pytest.mark.filterwarnings("ignore:ElasticWave. .* nodes for the shortest"),
    pytest.mark.timeout(300),  # the first test may have to wait for the compiler
]


def difference(u: Any, axis: int, half: bool, image: int, shift: int) -> Any:
    """Difference in 1/h, at nodes or (half) behind them, of a field that is zero off the grid.

    ``image`` is 1 or −1 where the field is continued evenly or oddly above the first row; ``shift``
    is 1 for a field whose rows lie half a cell behind the nodes.
    """
    lines = np.pad(np.moveaxis(u, axis, 0), ((2, 2), (0, 0)))
    if image:
        lines[1], lines[0] = image * lines[3 - shift], image * lines[4 - shift]
    n = u.shape[axis]
    at = np.arange(2, 2 + n) + (1 if half else 0)  # the line behind the point
    return (9 / 8 * (lines[at] - lines[at - 1]) - (lines[at + 1] - lines[at - 2]) / 24) / SPACING[
        axis
    ]


def traces_by_the_equations(
    wave: ElasticWave, inputs: Any, run: int, surface: bool, sides: Any
) -> Any:
    """Whole-array steps of one shot; returns the five fields' traces."""
    lam, mu, rho, wavelets, mechanisms = inputs
    padded = np.pad(mu, ((0, 1), (0, 1)), "edge")
    below, beside = (np.pad(rho, p, "edge") for p in (((0, 1), (0, 0)), ((0, 0), (0, 1))))
    b0, b1 = 2 / (below[1:] + rho), 2 / (beside[:, 1:] + rho)
    corners = (padded[:-1, :-1], padded[1:, :-1], padded[:-1, 1:], padded[1:, 1:])
    shear = 4 / sum(1 / corner for corner in corners)
    coefficients = {}
    for axis, ends in enumerate((("top", "bottom"), ("left", "right"))):
        low, high = (side in sides and not (surface and side == "top") for side in ends)
        for half in (False, True):
            at = np.arange(SHAPE[axis]) + half / 2
            coefficients[axis, half] = damping(at, SHAPE[axis], SPACING[axis], low, high)
    sources, receivers = (
        {name: at_points(points[name], run, wave.propagator.padding) for name in FIELDS}
        for points in (wave.propagator._sources, wave.propagator._receivers)
    )
    memory: dict[str, Any] = {}

    def absorbed(name: str, u: Any, axis: int, half: bool, image: int = 0) -> Any:
        """The stretched derivative, back in the order of axes."""
        d = difference(u, axis, half, image if surface and axis == 0 else 0, int(not half))
        a, b = coefficients[axis, half]
        memory[name] = b * memory.get(name, 0) + a * d
        return np.moveaxis(d + memory[name], 0, axis)

    def force(name: str, n: int) -> Any:
        series = mechanisms[run, :, FIELDS.index(name)] * wavelets[run, :, n]
        return (series @ sources[name]).reshape(SHAPE) / (SPACING[0] * SPACING[1])

    traces = np.zeros((5, 2, wave.steps))
    v0, v1, s00, s11, s01 = (np.zeros(SHAPE) for _ in FIELDS)
    for n in range(wave.steps):
        div0 = absorbed("00", s00, 0, True, -1) + absorbed("01", s01, 1, False)
        div1 = absorbed("10", s01, 0, False, -1) + absorbed("11", s11, 1, True)
        v0 = v0 + DT * b0 * (div0 + force("v0", n))
        v1 = v1 + DT * b1 * (div1 + force("v1", n))
        e0, e1 = absorbed("e0", v0, 0, False, 1), absorbed("e1", v1, 1, False)
        if surface:  # σ₀₀ = 0 there gives ε₀₀
            e0[0] = -lam[0] / (lam[0] + 2 * mu[0]) * e1[0]
        twist = absorbed("e2", v1, 0, True, 1) + absorbed("e3", v0, 1, True)
        s00 = s00 + DT * ((lam + 2 * mu) * e0 + lam * e1 - force("s00", n))
        s11 = s11 + DT * ((lam + 2 * mu) * e1 + lam * e0 - force("s11", n))
        s01 = s01 + DT * (shear * twist - force("s01", n))
        if surface:
            s00[0] = 0
        for k, (name, field) in enumerate(zip(FIELDS, (v0, v1, s00, s11, s01))):
            traces[k, :, n] = receivers[name] @ field.ravel()
    return traces


def at_points(points: Any, run: int, padding: Any) -> Any:
    """The interpolation from a field's samples to points as a dense matrix."""
    rows = []
    for nodes, weights in zip(points.nodes[run], points.weights[run]):
        padded = padding.fields()
        np.add.at(padded.reshape(-1), nodes, weights)
        rows.append(padded[padding.inner].ravel())
    return np.array(rows)


@pytest.mark.parametrize("name", SETTINGS)
def test_steps_are_those_of_the_equations(name: str) -> None:
    settings = SETTINGS[name]
    wave, (lam, mu, rho, wavelets, mechanisms) = wave_of(steps=9, **settings)
    sides = settings.get("pml_sides", ("top", "bottom", "left", "right"))
    inputs = lam * 1e9, mu * 1e9, rho * 1e3, wavelets, mechanisms * [100.0, 50.0, 1e5, 3e4, 4e4]
    surface = settings.get("free_surface", False)
    traces = wave(*inputs)
    for run in range(2):
        expected = traces_by_the_equations(wave, inputs, run, surface, sides)
        for found, right in zip(traces, expected):
            np.testing.assert_allclose(found[run], right, rtol=0, atol=1e-11 * np.abs(right).max())


@pytest.mark.parametrize("name", [*SETTINGS, "layers of one line"])
def test_derivatives(name: str) -> None:
    wave, inputs = wave_of(**SETTINGS.get(name, {"pml_width": 1}))

    def program(*values: Any) -> Any:
        return scaled(wave, *values)

    dot_test(program, *inputs, rtol=1e-12)
    check_jvp(program, *inputs)
    check_vjp(program, *inputs)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("name", SETTINGS)
def test_bytes_that_are_kept(name: str, backwards: bool) -> None:
    loop = wave_of(backwards=backwards, **SETTINGS[name])[0].propagator
    for steps in (0, 1, 3):
        assert loop.kept_bytes(steps) == sum(level.nbytes for level in loop.new_kept(steps))


@pytest.mark.parametrize("name", SETTINGS)
def test_the_number_of_threads_does_not_matter(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shares of the rows, and what is left about their borders, make the same steps."""
    results = []
    for threads in (1, 2, 4):
        monkeypatch.setattr("numba.get_num_threads", lambda count=threads: count)
        results.append(results_of(*wave_of(7, (36, 9), **SETTINGS[name])))
    for found in results[1:]:
        same(found, results[0])


def test_steps_taken_anew_are_the_same() -> None:
    """From snapshots, in segments that begin anywhere."""
    settings = SETTINGS["free surface"]
    expected = results_of(*wave_of(7, **settings))
    wave, inputs = wave_of(
        7, schedule=SCHEDULES["Revolve"], block=2, report=lambda text: None, **settings
    )
    assert wave.plan.recomputed > 0
    for _ in range(2):
        same(results_of(wave, inputs), expected)


@pytest.mark.parametrize("shape", [(36, 9), SHAPE], ids=["long", "short"])
@pytest.mark.parametrize("name", SETTINGS)
def test_steps_taken_back_end_where_they_began(name: str, shape: tuple[int, int]) -> None:
    """At rest, with the gradients that kept velocities give."""
    expected = results_of(*wave_of(7, shape, **SETTINGS[name]))
    wave, inputs = wave_of(7, shape, backwards=True, **SETTINGS[name])
    largest: list[Any] = []
    take_back = wave.propagator.reverse

    def reverse(*steps: Any) -> None:
        largest[:] = [np.abs(field).max() for field in steps[-1].last]
        take_back(*steps)

    wave.propagator.reverse = reverse  # type: ignore[method-assign]
    same(results_of(wave, inputs), expected)
    for field, most in zip(wave.propagator.state[2:5], largest[2:], strict=True):
        assert np.abs(field).max() <= 1e-13 * most
    first = [np.abs(field).max() for field in wave.propagator.state[:2]]
    assert max(first) <= 1e-13 * max(largest[:2])


def test_the_layers_by_default() -> None:
    """Half of the greatest stable velocity, and 20 of the wider cells a wavelength."""
    speed = 6 / 7 / np.hypot(1 / SPACING[0], 1 / SPACING[1]) / DT / 2
    usual, _ = wave_of(pml_velocity=None, pml_frequency=None)
    frequency = speed / (20 * max(SPACING))
    given, _ = wave_of(pml_velocity=speed, pml_frequency=frequency)
    for mine, other in zip(usual.propagator._half, given.propagator._half):
        np.testing.assert_allclose(mine.a, other.a, rtol=1e-13)
        np.testing.assert_allclose(mine.b, other.b, rtol=1e-13)
