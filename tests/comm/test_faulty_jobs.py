"""Jobs whose ranks do not fit together end soon, and say which rank and operator is at fault."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import pytest

from tests import jobs

START = """
import os
import sys

# What a rank says goes to a file of its own: mpiexec may join the lines of several ranks.
os.dup2(os.open(os.path.join(sys.argv[1], str(os.getpid())), os.O_CREAT | os.O_WRONLY), 2)

import numpy as np
from adjoint import Tape
from adjoint.comm import *

x = np.ones(3)
"""

SOLVE = """
from adjoint.solvers import Poisson

grid = CartesianGrid((8, 8))
Poisson(grid)(np.ones(grid.padded_shape(1)), np.ones(grid.patch_shape))
"""

#: What rank k runs, on how many ranks, and what is said on those that raise.
JOBS = {
    "other operators": (
        3,
        "(Reduce() if rank() == 1 else Bcast())(x)",
        r"CommunicationError: (Bcast|Reduce): ranks do not match: rank 0 calls Bcast\(.*\), "
        r"rank 1 calls Reduce\(.*\)",
    ),
    "other roots": (
        3,
        "Bcast(rank())(x)",
        r"CommunicationError: Bcast: ranks do not match: rank 0 calls Bcast\(\('root', 0\).*, "
        r"rank 1 calls Bcast\(\('root', 1\).*\)",
    ),
    "a root out of range": (
        2,
        "Bcast(2)(x)",
        r"ValueError: Bcast: root is 2, expected a rank from 0 to 1 \(found on rank [01]\)",
    ),
    "a root out of range on one rank": (
        3,
        "Gather(7 if rank() == 2 else 0)(x)",
        r"ValueError: Gather: root is 7, expected a rank from 0 to 2 \(found on rank 2\)",
    ),
    "an exception on one rank": (
        3,
        "y = Allreduce()(x)\n"
        "if rank() == 1:\n"
        "    raise ArithmeticError(f'rank {rank()} alone')\n"
        "Allreduce()(x)",
        r"^ArithmeticError: rank 1 alone$",
    ),
    "an exception on one rank in the reverse sweep": (
        3,
        "class Broken(Allreduce):\n"
        "    def vjp(self, *arguments):\n"
        "        raise ArithmeticError(f'{self.name} on rank {rank()}')\n"
        "with Tape() as tape:\n"
        "    v = tape.watch(x)\n"
        "    y = Bcast()(v)\n"
        "    tape.record(Broken() if rank() == 1 else Allreduce(), (y,), (x,), (x,))\n"
        "tape.records[-1].operator.message = lambda *call: Allreduce().message(*call)\n"
        "tape.vjp([], [], [v])",
        r"^ArithmeticError: Broken on rank 1$",
    ),
    "an exception on one rank that has used PETSc": (
        3,
        SOLVE + "if rank() == 1:\n"
        "    raise ArithmeticError(f'rank {rank()} alone')\n"
        "Allreduce()(x)",
        r"^ArithmeticError: rank 1 alone$",
    ),
    "an unmatched Send": (
        2,
        "with Tape() as tape:\n"
        "    v = tape.watch(x)\n"
        "    if rank() == 0:\n"
        "        Send(1, tag=4)(v)\n"
        "    loss = Reduce()(v.sum())\n"
        "tape.gradient(loss, [v])",
        r"adjoint.comm.communication.CommunicationError: rank 0, record 0: Send\(dest=1, tag=4\) "
        r"sends to rank 1 \(tag 4\), which does not receive it: its last is rank 1, "
        r"record 1: Reduce\(root=0\)$",
    ),
    "PETSc started by a part of the ranks": (
        3,
        "from mpi4py import MPI\n"
        "from adjoint.solvers import LinearSolve, Pattern\n"
        "some = MPI.COMM_WORLD.Split(int(rank() == 1), 0)\n"
        "if rank() != 1:\n"
        "    LinearSolve(Pattern([0, 1], [some.rank], comm=some))\n"
        "Barrier()()",
        r"^RuntimeError: PETSc starts on all 3 ranks together, and this solver has 2: let all "
        r"ranks import petsc4py.PETSc before$",
    ),
    "a message that one rank receives off its tape": (
        3,
        "with Tape() as tape:\n"
        "    v = tape.watch(x)\n"
        "    if rank() == 1:\n"
        "        Send(2, tag=3)(v)\n"
        "    loss = Reduce()(v.sum())\n"
        "if rank() == 2:\n"
        "    Recv(1, 3, tag=3)()\n"
        "tape.gradient(loss, [v])",
        r"CommunicationError: rank 1, record 0: Send\(dest=2, tag=3\) sends to rank 2 \(tag 3\), "
        r"which does not receive it: its last is rank 2, record 1: Reduce\(root=0\)$",
    ),
    "a message that one rank sends off its tape": (
        2,
        "with Tape() as tape:\n"
        "    v = tape.watch(x)\n"
        "    if rank() == 1:\n"
        "        v = v * Recv(0, 3)()\n"
        "    else:\n"
        "        Send(1)(x)\n"
        "        tape.records.pop()\n"
        "    loss = Allreduce()(v.sum())\n"
        "tape.gradient(loss, [])",
        r"CommunicationError: rank 0, record 1: Allreduce\(\) waits for rank 1, which does not "
        r"come: it stops at rank 1, record 0: Recv\(source=0, shape=\(3,\), tag=0\)$",
    ),
    "a request that is answered off the tape": (
        2,
        "with Tape() as tape:\n"
        "    v = tape.watch(x)\n"
        "    if rank() == 0:\n"
        "        Wait()(Isend(1, tag=2)(v))\n"
        "    loss = Allreduce()(v.sum())\n"
        "if rank() == 1:\n"
        "    Wait()(Irecv(0, 3, tag=2)())\n"
        "tape.gradient(loss, [v])",
        r"CommunicationError: rank 0, record 0: Isend\(dest=1, tag=2\) sends to rank 1 \(tag 2\), "
        r"which does not receive it: its last is rank 1, record 1: Allreduce\(\)$",
    ),
    "a halo exchange that one rank leaves off its tape": (
        3,
        "halo = HaloExchange(CartesianGrid((9, 8)), 1)\n"
        "field = np.ones(halo.grid.patch_shape)\n"
        "with Tape() as tape:\n"
        "    v = tape.watch(field)\n"
        "    y = halo(field if rank() == 1 else v)\n"
        "    if rank() == 1:\n"
        "        tape.records.clear()\n"
        "    loss = Reduce()(v.sum())\n"
        "tape.gradient(loss, [v])",
        r"CommunicationError: rank 0, record 0: HaloExchange of 1 .* meets rank 1, record 1: "
        r"Reduce\(root=0\): they do not match$",
    ),
    "a request that is never waited for": (
        2,
        "with Tape() as tape:\n"
        "    v = tape.watch(x)\n"
        "    if rank() == 0:\n"
        "        Send(1)(v)\n"
        "    else:\n"
        "        Irecv(0, 3)()\n"
        "    loss = Allreduce()(v.sum())\n"
        "tape.gradient(loss, [v])",
        r"RuntimeError: .*Irecv\(source=0",
    ),
    "a request that is waited for twice": (
        2,
        "with Tape() as tape:\n"
        "    v = tape.watch(x)\n"
        "    request = Isend(0)(v) if rank() == 1 else Irecv(1, 3)()\n"
        "    Wait()(request)\n"
        "    if rank() == 0:\n"
        "        Wait()(request)\n"
        "    loss = Allreduce()(v.sum())\n"
        "tape.gradient(loss, [v])",
        r"CommunicationError: Wait: Irecv\(source=1.*\) was waited for before$",
    ),
    "a reduction that one rank leaves off its tape": (
        3,
        "with Tape() as tape:\n"
        "    v = tape.watch(x)\n"
        "    loss = Reduce()(v.sum())\n"
        "    if rank() != 2:\n"
        "        loss = Allreduce()(loss)\n"
        "if rank() == 2:\n"
        "    Allreduce()(loss.value)\n"
        "tape.gradient(loss, [v])",
        r"CommunicationError: rank 0, record 2: Allreduce\(\) waits for rank 2, which does not "
        r"come: its last is rank 2, record 1: Reduce\(root=0\)$",
    ),
}


def run(code: str, ranks: int, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run what must end within ten seconds; its ``stderr`` is that of rank after rank."""
    start = time.monotonic()
    found = jobs.run("-c", START + code, folder, ranks=ranks, limit=30)
    found.stderr = "".join(file.read_text() for file in folder.iterdir()) + found.stderr
    assert time.monotonic() - start < 10, found.stderr
    return found


@pytest.mark.parametrize("name", JOBS)
def test_a_faulty_job_ends_with_one_message(name: str, tmp_path: Path) -> None:
    ranks, code, message = JOBS[name]
    found = run(code, ranks, tmp_path)
    assert found.returncode != 0
    said = {
        line for line in found.stderr.splitlines() if re.match(r"[\w.]*(Error|Exception)", line)
    }
    assert said, found.stderr
    for line in said:
        assert re.search(message, line), found.stderr


@pytest.mark.parametrize("before", ["", SOLVE], ids=["without PETSc", "with PETSc"])
def test_a_rank_that_exits_with_a_code_ends_the_job_with_it(before: str, tmp_path: Path) -> None:
    code = before + "if rank() == 1:\n    sys.exit(7)\nAllreduce()(x)"
    assert run(code, 3, tmp_path).returncode == 7


def test_a_job_that_has_used_petsc_ends_well(tmp_path: Path) -> None:
    found = run(SOLVE + "import atexit\natexit.register(print, 'end')\nsys.exit(0)", 2, tmp_path)
    assert found.returncode == 0, found.stderr
    assert found.stdout.count("end") == 2
