"""What Xu, Zhu and Darve measured (https://doi.org/10.48550/arXiv.2011.01349), in seconds.

One of their processes is a node of 32 cores of Intel Xeon E5-2670. Figures 20, 21, 23 and 24.
"""

from __future__ import annotations

RANKS = {"strong": (1, 4, 16, 64, 100), "weak": (1, 4, 16, 64, 100)}

#: Of the waves; other runs are not comparable.
STEPS = {"strong": 100, "weak": 2000}

#: (physics, mode) → times of the forward run, and of forward run and gradient together.
SECONDS = {
    ("acoustic", "strong"): ((3.74, 1.36, 0.474, 0.161, 0.112), (15.24, 5.09, 1.70, 0.570, 0.461)),
    ("acoustic", "weak"): ((1.08, 1.39, 1.56, 1.81, 1.94), (3.77, 5.39, 6.49, 7.47, 7.82)),
    ("elastic", "strong"): ((15.27, 6.62, 1.78, 0.598, 0.462), (40.36, 17.79, 4.77, 1.680, 1.381)),
    ("elastic", "weak"): ((3.65, 5.44, 6.07, 7.08, 7.49), (19.77, 31.29, 35.50, 38.83, 39.98)),
}
