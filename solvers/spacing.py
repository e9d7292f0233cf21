"""The distance of a grid's nodes along its axes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..comm import CartesianGrid
from ..world import agreed


def node_spacing(
    name: str,
    grid: CartesianGrid,
    spacing: float | Sequence[float] | None,
    extent: float | Sequence[float] | None = None,
) -> tuple[float, ...]:
    """Return the distance of nodes along each axis, from itself or from the lengths of the box.

    Parameters
    ----------
    name : str
        Of what asks, for messages.
    grid : CartesianGrid
    spacing, extent : float or sequence of float, optional
        Positive lengths, one for all axes or one each. With ``N`` nodes inside a box of length
        ``extent`` the spacing is ``extent / (N + 1)``; with neither, ``extent`` is 1.

    Raises
    ------
    ValueError
        On all ranks, where both are given, or what is given does not fit the grid.
    """
    with agreed(grid.comm):
        if spacing is not None and extent is not None:
            raise ValueError(f"{name}: got spacing and extent, expected one of them")
        boxed = spacing is None
        given = (1.0 if extent is None else extent) if spacing is None else spacing
        lengths = np.asarray(given, float)
        fits = lengths.ndim < 2 and lengths.size in (1, grid.ndim)
        if not fits or not np.all((lengths > 0) & (lengths < np.inf)):
            raise ValueError(
                f"{name}: {'extent' if boxed else 'spacing'} is {given}, expected a positive "
                f"length, or {grid.ndim}"
            )
        steps = np.broadcast_to(lengths, grid.ndim)
        if boxed:
            steps = steps / (np.array(grid.shape) + 1)
        return tuple(float(h) for h in steps)
