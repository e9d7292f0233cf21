"""The elastic wave: speed beside Devito and Deepwave, cost of a gradient, and of small patches.

    NUMBA_NUM_THREADS=2 python benchmarks/elastic.py

1000×1000 nodes, 100 steps, order 4, layers of 20 nodes, double precision, with one shot and with as
many as threads, because Deepwave gives each shot a thread. Every library has the same number of
nodes, steps and threads; Devito's operator has no absorbing layer at all. Then 100×100 nodes, 2000
steps, where what a step costs beside its arithmetic shows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness import parser
from waves import compare, filled, ours, survey

from adjoint.comm import CartesianGrid
from adjoint.solvers import ElasticWave, Lame

MEDIUM = {"vp": 3000.0, "vs": 1700.0, "rho": 2000.0}


def cases(nodes: int, steps: int, shots: int) -> dict[str, Callable[[], Any]]:
    grid = CartesianGrid((nodes, nodes))
    wave = ElasticWave(grid, *survey(nodes, steps, shots), report=lambda text: None)
    vp, vs, rho = filled(grid, *MEDIUM.values())
    return ours(wave, (*Lame()(vp, vs, rho), rho))


if __name__ == "__main__":
    # Velocities: 3 stresses, 2 densities, 2 velocities in place. Stresses: 2 velocities, 3 moduli,
    # 3 stresses in place.
    compare("elastic", cases, MEDIUM, 20, parser(__doc__).parse_args())
