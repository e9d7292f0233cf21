"""The basin of the source inversion: its flows, and the source that is to be found."""

from __future__ import annotations

from typing import Any

import numpy as np

LENGTH = 1000.0  # of the basin's sides, in metres
DURATION = 6000.0  # of the observations, in seconds
SPEED = 0.5  # of the fastest water, in m/s
KAPPA = 0.5  # m²/s
STRENGTH = 1e-3  # of the source where it is strongest, in g/(m³ s)

#: Flows, by what the ends of both axes are.
FLOWS: dict[str, Any] = {"gyre": "closed", "channel": ["open", "closed"]}


def velocity(flow: str, x: Any, y: Any) -> Any:
    """Return the flow at positions in metres, in m/s: without divergence, along the walls."""
    a, b = x / LENGTH, y / LENGTH
    if flow == "channel":  # the stream function is SPEED LENGTH (2η² − 4η³/3)
        wave = 0.6 * np.sin(2 * np.pi * a)
        eta = b + wave * b * (1 - b)
        of_a = 1.2 * np.pi * np.cos(2 * np.pi * a) * b * (1 - b)
        return 4 * SPEED * eta * (1 - eta) * np.stack([1 + wave * (1 - 2 * b), -of_a])
    a, b = np.pi * a, np.pi * b
    return SPEED * np.stack([np.sin(a) * np.cos(b), -np.cos(a) * np.sin(b)])


def exact_source(flow: str, x: Any, y: Any) -> Any:
    """Return the source to be found: two spots, one of them long and oblique."""
    shift = -0.2 if flow == "channel" else 0.0  # upstream
    a, b = x / LENGTH - shift, y / LENGTH
    round_one = np.exp(-((a - 0.32) ** 2 + (b - 0.66) ** 2) / (2 * 0.06**2))
    along, across = (a - 0.62) + (b - 0.36), (a - 0.62) - (b - 0.36)
    long_one = np.exp(-(along**2) / (2 * 0.15**2) - across**2 / (2 * 0.06**2))
    return STRENGTH * (round_one + 0.7 * long_one)


def exact_course(times: Any) -> Any:
    """Return how strong the source is over time: it leaks for a while, and then a little less."""
    rise = 1 / (1 + np.exp(-(times / DURATION - 0.12) / 0.03))
    fall = 1 / (1 + np.exp((times / DURATION - 0.45) / 0.04))
    return rise * (0.25 + 0.75 * fall)
