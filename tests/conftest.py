"""Under mpiexec all ranks end a test with the same verdict, and rank 0 alone reports progress."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    from mpi4py import MPI

    if MPI.COMM_WORLD.rank:
        reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
        reporter._tw._file = open(os.devnull, "w")  # noqa: SIM115


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
    """Fail a parallel test on all ranks where it fails on one, so that ranks do not drift apart."""
    if pyfuncitem.get_closest_marker("parallel") is None:
        return (yield)  # type: ignore[return-value]
    from mpi4py import MPI

    failure: BaseException | None = None
    result = None
    try:
        result = yield
    except BaseException as error:
        failure = error
    story = None if failure is None else "".join(traceback.format_exception(failure))
    stories = MPI.COMM_WORLD.allgather(story)
    if failure is not None:
        raise failure
    for rank, other in enumerate(stories):
        if other is not None:
            pytest.fail(f"failed on rank {rank}:\n{other}", pytrace=False)
    return result  # type: ignore[return-value]
