"""Halo exchange against the whole array, which every rank has, padded by NumPy and cut."""

from __future__ import annotations

import gc
import itertools
import re
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adjoint import Tape, communicator
from adjoint.comm import CartesianGrid, CommunicationError, HaloExchange, check_records
from adjoint.strategies import GridSpec, dtypes, grids, on_all_ranks, spmd
from adjoint.testing import check_jvp, check_vjp, dot_test

Array = np.ndarray[Any, Any]

CASES = [  # shape, periodic, width, corners, dtype
    ((7, 5), False, 1, False, np.float64),
    ((10, 9), True, 2, True, np.float64),
    ((13, 12), (False, True), 3, True, np.float32),
    ((12, 7), (True, False), (2, 1), False, np.float32),
    ((9, 8), True, (0, 1), True, np.float64),
    ((5, 6, 7), False, 1, True, np.float64),
    ((6, 8, 5), (True, False, True), (1, 2, 1), False, np.float64),
    ((6, 7, 4), True, 1, True, np.float32),
    ((29,), True, 3, False, np.float64),
]


def whole(grid: CartesianGrid, seed: int = 0, dtype: Any = np.float64) -> Array:
    """Return a random array on the whole grid, the same on all ranks."""
    generator = np.random.default_rng(seed)
    return np.asarray(generator.standard_normal(grid.shape).astype(dtype))


def mine(grid: CartesianGrid, array: Array) -> Array:
    return np.array(array[grid.patch_slices(grid.rank)])


def axes_off(lengths: Any, widths: Any) -> Array:
    """Return along how many axes each node of a padded patch lies off the patch."""
    off = [np.pad(np.zeros(n, int), w, constant_values=1) for n, w in zip(lengths, widths)]
    return np.asarray(sum(np.ix_(*off)))


def padded(grid: CartesianGrid, array: Array, widths: tuple[int, ...], corners: bool) -> Array:
    """Return this rank's padded patch of a whole array, by NumPy alone."""
    for axis, (w, wraps) in enumerate(zip(widths, grid.periodic)):
        around = [(w, w) if a == axis else (0, 0) for a in range(grid.ndim)]
        array = np.pad(array, around, mode="wrap" if wraps else "constant")
    result = array[tuple(slice(a, b + 2 * w) for a, b, w in zip(grid.start, grid.stop, widths))]
    return result * (corners | (axes_off(grid.patch_shape, widths) <= 1))


def taken_back(grid: CartesianGrid, halo: HaloExchange, cotangents: list[Array]) -> Array:
    """Return the cotangent of this rank's patch: all copies of a node, on all ranks, summed."""
    total = np.zeros(int(np.prod(grid.shape)))
    for rank, w in enumerate(cotangents):
        owners = grid.numbers_of(rank, halo.width)
        start, stop = grid.patch(rank)
        off = axes_off(np.subtract(stop, start), halo.width)
        copies = (owners >= 0) & (halo.corners | (off <= 1))
        np.add.at(total, owners[copies], w[copies])
    return np.asarray(total[grid.numbers()])


def draw_cotangent(like: Array, rank: int, seed: int) -> Array:
    generator = np.random.default_rng([seed, rank])
    return np.asarray(generator.standard_normal(like.shape).astype(like.dtype))


def compare(grid: CartesianGrid, halo: HaloExchange, dtype: Any, fields: int) -> None:
    """Compare forward (in one go, in halves and in place) and both derivatives with the oracle."""
    wholes = [whole(grid, seed, dtype) for seed in range(fields)]
    patches = [mine(grid, u) for u in wholes]
    expected = [padded(grid, u, halo.width, halo.corners) for u in wholes]
    for found in (halo(*patches), halo.finish(halo.start(*patches))):
        for y, right in zip([found] if fields == 1 else found, expected):
            assert y.dtype == dtype
            np.testing.assert_array_equal(y, right)
    weights = [draw_cotangent(y, grid.rank, k) for k, y in enumerate(expected)]
    everywhere = [grid.comm.allgather(w) for w in weights]
    rtol = 1e-13 if dtype == np.float64 else 1e-5
    for w, all_w, found in zip(weights, everywhere, halo.vjp(tuple(weights), (), ())):
        kept = w.copy()
        np.testing.assert_allclose(found, taken_back(grid, halo, all_w), rtol=rtol, atol=rtol)
        np.testing.assert_array_equal(w, kept)

    buffers = halo.buffers(fields, dtype)
    arrays = [np.zeros(grid.padded_shape(halo.width), dtype) for _ in range(fields)]
    for array, u in zip(arrays, patches):
        array[grid.interior(halo.width)] = u
    for _ in range(2):  # the same buffers serve again
        buffers.forward(arrays)
        for array, right in zip(arrays, expected):
            np.testing.assert_array_equal(array, right)
    arrays = [w.copy() for w in weights]
    buffers.adjoint(arrays)
    for array, all_w in zip(arrays, everywhere):
        np.testing.assert_allclose(
            array[grid.interior(halo.width)], taken_back(grid, halo, all_w), rtol=rtol, atol=rtol
        )
    twice = [array.copy() for array in arrays]
    buffers.adjoint(twice)  # the ghosts were zeroed, so nothing is left to add
    for array, again in zip(arrays, twice):
        np.testing.assert_array_equal(array, again)


@pytest.mark.parallel([1, 2, 3, 4, 6, 9])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_fills_ghosts_and_takes_their_cotangents_back(case: Any) -> None:
    shape, periodic, width, corners, dtype = case
    grid = CartesianGrid(shape, periodic=periodic)
    compare(grid, HaloExchange(grid, width, corners), dtype, 1 + len(shape) % 3)


@pytest.mark.parallel([2, 3])
def test_records_that_do_not_match_are_reported() -> None:
    """Exchanges of one size finished in another order would give wrong numbers, not an error."""
    grid = CartesianGrid((8, 7))
    halo = HaloExchange(grid)
    u = mine(grid, whole(grid))
    with Tape() as tape:
        pending = [halo.start(u), halo.start(u)]
        for p in pending if grid.rank != 1 else pending[::-1]:
            halo.finish(p)
    with pytest.raises(CommunicationError, match=r"HaloFinish of 1 float64 field .exchange 0 .*"):
        check_records(tape)
    with Tape() as tape:
        halo.finish(halo.start(u, u))
        halo(u)
    check_records(tape)


@pytest.mark.parallel([2, 3, 4])
def test_parts_of_the_ranks_exchange_by_themselves() -> None:
    world = communicator()
    part = world.Split(world.rank % 2, world.rank)
    grid = CartesianGrid((8, 7), part)
    halo = HaloExchange(grid)
    with Tape() as tape:
        x = y = tape.watch(mine(grid, whole(grid)))
        for _ in range(1 + world.rank % 2):  # the other ranks know nothing of these
            y = halo.finish(halo.start(y))[grid.interior(1)] + halo(y)[grid.interior(1)]
    check_records(tape)
    (gradient,) = tape.vjp([y], [np.ones(y.shape)], [x])
    np.testing.assert_array_equal(gradient, np.full(y.shape, 2.0 ** (1 + world.rank % 2)))
    part.Free()


@pytest.mark.parallel([2, 3, 4])
@spmd
@given(spec=grids(min_patch=2), data=st.data(), dtype=dtypes(), corners=st.booleans())
@on_all_ranks
def test_any_grid(spec: GridSpec, data: Any, dtype: Any, corners: bool) -> None:
    grid = CartesianGrid(spec.shape, dims=spec.dims, periodic=spec.periodic)
    width = data.draw(st.tuples(*[st.integers(0, 2)] * grid.ndim))
    compare(grid, HaloExchange(grid, width, corners), dtype, data.draw(st.integers(1, 3)))


@pytest.mark.parallel([1, 2, 3, 4])
@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("periodic", [False, (True, False), True])
def test_is_the_dense_matrix_and_its_transpose(periodic: Any, corners: bool) -> None:
    """Forward applied to each unit vector of all ranks; vjp to each unit cotangent."""
    grid = CartesianGrid((5, 4), periodic=periodic)
    halo = HaloExchange(grid, 1, corners)
    n, m = int(np.prod(grid.patch_shape)), int(np.prod(grid.padded_shape(1)))
    columns = grid.comm.allgather(n)
    rows = grid.comm.allgather(m)
    forward, reverse = np.zeros((m, sum(columns))), np.zeros((n, sum(rows)))
    for matrix, sizes, shape, apply in (
        (forward, columns, grid.patch_shape, lambda u: halo(u)),
        (reverse, rows, grid.padded_shape(1), lambda w: halo.vjp((w,), (), ())[0]),
    ):
        column = 0
        for rank, size in enumerate(sizes):
            for k in range(size):
                unit = np.zeros(shape)
                if rank == grid.rank:
                    unit.flat[k] = 1.0
                matrix[:, column] = apply(unit).ravel()
                column += 1
    jacobian = np.vstack(grid.comm.allgather(forward))
    transpose = np.vstack(grid.comm.allgather(reverse))
    assert set(np.unique(jacobian)) == {0.0, 1.0}
    np.testing.assert_array_equal(transpose, jacobian.T)


@pytest.mark.parallel([1, 2, 3, 4])
@pytest.mark.parametrize("case", CASES[:6], ids=str)
def test_derivatives(case: Any) -> None:
    shape, periodic, width, corners, dtype = case
    grid = CartesianGrid(shape, periodic=periodic)
    halo = HaloExchange(grid, width, corners)
    u, v = (mine(grid, whole(grid, k, dtype)) for k in range(2))

    def halves(u: Any, v: Any) -> Any:
        return halo.finish(halo.start(u, v))

    for check, function in itertools.product((dot_test, check_jvp, check_vjp), (halo, halves)):
        check(function, u, v)


@pytest.mark.parallel([1, 2, 3, 4])
@pytest.mark.parametrize("crossed", [False, True])
@pytest.mark.parametrize("same", [False, True])
def test_several_exchanges_under_way(crossed: bool, same: bool) -> None:
    """Of one object or of two, finished in either order, forwards and backwards."""
    grid = CartesianGrid((8, 7), periodic=(True, False))
    first = HaloExchange(grid, 1, corners=True)
    second = first if same else HaloExchange(grid, 2)

    def both(u: Any, v: Any) -> Any:
        one, two = first.start(u), second.start(v)
        if crossed:
            y = second.finish(two)
            return first.finish(one) ** 2, y**2
        return first.finish(one) ** 2, second.finish(two) ** 2

    u, v = (mine(grid, whole(grid, k)) for k in range(2))
    x, y = both(u, v)
    np.testing.assert_array_equal(x, padded(grid, whole(grid, 0), first.width, True) ** 2)
    np.testing.assert_array_equal(y, padded(grid, whole(grid, 1), second.width, same) ** 2)
    for check in (dot_test, check_jvp, check_vjp):
        check(both, u, v)


@pytest.mark.parallel([1, 2, 3])
def test_is_swept_where_a_rank_has_no_cotangent() -> None:
    """A loss on root alone, of ghosts alone: their owners must still get its gradient."""
    grid = CartesianGrid((6, 5), dims=(communicator().size, 1))
    halo = HaloExchange(grid)
    u = whole(grid)
    for apply in (halo, lambda x: halo.finish(halo.start(x))):
        with Tape() as tape:
            x = tape.watch(mine(grid, u))
            loss = (apply(x) ** 2).sum()
        (gradient,) = tape.gradient(loss, [x])
        seen = np.zeros(grid.shape)
        seen[: grid.patch(0)[1][0] + (grid.size > 1)] = 1.0
        np.testing.assert_allclose(gradient, mine(grid, 2 * seen * u), rtol=1e-14)


@pytest.mark.parallel([1, 2])
def test_a_constant_started_before_the_tape_is_a_constant() -> None:
    grid = CartesianGrid((6, 5))
    halo = HaloExchange(grid)
    u = mine(grid, whole(grid))
    pending = halo.start(u)
    with Tape(persistent=True) as tape:
        x = tape.watch(u)
        y = halo.finish(pending)
        z = halo(x) + y
    (found,) = tape.jvp([z], [x], [u])
    np.testing.assert_array_equal(found, halo(u))
    w = draw_cotangent(z.value, grid.rank, 0)
    (found,) = tape.vjp([z], [w], [x])
    np.testing.assert_array_equal(found, halo.vjp((w,), (), ())[0])


@pytest.mark.parallel([1, 2, 3])
def test_unfinished_and_misused_exchanges_are_errors() -> None:
    grid = CartesianGrid((6, 5))
    halo, other = HaloExchange(grid), HaloExchange(grid)
    u = mine(grid, whole(grid))
    with pytest.raises(RuntimeError, match=r"closed before .*: halo exchange of 2 fields"):
        with Tape():
            pending = halo.start(u, u)
    pending = pending.value
    with pytest.raises(RuntimeError, match="HaloFinish: this exchange was started on another tape"):
        halo.finish(pending)
    with Tape():
        inner = halo.start(u)
        with pytest.raises(ValueError, match=r"HaloFinish: pending is PendingHalo.under way.*same"):
            other.finish(inner)
        halo.finish(inner)
        with pytest.raises(RuntimeError, match="HaloFinish: this exchange is finished already"):
            halo.finish(inner)
    buffers = halo.buffers(1)
    array = np.zeros(grid.padded_shape(1))
    with pytest.raises(RuntimeError, match="finish_adjoint without start_adjoint"):
        buffers.finish_adjoint()
    buffers.start_forward([array])
    with pytest.raises(RuntimeError, match="an exchange is under way"):
        buffers.start_adjoint([array])
    with pytest.raises(RuntimeError, match="finish_adjoint without start_adjoint"):
        buffers.finish_adjoint()
    buffers.finish_forward()
    with pytest.raises(RuntimeError, match="finish_forward without start_forward"):
        buffers.finish_forward()
    with pytest.raises(ValueError, match=r"HaloBuffers: field 0 has shape \(2, 2\), expected"):
        buffers.forward([np.zeros((2, 2))])
    with pytest.raises(ValueError, match=r"field 0 has dtype float32, expected float64"):
        buffers.forward([array.astype(np.float32)])
    with pytest.raises(ValueError, match="got 2 fields, expected 1"):
        buffers.forward([array, array])


@pytest.mark.parallel([1, 2, 3, 4])
def test_bad_arguments_are_errors_on_all_ranks() -> None:
    grid = CartesianGrid((9, 7), dims=(communicator().size, 1))
    rank, last = grid.rank, grid.size - 1
    with pytest.raises(
        ValueError, match=rf"width is \(5, 8\), expected at most \({9 // grid.size}"
    ):
        HaloExchange(grid, (5, 8))
    for width in (-1, 1.5, (1, 1, 1), "a"):
        with pytest.raises(ValueError, match=re.escape(f"HaloExchange: width is {width!r}")):
            HaloExchange(grid, width)  # type: ignore[arg-type]
    halo = HaloExchange(grid)
    with pytest.raises(ValueError, match="HaloExchange: got 0 fields"):
        halo.buffers(0)
    with pytest.raises(TypeError, match="HaloExchange: fields has dtype int64, expected float32"):
        halo.buffers(1, int)
    u = np.ones(grid.patch_shape)
    n = grid.patch(last)[1][0] - grid.patch(last)[0][0]
    with pytest.raises(ValueError, match=rf"field 1 has shape \(3, 40\), expected \({n}, 7\)"):
        halo(u, u if rank < last else np.ones((3, 40)))
    with pytest.raises(ValueError, match="field 1 has dtype float32, expected float64 as field 0"):
        halo(u, u.astype(np.float32))
    with pytest.raises(TypeError, match="HaloExchange: field 0 has dtype int64"):
        halo(u.astype(np.int64))
    with pytest.raises(TypeError, match="HaloExchange: field 0 is a float, expected an array"):
        halo(1.0)
    with pytest.raises(ValueError, match="got 0 fields, expected at least 1"):
        halo()
    with pytest.raises(ValueError, match="HaloStart: field 0 has shape"):
        halo.start(u[:-1])
    halo(u)  # nothing of this left a message behind
    with pytest.raises(ValueError, match=r"HaloExchange: field 0 has shape \(1, 1\), expected"):
        halo(np.ones((1, 1)))  # found by each rank alone from now on


@pytest.mark.parallel([2, 3])
def test_ranks_that_differ_are_an_error_on_all_ranks() -> None:
    grid = CartesianGrid((9, 7))
    rank = grid.rank
    with pytest.raises(ValueError, match=r"rank 1: .*width is \(2, 2\), expected \(1, 1\) as on r"):
        HaloExchange(grid, 2 if rank == 1 else 1)
    with pytest.raises(ValueError, match="rank 1: HaloExchange: corners is True, expected False"):
        HaloExchange(grid, corners=rank == 1)
    halo = HaloExchange(grid)
    u = np.ones(grid.patch_shape)
    with pytest.raises(ValueError, match="number of fields is 2, expected 1 as on rank 0"):
        halo(*[u] * (2 if rank == 1 else 1))
    with pytest.raises(ValueError, match="dtype is float32, expected float64 as on rank 0"):
        halo(u.astype(np.float32) if rank == 1 else u)
    halo(u)


@pytest.mark.parallel(2)
@pytest.mark.parametrize("late", [0, 1])
def test_a_later_call_with_another_number_of_fields_is_an_error_too(late: int) -> None:
    """The sizes of messages tell; the exchange then ends on both ranks.

    Also where the message that is too long has come before the other rank asks for it, which makes
    Open MPI 4.1 wait for ever in ``Waitall``.
    """
    grid = CartesianGrid((8, 6))
    halo = HaloExchange(grid)
    u = np.ones(grid.patch_shape)
    halo(u)
    if grid.rank == late:
        time.sleep(0.2)
        for _ in range(10):
            grid.comm.Iprobe()  # MPI takes in what has come
    with pytest.raises(ValueError, match="same number of fields of the same dtype"):
        halo(*[u] * (1 + grid.rank))
    np.testing.assert_array_equal(halo(u), padded(grid, np.ones(grid.shape), (1, 1), False))


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize(("fields", "dtype"), [(1, np.float64), (3, np.float32)])
def test_the_bytes_to_each_neighbour(fields: int, dtype: Any) -> None:
    grid = CartesianGrid((9, 4), dims=(communicator().size, 1))
    inputs = [np.ones(grid.patch_shape, dtype)] * fields
    expected = fields * np.dtype(dtype).itemsize * 2 * 4  # two layers of four nodes
    beside = [r for r in (grid.rank - 1, grid.rank + 1) if 0 <= r < grid.size]
    halo = HaloExchange(grid, 2)
    for operator in (halo, halo.start):
        assert operator.neighbours(inputs, ()) == dict.fromkeys(beside, expected)


@pytest.mark.parallel([1, 2])
def test_requests_are_freed_with_the_object() -> None:
    grid = CartesianGrid((8, 6), periodic=True)
    halo = HaloExchange(grid)
    u = np.ones(grid.patch_shape)
    halo(u, u)
    halo.vjp((halo(u),), (), ())
    buffers = halo.buffers(3)
    buffers.forward([np.ones(grid.padded_shape(1)) for _ in range(3)])
    requests = buffers._forward + buffers._adjoint
    assert all(requests)
    del buffers
    assert not any(requests)  # at once, without the garbage collector
    kept = [r for sets in halo._exchanges._idle.values() for b in sets for r in b._forward]
    gc.disable()
    try:
        del halo
    finally:
        gc.enable()
    assert not any(kept)


@pytest.mark.parallel([1, 2])
def test_one_exchange_after_the_other_needs_buffers_once() -> None:
    grid = CartesianGrid((8, 6))
    halo = HaloExchange(grid)
    u = np.ones(grid.patch_shape)
    halo(u)
    assert [len(sets) for sets in halo._exchanges._idle.values()] == [1]
    for _ in range(3):
        halo.vjp((halo(u),), (), ())
        halo.vjp(halo(u, u), (), ())
    assert [len(sets) for sets in halo._exchanges._idle.values()] == [1, 1]


@pytest.mark.parallel([2])
@pytest.mark.parametrize("reverse", [False, True])
def test_the_memory_of_a_dropped_exchange_is_not_used_again(reverse: bool) -> None:
    """What was sent comes whole though the sender has dropped its buffers."""
    grid = CartesianGrid((2, 100_000), dims=(2, 1))
    halo = HaloExchange(grid)
    array = np.full(grid.padded_shape(1), 1.0 + grid.rank)
    buffers = halo.buffers(1)
    start, finish = (
        (buffers.start_adjoint, buffers.finish_adjoint)
        if reverse
        else (buffers.start_forward, buffers.finish_forward)
    )
    if grid.rank == 0:
        start([array])
        del start, finish, buffers, halo
        gc.collect()
        others = [np.full(100_000, 7.0) for _ in range(20)]
        grid.comm.Barrier()
        grid.comm.Barrier()
        assert all((x == 7).all() for x in others)
        return
    grid.comm.Barrier()
    start([array])
    finish()
    grid.comm.Barrier()
    found = array[1, 1:-1] if reverse else array[0, 1:-1]
    np.testing.assert_array_equal(found, 3.0 if reverse else 1.0)


@pytest.mark.parallel([2])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_long_message_comes_whole_though_its_sender_goes_on(reverse: bool) -> None:
    """MPI takes a long message from the sender's buffer when the receiver asks for it.

    So a sender that fills its buffer for the next exchange must have waited for that.
    """
    grid = CartesianGrid((2, 100_000), dims=(2, 1))
    buffers = HaloExchange(grid).buffers(1)
    start, finish = (
        (buffers.start_adjoint, buffers.finish_adjoint)
        if reverse
        else (buffers.start_forward, buffers.finish_forward)
    )
    array = np.zeros(grid.padded_shape(1))
    if grid.rank == 0:
        grid.comm.Barrier()
        for value in (1.0, 2.0):
            array[...] = value
            start([array])
            finish()
        return
    for value in (1.0, 2.0):
        array[...] = 0.0
        start([array])
        if value == 1:
            grid.comm.Barrier()
            time.sleep(0.2)  # what rank 0 needs has been sent to it, and nothing is asked of it
        finish()
        np.testing.assert_array_equal(array[1, 1:-1] if reverse else array[0, 1:-1], value)
