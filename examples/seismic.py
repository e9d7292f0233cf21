"""Models of the subsurface and their surveys, which the seismic inversions share.

A model file is an .npz with the keys

    vp[, vs, rho]                          (nx, nz)      true model, m/s, m/s, kg/m³
    vp_smooth[, vs_smooth, rho_smooth]     (nx, nz)      start of the inversion
    mask                                   (nx, nz)      1 where the model may change; optional
    spacing                                scalar        of the nodes, m, along both axes
    dt, nt                                 scalars       time step, s, and number of steps
    sources, receivers                     (n, 2)        positions (horizontal, depth) in nodes
    source_time_function                   (nt,)         one for all sources
    peak_frequency                         scalar        Hz, used in titles and bands; optional

Axis 0 of the file is horizontal and axis 1 depth; in the program it is the other way round. The
file's model has no absorbing layers: they are laid around it.

A SEG-Y file of P velocity in m/s, with the spacing in millimetres for the sample interval, is a
model, too: the rest follows from the velocity as in :func:`surveyed`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI
from scipy.ndimage import gaussian_filter

from adjoint.files import read_npz
from adjoint.solvers import read_model as read_segy
from adjoint.solvers import ricker

PML = 20
PARAMETERS = ("vp", "vs", "rho")


@dataclass(frozen=True)
class Model:
    """A model of the subsurface with its survey.

    Attributes
    ----------
    true, start : dict of numpy.ndarray, shape (nz, nx) or (nz, ny, nx)
        ``"vp"`` and, where known, ``"vs"`` in m/s and ``"rho"`` in kg/m³.
    mask : numpy.ndarray of bool, of the same shape
        Where the model may change.
    spacing, dt : float
        In metres and seconds.
    sources, receivers : numpy.ndarray, shape (n, axes)
        Positions (z, x) or (z, y, x) in metres.
    wavelet : numpy.ndarray, shape (steps,)
    peak_frequency : float
        In hertz.
    layer : int
        Nodes of an absorbing layer that is laid around it.
    """

    true: dict[str, Any]
    start: dict[str, Any]
    mask: Any
    spacing: float
    dt: float
    sources: Any
    receivers: Any
    wavelet: Any
    peak_frequency: float
    layer: int = PML

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.mask.shape)

    @property
    def steps(self) -> int:
        return len(self.wavelet)

    @property
    def wavelength(self) -> float:
        """Of P waves at the peak frequency, in metres."""
        return float(np.median(self.true["vp"])) / self.peak_frequency

    def thinned(self, step: int) -> Model:
        """Return the model at every so many-th node, with the same survey; itself for every one."""
        if step == 1:
            return self
        nodes = (slice(None, None, step),) * self.mask.ndim
        return replace(
            self,
            true={name: field[nodes].copy() for name, field in self.true.items()},
            start={name: field[nodes].copy() for name, field in self.start.items()},
            mask=self.mask[nodes].copy(),
            spacing=step * self.spacing,
        )


def surveyed(
    vp: Any,
    spacing: float,
    dt: float | None = None,
    steps: int | None = None,
    peak_frequency: float | None = None,
    shots: tuple[int, ...] = (8,),
    smooth: float = 16,
    layer: int = PML,
) -> Model:
    """Return a velocity with a survey near the surface, and a smooth model to start from.

    Parameters
    ----------
    vp : numpy.ndarray, shape (nz, nx) or (nz, ny, nx)
        In m/s.
    spacing : float
        In metres.
    dt : float, optional
        In seconds; by default about half of the longest stable step.
    steps : int, optional
        By default as many as a wave takes from one end of the surface to the other by way of the
        bottom.
    peak_frequency : float, optional
        In hertz; by default the slowest wave has 22.5 nodes a wavelength at it.
    shots : tuple of int
        Along each horizontal axis.
    smooth : float
        Standard deviation of the Gaussian that makes the start, in nodes.
    layer : int
        Nodes of an absorbing layer.
    """
    rows, *horizontal = vp.shape
    height, widths = rows * spacing, [n * spacing for n in horizontal]
    if dt is None:
        dt = np.floor(1e6 * 0.3 * spacing / vp.max()) / 1e6
    if peak_frequency is None:
        peak_frequency = float(vp.min() / (22.5 * spacing))
    if steps is None:
        longest = np.linalg.norm([2 * height, *widths])
        steps = int((longest / vp.mean() + 1.2 / peak_frequency) / dt)
    true = {"vp": vp, "vs": vp / np.sqrt(3), "rho": 310 * vp**0.25}
    mask = np.zeros(vp.shape, bool)
    mask[6:] = True
    blurred = {name: gaussian_filter(field, smooth, mode="nearest") for name, field in true.items()}
    depth = np.array([2 * spacing])
    sources = [(np.arange(count) + 0.5) * width / count for count, width in zip(shots, widths)]
    receivers = [np.arange(5, count - 5, 2) * spacing for count in horizontal]
    return Model(
        true=true,
        start={name: np.where(mask, blurred[name], true[name]) for name in true},
        mask=mask,
        spacing=spacing,
        dt=dt,
        sources=_spread(depth, *sources),
        receivers=_spread(depth, *receivers),
        wavelet=ricker(np.arange(steps) * dt, peak_frequency),
        peak_frequency=peak_frequency,
        layer=layer,
    )


def _spread(*lines: Any) -> Any:
    """Return all positions with a coordinate of each axis's, (points, axes)."""
    return np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1).reshape(-1, len(lines))


def layered() -> Model:
    """Return four layers with gently undulating interfaces.

    As in figure 18 of Xu, Zhu and Darve, sources and receivers are near the surface.
    """
    rows, columns, spacing = 100, 200, 10.0
    z, x = np.mgrid[:rows, :columns] * spacing
    width = columns * spacing
    interfaces = [
        250 + 30 * np.sin(2 * np.pi * x / width),
        480 - 40 * np.sin(np.pi * x / width),
        720 + 50 * np.cos(2 * np.pi * x / width),
    ]
    vp = 1800.0 + 400 * np.sum([z > depth for depth in interfaces], axis=0)
    return surveyed(vp, spacing, dt=1e-3, steps=1300, peak_frequency=8.0)


def read_model(path: Path, names: tuple[str, ...]) -> Model:
    """Return the model of a file, with the parameters named.

    Raises
    ------
    ValueError
        Where keys are missing, shapes do not fit, or values are not finite.
    OSError
        Where the file cannot be read.
    """
    if path.suffix.lower() in (".sgy", ".segy"):
        return _read_velocity(path)
    found = read_npz(path)
    fields = [*names, *(f"{name}_smooth" for name in names)]
    needed = [*fields, "spacing", "dt", "nt", "sources", "receivers", "source_time_function"]
    if missing := [key for key in needed if key not in found]:
        raise ValueError(f"{path}: lacks the keys {', '.join(missing)}")
    shape = found[names[0]].shape
    found.setdefault("mask", np.ones(shape))
    found.setdefault("peak_frequency", np.array(np.nan))
    steps = int(found["nt"]) if found["nt"].ndim == 0 else -1
    expected: dict[str, tuple[int, ...]] = dict.fromkeys((*fields, "mask"), shape)
    expected |= dict.fromkeys(("spacing", "dt", "nt", "peak_frequency"), ())
    expected |= {"source_time_function": (steps,)}
    expected |= {key: (len(np.atleast_1d(found[key])), 2) for key in ("sources", "receivers")}
    for key, wanted in expected.items():
        if found[key].shape != wanted:
            raise ValueError(f"{path}: {key} has shape {found[key].shape}, expected {wanted}")
    if len(shape) != 2:
        raise ValueError(f"{path}: {names[0]} has {len(shape)} axes, expected 2")
    for key in needed:
        if not np.isfinite(found[key]).all():
            raise ValueError(f"{path}: {key} has values that are not finite")
    for key in ("sources", "receivers"):
        if not len(found[key]):
            raise ValueError(f"{path}: {key} is empty")
        off = (found[key] < 0) | (found[key] > np.array(shape) - 1)
        if off.any():
            x, z = found[key][np.flatnonzero(off.any(axis=1))[0]]
            raise ValueError(
                f"{path}: {key} has ({x:g}, {z:g}), expected nodes from (0, 0) to "
                f"({shape[0] - 1}, {shape[1] - 1})"
            )
    if not found["source_time_function"].any():
        raise ValueError(f"{path}: source_time_function is zero")
    spacing, dt = float(found["spacing"]), float(found["dt"])
    wavelet = found["source_time_function"]
    peak = float(found["peak_frequency"])
    if not np.isfinite(peak):
        spectrum = np.abs(np.fft.rfft(wavelet))
        peak = float(np.fft.rfftfreq(steps, dt)[np.argmax(spectrum)])
    return Model(
        true={name: np.ascontiguousarray(found[name].T) for name in names},
        start={name: np.ascontiguousarray(found[f"{name}_smooth"].T) for name in names},
        mask=found["mask"].T > 0.5,
        spacing=spacing,
        dt=dt,
        sources=found["sources"][:, ::-1] * spacing,
        receivers=found["receivers"][:, ::-1] * spacing,
        wavelet=wavelet,
        peak_frequency=peak,
    )


def _read_velocity(path: Path) -> Model:
    """Return the model of a SEG-Y file, which has a velocity alone."""
    vp, (z, x), _ = read_segy(path, comm=MPI.COMM_SELF)
    if abs(z - x) > 1e-6 * z:
        raise ValueError(f"{path}: spacing is {z:g} m and {x:g} m, expected the same for both axes")
    if min(vp.shape) < 12:
        raise ValueError(f"{path}: has {vp.shape[0]}×{vp.shape[1]} nodes, expected 12 or more")
    if vp.min() <= 0:
        raise ValueError(f"{path}: has the velocity {vp.min():g} m/s, expected positive ones")
    return surveyed(vp, z)
