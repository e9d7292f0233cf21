"""Channels: tags that no two exchanges share, and that start again where MPI has no more."""

from __future__ import annotations

from itertools import count
from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

from adjoint.comm.channel import _key, new_channel


@pytest.mark.parallel([2, 3])
def test_tags_differ_and_start_again_where_they_run_out() -> None:
    comm = MPI.COMM_WORLD.Dup()
    private, first = new_channel(comm)
    assert MPI.Comm.Compare(private, comm) == MPI.CONGRUENT  # messages of others are not met
    assert new_channel(comm) == (private, first + 1)
    highest: Any = MPI.COMM_WORLD.Get_attr(MPI.TAG_UB)
    channels: Any = comm.Get_attr(_key())
    channels.tags = count(highest)
    _, last = new_channel(comm)
    assert (last, new_channel(comm)[1]) == (highest, 0)
    came = np.empty(1)
    private.Sendrecv(
        np.full(1, 1.0 * comm.rank), (comm.rank + 1) % comm.size, last, came, recvtag=last
    )
    assert came[0] == (comm.rank - 1) % comm.size
    comm.Free()
    assert private == MPI.COMM_NULL  # it goes with the communicator whose channels it has
