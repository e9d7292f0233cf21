"""MPI's start and end, each in a process of its own, and what is asked in between."""

from __future__ import annotations

import subprocess
import sys

from mpi4py import MPI

from adjoint.comm import finalized, init, initialized, rank, size, sync
from tests.jobs import ROOT, command, environment


def run(code: str, ranks: int = 0) -> str:
    """Run a program, alone or under mpiexec, and return what it prints; it must end well."""
    argv = command("-c", code, ranks=ranks) if ranks else [sys.executable, "-c", code]
    found = subprocess.run(
        argv, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=20
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_one_rank() -> None:
    assert (initialized(), finalized(), rank(), size()) == (True, False, 0, 1)
    assert (rank(MPI.COMM_SELF), size(MPI.COMM_SELF)) == (0, 1)
    init()
    sync()
    sync(MPI.COMM_SELF)


def test_finalize() -> None:
    found = run(
        "from adjoint.comm import *; import numpy as np\n"
        "y = Allreduce()(np.ones(2)); request = Irecv(0, 2)()\n"
        "print(initialized(), finalized()); finalize()\n"
        "print(initialized(), finalized()); finalize(); del request\n"
    )
    assert found.split() == ["True", "False", "True", "True"]


def test_init() -> None:
    found = run(
        "import mpi4py; mpi4py.rc.initialize = False\n"
        "from adjoint.comm import *\n"
        "print(initialized()); init(); print(initialized(), rank(), size()); sync(); finalize()\n"
        "print(finalized())\n"
    )
    assert found.split() == ["False", "True", "0", "1", "True"]


def test_rank_size_and_sync_under_mpiexec() -> None:
    found = run(
        "import sys, time; from mpi4py import MPI; from adjoint.comm import *\n"
        "half = MPI.COMM_WORLD.Split(rank() % 2)\n"
        "time.sleep(0.3 * rank()); came = time.time(); sync(); left = time.time()\n"
        "last = max(MPI.COMM_WORLD.allgather(came))\n"
        "sys.stdout.write(f'{rank()}/{size()} {rank(half)}/{size(half)} {left >= last}\\n')\n"
        "finalize()\n",
        ranks=3,
    )
    assert sorted(found.splitlines()) == ["0/3 0/2 True", "1/3 0/1 True", "2/3 1/2 True"]
