"""Fields in files, thumbnails and continued edges, against arrays that all ranks have."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

from adjoint.comm import (
    CartesianGrid,
    ContinueEdges,
    HaloExchange,
    read_field,
    thumbnail,
    write_field,
)
from adjoint.comm.field_file import _runs, write_fields
from adjoint.testing import check_jvp, check_vjp, dot_test

WORLD = MPI.COMM_WORLD


def example(shape: tuple[int, ...], dtype: Any = np.float64) -> Any:
    return (10 * np.random.default_rng(0).standard_normal(shape)).astype(dtype)


def holds(path: Path, whole: Any) -> bool:
    """Return on all ranks whether a file is the one that NumPy writes."""
    same = False
    if WORLD.rank == 0:
        content = io.BytesIO()
        np.save(content, whole)
        same = path.read_bytes() == content.getvalue()
    return bool(WORLD.bcast(same))


@pytest.mark.parallel([1, 2, 3, 4, 6])
@pytest.mark.parametrize(
    ("shape", "components", "dtype"),
    [((11,), (), np.float64), ((7, 5), (), np.float32), ((7, 5), (2, 3), np.float64),
     ((4, 6, 3), (2,), np.int16), ((9, 2), (), complex), ((6, 7), (), np.dtype(">f4"))],
)  # fmt: skip
def test_a_file_is_that_of_the_whole_array(
    shape: tuple[int, ...], components: tuple[int, ...], dtype: Any, directory: Path
) -> None:
    grid = CartesianGrid(shape)
    whole = example((*components, *shape), dtype)
    part = whole[(..., *grid.patch_slices(grid.rank))]
    path = directory / "field.npy"
    write_field(path, grid, np.asfortranarray(part))
    assert holds(path, whole)
    found = read_field(path, grid)
    assert found.dtype == whole.dtype
    np.testing.assert_array_equal(found, part)
    alone = CartesianGrid(shape, comm=MPI.COMM_SELF)  # another number of ranks
    np.testing.assert_array_equal(read_field(path, alone), whole)


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize(
    ("count", "components", "dtype"), [(2, (), np.float64), (3, (2,), np.float32), (1, (), float)]
)
def test_fields_written_one_after_the_other_are_a_stack(
    count: int, components: tuple[int, ...], dtype: Any, directory: Path
) -> None:
    grid = CartesianGrid((7, 5))
    wholes = [k + example((*components, *grid.shape), dtype) for k in range(count)]
    parts = [whole[(..., *grid.patch_slices(grid.rank))] for whole in wholes]
    write_fields(directory / "fields.npy", grid, parts)
    assert holds(directory / "fields.npy", np.stack(wholes))
    last = WORLD.rank == WORLD.size - 1
    for other in (parts[0][None], parts[0].astype(np.int32)):
        with pytest.raises(ValueError, match="fields of one file have different shapes or dtypes"):
            write_fields(directory / "fields.npy", grid, [parts[0], other if last else parts[0]])
    WORLD.Barrier()


@pytest.mark.parallel([3])
def test_a_file_in_fortran_order_is_read(directory: Path) -> None:
    grid = CartesianGrid((7, 5))
    whole = example(grid.shape)
    if WORLD.rank == 0:
        np.save(directory / "field.npy", np.asfortranarray(whole))
    WORLD.Barrier()
    found = read_field(directory / "field.npy", grid)
    np.testing.assert_array_equal(found, whole[grid.patch_slices(grid.rank)])
    assert found.flags.c_contiguous


@pytest.mark.parallel([1, 3])
def test_files_that_do_not_fit_are_an_error_on_all_ranks(directory: Path) -> None:
    grid = CartesianGrid((7, 5))
    other = directory / "other.npy"
    write_field(other, CartesianGrid((5, 7)), example((5, 7))[CartesianGrid((5, 7)).patch_slices(
        WORLD.rank)])  # fmt: skip
    if WORLD.rank == 0:
        content = other.read_bytes()
        (directory / "cut.npy").write_bytes(content[:-8])
        (directory / "text.npy").write_text("something else")
        (directory / "empty.npy").write_bytes(b"")
        np.savez(directory / "archive.npz", a=np.ones(3))
        np.save(directory / "names.npy", np.full((7, 5), "a"))
    WORLD.Barrier()
    with pytest.raises(FileNotFoundError):
        read_field(directory / "missing.npy", grid)
    with pytest.raises(ValueError, match=r"has shape \(5, 7\), expected \(7, 5\)"):
        read_field(other, grid)
    for name in ("cut.npy", "text.npy", "empty.npy"):
        with pytest.raises(ValueError, match=r"not the whole of a \.npy file"):
            read_field(directory / name, CartesianGrid((5, 7)))
    with pytest.raises(ValueError, match="an archive of arrays"):
        read_field(directory / "archive.npz", grid)
    with pytest.raises(TypeError, match="has dtype <U1"):
        read_field(directory / "names.npy", grid)
    WORLD.Barrier()


@pytest.mark.parallel([1, 3])
def test_a_write_that_fails_leaves_the_former_file(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = CartesianGrid((7, 5))
    last = WORLD.rank == WORLD.size - 1
    path = directory / "field.npy"
    patch = np.ones(grid.patch_shape)
    write_field(path, grid, patch)
    with pytest.raises(ValueError, match=r"patch has shape \(3, 3\)"):
        write_field(path, grid, np.ones((3, 3)) if last else patch)
    with pytest.raises(TypeError, match="patch has dtype object"):
        write_field(path, grid, patch.astype(object) if last else patch)
    if WORLD.size > 1:
        with pytest.raises(ValueError, match="dtype is <f4, expected <f8 as on rank 0"):
            write_field(path, grid, patch.astype(np.float32) if last else patch)
    with pytest.raises(FileNotFoundError):
        write_field(directory / "no such folder" / "field.npy", grid, patch)
    pwrite = os.pwrite

    def full(*arguments: Any) -> int:
        if last:
            raise OSError(errno.ENOSPC, "no space left")
        return pwrite(*arguments)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="no space left"):
        write_field(path, grid, 2 * patch)
    WORLD.Barrier()
    np.testing.assert_array_equal(np.load(path), 1.0)
    assert os.listdir(directory) == ["field.npy"]


@pytest.mark.parallel([1, 3])
def test_the_system_may_take_a_part_at_a_time(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid, whole = CartesianGrid((7, 5)), example((2, 7, 5))
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, content, at: pwrite(file, content[:13], at))
    write_field(directory / "field.npy", grid, whole[(..., *grid.patch_slices(grid.rank))])
    np.testing.assert_array_equal(np.load(directory / "field.npy"), whole)


@pytest.mark.parallel([1, 2, 3, 4])
@pytest.mark.parametrize(
    ("shape", "dims"),
    [((2, 7, 5), None), ((4, 6, 3), None), ((12, 5, 3), (-1, 1, 1)), ((5, 12, 3), (1, -1, 1)),
     ((2, 3, 8), (1, 1, -1))],
)  # fmt: skip
def test_a_patch_is_written_in_as_few_parts_as_lie_together(
    shape: tuple[int, ...], dims: tuple[int, ...] | None
) -> None:
    grid = CartesianGrid(shape, dims=dims and tuple(WORLD.size if d < 0 else d for d in dims))
    for components in ((), (2,)):
        whole = np.arange(np.prod([*components, *shape])).reshape(*components, *shape)
        part = whole[(..., *grid.patch_slices(grid.rank))]
        numbers = part.ravel()
        runs = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1)
        places, length = _runs(grid, part.shape)
        np.testing.assert_array_equal(places, [run[0] for run in runs])
        assert {len(run) for run in runs} == {length}


@pytest.mark.parallel([1, 2, 3, 4])
@pytest.mark.parametrize("shape", [(23,), (13, 9), (6, 7, 5)])
@pytest.mark.parametrize("most", [1, 4, 100])
def test_a_thumbnail_is_a_strided_slice(shape: tuple[int, ...], most: int) -> None:
    grid = CartesianGrid(shape)
    whole = example(shape)
    found = thumbnail(grid, whole[grid.patch_slices(grid.rank)], most, root=grid.size - 1)
    if grid.rank < grid.size - 1:
        assert found is None
        return
    assert found is not None
    step = max(1, -(-max(shape) // most))
    np.testing.assert_array_equal(found, whole[(slice(None, None, step),) * len(shape)])
    assert max(found.shape) <= most


@pytest.mark.parallel([1, 3])
def test_a_thumbnail_that_cannot_be_is_an_error_on_all_ranks() -> None:
    grid = CartesianGrid((7, 5))
    patch = np.ones(grid.patch_shape)
    last = grid.rank == grid.size - 1
    with pytest.raises(ValueError, match=r"thumbnail: patch has shape \(2, 40\), expected \("):
        thumbnail(grid, np.ones((2, 40)) if last else patch)
    with pytest.raises(ValueError, match="thumbnail: most is 0, expected a positive number"):
        thumbnail(grid, patch, 0 if last else 1)


@pytest.mark.parallel([1, 2, 3, 4])
@pytest.mark.parametrize(
    ("shape", "width", "periodic"),
    [
        ((9,), 2, False),
        ((7, 6), 1, False),
        ((7, 6), (1, 2), (True, False)),
        ((7, 6), (0, 2), False),
        ((4, 5, 4), 1, False),
    ],
)
def test_continued_edges_are_those_of_numpy_pad(
    shape: tuple[int, ...], width: Any, periodic: Any
) -> None:
    grid = CartesianGrid(shape, periodic=periodic)
    whole = example(shape)
    widths = grid.widths(width)
    padded = whole
    for axis, w in enumerate(widths):
        around = [(w, w) if a == axis else (0, 0) for a in range(len(shape))]
        padded = np.pad(padded, around, mode="wrap" if grid.periodic[axis] else "edge")
    halo, edges = HaloExchange(grid, width, corners=True), ContinueEdges(grid, width)
    own = whole[grid.patch_slices(grid.rank)]
    here = tuple(slice(a, b + 2 * w) for a, b, w in zip(grid.start, grid.stop, widths))
    np.testing.assert_array_equal(edges(halo(own)), padded[here])
    for check in (dot_test, check_jvp, check_vjp):
        check(lambda x: edges(halo(x)), own)
        check(edges, padded[here])
    with pytest.raises(ValueError, match="ContinueEdges: field has shape"):
        edges(own)
    with pytest.raises(ValueError, match="ContinueEdges: width is -1, expected a number of layers"):
        ContinueEdges(grid, -1)
