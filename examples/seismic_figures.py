"""Figures of the seismic inversions: models in the plane and in space, wavefields and traces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from plotting import save, subplots
from seismic import Model


def draw_models(path: Path, model: Model, found: Any, name: str, label: str) -> None:
    """Draw the true, the start and the inverted field, and how far the last is off.

    Parameters
    ----------
    path : pathlib.Path
    model : Model
        Without absorbing layers.
    found : numpy.ndarray, shape (nz, nx)
    name : str
        Key of the field in ``model.true``.
    label : str
        Quantity and unit, for the colour bars.
    """
    figure, axes = subplots(2, 2, figsize=(11, 5.2), sharex=True, sharey=True)
    panels = _panels(model.true[name], model.start[name], found)
    bars = label, label, label, f"difference of {label}"
    for axis, (title, values, scale), bar in zip(axes.flat, panels, bars):
        extent = _extent(values.shape, model.spacing)
        image = axis.imshow(values, extent=extent, aspect="auto", **scale)
        figure.colorbar(image, ax=axis, label=bar)
        axis.set(title=title)
    _name_sides(axes)
    axes[0, 0].plot(*model.receivers.T[::-1] / 1e3, "w.", markersize=1.5)
    axes[0, 0].plot(*model.sources.T[::-1] / 1e3, "r*", markersize=6, clip_on=False)
    save(figure, path)


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
    km = model.spacing / 1e3
    depth, y = 3 * model.shape[0] // 8, model.shape[1] // 2
    figure, axes = subplots(2, 4, figsize=(12, 5.2), sharex=True, height_ratios=model.shape[1::-1])
    panels = _panels(model.true[name], model.start[name], found)
    for (level, upright), (title, values, scale) in zip(axes.T, panels):
        for axis, part in ((level, values[depth]), (upright, section(values))):
            image = axis.imshow(part, extent=_extent(part.shape, model.spacing), **scale)
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
    save(figure, path)


def _panels(true: Any, start: Any, found: Any) -> list[tuple[str, Any, dict[str, Any]]]:
    """Return titles, fields and their colours; the last is how far the inverted model is off."""
    fields = {"cmap": "viridis", "vmin": float(true.min()), "vmax": float(true.max())}
    largest = float(np.abs(start - true).max())
    off = {"cmap": "RdBu_r", "vmin": -largest, "vmax": largest}
    return [
        ("true", true, fields), ("start", start, fields), ("inverted", found, fields),
        ("inverted − true", found - true, off),
    ]  # fmt: skip


def _extent(shape: tuple[int, int], spacing: float) -> tuple[float, ...]:
    """Return where an image of nodes ends, in kilometres."""
    rows, columns = shape
    km = spacing / 1e3
    return -0.5 * km, (columns - 0.5) * km, (rows - 0.5) * km, -0.5 * km


def _name_sides(axes: Any) -> None:
    """Write beside the outer ones of many axes what they are."""
    for axis in axes[-1]:
        axis.set_xlabel("x (km)")
    for axis in axes[:, 0]:
        axis.set_ylabel("depth (km)")


def section(field: Any) -> Any:
    """Return a field of the plane, or the vertical section (z, x) through the middle of space."""
    return field if field.ndim == 2 else field[:, field.shape[1] // 2]


def draw_wavefield(path: Path, frames: list[tuple[float, Any]], extent: Any, label: str) -> None:
    """Draw one shot's wavefield at several times, each scaled by its own greatest value."""
    figure, axes = subplots(2, (len(frames) + 1) // 2, figsize=(11, 5.2), sharex=True, sharey=True)
    for axis, (seconds, field) in zip(axes.flat, frames):
        largest = float(np.quantile(np.abs(field), 0.998)) or 1.0
        image = axis.imshow(
            field, extent=extent, cmap="RdBu_r", vmin=-largest, vmax=largest, aspect="auto"
        )
        figure.colorbar(image, ax=axis, label=label)
        axis.set(title=f"t = {seconds:.2f} s")
    _name_sides(axes)
    save(figure, path)


def draw_traces(path: Path, model: Model, gathers: dict[str, Any], label: str) -> None:
    """Draw one shot's traces: observed, of the start, of the inverted model, and what is left.

    Parameters
    ----------
    path : pathlib.Path
    model : Model
    gathers : dict of numpy.ndarray, shape (receivers, steps)
        ``"observed"``, ``"start"`` and ``"inverted"``.
    label : str
        Quantity and unit, for the colour bar.
    """
    observed = gathers["observed"]
    largest = float(np.quantile(np.abs(observed), 0.99)) or 1.0
    panels = {
        "observed": observed,
        "start": gathers["start"],
        "inverted": gathers["inverted"],
        "inverted − observed": gathers["inverted"] - observed,
    }
    figure, axes = subplots(1, 4, figsize=(11, 4.2), sharey=True)
    extent = (0, len(observed), model.steps * model.dt, 0)
    for axis, (title, values) in zip(axes, panels.items()):
        image = axis.imshow(
            values.T, extent=extent, cmap="gray", vmin=-largest, vmax=largest, aspect="auto"
        )
        axis.set(title=title, xlabel="receiver")
    axes[0].set_ylabel("time (s)")
    figure.colorbar(image, ax=axes[-1], label=label)
    save(figure, path)
