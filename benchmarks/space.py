"""The acoustic wave in three dimensions: speed beside that of the memory, and cost of a gradient.

    NUMBA_NUM_THREADS=2 python benchmarks/space.py

128×128×128 nodes, order 4, double precision, without layers and with layers of 10 nodes on all six
sides, which are two fifths of the nodes. A step reads the field, the one before and c², and writes
one: four streams of eight bytes a node. The memory's speed is that of a triad, which reads two
arrays and writes a third.
"""

from __future__ import annotations

import statistics

import numba
from harness import interleaved, parser, ratio, table, write
from waves import DT, SPACING, filled, ours, triad

from adjoint.comm import CartesianGrid
from adjoint.optimize.evaluation import resident
from adjoint.solvers import AcousticWave

LAYER, SPEED = 10, 2500.0


def main() -> None:
    chosen = parser(__doc__).parse_args()
    nodes, steps = (64, 10) if chosen.quick else (128, 30)
    grid = CartesianGrid((nodes,) * 3)
    middle = [nodes // 2 * SPACING] * 3
    cases = {"triad": triad(4 * nodes**3)}
    for name, settings in (("no layers", {"pml_sides": ()}), ("layers", {"pml_width": LAYER})):
        wave = AcousticWave(grid, SPACING, DT, steps, [middle], [middle],
                            [1.0] * steps, **settings)  # fmt: skip
        for case, run in ours(wave, filled(grid, SPEED)).items():
            cases[f"{case}, {name}"] = run
    seconds = interleaved(cases, 3 if chosen.quick else 7)
    streamed = 3 * 4 * nodes**3 / statistics.median(seconds["triad"])  # entries a second
    rows = []
    for name in ("no layers", "layers"):
        forward, gradient = (seconds[f"{case}, {name}"] for case in ("forward", "gradient"))
        speed = nodes**3 * steps / statistics.median(forward)
        rows.append([name, speed / 1e6, 4 * speed / streamed, ratio(gradient, forward)])
    table(
        f"{nodes}×{nodes}×{nodes}, {steps} steps, {numba.get_num_threads()} threads, "
        f"{resident() / 2**20:.0f} MB",
        rows,
        ["", "million nodes/s", "of the triad's bytes/s", "gradient / forward"],
    )
    write(chosen.json, {"nodes": nodes, "steps": steps}, seconds)


if __name__ == "__main__":
    main()
