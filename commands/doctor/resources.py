"""What programs need of a host besides cores: memory, its bandwidth, folders."""

from __future__ import annotations

import math
import os
import re
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .cores import Place, hosts
from .finding import Finding, fault, named, warning

if TYPE_CHECKING:
    from mpi4py import MPI

GIGA = 1e9
LITTLE_MEMORY = 0.5  # GB for a rank
TOTAL = 2**30  # bytes of all arrays on a host whose bandwidth is measured, within these limits:
LEAST, MOST = 2**23, 2**26  # bytes of an array
REPETITIONS = 5


def memory() -> float:
    """Return the bytes that are available on this host, or in this container."""
    try:
        lines = Path("/proc/meminfo").read_text()
        free = 1024.0 * int(re.findall(r"MemAvailable:\s+(\d+)", lines)[0])
    except (OSError, IndexError):
        return math.inf
    try:
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text())
        return min(free, limit - int((group / "memory.current").read_text()))
    except (OSError, ValueError):
        return free


def enough_memory(amounts: Sequence[float], places: Sequence[Place]) -> Finding:
    """Judge the memory that there is for each rank on the fullest host.

    Parameters
    ----------
    amounts : sequence of float
        Bytes that each rank sees available on its host.
    places : sequence of Place
    """
    shares = {
        host: min(amounts[r] for r in ranks) / len(ranks) / GIGA
        for host, ranks in hosts(places).items()
    }
    host = min(shares, key=lambda name: shares[name])
    figure = f"{shares[host]:.1f} GB available for a rank"
    if len(shares) > 1:
        figure += f", on {host}"
    if shares[host] < LITTLE_MEMORY:
        return warning(
            "memory",
            f"{host} has {shares[host]:.2f} GB for each of its ranks",
            "start fewer ranks on a node, or end what else fills its memory",
            figure,
        )
    return Finding("memory", figure)


def bandwidth(comm: MPI.Comm, places: Sequence[Place]) -> Finding:
    """Measure ``a = b + c`` on all ranks at once, in arrays that caches hardly hold; collective."""
    members = hosts(places).values()
    crowd = max(map(len, members))
    a, b, c = (
        np.full(int(np.clip(TOTAL // (3 * crowd), LEAST, MOST)) // 8, i) for i in (0.0, 1, 2)
    )
    own = whole = math.inf
    for _ in range(REPETITIONS):
        comm.Barrier()
        begin = time.perf_counter()
        np.add(b, c, out=a)
        own = min(own, time.perf_counter() - begin)
        comm.Barrier()
        whole = min(whole, time.perf_counter() - begin)
    rates, times = zip(*comm.allgather((3 * a.nbytes / own / GIGA, whole)))
    host = min(len(ranks) for ranks in members) * 3 * a.nbytes / max(times) / GIGA
    figure = f"{host:.1f} GB/s a host"
    if comm.size > 1:
        figure += f", {min(rates):.1f} to {max(rates):.1f} GB/s a rank"
    slow = [r for r, rate in enumerate(rates) if rate < np.median(rates) / 3]
    if slow:
        return warning(
            "bandwidth",
            f"{named(slow)} on {places[slow[0]].host} read memory at less than a third of what "
            "others do",
            "look for other programs there, and for ranks that share a core",
            figure,
        )
    return Finding("bandwidth", figure)


def writable() -> Finding:
    """Try to write a file where temporary ones go."""
    mend = "export TMPDIR=FOLDER, a folder that you may write in"
    try:
        folder = tempfile.gettempdir()
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"adjoint")
    except OSError as error:
        return fault("temporary files", f"no temporary file can be written ({error})", mend)
    free = shutil.disk_usage(folder).free / GIGA
    figure = f"{folder}, {free:.0f} GB free"
    if free < LITTLE_MEMORY:
        return warning("temporary files", f"{folder} has {free:.2f} GB left", mend, figure)
    return Finding("temporary files", figure)


def results() -> Finding:
    """Ask whether programs may write their results below the present folder."""
    here = os.getcwd()
    if os.access(here, os.W_OK | os.X_OK):
        return Finding("results", path=here)
    return warning(
        "results",
        f"you may not write in {here}, below which the examples leave their results",
        "change to another folder, or give them --out FOLDER",
        here,
    )
