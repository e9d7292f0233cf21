"""A model in space with its survey, and slices of fields in space."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from seismic import Model, pyplot, surveyed


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


def section(field: Any) -> Any:
    """Return a field of the plane, or the vertical section (z, x) through the middle of space."""
    return field if field.ndim == 2 else field[:, field.shape[1] // 2]


def draw_slices(path: Path, model: Model, found: Any, name: str, label: str) -> None:
    """Draw slices of the true, the start and the inverted field, and how far the last is off.

    Parameters
    ----------
    path : pathlib.Path
    model : Model
        In space, without absorbing layers.
    found : numpy.ndarray, shape (nz, ny, nx)
    name : str
        Key of the field in ``model.true``.
    label : str
        Quantity and unit, for the colour bars.
    """
    plt = pyplot()
    true, start = model.true[name], model.start[name]
    km = model.spacing / 1e3
    depth, y = 3 * model.shape[0] // 8, model.shape[1] // 2
    low, high = float(true.min()), float(true.max())
    largest = float(np.abs(start - true).max())
    figure, axes = plt.subplots(2, 4, figsize=(12, 5.2), layout="constrained", sharex=True,
                                height_ratios=model.shape[1::-1])  # fmt: skip
    panels = [
        ("true", true, "viridis", low, high),
        ("start", start, "viridis", low, high),
        ("inverted", found, "viridis", low, high),
        ("inverted − true", found - true, "RdBu_r", -largest, largest),
    ]
    for (level, upright), (title, values, colours, least, greatest) in zip(axes.T, panels):
        for axis, part in ((level, values[depth]), (upright, section(values))):
            rows, columns = part.shape
            extent = (-0.5 * km, (columns - 0.5) * km, (rows - 0.5) * km, -0.5 * km)
            image = axis.imshow(part, extent=extent, cmap=colours, vmin=least, vmax=greatest)
        level.axhline(y * km, color="k", linestyle=":", linewidth=1)
        upright.axhline(depth * km, color="k", linestyle=":", linewidth=1)
        level.set_title(title)
        upright.set_xlabel("x (km)")
        if title == "inverted":
            figure.colorbar(image, ax=axes[:, 2], label=label)
    figure.colorbar(image, ax=axes[:, 3], label="difference of " + label)
    axes[0, 0].set_ylabel(f"y (km), at a depth of {depth * km:.2f} km")
    axes[1, 0].set_ylabel(f"depth (km), at y = {y * km:.2f} km")
    axes[0, 0].plot(*model.receivers.T[:0:-1] / 1e3, "w.", markersize=2)
    axes[0, 0].plot(*model.sources.T[:0:-1] / 1e3, "r*", markersize=7)
    figure.savefig(path, dpi=150)
    plt.close(figure)
