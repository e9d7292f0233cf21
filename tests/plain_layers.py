"""Absorbing layers, written out from their equations for waves on small grids."""

from __future__ import annotations

from typing import Any

import numpy as np

DT, WIDTH, SPEED, FREQUENCY = 2e-3, 3, 2000.0, 12.0


def damping(
    positions: Any, nodes: int, h: float, low: bool, high: bool, shape: tuple[int, ...] = (-1, 1),
    width: int = WIDTH,
) -> tuple[Any, Any]:  # fmt: skip
    """Return a and b of ``ψ ← b ψ + a ∂u`` at positions in nodes, as columns.

    Parameters
    ----------
    positions : numpy.ndarray
    nodes : int
        Of the whole axis.
    h : float
        Their distance, m.
    low, high : bool
        Whether there are layers at the ends.
    shape : tuple of int
        Of what is returned.
    width : int
        Of the layers, in nodes.
    """
    depth = np.maximum(low * (width - positions), high * (positions - (nodes - 1 - width)))
    x = np.maximum(depth, 0) / width
    d = -3 * SPEED * np.log(1e-5) / (2 * width * h) * x**2
    alpha = np.pi * FREQUENCY * np.maximum(1 - x, 0)
    b = np.where(x > 0, np.exp(-(d + alpha) * DT), 0)
    a = np.where(x > 0, d * (b - 1) / (d + alpha), 0)
    return a.reshape(shape), b.reshape(shape)
