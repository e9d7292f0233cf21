"""Strips of layers that are extended to whole vectors are those of the layers, and zeros."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from adjoint.solvers.pml import Layers, Strip

GHOST, VECTOR = 3, 8


def by_line(strip: Strip) -> dict[int, tuple[float, float]]:
    return {int(k): (a, b) for k, a, b in zip(strip.lines, strip.a, strip.b)}


@given(
    length=st.integers(8, 90),
    widths=st.tuples(st.integers(0, 20), st.integers(0, 20)),
    part=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_strips_of_whole_vectors(length: int, widths: Any, part: Any) -> None:
    widths = tuple(min(width, length // 2 - 1) for width in widths)
    layers = Layers(length, widths, 10.0, 1e-3, 2500.0, 10.0)
    start, stop = sorted(round(x * length) for x in part)
    start, stop = (start, stop) if stop - start >= 4 else (0, length)
    for halves in (False, True):
        if halves:
            plain = layers.halves(start, stop, GHOST, 2, float)
            whole = layers.halves(start, stop, GHOST, 2, float, VECTOR, beyond=(2, 1))
            first, last = GHOST - 2, GHOST + stop - start + 1
        else:
            plain = layers.nodes(start, stop, GHOST, float)
            whole = layers.nodes(start, stop, GHOST, float, VECTOR)
            first, last = GHOST, GHOST + stop - start
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


@given(
    length=st.integers(8, 90),
    widths=st.tuples(st.integers(0, 20), st.integers(0, 20)),
    part=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    reach=st.integers(0, 2),
    multiple=st.sampled_from([1, VECTOR]),
)
def test_nodes_and_half_points_with_the_same_lines(
    length: int, widths: Any, part: Any, reach: int, multiple: int
) -> None:
    widths = tuple(min(width, length // 2 - 1) for width in widths)
    layers = Layers(length, widths, 10.0, 1e-3, 2500.0, 10.0)
    start, stop = sorted(round(x * length) for x in part)
    start, stop = (start, stop) if stop - start >= 4 else (0, length)
    node, half = layers.both(start, stop, GHOST, float, reach, multiple)
    np.testing.assert_array_equal(node.lines, half.lines)
    np.testing.assert_array_equal(node.slot, half.slot)
    np.testing.assert_array_equal(node.slot[node.lines], np.arange(len(node.lines)))
    inside = np.arange(start - GHOST, stop + GHOST)
    inside = inside[(inside >= 0) & (inside < length)]
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
