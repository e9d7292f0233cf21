"""The acoustic wave: speed beside Devito and Deepwave, cost of a gradient, and of small patches.

    NUMBA_NUM_THREADS=2 python benchmarks/acoustic.py

1000×1000 nodes, 100 steps, order 4, layers of 20 nodes, double precision, with one shot and with as
many as threads, because Deepwave gives each shot a thread. Every library has the same number of
nodes, steps and threads; Devito's operator has a damping layer in place of a perfectly matched one,
and neither peer has the velocity inside the divergence. Then 100×100 nodes, 2000 steps, one thread,
where what a step costs beside its arithmetic shows.
"""

from __future__ import annotations

from harness import parser
from waves import Streams, compare

if __name__ == "__main__":
    # For six steps: both levels of the field, each read and written, and c²; in reverse also the
    # gradient's sums along both axes, read and written. The field is kept.
    streams = Streams(5 / 6, 9 / 6, 1)
    compare("acoustic", streams, parser(__doc__).parse_args())
