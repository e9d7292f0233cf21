"""Files of traces and models on several ranks: one writes, all read, all raise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI

from adjoint.solvers import read_model, read_traces, write_model, write_traces


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("suffix", [".sgy", ".npz"])
def test_the_first_rank_writes_and_all_read(suffix: str, directory: Path) -> None:
    comm = MPI.COMM_WORLD
    traces = np.arange(24.0).reshape(2, 3, 4)
    sources, receivers = [[20.0, 0.0], [20.0, 50.0]], [[0.0, 10.0], [0.0, 30.0], [0.0, 80.0]]
    path = directory / f"traces{suffix}"
    first = comm.rank == 0
    write_traces(path, traces if first else None, 1e-3, sources if first else (), receivers)
    found = read_traces(path)
    np.testing.assert_array_equal(found.traces, traces)
    np.testing.assert_array_equal(found.sources[:, 0], sources)
    np.testing.assert_array_equal(found.receivers, [receivers] * 2)
    assert found.dt == 1e-3
    write_model(directory / f"model{suffix}", traces[0] if first else None, 10.0, 100.0)
    model = read_model(directory / f"model{suffix}")
    np.testing.assert_array_equal(model.field, traces[0])
    assert model[1:] == ((10.0, 10.0), 100.0)


@pytest.mark.parallel([2])
def test_each_communicator_has_its_own_file(directory: Path) -> None:
    rank = MPI.COMM_WORLD.rank
    path = directory / f"{rank}.sgy"
    write_model(path, np.full((3, 4), float(rank)), 10.0, comm=MPI.COMM_SELF)
    assert read_model(path, comm=MPI.COMM_SELF).field.max() == rank


@pytest.mark.parallel([1, 2])
def test_all_ranks_raise(directory: Path) -> None:
    comm = MPI.COMM_WORLD
    traces = np.ones((2, 3, 4)) if comm.rank == 0 else None
    with pytest.raises(ValueError, match=r"sources has shape \(1, 2\), expected \(2, 2\)"):
        write_traces(directory / "a.sgy", traces, 1e-3, [[0, 0]], np.ones((3, 2)))
    with pytest.raises(OSError, match="No such file"):
        write_traces(directory / "none" / "a.sgy", traces, 1e-3, np.ones((2, 2)), np.ones((3, 2)))
    for suffix in (".sgy", ".npz"):
        path = directory / f"b{suffix}"
        with pytest.raises(OSError, match="No such file"):
            read_traces(path)
        if comm.rank == 0:
            path.write_bytes(b"something else")
        with pytest.raises(ValueError, match=f"b{suffix}.* not an? (SEG-Y|.npz) file"):
            read_traces(path)
    assert not (directory / "a.sgy").exists()
