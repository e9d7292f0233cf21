"""Every collective against NumPy on pickled data, and its adjoint against the dense matrix."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpi4py import MPI

from adjoint import Tape, communicator
from adjoint.comm import (
    Allgather,
    Allreduce,
    Alltoall,
    Barrier,
    Bcast,
    CommunicationError,
    Gather,
    Reduce,
    ReduceScatter,
    Scatter,
    rank,
    size,
)
from adjoint.strategies import on_all_ranks, spmd
from adjoint.testing import check_jvp, check_vjp, dot_test

SHAPES = [(), (3,), (2, 3), (0, 2)]


def mine(shape: tuple[int, ...], dtype: Any = np.float64) -> Any:
    return np.random.default_rng(rank()).uniform(1, 2, shape).astype(dtype)


def check(function: Any, *inputs: Any) -> None:
    dot_test(function, *inputs)
    check_jvp(function, *inputs)
    check_vjp(function, *inputs)


def dense(function: Callable[[Any], Any], x: Any, transposed: bool, length: int) -> Any:
    """Return the Jacobian of the program on all ranks, or what ``vjp`` says its transpose is.

    ``length`` is the number of this rank's outputs.
    """
    world = MPI.COMM_WORLD
    here = length if transposed else x.size
    columns = []
    for owner in range(world.size):
        for i in range(world.bcast(here, owner)):
            with Tape() as tape:
                v = tape.watch(x)
                y = function(v)
            unit = np.zeros(here)
            if world.rank == owner:
                unit[i] = 1
            if transposed:
                (result,) = tape.vjp([y], [unit.reshape(y.shape)], [v])
            else:
                (result,) = tape.jvp([y], [v], [unit.reshape(x.shape)])
            columns.append(np.concatenate(world.allgather(result.ravel())))
    return np.array(columns).T


@pytest.mark.parallel([1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bcast_reduce_allreduce(shape: tuple[int, ...], dtype: Any) -> None:
    x = mine(shape, dtype)
    everyone = MPI.COMM_WORLD.allgather(x)
    for root in range(size()):
        y = Bcast(root)(x)
        np.testing.assert_array_equal(y, everyone[root])
        assert y.dtype == dtype
        expected = np.sum(everyone, axis=0) if rank() == root else np.zeros(shape)
        np.testing.assert_allclose(Reduce(root)(x), expected, rtol=1e-6)
        check(Bcast(root), x)
        check(Reduce(root), x)
    np.testing.assert_allclose(Allreduce()(x), np.sum(everyone, axis=0), rtol=1e-6)
    check(Allreduce(), x)


@pytest.mark.parallel([1, 2, 3, 4])
@pytest.mark.parametrize("rest", [(), (2,), (2, 3)], ids=str)
@pytest.mark.parametrize("counts", ["equal", "uneven", "some empty", "all empty"])
def test_gather_and_allgather(counts: str, rest: tuple[int, ...]) -> None:
    r = rank()
    n = {"equal": 2, "uneven": 3 * r + 1, "some empty": r % 2, "all empty": 0}[counts]
    x = mine((n, *rest))
    whole = np.concatenate(MPI.COMM_WORLD.allgather(x))
    for root in range(size()):
        y = Gather(root)(x)
        np.testing.assert_array_equal(y, whole if r == root else np.empty((0, *rest)))
        check(Gather(root), x)
    np.testing.assert_array_equal(Allgather()(x), whole)
    check(Allgather(), x)


@pytest.mark.parallel([1, 3])
def test_numbers_are_gathered_as_entries() -> None:
    x = np.array(rank() + 0.5)
    np.testing.assert_array_equal(Allgather()(x), np.arange(size()) + 0.5)
    check(Allgather(), x)
    check(Gather(size() - 1), x)


@pytest.mark.parallel([1, 2, 3, 4])
@pytest.mark.parametrize("rest", [(), (2,)], ids=str)
def test_scatter(rest: tuple[int, ...]) -> None:
    n = size()
    for root in range(n):
        for counts in (None, [3] + [0] * (n - 1), [2 * i % 5 for i in range(n)]):
            total = 7 if counts is None else sum(counts)
            x = mine((total, *rest)) if rank() == root else None
            y = Scatter(root, counts)(x)
            whole = MPI.COMM_WORLD.bcast(x, root)
            sizes = [total // n + (i < total % n) for i in range(n)] if counts is None else counts
            start = sum(sizes[: rank()])
            np.testing.assert_array_equal(y, whole[start : start + sizes[rank()]])
            check(Scatter(root, counts), x)


@pytest.mark.parallel([2, 3])
def test_scatter_does_not_look_at_other_ranks_inputs() -> None:
    x = mine((5, 2) if rank() == 0 else (3,))
    check(Scatter(0), x)
    with Tape() as tape:
        v = tape.watch(x)
        loss = Scatter(0)(v).sum()
    w = tape.vjp([loss], [1.0], [v])[0]
    np.testing.assert_array_equal(w, np.ones(x.shape) if rank() == 0 else np.zeros(3))


@pytest.mark.parallel([1, 2, 3, 4])
def test_reduce_scatter() -> None:
    n = size()
    for counts in (None, [0] * (n - 1) + [7], [(3 * i) % 4 for i in range(n)]):
        total = 7 if counts is None else sum(counts)
        x = mine((total, 2))
        sizes = [total // n + (i < total % n) for i in range(n)] if counts is None else counts
        start = sum(sizes[: rank()])
        whole = np.sum(MPI.COMM_WORLD.allgather(x), axis=0)
        y = ReduceScatter(counts)(x)
        np.testing.assert_allclose(y, whole[start : start + sizes[rank()]], rtol=1e-14)
        check(ReduceScatter(counts), x)


@pytest.mark.parallel([1, 2, 3, 4])
def test_alltoall() -> None:
    n, r = size(), rank()
    for counts in (None, [(r + i) % 3 for i in range(n)], [0] * n):
        total = 5 if counts is None else sum(counts)
        x = mine((total, 2))
        sizes = [total // n + (i < total % n) for i in range(n)] if counts is None else counts
        parts = MPI.COMM_WORLD.alltoall(np.split(x, np.cumsum(sizes)[:-1]))
        np.testing.assert_array_equal(Alltoall(counts)(x), np.concatenate(parts))
        check(Alltoall(counts), x)


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize(
    "operator",
    [Bcast, Reduce, Allreduce, Gather, Allgather, ReduceScatter, Alltoall],
    ids=lambda o: o.__name__,
)
def test_vjp_is_the_transpose_of_the_dense_jacobian(operator: Any) -> None:
    n = 3 if operator not in (Gather, Allgather) else rank() + 1
    x = mine((n,))
    length = operator()(x).size
    forward = dense(operator(), x, False, length)
    reverse = dense(operator(), x, True, length)
    assert forward.any()
    np.testing.assert_array_equal(reverse, forward.T)


@pytest.mark.parallel([1, 2, 3])
def test_the_dense_jacobians_are_the_expected_ones() -> None:
    n = size()
    x = mine((2,))
    ones, eye = np.ones((n, n)), np.eye(2)
    first = np.zeros((n, n))
    first[:, 0] = 1
    np.testing.assert_array_equal(dense(Allreduce(), x, False, 2), np.kron(ones, eye))
    np.testing.assert_array_equal(dense(Bcast(0), x, False, 2), np.kron(first, eye))
    np.testing.assert_array_equal(dense(Reduce(0), x, False, 2), np.kron(first.T, eye))


@pytest.mark.parallel([1, 2, 3, 4])
def test_the_papers_polynomial() -> None:
    """Equation (5) of Xu, Zhu and Darve: 1 + θ + θ² + θ³ on four ranks."""
    with Tape() as tape:
        theta0 = tape.watch(np.array(1.5))
        theta = Bcast(root=0)(theta0)
        loss = Reduce(root=0)(theta ** rank())
    (gradient,) = tape.gradient(loss, [theta0])
    powers = np.arange(size())
    if rank() == 0:
        assert float(loss) == pytest.approx((1.5**powers).sum())
        assert gradient == pytest.approx((powers * 1.5 ** (powers - 1.0)).sum())
    else:
        assert gradient == 0


@pytest.mark.parallel([1, 2, 3])
def test_a_replicated_loss_is_not_counted_twice() -> None:
    def gradient(total: Any) -> Any:
        with Tape() as tape:
            theta0 = tape.watch(np.array([0.5, 2.0]))
            theta = Bcast()(theta0)
            loss = total(((rank() + 1) * theta**2).sum())
        return tape.gradient(loss, [theta0])[0]

    reduced, everywhere = gradient(Reduce(0)), gradient(Allreduce())
    np.testing.assert_allclose(everywhere, reduced, rtol=1e-15)
    if rank() == 0:
        weight = size() * (size() + 1) / 2
        np.testing.assert_allclose(reduced, 2 * weight * np.array([0.5, 2.0]), rtol=1e-15)


@pytest.mark.parallel([2, 3])
def test_a_rank_without_a_cotangent_serves_the_others() -> None:
    with Tape() as tape:
        x = tape.watch(mine((2,)))
        shared = Allreduce()(x)
        loss = (shared**2).sum() if rank() == 0 else np.sum(mine((1,)))
        loss = Reduce(0)(loss)
        Allreduce()(x)  # an output that nobody uses
    (g,) = tape.gradient(loss, [x])
    expected = 2 * np.sum(MPI.COMM_WORLD.allgather(mine((2,))), axis=0)
    np.testing.assert_allclose(g, expected, rtol=1e-14)


@pytest.mark.parallel([2, 3, 4])
def test_sub_communicators() -> None:
    half = MPI.COMM_WORLD.Split(rank() % 2, rank())
    x = mine((3,))
    everyone = half.allgather(x)
    np.testing.assert_allclose(Allreduce(half)(x), np.sum(everyone, axis=0))
    root = half.size - 1
    np.testing.assert_array_equal(Bcast(root, half)(x), everyone[root])

    def program(v: Any) -> Any:
        return Reduce(0)(Allreduce(half)(v * v) * Bcast(root, half)(v))

    check(program, x)
    half.Free()


@pytest.mark.parallel([1, 2, 3])
def test_strided_inputs_and_barrier() -> None:
    def program(x: Any) -> Any:
        Barrier()()
        return Allgather()(x.T[::2]) * 2

    x = mine((3, 4))
    check(program, x)
    whole = np.concatenate(MPI.COMM_WORLD.allgather(x.T[::2]))
    np.testing.assert_array_equal(program(x), 2 * whole)


@pytest.mark.parallel([2, 3])
@pytest.mark.parametrize("direction", ["forward", "jvp", "vjp"])
def test_no_rank_passes_a_barrier_before_all_have_come(direction: str) -> None:
    comm = MPI.COMM_WORLD
    barrier = Barrier()
    pass_it = {
        "forward": barrier,
        "jvp": lambda: barrier.jvp((), (), ()),
        "vjp": lambda: barrier.vjp((), (), ()),
    }[direction]
    barrier()  # the first call may wait for more than this
    comm.Barrier()
    if comm.rank == comm.size - 1:
        time.sleep(0.2)
    came = time.monotonic()  # one clock: all ranks are on this machine
    pass_it()
    passed = time.monotonic()
    assert min(comm.allgather(passed)) >= max(comm.allgather(came))


@pytest.mark.parallel([2, 3])
def test_random_rows_and_roots() -> None:
    @spmd
    @given(
        rows=st.lists(st.integers(0, 4), min_size=size(), max_size=size()),
        root=st.integers(0, size() - 1),
        width=st.integers(0, 3),
    )
    @on_all_ranks
    def holds(rows: list[int], root: int, width: int) -> None:
        x = mine((rows[rank()], width))
        dot_test(Gather(root), x)
        dot_test(Allgather(), x)
        dot_test(lambda v: Scatter(root, rows)(Gather(root)(v)), x)
        back = Scatter(root, rows)(Gather(root)(x))
        np.testing.assert_array_equal(back, x)
        np.testing.assert_allclose(ReduceScatter(rows)(Allgather()(x)), size() * x)

    holds()


def fails(kind: type[Exception], match: str, call: Callable[[], Any]) -> None:
    """Expect the same exception on all ranks, and a working communicator afterwards."""
    with pytest.raises(kind, match=match) as caught:
        call()
    assert len(set(MPI.COMM_WORLD.allgather(str(caught.value)))) == 1
    assert Allreduce()(np.array(1.0)) == size()


@pytest.mark.parallel([2, 3])
def test_faults_of_one_rank_are_raised_on_all() -> None:
    last = size() - 1
    integers = np.arange(3) if rank() == last else np.arange(3.0)
    ragged = [[1.0, 2.0], [3.0]] if rank() == last else np.arange(3.0)
    for operator in (Bcast(), Reduce(), Allreduce(), Gather(), Allgather(), Alltoall()):
        text = rf"rank {last}: {operator.name}: the input has dtype int64, expected float32 or"
        fails(TypeError, text, lambda operator=operator: operator(integers))  # type: ignore[misc]
        text = rf"rank {last}: .*inhomogeneous shape"
        fails(ValueError, text, lambda operator=operator: operator(ragged))  # type: ignore[misc]
    x = np.ones(3)
    counts = [1] * size() if rank() == last else None
    text = rf"rank {last}: Alltoall: counts is .*, expected {size()} numbers with the sum 5"
    fails(ValueError, text, lambda: Alltoall(counts)(np.ones(5)))
    negative = [-1, 6] + [0] * (size() - 2)
    text = rf"rank 0: ReduceScatter: counts is \(-1, 6.*, expected {size()} numbers with the sum 5"
    fails(ValueError, text, lambda: ReduceScatter(negative)(np.ones(5)))
    text = r"rank 0: Scatter: counts is \(9, 9\), expected"
    fails(ValueError, text, lambda: Scatter(0, [9, 9])(x if rank() == 0 else None))
    text = r"rank 0: Scatter: the input has shape \(\), expected at least one axis"
    fails(ValueError, text, lambda: Scatter(0)(np.array(1.0)))
    text = r"rank 0: ReduceScatter: counts is \(3,\), expected"
    fails(ValueError, text, lambda: ReduceScatter([3])(x))


@pytest.mark.parallel([2, 3])
@pytest.mark.parametrize("operator", [Gather, Allgather, Alltoall, ReduceScatter])
def test_rows_of_different_shapes_are_an_error_on_all_ranks(operator: Any) -> None:
    rows = np.ones((size(), 3 if rank() == 1 else 2))
    text = r"rank 0 calls \w+\(.*2,?\), 'float64'\), rank 1 calls \w+\(.*3,?\), 'float64'\)"
    fails(CommunicationError, text, lambda: operator()(rows))


@pytest.mark.parallel([2, 3])
def test_calls_that_do_not_match_are_reported_with_both_sides() -> None:
    one = rank() == 1
    text = r"ranks do not match: rank 0 calls Bcast\(\('root', 0\).*, rank 1 calls Bcast.*'root', 1"
    fails(CommunicationError, text, lambda: Bcast(1 if one else 0)(np.ones(2)))
    for operator in (Reduce, Gather, Scatter):
        text = r"rank 0 calls \w+\(\(?'root', 0\).*, rank 1 calls \w+\(\(?'root', 1\)"
        fails(CommunicationError, text, lambda o=operator: o(1 if one else 0)(np.ones(2)))  # type: ignore[misc]
    text = r"rank 0 calls Allreduce\(\(2,\).*, rank 1 calls Allreduce\(\(3,\)"
    fails(CommunicationError, text, lambda: Allreduce()(np.ones(3 if one else 2)))
    text = r"'float64'\), rank 1 calls Reduce.*'float32'\)"
    fails(CommunicationError, text, lambda: Reduce()(mine((2,), np.float32 if one else float)))
    text = r"rank 0 calls Gather\(.*\(2,\).*, rank 1 calls Gather\(.*\(3,\)"
    fails(CommunicationError, text, lambda: Gather()(np.ones((1, 3 if one else 2))))

    with pytest.raises(CommunicationError, match=r"rank 0 calls Bcast.*rank 1 calls Allreduce"):
        (Allreduce() if one else Bcast())(np.ones(2))
    assert Allreduce()(np.array(1.0)) == size()


@pytest.mark.parallel([1, 2])
def test_a_root_out_of_range() -> None:
    for operator in (Bcast, Reduce, Gather, Scatter):
        text = rf"{operator.__name__}: root is {size()}, expected a rank from 0 to {size() - 1}"
        with pytest.raises(ValueError, match=text):
            operator(size())
    with pytest.raises(ValueError, match=r"root is 1\.5"):
        Bcast(1.5)  # type: ignore[arg-type]


@pytest.mark.parallel([1, 2])
def test_the_library_works_on_a_duplicate() -> None:
    own = communicator()
    assert own is not MPI.COMM_WORLD
    assert communicator() is own
    assert communicator(own) is own
    assert MPI.Comm.Compare(own, MPI.COMM_WORLD) == MPI.CONGRUENT
