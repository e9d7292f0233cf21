"""Ranks in network namespaces of their own, joined by links of a stated latency and bandwidth.

Each namespace has one device, whose packets go to a relay process. It lets them through at the
link's bandwidth and hands them to their destination after the link's latency, as `tc` with `netem`
would in kernels that have it. Open MPI takes the namespaces for nodes, and their ranks talk by TCP.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import multiprocessing
import os
import select
import signal
import struct
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

AGENT = Path(__file__).resolve().parent / "in_namespace.sh"
NETWORK = "10.77.0.0/16"
MTU = 9000
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


class Link(NamedTuple):
    """What joins a node to all others: seconds one way, and bytes a second out of the node."""

    latency: float
    bandwidth: float

    def __str__(self) -> str:
        return f"{1e3 * self.latency:g} ms, {8e-6 * self.bandwidth:g} Mbit/s"


def obstacle() -> str | None:
    """Return what keeps this machine from making such links, if anything does."""
    try:
        with Links(1, Link(1e-3, 1e8)) as links:
            links.run(["true"], timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or error
        return f"network namespaces with Open MPI in them are not to be had here: {said}".strip()
    return None


class Links:
    """Nodes of one rank each; a context manager.

    Parameters
    ----------
    ranks : int
    link : Link
    """

    def __init__(self, ranks: int, link: Link) -> None:
        self.addresses = [address(rank) for rank in range(ranks)]
        self.link = link
        self.prefix = f"adjoint-{os.getpid()}-"

    def __enter__(self) -> Links:
        devices: list[int] = []
        self._sessions = tempfile.TemporaryDirectory(prefix="adjoint-", ignore_cleanup_errors=True)
        self._made: list[str] = []
        try:
            for own in self.addresses:
                _ip("netns", "add", self.prefix + own)
                self._made.append(self.prefix + own)
                devices.append(_device(self.prefix + own, own))
            self._relay = multiprocessing.get_context("fork").Process(
                target=relay, args=(devices, self.link), daemon=True
            )
            self._relay.start()
        except BaseException:
            self._remove()
            raise
        finally:
            for device in devices:
                os.close(device)
        return self

    def __exit__(self, *_: Any) -> None:
        self._relay.terminate()
        self._relay.join()
        self._remove()

    def run(self, command: list[str], timeout: float) -> None:
        """Run a command on all nodes under mpiexec."""
        settings = {
            "plm_rsh_agent": str(AGENT), "pml": "ob1", "btl": "tcp,self",
            "btl_tcp_if_include": NETWORK, "oob_tcp_if_include": NETWORK,
            # Each takes itself for alone on its machine, and would not leave the core to others.
            "mpi_yield_when_idle": "1",
        }  # fmt: skip
        parameters = [word for pair in settings.items() for word in ("--mca", *pair)]
        done = subprocess.run(
            [str(AGENT), self.addresses[0], "mpiexec", *parameters,
             "--host", ",".join(self.addresses), *command],
            env={**os.environ, "NAMESPACES": self.prefix, "SESSIONS": self._sessions.name},
            timeout=timeout, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            said = (done.stdout + done.stderr).strip()[-2000:]
            raise OSError(f"mpiexec between namespaces ended with {done.returncode}: {said}")

    def _remove(self) -> None:
        for name in self._made:
            # Ranks that outlive an mpiexec which was ended would wait for ever.
            for process in _ip("netns", "pids", name).split():
                with suppress(ProcessLookupError):
                    os.kill(int(process), signal.SIGKILL)
            _ip("netns", "delete", name)
        self._sessions.cleanup()


def address(rank: int) -> str:
    """Return a node's address."""
    return f"10.77.{rank // 250}.{rank % 250 + 1}"


def node(packet: bytes) -> int | None:
    """Return the node that a packet of IPv4 goes to; none for what the kernel sends by itself."""
    if packet[0] >> 4 != 4 or packet[16:18] != bytes((10, 77)):
        return None
    return 250 * packet[18] + packet[19] - 1


def relay(devices: list[int], link: Link) -> None:
    """Pass packets on between the nodes' devices, until ended."""
    os.setpriority(os.PRIO_PROCESS, 0, -10)  # a link that waits for a core would be a slower one
    free = dict.fromkeys(devices, 0.0)
    under_way: list[tuple[float, int, int, bytes]] = []
    count = 0
    while True:
        wait = under_way[0][0] - time.perf_counter() if under_way else 1.0
        for device in select.select(devices, (), (), max(wait, 0.0))[0]:
            packet = os.read(device, 2 * MTU)
            target = node(packet)
            if target is None or target >= len(devices):
                continue
            free[device] = max(free[device], time.perf_counter()) + len(packet) / link.bandwidth
            count += 1
            due = free[device] + link.latency
            heapq.heappush(under_way, (due, count, devices[target], packet))
        while under_way and under_way[0][0] <= time.perf_counter():
            _, _, target, packet = heapq.heappop(under_way)
            os.write(target, packet)


def _device(name: str, own: str) -> int:
    """Return the relay's end of a new device in a namespace, with an address of its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{name}", os.O_RDONLY)
    try:
        if libc.setns(there, 0):
            raise OSError(ctypes.get_errno(), f"setns to {name}")
        device = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", b"link0", IFF_TUN | IFF_NO_PI))
    finally:
        libc.setns(home, 0)
        os.close(home)
        os.close(there)
    _ip("-n", name, "address", "add", f"{own}/16", "dev", "link0")
    _ip("-n", name, "link", "set", "dev", "link0", "up", "mtu", str(MTU), "txqueuelen", "10000")
    _ip("-n", name, "link", "set", "dev", "lo", "up")
    return device


def _ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout
