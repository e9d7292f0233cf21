"""Value and gradient of a network, against PyTorch and JAX on the CPU with the same threads.

A 2-20-20-20-1 tanh network at 360,000 points in double precision: forward, then the gradient with
respect to all parameters. Target: at most half of PyTorch's time.

    OPENBLAS_NUM_THREADS=2 NUMBA_NUM_THREADS=2 python benchmarks/mlp.py
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from harness import interleaved, parser, ratio, table, write
from peer import Peer

from adjoint import Tape
from adjoint.nn import MLP

WIDTHS = (2, 20, 20, 20, 1)


def main() -> None:
    arguments = parser(__doc__).parse_args()
    points = np.random.default_rng(0).uniform(-1, 1, (36_000 if arguments.quick else 360_000, 2))
    network = MLP(WIDTHS)
    theta = network.initial(0)
    threads = int(os.environ.get("NUMBA_NUM_THREADS", os.cpu_count() or 1))

    def ours() -> Any:
        with Tape() as tape:
            t = tape.watch(theta)
            loss = network(t, points).sum()
        return tape.gradient(loss, [t])[0]

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.npz"
        np.savez(file, points=points, **network.views(theta))
        peers = {
            name: Peer(f"{name.lower()}_mlp", threads, file=str(file), widths=WIDTHS)
            for name in ("PyTorch", "JAX")
        }
        expected = network.views(ours())
        cases = {"ours": ours}
        for name, peer in peers.items():
            if not peer.cases:
                continue
            peer.cases["check"]()
            found = np.load(f"{file}.gradient.npz")
            for key, value in expected.items():
                scale = np.abs(value).max()
                error = np.abs(found[key] - value).max() / scale
                assert error < 1e-10, f"{name}: the gradient of {key} differs by {error:.1e}"
            cases[name] = peer.cases["gradient"]
        seconds = interleaved(cases, 5 if arguments.quick else 15, warmup=2)
        for peer in peers.values():
            peer.close()
    rows = [[name, float(np.median(s)), ratio(seconds["ours"], s)] for name, s in seconds.items()]
    title = f"Forward and gradient, {len(points)} points, {threads} threads"
    table(title, rows, ["", "seconds", "ours / this"])
    write(arguments.json, {"points": len(points), "widths": WIDTHS}, seconds)


if __name__ == "__main__":
    main()
