"""Filters along time, for inversions that go from low frequencies to high ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.signal import butter, sosfilt

from ..operator import Operator, require_float
from ..variable import Array


class Butterworth(Operator):
    """Pass the frequencies from ``low`` to ``high`` of traces or wavelets.

    The input has time as its last axis (``[shot, receiver, time]``, ``[time]``, …) and dtype
    float32 or float64; the output has the same shape and dtype.

    Parameters
    ----------
    dt : float
        Time between samples, in seconds.
    low, high : float, optional
        Ends of the band in hertz, where amplitudes are 1/√2 (½ with ``zero_phase``). Without
        ``low`` a low-pass, without ``high`` a high-pass filter.
    order : int
        Of the filter: amplitudes fall by 6 dB an octave for each (12 dB with ``zero_phase``).
    zero_phase : bool
        Filter forwards and backwards in time. Waves are not delayed then, but begin earlier than
        they were sent.

    Raises
    ------
    ValueError
        Where the band is not between 0 and the Nyquist frequency ``1 / (2 dt)``.
    TypeError
        Where the input is not an array of floats.

    Notes
    -----
    The filter is at rest before the first sample, so it is ``y = L x`` with a lower triangular
    Toeplitz matrix; with the reversal of time ``R``, ``Lᵀ = R L R``. With ``zero_phase`` it is
    ``y = Lᵀ L x``, which is its own transpose.

    ``L`` commutes with all that does not change in time and begins at rest, such as a wave solver:
    filtered wavelets give filtered traces, exactly. So an inversion may filter its wavelets and its
    observed traces, and leave the predicted ones as they are. With ``zero_phase`` this holds only
    as far as nothing is cut off at the ends.

    References
    ----------
    Butterworth (1930). On the theory of filter amplifiers. Experimental Wireless 7, 536–541.

    Bunks et al. (1995). Multiscale seismic waveform inversion. DOI 10.1190/1.1443880

    Examples
    --------
    >>> times = np.arange(2000) * 1e-3
    >>> slow, fast = np.sin(2 * np.pi * 2 * times), np.sin(2 * np.pi * 40 * times)
    >>> left = Butterworth(dt=1e-3, high=8.0, zero_phase=True)(slow + fast)
    >>> bool(np.abs(left - slow)[500:1500].max() < 0.01)
    True
    """

    needs_inputs = ()
    needs_outputs = ()

    def __init__(
        self,
        dt: float,
        low: float | None = None,
        high: float | None = None,
        order: int = 4,
        zero_phase: bool = False,
    ) -> None:
        if not (np.isfinite(dt) and dt > 0):
            raise ValueError(f"{self.name}: dt is {dt}, expected a positive number of seconds")
        if int(order) != order or order < 1:
            raise ValueError(f"{self.name}: order is {order}, expected a positive integer")
        band = [f for f in (low, high) if f is not None]
        nyquist = 0.5 / dt
        if not band or not all(a < b for a, b in zip([0.0, *band], [*band, nyquist])):
            raise ValueError(
                f"{self.name}: the band is from {low} to {high} Hz, expected 0 < low < high < "
                f"{nyquist:g} Hz, or one of the two"
            )
        self.dt, self.low, self.high = float(dt), low, high
        self.order, self.zero_phase = int(order), bool(zero_phase)
        kind = "lowpass" if low is None else "highpass" if high is None else "bandpass"
        self._sections = butter(
            self.order, band if len(band) == 2 else band[0], kind, fs=1 / dt, output="sos"
        )

    def forward(self, x: Any) -> Any:
        y = self._filter(x)
        return self._backwards(y) if self.zero_phase else y

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        return self.forward(tangents[0])

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        y = self._filter(cotangents[0]) if self.zero_phase else cotangents[0]
        return (self._backwards(y),)

    def check(self, *inputs: Any) -> None:
        (x,) = inputs
        if not isinstance(x, np.ndarray) or x.ndim == 0:
            raise TypeError(f"{self.name}: the input has no axis of time, expected an array")
        require_float(self.name, "the input", x)

    def _filter(self, x: Array) -> Array:
        """Return ``L x``, computed in double precision."""
        if x.size == 0:
            return x.copy()
        result: Array = sosfilt(self._sections, x, axis=-1).astype(x.dtype, copy=False)
        return result

    def _backwards(self, x: Array) -> Array:
        """Return ``Lᵀ x = R L R x``."""
        return np.ascontiguousarray(self._filter(x[..., ::-1])[..., ::-1])
