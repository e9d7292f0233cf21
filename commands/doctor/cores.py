"""Where the ranks run, and whether their threads have cores of their own."""

from __future__ import annotations

import ctypes
import math
import os
import re
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .finding import Finding, fault, named, warning

#: Functions of threaded libraries that say how many threads they will use, by the library's name.
_THREADS = {
    "openblas": (
        "openblas_get_num_threads",
        "openblas_get_num_threads64_",
        "scipy_openblas_get_num_threads",
        "scipy_openblas_get_num_threads64_",
    ),
    "mkl_rt": ("MKL_Get_Max_Threads",),
    "blis": ("bli_thread_get_num_threads",),
}


class Place(NamedTuple):
    """Where a rank runs.

    Attributes
    ----------
    host : str
    cores : frozenset of int
        On which it may run.
    launchers : frozenset of int
        On which the process that started it may run.
    threads : int
        That its libraries start.
    share : float
        Cores that the container it runs in may use.
    """

    host: str
    cores: frozenset[int]
    launchers: frozenset[int]
    threads: int
    share: float


def place() -> Place:
    """Return where this process runs."""
    own = _affinity(0)
    return Place(socket.gethostname(), own, _affinity(os.getppid()) or own, threads(own), quota())


def threads(cores: frozenset[int]) -> int:
    """Return how many threads BLAS or Numba will use in this process, the more of both."""
    found = []
    for path in mapped():
        for name, functions in _THREADS.items():
            if name in path:
                library = ctypes.CDLL(path)
                found += [getattr(library, f)() for f in functions if hasattr(library, f)]
    if not found:  # none that is known, or another operating system
        asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
        found = [int(asked) if asked.isdigit() else len(cores)]
    numba = sys.modules.get("numba")
    if numba is not None:
        found.append(numba.config.NUMBA_NUM_THREADS)
    return max(map(int, found))


def mapped() -> list[str]:
    """Return the paths of the shared libraries in this process, where the system lists them."""
    maps = Path("/proc/self/maps")
    text = maps.read_text() if maps.exists() else ""
    return sorted({*re.findall(r"/\S+\.so[\d.]*$", text, re.MULTILINE)})


def quota() -> float:
    """Return how many cores the container lets its processes use; ``inf`` without a limit."""
    try:
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return int(limit) / int(period)
    except (OSError, ValueError):  # no container, no limit, or another kind of container
        return math.inf


def enough_cores(places: Sequence[Place]) -> Finding:
    """Judge threads and binding of all ranks, host by host."""
    findings = [_cores(members, places) for members in hosts(places).values()]
    return max(findings, key=lambda finding: finding.verdict)


def spread(places: Sequence[Place]) -> Finding:
    """Say how many ranks there are on which hosts."""
    counts = {host: len(ranks) for host, ranks in hosts(places).items()}
    listed = ", ".join(f"{n} on {host}" for host, n in [*counts.items()][:8])
    more = ", …" if len(counts) > 8 else ""
    return Finding(
        "ranks", f"{len(places)} on {len(counts)} host{'s' * (len(counts) > 1)}: {listed}{more}"
    )


def _cores(ranks: Sequence[int], places: Sequence[Place]) -> Finding:
    """Judge the ranks of one host."""
    here = [places[rank] for rank in ranks]
    first = here[0]
    everywhere = frozenset().union(*(p.cores | p.launchers for p in here))
    there = min(len(everywhere), first.share)
    least, most = (choose(p.threads for p in here) for choose in (min, max))
    each = _threads(most) if least == most else f"{least} to {_threads(most)}"
    figure = f"{there:g} on {first.host} for {len(ranks)} x {each}, {_binding(ranks, places)}"
    for own in sorted({p.cores for p in here}, key=len):
        inside = [rank for rank in ranks if places[rank].cores <= own]
        room = min(len(own), first.share)
        load = sum(places[rank].threads for rank in inside)
        if len(inside) > room and len(ranks) <= there:
            return fault(
                "cores",
                f"{named(inside)} are bound to {_cores_called(room)} of the {there:g} on "
                f"{first.host}, and wait for each other",
                "mpiexec --bind-to core --map-by core (Open MPI), mpiexec -bind-to core (MPICH), "
                "srun --cpu-bind=cores",
                figure,
            )
        if load > max(room, len(inside)):
            fitting = max(int(room // len(inside)), 1)
            variables = ("OMP", "OPENBLAS", "MKL", "NUMBA")
            return fault(
                "cores",
                f"{named(inside)} start{'s' * (len(inside) == 1)} {_threads(load)} on "
                f"{_cores_called(room)} of {first.host}",
                f"export {' '.join(f'{name}_NUM_THREADS={fitting}' for name in variables)}, "
                "or give each rank as many cores as threads: "
                f"mpiexec --map-by slot:PE={first.threads}, srun --cpus-per-task={first.threads}",
                figure,
            )
    if len(ranks) > there:
        return warning(
            "cores",
            f"{len(ranks)} ranks share {_cores_called(there)} on {first.host}: results are right, "
            "times say nothing",
            "start at most as many ranks as there are cores",
            figure,
        )
    return Finding("cores", figure)


def _threads(count: int) -> str:
    return f"{count} thread{'s' * (count != 1)}"


def _cores_called(count: float) -> str:
    return f"{count:g} core{'s' * (count != 1)}"


def _binding(ranks: Sequence[int], places: Sequence[Place]) -> str:
    """Return which of a host's ranks is bound to which cores."""
    if all(places[rank].cores >= places[rank].launchers for rank in ranks):
        return "not bound"
    listed = [f"rank {r} to {','.join(map(str, sorted(places[r].cores)))}" for r in ranks[:8]]
    return f"bound: {'; '.join(listed)}{'; …' if len(ranks) > 8 else ''}"


def hosts(places: Sequence[Place]) -> dict[str, list[int]]:
    """Return the ranks on each host."""
    found: dict[str, list[int]] = {}
    for rank, where in enumerate(places):
        found.setdefault(where.host, []).append(rank)
    return found


def _affinity(process: int) -> frozenset[int]:
    """Return the cores on which a process may run; nothing where it cannot be asked."""
    try:
        return frozenset(os.sched_getaffinity(process))
    except OSError:
        return frozenset()
    except AttributeError:  # not Linux
        return frozenset(range(os.cpu_count() or 1))
