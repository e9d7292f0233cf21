"""Hypothesis strategies for gradient checks, in serial and under ``mpiexec``.

The only module that imports hypothesis. Under MPI a property must meet the same examples on every
rank and end with the same verdict, or ranks would wait for each other: :data:`spmd` makes the
draws deterministic, :func:`on_all_ranks` agrees on the verdict.

Examples
--------
A check of an operator of your own, on as many ranks as there are:

>>> from hypothesis import given
>>> from adjoint.ops import Tanh
>>> from adjoint.testing import check_vjp, dot_test
>>> @spmd
... @given(x=arrays())
... @on_all_ranks
... def check_tanh(x):
...     dot_test(Tanh(), x)
...     check_vjp(Tanh(), x)
>>> check_tanh()
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from .variable import Array
from .world import agreed, communicator

#: Settings under which all ranks draw the same examples in the same order.
spmd = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=30,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)


def on_all_ranks(test: Callable[..., None]) -> Callable[..., None]:
    """Make a property fail on all ranks where it fails on one; for use below ``@given``.

    Of several ranks, the failure names one. A rank that fails while others wait for it in a
    collective cannot be helped here; the time limit of the test ends such a run.
    """

    @functools.wraps(test)
    def together(*args: Any, **kwargs: Any) -> None:
        with agreed(communicator()):
            test(*args, **kwargs)

    return together


def shapes(min_ndim: int = 0, max_ndim: int = 3, min_side: int = 0, max_side: int = 5) -> Any:
    """Return a strategy for array shapes, empty and zero-dimensional ones included."""
    sides = st.integers(min_side, max_side)
    return st.lists(sides, min_size=min_ndim, max_size=max_ndim).map(tuple)


def arrays(
    shape: Any = None,
    dtype: Any = np.float64,
    low: float = -1.0,
    high: float = 1.0,
    different: bool = True,
) -> Any:
    """Return a strategy for arrays with entries spread evenly over ``[low, high)``.

    Parameters
    ----------
    shape : tuple of int or strategy, optional
        Any small shape by default.
    dtype : dtype or strategy
    low, high : float
        Range of the entries; keep it away from where the function under test is not smooth.
    different : bool
        Other entries (of the same shape) on every rank.
    """

    @st.composite
    def draw_array(draw: Any) -> Array:
        found = draw(shapes() if shape is None else shape) if not _plain(shape) else shape
        kind = draw(dtype) if hasattr(dtype, "map") else dtype
        seed = draw(st.integers(0, 2**16))
        generator = np.random.default_rng([seed, communicator().rank if different else 0])
        return np.asarray(generator.uniform(low, high, found)).astype(kind)

    return draw_array()


def _plain(shape: Any) -> bool:
    return isinstance(shape, tuple | int)


def dtypes() -> Any:
    """Return a strategy for the floating-point types of the library."""
    return st.sampled_from([np.float32, np.float64])


@st.composite
def partitions(draw: Any, parts: int, max_total: int = 12) -> tuple[int, ...]:
    """Draw how many of some items each of ``parts`` ranks owns; any of them may own none."""
    return tuple(draw(st.lists(st.integers(0, max_total // parts), min_size=parts, max_size=parts)))


@dataclass(frozen=True)
class GridSpec:
    """What a decomposition of a grid is made from: nodes and ranks per axis, wrapped axes."""

    shape: tuple[int, ...]
    dims: tuple[int, ...]
    periodic: tuple[bool, ...]


@st.composite
def grids(
    draw: Any, ranks: int | None = None, min_ndim: int = 1, max_ndim: int = 3, min_patch: int = 1
) -> GridSpec:
    """Draw a grid split unevenly over ``ranks`` (those of the world by default).

    Each rank owns at least ``min_patch`` nodes along each axis.
    """
    ranks = communicator().size if ranks is None else ranks
    ndim = draw(st.integers(min_ndim, max_ndim))
    dims = []
    for axis in range(ndim):
        divisors = [d for d in range(1, ranks + 1) if ranks % d == 0]
        d = draw(st.sampled_from(divisors)) if axis < ndim - 1 else ranks
        dims.append(d)
        ranks //= d
    shape = [d * min_patch + draw(st.integers(0, 4)) for d in dims]
    periodic = draw(st.tuples(*[st.booleans()] * ndim))
    return GridSpec(tuple(shape), tuple(dims), periodic)


@dataclass(frozen=True)
class PatternSpec:
    """Rows and columns of the entries of a sparse matrix, in row order without repetition."""

    shape: tuple[int, int]
    rows: Array
    columns: Array


@st.composite
def patterns(
    draw: Any, shape: tuple[int, int] | None = None, max_side: int = 12, diagonal: bool = False
) -> PatternSpec:
    """Draw the pattern of a sparse matrix; with ``diagonal`` its diagonal is part of it."""
    if shape is None:
        n = draw(st.integers(1, max_side))
        shape = (n, n if diagonal else draw(st.integers(1, max_side)))
    density = draw(st.sampled_from([0.0, 0.1, 0.3, 1.0]))
    present = np.random.default_rng(draw(st.integers(0, 2**16))).random(shape) < density
    if diagonal:
        np.fill_diagonal(present, True)
    rows, columns = np.nonzero(present)
    return PatternSpec(shape, rows, columns)


@st.composite
def programs(
    draw: Any, steps: Sequence[tuple[int, Callable[..., Any]]], max_steps: int = 8
) -> Callable[..., Any]:
    """Draw a program: a random acyclic composition of steps, each value used any number of times.

    Parameters
    ----------
    steps : sequence of (int, callable)
        Number of arguments and function of variables, from which to compose. All values of a
        program have the shape of its inputs, so every step must take and give that shape.
    max_steps : int

    Returns
    -------
    callable
        Takes one or more inputs, returns the last value and one drawn from the others.
    """
    chosen = draw(st.lists(st.sampled_from(list(steps)), min_size=1, max_size=max_steps))
    sources = [[draw(st.integers(0, 2**16)) for _ in range(arity)] for arity, _ in chosen]
    other = draw(st.integers(0, 2**16))

    def program(*inputs: Any) -> tuple[Any, Any]:
        values = list(inputs)
        for (_, step), picks in zip(chosen, sources):
            values.append(step(*[values[p % len(values)] for p in picks]))
        return values[-1], values[other % len(values)]

    program.__name__ = " → ".join(
        str(getattr(step, "name", None) or getattr(step, "__name__", "step")) for _, step in chosen
    )
    return program
