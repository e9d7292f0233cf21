"""The acoustic steps against the scheme written out plainly, on grids small enough to interpret.

``NUMBA_DISABLE_JIT=1`` runs the kernels as Python: faults in them are then tried without compiling.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest

from adjoint.solvers import AcousticWave, acoustic_kernels
from adjoint.testing import check_jvp, check_vjp, dot_test
from tests.plain_layers import DT, WIDTH, damping
from tests.small_acoustic import (
    SETTINGS,
    SHAPE,
    SHARED,
    SPACE,
    SPACING,
    TALL,
    outcome,
    same,
    values_of,
    wave_of,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:AcousticWave. .* nodes for the shortest"),
    pytest.mark.timeout(300),  # the first test may have to wait for the compiler
]

ENDS = {2: (("top", "bottom"), ("left", "right"))}
ENDS[3] = (ENDS[2][0], ("front", "back"), ENDS[2][1])


def traces_by_the_equations(
    wave: AcousticWave, inputs: Any, free: Any, sides: Any, width: int
) -> Any:
    """Whole-array steps: each axis in turn as the first, three nodes more at both ends."""
    velocity, wavelets, now, old = inputs
    near, far = (9 / 8, -1 / 24) if wave.order == 4 else (1.0, 0.0)
    loop, shape = wave.propagator, now.shape
    traces = np.zeros((2, 2, wave.steps))
    interior = [slice(int(low in free), -1 if high in free else None)
                for low, high in ENDS[now.ndim]]  # fmt: skip
    inside = np.zeros(shape)
    inside[tuple(interior)] = 1
    for run in range(2):
        u, before = inside * now, inside * old
        turned = [(n, *shape[:axis], *shape[axis + 1 :]) for axis, n in enumerate(shape)]
        psi = [np.zeros((n + 5, *rest)) for n, *rest in turned]
        phi = [np.zeros(lengths) for lengths in turned]
        for n in range(wave.steps):
            traces[run, :, n] = at_points(loop._receivers, run, loop.padding) @ u.ravel()
            change = np.zeros(shape)
            for axis, ends in enumerate(ENDS[now.ndim]):
                low, high = (side in sides and side not in free for side in ends)
                more = ((3, 3), *((0, 0),) * (now.ndim - 1))
                lines = np.pad(np.moveaxis(u, axis, 0), more)
                square = np.pad(np.moveaxis(velocity, axis, 0) ** 2, more, "edge")
                for side in ends:
                    if side in free:
                        order = slice(None, None, 1 if side == ends[0] else -1)
                        lines[order][:3] = -lines[order][6:3:-1]
                        square[order][:3] = square[order][6:3:-1]
                nodes, h = shape[axis], wave.spacing[axis]
                # Half points −2½, …, so that one lies two before the first node's own.
                d = np.zeros((nodes + 5, *lines.shape[1:]))
                d[1:-1] = near * np.diff(lines, axis=0)[1:-1] + far * (lines[3:] - lines[:-3])
                along = (-1, *(1,) * (now.ndim - 1))
                a, b = damping(np.arange(nodes + 5) - 2.5, nodes, h, low, high, along, width)
                psi[axis] = b * psi[axis] + a * d / h
                p = (square[1:] + square[:-1]) / 2 * (d / h + psi[axis])
                divergence = (near * (p[3:-2] - p[2:-3]) + far * (p[4:-1] - p[1:-4])) / h
                a, b = damping(np.arange(nodes), nodes, h, low, high, along, width)
                phi[axis] = b * phi[axis] + a * divergence
                change += np.moveaxis(divergence + phi[axis], 0, axis)
            force = wavelets[run, :, n] / np.prod(wave.spacing)
            change += (force @ at_points(loop._sources, run, loop.padding)).reshape(shape)
            u, before = inside * (2 * u - before + DT**2 * change), u
    return traces


def at_points(points: Any, run: int, padding: Any) -> Any:
    """The interpolation from nodes to points as a dense matrix."""
    rows = []
    for nodes, weights in zip(points.nodes[run], points.weights[run]):
        padded = padding.fields()
        np.add.at(padded.reshape(-1), nodes, weights)
        rows.append(padded[padding.inner].ravel())
    return np.array(rows)


@pytest.mark.parametrize("name", SETTINGS)
def test_steps_are_those_of_the_equations(name: str) -> None:
    settings = SETTINGS[name]
    wave, inputs = wave_of(steps=9, **settings)
    sides = settings.get("pml_sides", sum(ENDS[wave.grid.ndim], ()))
    free = settings.get("free_surface", ())
    free, width = ("top",) if free is True else free, settings.get("pml_width", WIDTH)
    expected = traces_by_the_equations(wave, inputs, free, sides, width)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(wave(*inputs), expected, rtol=0, atol=1e-11 * scale)


@pytest.mark.parametrize("name", SETTINGS)
def test_derivatives(name: str) -> None:
    wave, inputs = wave_of(**SETTINGS[name])
    dot_test(wave, *inputs, rtol=1e-12)
    check_jvp(wave, *inputs)
    check_vjp(wave, *inputs)


@pytest.mark.parametrize("name", SHARED)
def test_how_rows_and_steps_are_shared_out_does_not_matter(name: str) -> None:
    expected = outcome(1, 1, **SHARED[name])
    assert all(np.abs(value).max() > 0 for value in expected)
    for threads, steps in ((1, acoustic_kernels.STEPS), (2, 1), (2, 3), (3, 2), (3, 4)):
        same(outcome(threads, steps, **SHARED[name]), expected)


def test_how_blocks_of_lines_are_shared_out_does_not_matter() -> None:
    def outcome_of(threads: int, block: int) -> list[Any]:
        wave, inputs = wave_of(**SPACE)
        wave.propagator._stepper.share(threads, block)
        return values_of(wave, inputs)

    expected = outcome_of(1, 8)
    assert all(np.abs(value).max() > 0 for value in expected)
    for threads, block in ((1, 3), (3, 2), (2, 4)):
        same(outcome_of(threads, block), expected)


@pytest.mark.parametrize(("threads", "most"), [(2, 6), (3, 4)])
def test_steps_are_taken_one_by_one_where_shares_are_short(
    threads: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = values_of(*wave_of())
    monkeypatch.setattr(numba, "get_num_threads", lambda: threads)
    wave, inputs = wave_of()
    assert wave.propagator._stepper.steps == 1
    same(values_of(wave, inputs), expected)
    assert wave_of(shape=TALL)[0].propagator._stepper.steps == most


@pytest.mark.parametrize("name", SETTINGS)
def test_blocks_of_steps_keep_what_the_whole_run_keeps(name: str) -> None:
    wave, inputs = wave_of(steps=7, **SETTINGS[name])
    loop = wave.propagator
    velocity, wavelets, initial, previous = inputs
    bar = np.random.default_rng(0).standard_normal((2, 2, 7))
    found = []
    for ends in ([0, 7], [0, 3, 4, 7]):
        loop.prepare(velocity, wavelets, initial, previous)
        loop.prepare_reverse([bar])
        loop.begin(1)
        blocks = list(zip(ends, ends[1:]))
        kept = [loop.new_kept(last - first) for first, last in blocks]
        for (first, last), levels in zip(blocks, kept):
            assert loop.kept_bytes(last - first) == sum(level.nbytes for level in levels)
        for (first, last), levels in zip(blocks, kept):
            loop.advance(first, last, levels)
        loop.begin_reverse(1)
        for (first, last), levels in reversed(list(zip(blocks, kept))):
            loop.reverse(last, first, levels)
        loop.finish_reverse(1)
        if found:  # steps that are taken anew, as behind a snapshot, record the same
            loop.begin(1)
            loop.advance(0, 5)
        found.append([*loop.results(), *loop.gradients()])
    assert all(np.abs(value).max() > 0 for value in found[0])
    same(found[1], found[0])


@pytest.mark.parametrize(("order", "limit"), [(2, 1.0), (4, 6 / 7)])
def test_the_layers_by_default(order: int, limit: float) -> None:
    """Half of the greatest stable velocity, and 20 of the wider cells a wavelength."""
    speed = limit / np.hypot(1 / SPACING[0], 1 / SPACING[1]) / DT / 2
    usual, _ = wave_of(pml_velocity=None, pml_frequency=None, order=order)
    frequency = speed / (20 * max(SPACING))
    given, _ = wave_of(pml_velocity=speed, pml_frequency=frequency, order=order)
    for mine, other in zip(usual.propagator._medium.half, given.propagator._medium.half):
        np.testing.assert_allclose(mine.a, other.a, rtol=1e-13)
        np.testing.assert_allclose(mine.b, other.b, rtol=1e-13)


def test_a_level_that_is_not_given_is_zero() -> None:
    wave, (velocity, wavelets, initial, previous) = wave_of()
    rest = np.zeros(SHAPE)
    np.testing.assert_array_equal(
        wave(velocity, wavelets, initial=initial), wave(velocity, wavelets, initial, rest)
    )
    np.testing.assert_array_equal(
        wave(velocity, wavelets, previous=previous), wave(velocity, wavelets, rest, previous)
    )
