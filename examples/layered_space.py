"""A model in space with its survey."""

from __future__ import annotations

import numpy as np
from seismic import Model, surveyed


def layered_space() -> Model:
    """Return three layers in space, with interfaces that undulate along both horizontal axes.

    It is small enough for a few minutes: 24 nodes deep, and 32 along y and x.
    """
    shape, spacing = (24, 32, 32), 20.0
    z, y, x = (line * spacing for line in np.mgrid[tuple(slice(n) for n in shape)])
    width = shape[2] * spacing
    first = 180 + 40 * np.sin(np.pi * (2 * x + y) / width)
    second = 330 + 40 * np.cos(2 * np.pi * x / width) * np.sin(np.pi * y / width)
    vp = 1800.0 + 300 * (z > first) + 300 * (z > second)
    peak_frequency = float(vp.min() / (13 * spacing))
    return surveyed(
        vp, spacing, dt=3.2e-3, peak_frequency=peak_frequency, shots=(2, 3), smooth=5, layer=8
    )
