"""Random programs of local operators, and the strategies they are drawn with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adjoint.strategies import (
    arrays,
    dtypes,
    grids,
    on_all_ranks,
    partitions,
    patterns,
    programs,
    shapes,
    spmd,
)
from adjoint.testing import check_vjp, dot_test

STEPS = [
    (2, lambda a, b: a + b),
    (2, lambda a, b: a * b),
    (2, lambda a, b: a / (3 + b * b)),
    (1, np.tanh),
    (1, np.sin),
    (1, lambda a: a - a.mean()),
    (1, lambda a: a[::-1]),
    (2, lambda a, b: np.concatenate([a, b])[1::2]),
    (1, lambda a: np.sum(a) * np.ones(a.shape)),
]


@spmd
@given(program=programs(STEPS), x=arrays((4,)), y=arrays((4,)))
def test_random_programs(program: Any, x: Any, y: Any) -> None:
    dot_test(program, x, y)
    check_vjp(program, x, y)


@spmd
@given(x=arrays(shapes(1, 2), dtypes(), low=0.5, high=2.0))
def test_arrays(x: Any) -> None:
    assert x.dtype in (np.float32, np.float64)
    assert 1 <= x.ndim <= 2
    assert ((x >= 0.5) & (x <= 2)).all()


@spmd
@given(spec=grids(ranks=6, min_patch=2), data=st.data())
def test_grids_have_room_for_every_rank(spec: Any, data: Any) -> None:
    assert np.prod(spec.dims) == 6
    assert all(n >= 2 * d for n, d in zip(spec.shape, spec.dims))
    assert len(spec.periodic) == len(spec.shape)
    counts = data.draw(partitions(3))
    assert len(counts) == 3
    assert min(counts) >= 0


@spmd
@given(pattern=patterns(diagonal=True))
def test_patterns_are_sorted_and_hold_their_diagonal(pattern: Any) -> None:
    numbers = pattern.rows * pattern.shape[1] + pattern.columns
    assert (np.diff(numbers) > 0).all()
    assert set(zip(range(pattern.shape[0]), range(pattern.shape[0]))) <= set(
        zip(pattern.rows, pattern.columns)
    )


def test_a_failing_property_is_shrunk() -> None:
    @spmd
    @given(n=st.integers(0, 1000))
    @on_all_ranks
    def fails(n: int) -> None:
        assert n < 17, f"n = {n}"

    with pytest.raises(AssertionError, match="n = 17"):
        fails()
