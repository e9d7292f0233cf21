"""Fields that get to other parts of the ranks, against a matrix of zeros and ones."""

from __future__ import annotations

from functools import reduce
from itertools import product
from math import prod
from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

from adjoint import Tape, profiling
from adjoint.comm import (
    Allreduce,
    CartesianGrid,
    CommunicationError,
    GatherField,
    Redistribute,
    rank,
    size,
)
from adjoint.testing import check_jvp, check_vjp, dot_test

WORLD = MPI.COMM_WORLD


def of_group(shape: tuple[int, ...], groups: int) -> CartesianGrid:
    """Return the grid of this rank's group; the first groups may have a rank less than the last."""
    return CartesianGrid(shape, WORLD.Split(rank() * groups // size()))


def example(*shape: int, dtype: Any = np.float64) -> Any:
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


def drawn(seed: int, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Return parts of all ranks before and after, (ranks, 2, axes): they overlap, or are empty."""
    random = np.random.default_rng([seed, size()])
    parts = np.sort(random.integers(0, np.array(shape) + 1, (2, size(), 2, len(shape))), axis=2)
    parts[random.integers(2), random.integers(size()), 1] = 0  # one that certainly has nothing
    parts[:, :, 0] = np.minimum(parts[:, :, 0], parts[:, :, 1])
    return parts[0], parts[1]


def selection(parts: Any, shape: tuple[int, ...]) -> Any:
    """Return the matrix that restricts a field to the parts of all ranks, one after the other."""
    numbers = np.arange(prod(shape)).reshape(shape)
    rows = [numbers[tuple(map(slice, *part))].ravel() for part in parts]
    return np.eye(prod(shape))[np.concatenate(rows)]


@pytest.mark.parallel([1, 2, 3, 4, 6])
@pytest.mark.parametrize(
    ("shape", "dtype"), [((11,), np.float64), ((7, 8), np.float32), ((6, 7, 8), np.float64)]
)
def test_every_group_gets_the_field_and_gives_its_sum_back(
    shape: tuple[int, ...], dtype: Any
) -> None:
    grid, whole = CartesianGrid(shape), example(*shape, dtype=dtype)
    own = grid.patch_slices(grid.rank)
    for groups in range(1, size() + 1):
        target = of_group(shape, groups)
        there, back = Redistribute(grid, target), Redistribute(target, grid)
        with Tape() as tape:
            x = tape.watch(whole[own])
            y = there(x)
        tape.check_communication()
        assert y.dtype == dtype
        np.testing.assert_array_equal(y.value, whole[target.patch_slices(target.rank)])
        np.testing.assert_array_equal(back(y.value), reduce(np.add, [whole[own]] * groups))
        (found,) = tape.vjp([y], [y.value], [x])
        np.testing.assert_array_equal(found, back(y.value))


@pytest.mark.parallel([1, 2, 3, 4, 6])
@pytest.mark.parametrize("seed", range(4))
def test_it_is_a_matrix_of_zeros_and_ones(seed: int) -> None:
    """Whatever parts there are, with and without nodes, and its transpose is the matrix's."""
    shape = ((9,), (5, 6), (3, 4, 5))[seed % 3]
    sources, targets = drawn(seed, shape)
    matrix = selection(targets, shape) @ selection(sources, shape).T
    move = Redistribute(tuple(sources[rank()]), tuple(targets[rank()]))
    ends = [np.cumsum([0, *np.prod(parts[:, 1] - parts[:, 0], axis=1)])
            for parts in (sources, targets)]  # fmt: skip
    (x_own, w_own) = (slice(*e[rank() : rank() + 2]) for e in ends)
    x, w = example(matrix.shape[1]), example(matrix.shape[0])
    with Tape(persistent=True) as tape:
        v = tape.watch(x[x_own].reshape(move.source_shape))
        y = move(v)
    expected = (matrix @ x)[w_own].reshape(move.target_shape)
    np.testing.assert_allclose(y.value, expected, rtol=0, atol=1e-14)
    (dy,) = tape.jvp([y], [v], [2 * v.value])
    np.testing.assert_array_equal(dy, 2 * y.value)
    (found,) = tape.vjp([y], [w[w_own].reshape(y.shape)], [v])
    expected = (matrix.T @ w)[x_own].reshape(v.shape)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)
    own = np.random.default_rng(rank()).standard_normal(move.source_shape)
    for check in (dot_test, check_jvp, check_vjp):
        check(move, own)


@pytest.mark.parallel([1, 2, 3, 4])
def test_derivatives_of_several_fields() -> None:
    shape = (7, 5)
    grid = CartesianGrid(shape)
    x = example(2, 1, *shape)[(..., *grid.patch_slices(grid.rank))]
    for groups in sorted({1, min(2, size()), size()}):
        target = of_group(shape, groups)
        move = Redistribute(grid, target)
        np.testing.assert_array_equal(move(x)[1, 0], move(x[1, 0]))
        for check in (dot_test, check_jvp, check_vjp):
            check(move, x)
            check(move, x.astype(np.float32))


@pytest.mark.parallel([3, 4])
def test_ranks_without_nodes() -> None:
    """The field is on the last rank alone, and the first wants nothing."""
    grid = CartesianGrid((4, 5), MPI.COMM_SELF)
    nothing = ((0, 0), (0, 0))
    last = rank() == size() - 1
    move = Redistribute(grid if last else nothing, nothing if rank() == 0 else grid)
    whole = example(4, 5)
    with Tape() as tape:
        x = tape.watch(whole if last else np.empty((0, 0)))
        y = move(x)
        loss = Allreduce()((y**2).sum())
    np.testing.assert_array_equal(y.value, whole if rank() else np.empty((0, 0)))
    (gradient,) = tape.gradient(loss, [x])
    np.testing.assert_allclose(gradient, 2 * (size() - 1) * whole if last else np.empty((0, 0)))


@pytest.mark.parallel([1, 2, 3])
def test_what_nobody_has_is_zero_and_axes_may_begin_anywhere() -> None:
    source, target = ((-2,), (3,)), ((-4 - rank(),), (5,))
    y = Redistribute(source, target)(np.arange(1.0, 6.0))
    expected = np.zeros(9 + rank())
    expected[2 + rank() : 7 + rank()] = size() * np.arange(1.0, 6.0)
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parallel([3, 4])
def test_sums_are_taken_in_the_order_of_ranks() -> None:
    """These numbers have another sum in another order."""
    values = [1.0, 1e16, -1e16, 1.0][: size()]
    expected = float(size() - 3)  # 1 + 1e16 is 1e16
    move = Redistribute(((0,), (1,)), ((0,), (1,)))
    for _ in range(5):
        assert move(np.array([values[rank()]]))[0] == expected
        with Tape() as tape:
            x = tape.watch(np.zeros(1))
            y = move(x)
        assert tape.vjp([y], [np.array([values[rank()]])], [x])[0][0] == expected


@pytest.mark.parallel([3])
def test_what_is_sent_is_kept_until_it_has_arrived() -> None:
    """Messages that are too long to be sent before they are received, by a rank that gets none."""
    nothing, whole = ((0,), (0,)), ((0,), (1 << 18,))
    ends = (whole, nothing) if rank() == 0 else (nothing, whole)
    move = Redistribute(*ends)
    for number in range(3):
        y = move(np.full(move.source_shape, float(number)))
        assert (y == number).all()


@pytest.mark.parallel([1, 2, 3, 4])
def test_only_what_overlaps_is_sent() -> None:
    """In both sweeps, and the picture of a tape has a message for each pair of ranks."""
    shape = (12, 2)
    grid = CartesianGrid(shape, dims=(size(), 1))
    for groups in range(1, size() + 1):
        target = of_group(shape, groups)
        move = Redistribute(grid, target)
        patches = WORLD.allgather(target.patch_slices(target.rank))
        own = np.zeros(shape)
        own[grid.patch_slices(grid.rank)] = 1
        expected = {r: int(12 * own[patch].sum()) for r, patch in enumerate(patches) if r != rank()}
        with profiling() as profile, Tape() as tape:
            x = tape.watch(np.ones((3, *grid.patch_shape), np.float32))
            y = move(x)
            (record,) = (r for r in tape.records if isinstance(r.operator, Redistribute))
            sends = move.neighbours(record.inputs, record.outputs)
            text = move.message(record.inputs, record.outputs).text
            tape.vjp([y], [np.ones(y.shape, np.float32)], [x])
        assert sends == {r: count for r, count in expected.items() if count}
        assert text == "Redistribute of 3 float32 fields"
        (line,) = (row for row in profile.own().rows if row.name == "Redistribute")
        got = WORLD.alltoall([expected.get(r, 0) for r in range(size())])
        assert line.sent.most == sum(expected.values()) + sum(got)


@pytest.mark.parallel([1, 2, 3])
def test_bad_input_is_an_error_on_all_ranks() -> None:
    grid, last = CartesianGrid((6, 5)), rank() == size() - 1
    whole = ((0, 0), (6, 5))
    bad: Any
    none = np.zeros((2, 0), int)
    ends = ((0, 0), (6,)), ((0.0, 0.0), (6.0, 5.0)), ((3, 0), (2, 5)), ((0, 0), (1, 1), (6, 5))
    for bad in (*ends, none, (0, 1), None):
        with pytest.raises(ValueError, match=r"Redistribute: target is .*, expected a CartesianGr"):
            Redistribute(grid, bad if last else whole)
        with pytest.raises(ValueError, match=r"Redistribute: source is .*, expected a CartesianGr"):
            Redistribute(bad if last else whole, grid)
    other = CartesianGrid((6, 6))
    with pytest.raises(
        ValueError, match=r"source is of a grid of shape \(6, 5\), target of \(6, 6"
    ):
        Redistribute(grid, other if last else grid)
    with pytest.raises(ValueError, match="Redistribute: source has 2 axes, target 1"):
        Redistribute(grid, ((0,), (6,)) if last else whole)
    move, patch = Redistribute(grid, grid), np.ones(grid.patch_shape)
    for shape in ((2, 40), (5,), ()):
        with pytest.raises(ValueError, match=r"Redistribute: the input has shape .*, expected \("):
            move(np.ones(shape) if last else patch)
    with pytest.raises(TypeError, match="Redistribute: the input has dtype int64, expected float3"):
        move(patch.astype(int) if last else patch)


@pytest.mark.parallel([2, 3])
def test_ranks_that_differ_are_an_error_on_all_ranks() -> None:
    grid = CartesianGrid((6, 5))
    patch = np.ones(grid.patch_shape)
    moves = Redistribute(grid, grid), Redistribute(grid, grid)
    with pytest.raises(
        ValueError, match="rank 1: Redistribute: axes is 1, expected 2 as on rank 0"
    ):
        part = ((0,) * (2 - (rank() == 1)),) * 2
        Redistribute(part, part)
    with pytest.raises(CommunicationError, match="ranks do not match: rank 0 calls Redistribute"):
        moves[0](patch.astype(np.float32) if rank() == 1 else patch)
    with pytest.raises(CommunicationError, match="ranks do not match: rank 0 calls Redistribute"):
        moves[0](np.stack([patch] * 2) if rank() == 1 else patch)
    with pytest.raises(CommunicationError, match="ranks do not match: rank 0 calls Redistribute"):
        moves[rank() == 1](patch)
    with pytest.raises(CommunicationError, match=r"Redistribute.*, rank 1 calls Allreduce"):
        (Allreduce() if rank() == 1 else moves[0])(patch)


@pytest.mark.parallel([2, 3])
def test_records_of_different_objects_do_not_fit_together() -> None:
    grid = CartesianGrid((6, 5))
    patch = np.ones(grid.patch_shape)
    moves = Redistribute(grid, grid), Redistribute(grid, grid)
    with Tape() as tape:
        x = tape.watch(patch)
        for move in moves:
            move(x)
    tape.check_communication()
    if rank() == 1:
        tape.records[-1], tape.records[-2] = tape.records[-2], tape.records[-1]
    with pytest.raises(CommunicationError, match="Redistribute of 1 float64 field"):
        tape.check_communication()


@pytest.mark.parallel([4])
def test_several_are_under_way_on_different_communicators() -> None:
    """Halves of the ranks move fields of their own, while the world's go through."""
    half = WORLD.Split(rank() % 2)
    grid, mine = CartesianGrid((5, 6)), CartesianGrid((5, 6), half)
    single = CartesianGrid((5, 6), MPI.COMM_SELF)
    whole = example(5, 6)
    outer, inner = Redistribute(grid, mine), Redistribute(mine, single, comm=half)
    found = inner(outer(whole[grid.patch_slices(grid.rank)]))
    np.testing.assert_array_equal(found, whole)
    gathered = GatherField(grid)(whole[grid.patch_slices(grid.rank)])
    assert gathered.shape == ((5, 6) if rank() == 0 else (0, 0))
    for parts in product((grid, mine), repeat=2):
        dot_test(Redistribute(*parts), np.ones(parts[0].patch_shape))
