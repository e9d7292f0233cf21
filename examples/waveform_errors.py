"""How good the model of a waveform inversion is, in numbers and in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import uniform_filter

if TYPE_CHECKING:
    from waveform import Inversion


def errors(inversion: Inversion, found: Any, energy: Any) -> dict[str, float]:
    """Return how far the model is off, and where it is nearer than the start.

    A place is illuminated where the waves of all shots have at least half of their median energy
    and where it lies beneath the survey, between the outermost of its sources and receivers: from
    elsewhere reflections leave for where nobody listens. The error at a place is the root mean
    square of that in a window. Windows of half a wavelength are as small as waves resolve; there a
    start that happens to be right can hardly be bettered. In windows of a wavelength it is not so.
    """
    model = inversion.model
    true, start = model.true[inversion.name], model.start[inversion.name]
    ends = np.concatenate([model.sources, model.receivers]) / model.spacing
    beneath = np.ones(true.shape, bool)
    for axis in range(1, true.ndim):
        x, least, most = np.indices(true.shape)[axis], ends[:, axis].min(), ends[:, axis].max()
        beneath &= (x >= least - 0.5) & (x <= most + 0.5)
    lit = model.mask & (energy > 0.5 * np.median(energy[model.mask])) & beneath
    wavelength = float(np.median(model.true["vp"])) / model.peak_frequency / model.spacing
    numbers = {
        "model_error": float(np.linalg.norm((found - true)[lit]) / np.linalg.norm(true[lit])),
        "start_error": float(np.linalg.norm((start - true)[lit]) / np.linalg.norm(true[lit])),
        "illuminated": float(lit.mean()),
    }
    for prefix, part in (("", 1.0), ("fine_", 0.5)):
        window = max(3, round(part * wavelength))
        after, before = (
            np.sqrt(uniform_filter((field - true) ** 2, window, mode="nearest"))[lit]
            for field in (found, start)
        )
        numbers[f"{prefix}window"] = window * model.spacing
        numbers[f"{prefix}improved"] = float((after < before).mean())
        # Of what the start is off: 1 where a place without error has none now either.
        ratios = np.divide(after, before, out=np.ones_like(after), where=before > 0)
        numbers[f"{prefix}worst"] = float(ratios.max())
    return numbers


def told(misfit: float, numbers: dict[str, float]) -> dict[str, str]:
    """Return in words how good the result is."""
    nearer = {
        name: f"in windows of {length} ({numbers[f'{part}window']:.0f} m) "
        f"{100 * numbers[f'{part}improved']:.1f} %, at worst {numbers[f'{part}worst']:.2f} of the "
        "start's error"
        for name, length, part in (
            ("nearer there", "a wavelength", ""), ("", "half a wavelength", "fine_")
        )
    }  # fmt: skip
    return {
        "misfit": f"{misfit:.4f} of the start's: {100 * (1 - misfit):.1f} % less",
        "illuminated": f"{100 * numbers['illuminated']:.0f} % of the model",
        "error there": f"{100 * numbers['start_error']:.2f} % → "
        f"{100 * numbers['model_error']:.2f} %",
        **nearer,
    }
