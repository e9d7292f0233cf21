"""What differs between the MPIs that the tests run on; for `make` it is said in the Makefile."""

from __future__ import annotations

import sys
from pathlib import Path

_beside = Path(sys.executable).with_name("mpiexec")

#: An MPI that was installed with Python, from PyPI or by conda, goes before others.
MPIEXEC = str(_beside) if _beside.exists() else "mpiexec"

#: Lets Open MPI start as root, and more ranks than there are cores; MPICH asks for nothing.
ENVIRONMENT = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_MCA_mpi_yield_when_idle": "1",
}


def version() -> str:
    """Return name and version of the MPI that is used here."""
    from mpi4py import MPI  # here, for it starts MPI

    name, numbers = MPI.get_vendor()
    return f"{name} {'.'.join(map(str, numbers))}"


def codes_of_aborted(code: int) -> set[int]:
    """Return the exit codes that a job may have which a rank has aborted with a code.

    MPICH's mpiexec kills the other ranks, and on a busy machine may return the code of that.
    """
    return {code, code_of_killed(9)} if version().startswith("MPICH") else {code}


def code_of_killed(signal: int) -> int:
    """Return the exit code of a job of which a rank was ended by a signal."""
    return signal if version().startswith("MPICH") else 128 + signal
