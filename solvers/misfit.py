"""How far predicted traces are from observed ones.

Every misfit is ``J = Σ_i w_i φ(d_i, o_i)``, a sum over traces with the weights ``w`` and a distance
``φ`` of a predicted trace ``d`` from an observed one ``o``. It is this rank's part of the sum:
``Allreduce`` or ``Reduce`` makes the total of it, over the receivers of all patches and, on the
communicator of all shot groups, over all shots.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import scipy.fft

from ..operator import Operator, require_float
from ..variable import Array


class Misfit(Operator):
    """What all misfits share: weights, checks, and the sum over traces.

    Inputs of a call are ``predicted`` and ``observed``, both [shot, receiver, time] (or with any
    axes before time) of one shape and dtype, float32 or float64; either may be a variable. The
    output is a scalar of that dtype: 0 on a rank without receivers.

    Parameters
    ----------
    weights : array_like, optional
        Of the traces, not negative; of a shape that can be broadcast to that of the traces without
        time, [shot, receiver] of this rank. 1 by default. A trace of weight 0 does not matter,
        whatever it holds.

    Raises
    ------
    TypeError, ValueError
        Where shapes or dtypes do not fit, or an observed trace whose weight is not 0 has values
        that are not finite.

    Notes
    -----
    With ``g(d, o) = ∂φ(d, o)/∂d`` and ``φ`` symmetric,

        J̇ = Σ_i w_i (⟨g(d_i, o_i), ḋ_i⟩ + ⟨g(o_i, d_i), ȯ_i⟩),
        d̄_i = J̄ w_i g(d_i, o_i),        ō_i = J̄ w_i g(o_i, d_i).
    """

    needs_outputs = ()

    def __init__(self, weights: Any = None) -> None:
        self._weights = np.asarray(1.0 if weights is None else weights, np.float64)
        if not (np.isfinite(self._weights) & (self._weights >= 0)).all():
            raise ValueError(f"{self.name}: weights are negative or not finite, expected w ≥ 0")

    @abstractmethod
    def distances(self, d: Array, o: Array) -> Array:
        """Return ``φ`` of each of the traces [trace, time], in double precision."""

    @abstractmethod
    def slopes(self, d: Array, o: Array) -> Array:
        """Return ``∂φ/∂d`` of each of the traces, [trace, time]."""

    def forward(self, predicted: Any, observed: Any) -> Any:
        d, o, w, _ = self._weighted(predicted, observed)
        return np.asarray(w @ self.distances(d, o), predicted.dtype)

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        d, o, w, rows = self._weighted(*inputs)
        change = np.zeros(len(w))
        for x, y, tangent in ((d, o, tangents[0]), (o, d, tangents[1])):
            if tangent.any():  # it is zero for what is constant, as observed traces mostly are
                change += _inner(self.slopes(x, y), _flat(tangent)[rows])
        return np.asarray(w @ change, outputs[0].dtype)

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        d, o, w, rows = self._weighted(*inputs)
        factor = (cotangents[0] * w)[:, np.newaxis]

        def cotangent(x: Array, y: Array) -> Array:
            result = np.zeros(inputs[0].shape, inputs[0].dtype)  # in C order: its rows are views
            _flat(result)[rows] = factor * self.slopes(x, y)
            return result

        return cotangent(d, o), lambda: cotangent(o, d)

    def check(self, *inputs: Any) -> None:
        predicted, observed = inputs
        for argument, traces in (("predicted", predicted), ("observed", observed)):
            if not isinstance(traces, np.ndarray) or traces.ndim == 0:
                kind = type(traces).__name__ if not isinstance(traces, np.ndarray) else "scalar"
                raise TypeError(
                    f"{self.name}: {argument} is a {kind}, expected an array [shot, receiver, time]"
                )
            require_float(self.name, argument, traces)
        self.require("observed", observed.shape, predicted.shape)
        self.require("observed", observed.dtype, predicted.dtype, "dtype")
        try:
            np.broadcast_to(self._weights, predicted.shape[:-1])
        except ValueError:
            self.require("weights", self._weights.shape, predicted.shape[:-1])
        weights = np.broadcast_to(self._weights, predicted.shape[:-1])
        bad = ~np.isfinite(observed).all(axis=-1) & (weights > 0)
        if bad.any():
            trace = tuple(int(i) for i in np.argwhere(bad)[0])
            raise ValueError(
                f"{self.name}: observed trace {trace} has values that are not finite, expected "
                "finite ones, or weight 0"
            )

    def _weighted(self, predicted: Array, observed: Array) -> tuple[Array, Array, Array, Any]:
        """Return both kinds of traces as rows, their weights, and which rows these are."""
        weights = np.broadcast_to(self._weights, predicted.shape[:-1]).ravel()
        rows = slice(None) if (weights > 0).all() else np.flatnonzero(weights)
        return _flat(predicted)[rows], _flat(observed)[rows], weights[rows], rows


class LeastSquares(Misfit):
    """``φ(d, o) = ½ ∫ (d − o)² dt``.

    Parameters
    ----------
    dt : float
        Time between samples, in seconds. The integral makes the misfit independent of it.
    weights : array_like, optional
        See :class:`Misfit`. With ``1 / (dt * (observed**2).sum(-1))`` each trace counts by its
        relative error, however far its receiver is; give traces that are zero the weight 0 then.

    Notes
    -----
    ``φ = ½ Δt Σ_n (d_n − o_n)²`` and ``g = Δt (d − o)``. In the traces' unit squared, times
    seconds. A trace that is zero is data like any other; to leave a dead receiver out, give it the
    weight 0.

    References
    ----------
    Tarantola (1984). Inversion of seismic reflection data in the acoustic approximation.
    DOI 10.1190/1.1441754

    Examples
    --------
    >>> observed = np.zeros((1, 2, 100))
    >>> float(LeastSquares(dt=0.01)(observed + 1.0, observed))
    1.0
    """

    def __init__(self, dt: float, weights: Any = None) -> None:
        super().__init__(weights)
        self.dt = _positive(self.name, dt)

    def distances(self, d: Array, o: Array) -> Array:
        residual = d - o
        return 0.5 * self.dt * _inner(residual, residual)

    def slopes(self, d: Array, o: Array) -> Array:
        slopes: Array = (d - o) * d.dtype.type(self.dt)
        return slopes


class NormalizedCrossCorrelation(Misfit):
    """``φ(d, o) = 1 − ⟨d, o⟩ / (‖d‖ ‖o‖)``, from 0 (the same but for a positive factor) to 2.

    Only the shape of a trace matters: amplitudes, the source's strength and the time step do not.

    Parameters
    ----------
    weights : array_like, optional
        See :class:`Misfit`.

    Notes
    -----
    With ``d̂ = d / ‖d‖`` and ``ô = o / ‖o‖``,

        φ = ½ ‖d̂ − ô‖²,        g = (d̂ − ô − φ d̂) / ‖d‖,

    which, unlike ``1 − ⟨d̂, ô⟩``, is exact to rounding also where the traces are nearly alike.

    There is no correlation with a trace that is zero. A zero observed trace says nothing and counts
    0; a zero predicted one counts 1, as if uncorrelated with what was observed. Both have slope 0.

    References
    ----------
    Choi & Alkhalifah (2012). Application of multi-source waveform inversion to marine streamer data
    using the global correlation norm. DOI 10.1111/j.1365-2478.2012.01079.x

    Examples
    --------
    >>> observed = np.sin(np.arange(100.0)).reshape(1, 1, 100)
    >>> bool(NormalizedCrossCorrelation()(3 * observed, observed) < 1e-15)
    True
    """

    def distances(self, d: Array, o: Array) -> Array:
        difference = _unit(d)[0] - _unit(o)[0]
        distances = 0.5 * _inner(difference, difference)
        distances[~d.any(axis=1)] = 1.0
        distances[~o.any(axis=1)] = 0.0
        return distances

    def slopes(self, d: Array, o: Array) -> Array:
        (unit_d, norm_d), (unit_o, norm_o) = _unit(d), _unit(o)
        difference = unit_d - unit_o
        slopes = difference - 0.5 * _inner(difference, difference)[:, np.newaxis] * unit_d
        alive = (norm_d > 0) & (norm_o > 0)
        scale = np.divide(1.0, norm_d, out=np.zeros_like(norm_d), where=alive)
        result: Array = (slopes * scale[:, np.newaxis]).astype(d.dtype, copy=False)
        return result


class Envelope(Misfit):
    """``φ(d, o) = ½ ∫ (E(d)ᵖ − E(o)ᵖ)² dt`` with the envelope ``E``.

    The envelope has low frequencies that the traces lack, so that the misfit has a wider basin.

    Parameters
    ----------
    dt : float
        Time between samples, in seconds.
    weights : array_like, optional
        See :class:`Misfit`.
    power : int
        ``p``: 1 for the envelope, 2 for its square, by which strong arrivals count more.

    Notes
    -----
    ``E(d) = √(d² + (Hd)²)`` is the modulus of the analytic signal ``d + i Hd``. The Hilbert
    transform ``H`` multiplies the spectrum by ``−i sgn ω``, on the trace continued by as many
    zeros, so that its end does not reach around to its beginning. ``Hᵀ = −H``, hence with
    ``r = E(d)ᵖ − E(o)ᵖ``

        φ = ½ Δt Σ_n r_n²,        g = Δt (q d − H(q Hd)),        q = p r E(d)^{p−2}.

    For ``p = 1`` this has no derivative where ``E(d) = 0``; it is taken as 0 there, the mean of
    those in all directions. That is so on all of a trace that is zero.

    References
    ----------
    Bozdağ, Trampert & Tromp (2011). Misfit functions for full waveform inversion based on
    instantaneous phase and envelope measurements. DOI 10.1111/j.1365-246X.2011.04970.x

    Wu, Luo & Wu (2014). Seismic envelope inversion and modulation signal model.
    DOI 10.1190/geo2013-0294.1

    Examples
    --------
    >>> times = np.arange(100) * 0.01
    >>> pulse = np.exp(-((times - 0.5) ** 2) / 0.005) * np.exp(2j * np.pi * 20 * times)
    >>> misfit = Envelope(dt=0.01)(pulse.real[None, None], pulse.imag[None, None])
    >>> bool(misfit < 1e-6 * 0.01 * (np.abs(pulse) ** 2).sum())
    True
    """

    def __init__(self, dt: float, weights: Any = None, power: int = 1) -> None:
        super().__init__(weights)
        self.dt = _positive(self.name, dt)
        if power not in (1, 2):
            raise ValueError(f"{self.name}: power is {power!r}, expected 1 or 2")
        self.power = int(power)

    def distances(self, d: Array, o: Array) -> Array:
        residual = self._raised(d, hilbert(d)) - self._raised(o, hilbert(o))
        return 0.5 * self.dt * _inner(residual, residual)

    def slopes(self, d: Array, o: Array) -> Array:
        quadrature = hilbert(d)
        raised = self._raised(d, quadrature)
        q = raised - self._raised(o, hilbert(o))
        if self.power == 1:
            q = np.divide(q, raised, out=np.zeros_like(q), where=raised > 0)
        q *= d.dtype.type(self.power * self.dt)
        result: Array = q * d - hilbert(q * quadrature)
        return result

    def _raised(self, d: Array, quadrature: Array) -> Array:
        return np.hypot(d, quadrature) if self.power == 1 else d**2 + quadrature**2


def hilbert(traces: Array) -> Array:
    """Return the Hilbert transform along the last axis of traces, continued by zeros.

    Parameters
    ----------
    traces : numpy.ndarray of float32 or float64, shape (…, time)

    Returns
    -------
    numpy.ndarray
        Of the same shape and dtype; ``cos`` becomes ``sin``.
    """
    if traces.size == 0:
        return traces.copy()
    samples = traces.shape[-1]
    length = scipy.fft.next_fast_len(2 * samples, real=True)
    spectrum = scipy.fft.rfft(traces, length, axis=-1)
    spectrum *= traces.dtype.type(-1) * 1j
    # Of what is its own mirror image, the mean and (for even lengths) the highest frequency, the
    # transform is not real: without it H is exactly antisymmetric.
    spectrum[..., 0] = 0
    if length % 2 == 0:
        spectrum[..., -1] = 0
    result: Array = scipy.fft.irfft(spectrum, length, axis=-1)[..., :samples]
    return result


def _flat(traces: Array) -> Array:
    """Return traces as rows, [trace, time]."""
    return traces.reshape(int(np.prod(traces.shape[:-1])), traces.shape[-1])


def _inner(x: Array, y: Array) -> Array:
    """Return the inner product of each pair of rows, summed in double precision."""
    products: Array = np.einsum("ij,ij->i", x, y, dtype=np.float64)
    return products


def _unit(traces: Array) -> tuple[Array, Array]:
    """Return traces divided by their norms, and the norms; a trace that is zero stays so."""
    largest = np.abs(traces).max(axis=1, initial=0).astype(np.float64)
    alive = (largest != 0)[:, np.newaxis]  # true of NaN, which must not pass for silence
    # By the largest sample first, lest squares of very small or large ones leave the range.
    scaled = np.divide(traces, largest[:, np.newaxis], out=np.zeros(traces.shape), where=alive)
    norms = np.sqrt(_inner(scaled, scaled))[:, np.newaxis]
    unit = np.divide(scaled, norms, out=scaled, where=alive)
    return unit, norms[:, 0] * largest


def _positive(name: str, dt: float) -> float:
    if not (np.isfinite(dt) and dt > 0):
        raise ValueError(f"{name}: dt is {dt}, expected a positive number of seconds")
    return float(dt)
