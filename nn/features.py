"""What a network is fed with: coordinates scaled to [−1, 1], and random Fourier features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..variable import Array


class Features:
    """The map from points to the first layer's inputs.

    With ``s = a x + c``, the coordinates scaled so that ``domain`` becomes [−1, 1], the features
    are ``s`` and, for random frequencies ``B``, ``sin(2π B s)`` and ``cos(2π B s)`` [1]_.

    Parameters
    ----------
    inputs : int
        Number of coordinates of a point.
    domain : sequence of (float, float), optional
        Lower and upper end of each coordinate; coordinates are taken as they are by default.
    fourier : int
        Number of random frequencies.
    fourier_scale : float
        Standard deviation of the frequencies, in periods per unit of ``s``.
    fourier_seed : int

    References
    ----------
    .. [1] Tancik et al. (2020), https://doi.org/10.48550/arXiv.2006.10739
    """

    def __init__(
        self,
        inputs: int,
        domain: Sequence[Sequence[float]] | None,
        fourier: int,
        fourier_scale: float,
        fourier_seed: int,
        dtype: np.dtype[Any],
    ) -> None:
        ends = np.array([(-1.0, 1.0)] * inputs if domain is None else domain, float)
        if ends.shape != (inputs, 2) or not (ends[:, 0] < ends[:, 1]).all():
            raise ValueError(
                f"MLP: domain is {domain}, expected a pair (lower, upper) for each of {inputs} "
                "inputs"
            )
        self.slope = (2 / (ends[:, 1] - ends[:, 0])).astype(dtype)[:, np.newaxis]
        self.offset = (-ends.sum(1) / (ends[:, 1] - ends[:, 0])).astype(dtype)[:, np.newaxis]
        frequencies = np.random.default_rng(fourier_seed).standard_normal((fourier, inputs))
        self.frequencies = (2 * np.pi * fourier_scale * frequencies).astype(dtype)
        self.inputs = inputs
        self.fourier = fourier
        self.count = inputs + 2 * fourier

    def compute(self, points: Array, out: Array) -> None:
        """Write the features of ``points``, shape (n, inputs), to ``out``, shape (count, n)."""
        scaled = out[: self.inputs]
        np.multiply(points.T, self.slope, out=scaled)
        scaled += self.offset
        if self.fourier:
            sine, cosine = self._halves(out)
            np.matmul(self.frequencies, scaled, out=cosine)
            np.sin(cosine, out=sine)
            np.cos(cosine, out=cosine)

    def tangent(self, dpoints: Array, features: Array, out: Array) -> None:
        """Write the features' tangents: ``ṡ = a ẋ``, ``(cos) B ṡ``, ``−(sin) B ṡ``."""
        scaled = out[: self.inputs]
        np.multiply(dpoints.T, self.slope, out=scaled)
        if self.fourier:
            sine, cosine = self._halves(features)
            tangent_sine, tangent_cosine = self._halves(out)
            angle = np.matmul(self.frequencies, scaled)
            np.multiply(cosine, angle, out=tangent_sine)
            np.multiply(sine, -angle, out=tangent_cosine)

    def cotangent(self, w: Array, features: Array) -> Array:
        """Return the points' cotangents, shape (n, inputs), from those of the features."""
        scaled = w[: self.inputs]
        if self.fourier:
            sine, cosine = self._halves(features)
            w_sine, w_cosine = self._halves(w)
            scaled = scaled + self.frequencies.T @ (w_sine * cosine - w_cosine * sine)
        result: Array = (scaled * self.slope).T
        return result

    def _halves(self, features: Array) -> tuple[Array, Array]:
        middle = self.inputs + self.fourier
        return features[self.inputs : middle], features[middle : self.count]
