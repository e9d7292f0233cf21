"""Stores around the cache write the entries they are asked for, and no others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba import njit

from adjoint.comm import CartesianGrid
from adjoint.solvers.padding import Padding
from adjoint.solvers.streaming import prefetch, stream
from adjoint.solvers.unsigned import interpreted


def copy(target: Any, at: int, source: Any, begin: int, count: int) -> None:
    prefetch(source, begin, count)
    stream(target, at, source, begin, count)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("count", [0, 3, 8, 16, 45])
def test_entries_are_copied(dtype: Any, count: int) -> None:
    """Whole lines of a cache, and what is left; from anywhere, to where a line begins."""
    padding = Padding(CartesianGrid((4, 50)), 3, dtype)
    target, start = padding.fields(), padding.pitch + 3
    source = np.random.default_rng(0).random((5, 41)).astype(dtype)
    expected = target.copy()
    expected.reshape(-1)[start : start + count] = source.reshape(-1)[7 : 7 + count]
    (copy if interpreted else njit(copy))(target, start, source, 7, count)
    np.testing.assert_array_equal(target, expected)
