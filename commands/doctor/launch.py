"""How the processes were started, and whether MPI knows it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .cores import mapped
from .finding import Finding, fault, note, warning
from .packages import broken, folder, installed

if TYPE_CHECKING:
    from mpi4py import MPI

#: Where launchers leave the number of processes and that of this one.
_VARIABLES = (
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("PMI_SIZE", "PMI_RANK"),
    ("MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK"),
    ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
)

#: What programs of Open MPI, and of MPICH and its relatives, say of themselves.
_FAMILIES = {"Open MPI": r"Open MPI|OpenRTE|PRRTE", "MPICH": r"MPICH|HYDRA|Intel|MVAPICH|Cray"}

_REINSTALL = "pip install --force-reinstall --no-cache-dir --no-binary mpi4py mpi4py"


class Launch(NamedTuple):
    """What the launcher has told this process.

    Attributes
    ----------
    size, rank : int
        Number of processes, and of this one among them; 1 and 0 without a launcher.
    of : str or None
        The MPI to which the launcher belongs, empty where it does not say so; ``None`` without one.
    """

    size: int
    rank: int
    of: str | None


def launched() -> Launch:
    """Return what the environment says of the launcher."""
    for size, rank in _VARIABLES:
        count, own = os.environ.get(size, ""), os.environ.get(rank, "")
        if count.isdigit() and own.isdigit():
            # Slurm, too, sets the variables of MPICH, and for programs of any MPI.
            return Launch(int(count), int(own), "Open MPI" if size.startswith("OMPI") else "")
    return Launch(1, 0, None)


def start(launch: Launch) -> tuple[Finding, MPI.Comm | None]:
    """Start MPI; return what was found, and the communicator of all ranks if all is well."""
    if not installed("mpi4py"):
        return fault("MPI", "mpi4py is not installed", "pip install mpi4py"), None
    try:
        import mpi4py

        mpi4py.rc.initialize, mpi4py.rc.finalize = False, True
        from mpi4py import MPI
    except Exception as error:
        return broken("mpi4py", error, f"load your MPI's module, or {_REINSTALL}"), None
    vendor, numbers = MPI.get_vendor()
    name = f"{vendor} {'.'.join(map(str, numbers))}"
    figure = f"{name}, mpi4py {mpi4py.__version__}"
    found = Finding("MPI", figure, same=True, path=folder(mpi4py))
    if not launch.of or launch.of == _family(MPI.Get_library_version()):
        if not MPI.Is_initialized():
            MPI.Init_thread()
        size = MPI.COMM_WORLD.size
        if size == launch.size:
            return found, MPI.COMM_WORLD
        wrong = f"mpi4py, which uses {name}, sees {size} of the {launch.size} processes started"
    else:  # of which MPI might end the process when it starts
        wrong = f"{launch.of}'s mpiexec has started these {launch.size} processes of {name}"
    wrong += ": each would believe to be alone, because mpiexec belongs to another MPI"
    return fault("MPI", wrong, _match(name), figure), None


def launcher(launch: Launch) -> Finding:
    """Look at the ``mpiexec`` on the path, where this process was started without one."""
    from mpi4py import MPI

    beside = Path(sys.executable).with_name("mpiexec")
    path = shutil.which("mpiexec")
    if launch.of is not None:
        return Finding("mpiexec", path=path or "")
    if path is None:
        return note(
            "mpiexec",
            "there is no mpiexec on the PATH, to start programs on several ranks",
            f"use {beside}" if beside.exists() else "load or install an MPI, or use srun",
        )
    theirs = _family(_version(path))
    ours = _family(MPI.Get_library_version())
    if theirs and ours and theirs != ours:
        wrong = (
            f"{path} is of {theirs}, and mpi4py uses {ours}: every process that it starts would "
            "believe to be alone"
        )
        if beside.exists():
            return warning("mpiexec", wrong, f"start programs with {beside}", path)
        return fault("mpiexec", wrong, _match(ours), path)
    allowed = ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM")
    if theirs == "Open MPI" and os.geteuid() == 0 and not all(map(os.environ.get, allowed)):
        return fault(
            "mpiexec",
            "Open MPI's mpiexec refuses to start programs as root",
            f"export {' '.join(f'{name}=1' for name in allowed)}, or be another user",
            path,
        )
    return Finding("mpiexec", theirs or "", path=path)


def libraries() -> Finding:
    """Look for two MPIs in this process, one of mpi4py and one of PETSc."""
    found = [path for path in mapped() if re.search(r"/lib(mpi|mpich)\.so[\d.]*$", path)]
    if len(found) > 1:
        return fault(
            "MPI library",
            f"{' and '.join(found)} are in one process: mpi4py and petsc4py use two MPIs",
            f"install both for one MPI: {_REINSTALL}",
        )
    return Finding("MPI library", path=found[0] if found else "")


def _version(program: str) -> str:
    """Return what a program says of its version; nothing where it does not answer."""
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return said.stdout + said.stderr


def _family(text: str) -> str | None:
    """Return which MPI a program or library belongs to, by what it says of itself."""
    found = [name for name, words in _FAMILIES.items() if re.search(words, text)]
    return found[0] if found else None


def _match(name: str) -> str:
    return f"start programs with the mpiexec of {name}, or with the other MPI's mpicc: {_REINSTALL}"
