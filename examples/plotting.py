"""What the figures of several programs share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from adjoint.comm import CartesianGrid
from adjoint.files import written_whole


def subplots(*shape: int, **more: Any) -> tuple[Any, Any]:
    """Return a new figure and its axes, as matplotlib does, to be saved and never shown."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt.subplots(*shape, layout="constrained", **more)


def save(figure: Any, path: Path, dpi: int = 150) -> None:
    """Write a figure and forget it; whatever ends the program, there is no half of one."""
    import matplotlib.pyplot as plt

    with written_whole(path) as file:
        figure.savefig(file, dpi=dpi, format="png")
    plt.close(figure)


def draw_fields(
    path: Path, exact: Any, found: Any, grid: CartesianGrid, title: str, by: str
) -> None:
    """Draw exact κ, the κ found by something and their difference side by side.

    Parameters
    ----------
    path : Path
    exact, found : numpy.ndarray
        The whole fields, or thumbnails of them.
    grid : CartesianGrid
        Whose patches are shown.
    title, by : str
        Of the figure, and what found κ.
    """
    error = found - exact
    low, high = float(exact.min()), float(exact.max())
    largest = float(np.abs(error).max())
    figure, axes = subplots(1, 3, figsize=(11, 3.6))
    panels = [
        ("exact κ", exact, "viridis", low, high),
        (f"{by} κ", found, "viridis", low, high),
        (f"{by} − exact", error, "RdBu_r", -largest, largest),
    ]
    for axis, (name, values, colours, least, greatest) in zip(axes, panels):
        image = axis.imshow(
            values.T, origin="lower", extent=(0, 1, 0, 1), cmap=colours, vmin=least, vmax=greatest
        )
        figure.colorbar(image, ax=axis, shrink=0.85)
        for axis_index, line in enumerate((axis.axvline, axis.axhline)):
            edges = {grid.patch(r)[0][axis_index] for r in range(grid.size)} - {0}
            for edge in sorted(edges):
                line(edge / grid.shape[axis_index], color="white" if colours == "viridis" else "k",
                     linewidth=0.8, linestyle="--")  # fmt: skip
        axis.set(title=name, xlabel="x", ylabel="y")
    figure.suptitle(title)
    save(figure, path)
