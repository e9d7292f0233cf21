"""The elastic wave: speed beside Devito and Deepwave, cost of a gradient, and of small patches.

    NUMBA_NUM_THREADS=2 python benchmarks/elastic.py

1000×1000 nodes, 100 steps, order 4, layers of 20 nodes, double precision, with one shot and with as
many as threads, because Deepwave gives each shot a thread. Every library has the same number of
nodes, steps and threads; Devito's operator has no absorbing layer at all. Then 100×100 nodes, 2000
steps, one thread, where what a step costs beside its arithmetic shows.
"""

from __future__ import annotations

from harness import parser
from waves import Streams, compare

if __name__ == "__main__":
    # For eight steps: 2 velocities and 3 stresses read and written, 2 densities, 3 moduli; in
    # reverse also the gradient's 5 sums, read and written. Both velocities are kept.
    streams = Streams(15 / 8, 25 / 8, 2)
    compare("elastic", streams, parser(__doc__).parse_args())
