"""Whole fields cut into patches and put together, against slices of an array all ranks have."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from adjoint import Tape, communicator
from adjoint.comm import CartesianGrid, GatherField, ScatterField
from adjoint.testing import check_jvp, check_vjp, dot_test

CASES = [((7, 5), np.float64), ((4, 6, 3), np.float32), ((11,), np.float64)]


def example(shape: tuple[int, ...], dtype: Any = np.float64) -> Any:
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


@pytest.mark.parallel([1, 2, 3, 4, 6])
@pytest.mark.parametrize(("shape", "dtype"), [*CASES, ((5, 7), np.int32), ((9, 2), complex)])
def test_moves_every_node_to_its_place(shape: tuple[int, ...], dtype: Any) -> None:
    grid = CartesianGrid(shape)
    root = grid.size - 1
    whole = (10 * example(shape)).astype(dtype)
    expected = whole[grid.patch_slices(grid.rank)]
    patch = ScatterField(grid, root)(np.asfortranarray(whole) if grid.rank == root else None)
    assert patch.dtype == dtype
    np.testing.assert_array_equal(patch, expected)
    found = GatherField(grid, root)(np.asfortranarray(patch))
    assert found.dtype == dtype
    np.testing.assert_array_equal(
        found, whole if grid.rank == root else np.empty((0,) * len(shape))
    )


@pytest.mark.parallel([1, 2, 3, 4])
@pytest.mark.parametrize(("shape", "dtype"), CASES)
def test_derivatives(shape: tuple[int, ...], dtype: Any) -> None:
    grid = CartesianGrid(shape)
    root = grid.size // 2
    scatter, gather = ScatterField(grid, root), GatherField(grid, root)
    whole = example(shape, dtype) if grid.rank == root else None
    patch = example(shape, dtype)[grid.patch_slices(grid.rank)]
    for check in (dot_test, check_jvp, check_vjp):
        check(scatter, whole)
        check(gather, patch)
        check(lambda x: gather(scatter(x) ** 2), whole)
        check(scatter, example(shape, dtype))  # what other ranks pass has no effect


@pytest.mark.parallel([1, 2, 3])
def test_each_is_the_transpose_of_the_other() -> None:
    grid = CartesianGrid((5, 6))
    scatter, gather = ScatterField(grid), GatherField(grid)
    whole = example(grid.shape)
    patch = whole[grid.patch_slices(grid.rank)]
    with Tape() as tape:
        x = tape.watch(whole)
        y = scatter(x)
    (found,) = tape.vjp([y], [patch], [x])
    np.testing.assert_array_equal(found, whole if grid.rank == 0 else np.zeros(grid.shape))
    with Tape() as tape:
        x = tape.watch(patch)
        loss = (gather(x) * whole if grid.rank == 0 else gather(x)).sum()
    (gradient,) = tape.gradient(loss, [x])  # other ranks have no cotangent, but take part
    np.testing.assert_array_equal(gradient, patch)


@pytest.mark.parallel([1, 2, 3])
def test_bad_input_is_an_error_on_all_ranks() -> None:
    grid = CartesianGrid((5, 6))
    last = grid.size - 1
    patch = np.ones(grid.patch_shape)
    with pytest.raises(ValueError, match=r"ScatterField: field on root has shape \(6, 5\), expec"):
        ScatterField(grid)(np.ones((6, 5)))
    with pytest.raises(TypeError, match="ScatterField: field on root is a NoneType, expected an"):
        ScatterField(grid)(None)
    with pytest.raises(TypeError, match="ScatterField: field on root has dtype object"):
        ScatterField(grid)(np.full(grid.shape, None))
    for kind in (np.float16, np.dtype(float).newbyteorder()):  # as read from a file, perhaps
        with pytest.raises(TypeError, match=r"GatherField: patch has dtype .*, expected a number"):
            GatherField(grid)(patch.astype(kind) if grid.rank == last else patch)
    with pytest.raises(ValueError, match=r"GatherField: patch has shape \(2, 40\), expected \("):
        GatherField(grid)(np.ones((2, 40)) if grid.rank == last else patch)
    for root in (-1, grid.size, 0.5):
        with pytest.raises(ValueError, match=re.escape(f"GatherField: root is {root}, expected a")):
            GatherField(grid, root)  # type: ignore[arg-type]


@pytest.mark.parallel([2, 3])
def test_ranks_that_differ_are_an_error_on_all_ranks() -> None:
    grid = CartesianGrid((5, 6))
    rank = communicator().rank
    with pytest.raises(ValueError, match="rank 1: ScatterField: root is 1, expected 0 as on rank"):
        ScatterField(grid, int(rank == 1))
    patch = np.ones(grid.patch_shape, np.float32 if rank == 1 else np.float64)
    with pytest.raises(ValueError, match="rank 1: GatherField: dtype is float32, expected float64"):
        GatherField(grid)(patch)
