"""The figure of a source inversion."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from basin import LENGTH, velocity
from plotting import save, subplots

if TYPE_CHECKING:
    from source_inversion import SourceInversion


def draw(path: Path, inversion: SourceInversion, found: dict[str, Any], loss: list[float]) -> None:
    """Draw both sources with flow and sensors, the sensors' series, the course and the loss."""
    figure, axes = subplots(2, 3, figsize=(13.5, 8))
    draw_sources(figure, axes[0], inversion, found)
    draw_series(axes[1, 0], inversion, found)
    hours = inversion.times / 3600
    axes[1, 1].plot(hours, inversion.exact_course, "k", label="true")
    if len(inversion.first) > inversion.parameters:
        axes[1, 1].plot(hours, found["course"], "C1--", label="found")
    axes[1, 1].set(xlabel="time / h", ylabel="w", title="course of the source, mean 1")
    axes[1, 1].legend()
    axes[1, 2].semilogy(loss)
    axes[1, 2].set(xlabel="iteration", ylabel="misfit with smoothing", title="misfit")
    for axis in axes[1]:
        axis.grid(alpha=0.3)
    save(figure, path, dpi=130)


def draw_sources(figure: Any, axes: Any, inversion: SourceInversion, found: dict[str, Any]) -> None:
    """Draw the true source with streamlines, the found one with sensors, and their difference."""
    exact, estimate = 1e3 * found["exact"], 1e3 * found["found"]
    most, off = float(exact.max()), float(np.abs(estimate - exact).max())
    panels = [
        ("true source s, and the flow", exact, "viridis", 0.0, most),
        ("found source, and sensors", estimate, "viridis", 0.0, most),
        ("found − true", estimate - exact, "RdBu_r", -off, off),
    ]
    for axis, (title, values, colours, least, greatest) in zip(axes, panels):
        image = axis.imshow(
            values.T, origin="lower", extent=(0, LENGTH, 0, LENGTH), cmap=colours, vmin=least,
            vmax=greatest,
        )  # fmt: skip
        figure.colorbar(image, ax=axis, shrink=0.85, label="mg/(m³ s)")
        axis.set(title=title, xlabel="x / m", ylabel="y / m")
    line = np.linspace(0, LENGTH, 60)
    u, v = velocity(inversion.flow, *np.meshgrid(line, line))
    axes[0].streamplot(line, line, u, v, color="w", linewidth=0.6, density=0.8, arrowsize=0.8)
    marks = drawn_sensors(found)
    places = inversion.positions
    axes[1].plot(*places.T, "o", color="w", markersize=4, markeredgecolor="k", linestyle="none")
    for number, k in enumerate(marks):
        axes[1].plot(*places[k], "s", color=f"C{number}", markersize=8, markeredgecolor="w")
    for axis in axes:
        axis.set(xlim=(0, LENGTH), ylim=(0, LENGTH))


def draw_series(axis: Any, inversion: SourceInversion, found: dict[str, Any]) -> None:
    """Draw what the sensors of :func:`drawn_sensors` observed, and what the found source gives."""
    hours = inversion.times / 3600
    for number, k in enumerate(drawn_sensors(found)):
        observed, predicted = found["observed"][k], found["predicted"][k]
        axis.plot(hours, observed, ".", color=f"C{number}", markersize=3)
        axis.plot(hours, predicted, color=f"C{number}", linewidth=1)
    axis.plot([], [], "k.", label="observed")
    axis.plot([], [], "k", label="of the found source")
    axis.set(xlabel="time / h", ylabel="concentration / (g/m³)",
             title="what four sensors (squares) recorded")  # fmt: skip
    axis.set_ylim(top=1.35 * axis.get_ylim()[1])  # room for the legend above the series
    axis.legend(loc="upper right")


def drawn_sensors(found: dict[str, Any]) -> Any:
    """Return four sensors from strong to weak."""
    order = np.argsort(-np.abs(found["observed"]).max(axis=1))
    return order[np.unique(np.linspace(0, 0.6 * (len(order) - 1), 4).astype(int))]
