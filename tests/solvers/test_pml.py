"""Layers: how they damp, and strips that are extended to whole vectors by zeros."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.integrate import simpson

from adjoint.solvers.pml import Layers, Strip

GHOST, VECTOR = 3, 8


def by_line(strip: Strip) -> dict[int, tuple[float, float]]:
    return {int(k): (a, b) for k, a, b in zip(strip.lines, strip.a, strip.b)}


def test_an_ideal_layer_reflects_as_little_as_it_says() -> None:
    """``R = exp(−(2/c) ∫ d dx)`` with the damping ``d``, which is quadratic: Simpson's rule."""
    length, spacing, dt, velocity = 40, 7.0, 1e-3, 2500.0
    layers = Layers(length, (10, 6), spacing, dt, velocity, 0.0)
    for ends in ((10.0, 0.0), (length - 1.0 - 6, length - 1.0)):
        nodes = abs(int(ends[1] - ends[0]))
        a, b = layers.coefficients(np.linspace(*ends, 2 * nodes + 1))
        assert (a[0], b[0]) == (0, 0)  # where the layer begins there is none yet
        np.testing.assert_allclose(a[1:], b[1:] - 1, rtol=1e-14)
        damping = -np.log(np.append(1.0, b[1:])) / dt
        whole = simpson(damping, dx=spacing / 2)
        assert np.exp(-2 * whole / velocity) == pytest.approx(Layers.reflection)


def test_layers_let_slow_waves_through_where_they_begin() -> None:
    """At frequency 0, ``1 + a/(1 − b) = α/(α + d)``, and ``α`` falls from ``πf`` to 0."""
    still, moving = (Layers(40, (10, 0), 7.0, 1e-3, 2500.0, f) for f in (0.0, 12.0))
    depth = np.arange(1.0, 14.0)  # and a little beyond the grid
    damping = -np.log(still.coefficients(10 - depth)[1]) / 1e-3
    a, b = moving.coefficients(10 - depth)
    alpha = np.pi * 12.0 * np.maximum(1 - depth / 10, 0)
    np.testing.assert_allclose(1 + a / (1 - b), alpha / (alpha + damping), atol=1e-12)
    np.testing.assert_allclose(b, np.exp(-(alpha + damping) * 1e-3), rtol=1e-12)
    inside = moving.coefficients(np.array([10.0, 10.5, 25.0, 39.0, 41.0]))
    assert not np.any(inside)
    thin = Layers(40, (1, 1), 7.0, 1e-3, 2500.0, 12.0).coefficients(np.array([0.5, 1.0, 38.5]))
    np.testing.assert_array_equal(np.sign(thin), [[-1, 0, -1], [1, 0, 1]])


LENGTHS = st.integers(8, 90)
WIDTHS = st.tuples(st.integers(0, 20), st.integers(0, 20))
PARTS = st.tuples(st.floats(0, 1), st.floats(0, 1))

# A layer of which five of seven owned lines are in, so that there is no room for eight.
CROWDED: list[dict[str, Any]] = [
    {"length": 40, "widths": (0, 10), "part": (28 / 40, 35 / 40)},
    {"length": 40, "widths": (10, 0), "part": (5 / 40, 12 / 40)},
]


def patch_of(length: int, widths: Any, part: Any) -> tuple[Layers, int, int, int, int]:
    """Return layers that leave a node between them, their widths, and a patch."""
    low, high = (min(width, length // 2 - 1) for width in widths)
    layers = Layers(length, (low, high), 10.0, 1e-3, 2500.0, 10.0)
    start, stop = sorted(round(x * length) for x in part)
    return layers, low, high, *((start, stop) if stop - start >= 4 else (0, length))


@given(length=LENGTHS, widths=WIDTHS, part=PARTS, reach=st.integers(1, 2))
def test_lines_are_those_that_lie_in_a_layer(
    length: int, widths: Any, part: Any, reach: int
) -> None:
    layers, low, high, start, stop = patch_of(length, widths, part)
    first, last = start - GHOST, stop + GHOST - 1
    here = range(first, last + 1)
    nodes = {k for k in here if 0 <= k < length and (k < low or k >= length - high)}
    halves = {
        k
        for k in here
        if first <= k - reach + 1 and k + reach <= last
        and ((low and k - reach + 1 < low) or (high and k + reach >= length - high))
    }  # fmt: skip
    for strip, expected, shift in (
        (layers.nodes(start, stop, GHOST, float), nodes, 0.0),
        (layers.halves(start, stop, GHOST, reach, float), halves, 0.5),
    ):
        lines = sorted(expected)
        np.testing.assert_array_equal(strip.lines + first, lines)
        for found, known in zip((strip.a, strip.b), layers.coefficients(np.array(lines) + shift)):
            np.testing.assert_array_equal(found, known)
        np.testing.assert_array_equal(strip.slot[strip.lines], np.arange(len(lines)))
        assert np.count_nonzero(strip.slot == -1) == len(here) - len(lines)
        assert strip.runs[:, 1].sum() == len(lines)


@given(length=LENGTHS, widths=WIDTHS, part=PARTS)
@example(**CROWDED[0])
@example(**CROWDED[1])
def test_strips_of_whole_vectors(length: int, widths: Any, part: Any) -> None:
    layers, *_, start, stop = patch_of(length, widths, part)
    for halves in (False, True):
        if halves:
            plain = layers.halves(start, stop, GHOST, 2, float)
            whole = layers.halves(start, stop, GHOST, 2, float, VECTOR, beyond=(2, 1))
            first, last = GHOST - 2, GHOST + stop - start + 1
        else:
            plain = layers.nodes(start, stop, GHOST, float)
            whole = layers.nodes(start, stop, GHOST, float, VECTOR)
            first, last = GHOST, GHOST + stop - start
        assert len(whole.slot) == stop - start + 2 * GHOST
        found, expected = by_line(whole), by_line(plain)
        assert {k: found[k] for k in expected} == expected
        assert all(found[k] == (0, 0) for k in set(found) - set(expected))
        counts = []
        for side in range(2):
            k, count = whole.runs[side]
            slots = whole.slot[k : k + count]
            np.testing.assert_array_equal(slots, np.arange(count) + side * whole.runs[0, 1])
            counts.append(sum(first <= line < last for line in range(k, k + count)))
        if len(found) > len(expected):
            assert not any(count % VECTOR for count in counts)


def test_a_wide_patch_has_whole_vectors() -> None:
    strip = Layers(100, (20, 20), 10.0, 1e-3, 2500.0, 10.0).nodes(0, 100, GHOST, float, VECTOR)
    np.testing.assert_array_equal(strip.runs, [[GHOST, 24], [GHOST + 76, 24]])
    assert np.count_nonzero(strip.a) == 40
    layers = Layers(100, (20, 20), 10.0, 1e-3, 2500.0, 10.0)
    strip = layers.halves(0, 100, GHOST, 2, float, VECTOR, beyond=(2, 1))
    np.testing.assert_array_equal(strip.runs, [[GHOST - 2, 24], [GHOST + 77, 24]])
    for strip in layers.both(0, 100, GHOST, float, 1, VECTOR):
        np.testing.assert_array_equal(strip.runs, [[GHOST, 24], [GHOST + 76, 24]])
    # A strip may come to be all of a patch.
    low, high = (Layers(100, ends, 10.0, 1e-3, 2500.0, 10.0) for ends in ((20, 0), (0, 20)))
    assert low.nodes(16, 24, GHOST, float, VECTOR).runs[0].tolist() == [0, 11]
    assert high.nodes(76, 84, GHOST, float, VECTOR).runs[1].tolist() == [3, 11]
    # Only owned lines are counted: here 11 of a layer and the line beside it.
    for strip in layers.both(10, 60, GHOST, float, 1, VECTOR):
        np.testing.assert_array_equal(strip.runs, [[0, 19], [56, 0]])


@given(
    length=LENGTHS,
    widths=WIDTHS,
    part=PARTS,
    reach=st.integers(0, 2),
    multiple=st.sampled_from([1, VECTOR]),
)
@example(**CROWDED[0], reach=0, multiple=VECTOR)
@example(**CROWDED[1], reach=0, multiple=VECTOR)
def test_nodes_and_half_points_with_the_same_lines(
    length: int, widths: Any, part: Any, reach: int, multiple: int
) -> None:
    layers, low, high, start, stop = patch_of(length, widths, part)
    node, half = layers.both(start, stop, GHOST, float, reach, multiple)
    assert len(node.slot) == stop - start + 2 * GHOST
    np.testing.assert_array_equal(node.lines, half.lines)
    np.testing.assert_array_equal(node.slot, half.slot)
    np.testing.assert_array_equal(node.slot[node.lines], np.arange(len(node.lines)))
    inside = np.arange(start - GHOST, stop + GHOST)
    inside = inside[(inside >= 0) & (inside < length)]
    plain, _ = layers.both(start, stop, GHOST, float, reach, 1)
    # The patch has lines beside a layer only if it has some of the layer, or a point just before.
    below = inside < low + reach if low > inside[0] else inside < 0
    begin = length - high - 1 if high else length
    above = inside >= begin - reach if begin <= inside[-1] else inside < 0
    np.testing.assert_array_equal(plain.lines + start - GHOST, inside[below | above])
    if len(node.lines) > len(plain.lines):
        for k, count in node.runs:
            owned = np.arange(k, k + count)
            assert not np.sum((owned >= GHOST) & (owned < GHOST + stop - start)) % VECTOR
    for strip, shift in ((node, 0.0), (half, 0.5)):
        found = by_line(strip)
        for position, a, b in zip(inside, *layers.coefficients(inside + shift)):
            assert found.get(position - start + GHOST, (0, 0)) == (a, b)
    # Lines within reach of a layer are taken with it.
    damped = {int(k) for strip in (node, half) for k, a in zip(strip.lines, strip.a) if a}
    lines = set(node.lines.tolist())
    for line in damped:
        for beside in range(line - reach, line + reach + 1):
            position = beside + start - GHOST
            assert beside in lines or not 0 <= position < length or position not in inside
