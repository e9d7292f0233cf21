"""A fully connected network, evaluated and differentiated in chunks of points."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..operator import Operator
from ..variable import Array, value_of
from .activations import activation_named
from .features import Features
from .storage import load_network, save_network


class MLP(Operator):
    """``(theta, x) ↦ y``: a multilayer perceptron with all parameters in one vector.

    Parameters
    ----------
    widths : sequence of int
        Number of inputs, of units in each hidden layer, of outputs: ``(2, 20, 20, 20, 1)``.
    activation : str
        Of the hidden layers: tanh, sigmoid, softplus, relu or identity.
    domain : sequence of (float, float), optional
        Ends of each input's range, which is scaled to [−1, 1].
    lower, upper : float, optional
        Bounds of the outputs. With ``lower`` alone ``y = lower + ln(1 + eᶻ)``, with both
        ``y = lower + (upper − lower)/(1 + e⁻ᶻ)``, where ``z`` is what the last layer gives.
    fourier, fourier_scale, fourier_seed : int, float, int
        Number, standard deviation and seed of random Fourier features, which are added to the
        inputs; none by default.
    chunk : int
        Points that are treated at a time: so many that their activations fit into the cache.
    dtype : numpy.dtype
        Of parameters, points and values: float64 (default) or float32.

    Attributes
    ----------
    n_parameters : int

    Notes
    -----
    Inputs: ``theta`` of shape (n_parameters,), ``x`` of shape (n, widths[0]); output of shape
    (n, widths[-1]). Parameters lie in ``theta`` layer by layer, each layer's matrix (rows: inputs)
    and then its bias; :meth:`views` gives them by name.

    With ``H₀`` the features, ``Z_l = W_lᵀ H_{l−1} + b_l`` and ``H_l = f(Z_l)``, points in columns.
    For a cotangent ``D`` of ``Z_l``: ``W̄_l = H_{l−1} Dᵀ``, ``b̄_l = D 1``,
    ``H̄_{l−1} = W_l D``, and ``Z̄_{l−1} = H̄_{l−1} ∘ f'(Z_{l−1})``, where ``f'`` is computed from
    ``H_{l−1}``. A row of ones below ``H_{l−1}`` makes matrix and bias one matrix, so that a layer
    is one product each way.

    Nothing but ``theta`` and ``x`` is kept for the derivatives: they run through the points chunk
    by chunk and compute the activations again, which is faster than reading them from memory.

    Examples
    --------
    >>> network = MLP((2, 20, 20, 1), lower=0.1)
    >>> theta = network.initial(seed=0)
    >>> network(theta, np.zeros((5, 2))).shape
    (5, 1)
    """

    needs_outputs = ()

    def __init__(
        self,
        widths: Sequence[int],
        activation: str = "tanh",
        *,
        domain: Sequence[Sequence[float]] | None = None,
        lower: float | None = None,
        upper: float | None = None,
        fourier: int = 0,
        fourier_scale: float = 1.0,
        fourier_seed: int = 0,
        chunk: int = 2048,
        dtype: Any = np.float64,
    ) -> None:
        self.widths = tuple(int(n) for n in widths)
        if len(self.widths) < 2 or min(self.widths) < 1:
            raise ValueError(f"MLP: widths is {widths}, expected at least two positive numbers")
        if upper is not None and (lower is None or not lower < upper):
            raise ValueError(f"MLP: lower is {lower} and upper {upper}, expected lower < upper")
        if chunk < 1:
            raise ValueError(f"MLP: chunk is {chunk}, expected a positive number")
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.float32, np.float64):
            raise TypeError(f"MLP: dtype {self.dtype}, expected float32 or float64")
        self.activation = activation
        self.domain = None if domain is None else tuple((float(a), float(b)) for a, b in domain)
        self.lower = lower
        self.upper = upper
        self.fourier = fourier
        self.fourier_scale = fourier_scale
        self.fourier_seed = fourier_seed
        self.chunk = chunk
        self._activation = activation_named(activation)
        bounded = "identity" if lower is None else "softplus" if upper is None else "sigmoid"
        self._bound = activation_named(bounded)
        self._span = 1.0 if lower is None or upper is None else upper - lower
        self._features = Features(
            self.widths[0], domain, fourier, fourier_scale, fourier_seed, self.dtype
        )
        sizes = (self._features.count, *self.widths[1:])
        self._shapes = [(p + 1, q) for p, q in zip(sizes, sizes[1:])]
        self.n_parameters = sum(p * q for p, q in self._shapes)
        # Below the inputs of each layer lies a row of ones.
        self._activations = self._scratch([*(n + 1 for n in sizes[:-1]), sizes[-1]])
        self._tangents = self._scratch(sizes)

    def check(self, theta: Any, x: Any) -> None:
        for argument, array in (("theta", theta), ("x", x)):
            self.require(argument, getattr(array, "dtype", type(array)), self.dtype, "dtype")
        self.require("theta", theta.shape, (self.n_parameters,))
        if x.ndim != 2 or x.shape[1] != self.widths[0]:
            raise ValueError(
                f"{self.name}: x has shape {x.shape}, expected (points, {self.widths[0]})"
            )

    def forward(self, theta: Any, x: Any) -> Any:
        layers = self._layers(theta)
        y = np.empty((len(x), self.widths[-1]), self.dtype)
        for points in self._chunks(x):
            h = self._propagate(layers, x[points])
            self._bound.apply(h[-1])
            if self.upper is not None:
                h[-1] *= self._span
            if self.lower is not None:
                h[-1] += self.lower
            y[points] = h[-1].T
        return y

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        (dtheta, dx), (theta, x) = tangents, inputs
        layers, dlayers = self._layers(theta), self._layers(dtheta)
        dy = np.empty((len(x), self.widths[-1]), self.dtype)
        for points in self._chunks(x):
            h = self._propagate(layers, x[points])
            t = self._columns(self._tangents, points.stop - points.start)
            self._features.tangent(dx[points], h[0], t[0])
            for i, (w, dw) in enumerate(zip(layers, dlayers)):
                np.matmul(dw.T, h[i], out=t[i + 1])
                t[i + 1] += np.matmul(w[:-1].T, t[i])
                if i < len(layers) - 1:
                    slope = h[i + 1][:-1].copy()
                    self._activation.to_slope(slope)
                    t[i + 1] *= slope
            self._scale_by_bound(t[-1], h[-1])
            dy[points] = t[-1].T
        return dy

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        (w,), (theta, x) = cotangents, inputs

        def cotangent_theta() -> Array:
            result = np.zeros(self.n_parameters, self.dtype)
            layers = self._layers(theta)
            sums = self._layers(result)
            for points in self._chunks(x):
                for i, d, h in self._backpropagate(layers, w[points], x[points]):
                    sums[i] += np.matmul(h, d.T)
            return result

        def cotangent_x() -> Array:
            result = np.empty_like(x)
            layers = self._layers(theta)
            for points in self._chunks(x):
                for i, d, h in self._backpropagate(layers, w[points], x[points]):
                    if i == 0:
                        below = np.matmul(layers[0][:-1], d)
                        result[points] = self._features.cotangent(below, h)
            return np.asarray(result)

        return cotangent_theta, cotangent_x

    def views(self, theta: Any) -> dict[str, Array]:
        """Return views of a parameter vector: ``{"W0": matrix, "b0": bias, …}``."""
        named = {}
        for i, layer in enumerate(self._layers(value_of(theta))):
            named[f"W{i}"], named[f"b{i}"] = layer[:-1], layer[-1]
        return named

    def initial(self, seed: int, scheme: str = "glorot", distribution: str = "uniform") -> Array:
        """Return random parameters, the same for the same seed; biases are zero.

        Parameters
        ----------
        seed : int
        scheme : str
            ``"glorot"``: variance ``2 / (inputs + outputs)`` of a layer's weights [1]_;
            ``"he"``: ``2 / inputs`` [2]_.
        distribution : str
            ``"uniform"`` or ``"normal"``.

        Returns
        -------
        numpy.ndarray, shape (n_parameters,)

        References
        ----------
        .. [1] Glorot, Bengio (2010), https://proceedings.mlr.press/v9/glorot10a.html
        .. [2] He, Zhang, Ren, Sun (2015), https://doi.org/10.1109/ICCV.2015.123
        """
        if scheme not in ("glorot", "he"):
            raise ValueError(f"MLP.initial: scheme is {scheme!r}, expected 'glorot' or 'he'")
        if distribution not in ("uniform", "normal"):
            raise ValueError(
                f"MLP.initial: distribution is {distribution!r}, expected 'uniform' or 'normal'"
            )
        generator = np.random.default_rng(seed)
        theta = np.zeros(self.n_parameters, self.dtype)
        for layer in self._layers(theta):
            inputs, outputs = layer.shape[0] - 1, layer.shape[1]
            variance = 2 / (inputs + outputs) if scheme == "glorot" else 2 / inputs
            if distribution == "uniform":
                half = np.sqrt(3 * variance)
                layer[:-1] = generator.uniform(-half, half, (inputs, outputs))
            else:
                layer[:-1] = generator.normal(0, np.sqrt(variance), (inputs, outputs))
        return theta

    @property
    def settings(self) -> dict[str, Any]:
        """What the network was made with, as keyword arguments of plain values."""
        names = ("widths", "activation", "domain", "lower", "upper", "fourier", "fourier_scale",
                 "fourier_seed", "chunk")  # fmt: skip
        return {**{name: getattr(self, name) for name in names}, "dtype": self.dtype.name}

    def save(self, path: Any, theta: Any) -> None:
        """Write the network and its parameters to an ``.npz`` file, whole or not at all."""
        theta = value_of(theta)
        self.require("theta", theta.shape, (self.n_parameters,))
        save_network(path, self.settings, theta)

    @classmethod
    def load(cls, path: Any) -> tuple[MLP, Array]:
        """Return the network and the parameters that :meth:`save` wrote.

        Raises
        ------
        ValueError
            Where the file is damaged or holds something else.
        OSError
            Where it cannot be opened.
        """
        settings, theta = load_network(path)
        try:
            network = cls(**settings)
            network.require("theta", theta.shape, (network.n_parameters,))
            network.require("theta", theta.dtype, network.dtype, "dtype")
        except (TypeError, ValueError) as error:
            raise ValueError(f"MLP: file {path} is inconsistent: {error}") from error
        return network, theta

    def _layers(self, theta: Any) -> list[Array]:
        """Return views of the layers' matrices, each with the bias as its last row."""
        layers, start = [], 0
        for p, q in self._shapes:
            layers.append(theta[start : start + p * q].reshape(p, q))
            start += p * q
        return layers

    def _scratch(self, rows: Sequence[int]) -> list[Array]:
        """Make a buffer of one chunk for each layer."""
        return [np.empty((n, self.chunk), self.dtype) for n in rows]

    def _chunks(self, x: Any) -> Iterator[slice]:
        return (slice(i, min(i + self.chunk, len(x))) for i in range(0, len(x), self.chunk))

    def _columns(self, buffers: list[Array], count: int) -> list[Array]:
        """Return the buffers for a chunk, which may be shorter than the others at the end."""
        if count == self.chunk:
            return buffers
        # A contiguous piece of the memory, for a strided one makes the products slow.
        return [b.ravel()[: len(b) * count].reshape(len(b), count) for b in buffers]

    def _propagate(self, layers: list[Array], x: Array) -> list[Array]:
        """Return the activations of all layers for a chunk; of the last one the plain ``Z``."""
        h = self._columns(self._activations, len(x))
        self._features.compute(x, h[0][:-1])
        for i, w in enumerate(layers):
            last = i == len(layers) - 1
            z = h[i + 1] if last else h[i + 1][:-1]
            h[i][-1] = 1
            np.matmul(w.T, h[i], out=z)
            if not last:
                self._activation.apply(z)
        return h

    def _scale_by_bound(self, w: Array, z: Array) -> None:
        """Multiply ``w`` by the slope of the output map at ``z``, which is overwritten."""
        if self.lower is None:
            return
        self._bound.apply(z)
        self._bound.to_slope(z)
        w *= z
        w *= self._span

    def _backpropagate(
        self, layers: list[Array], w: Array, x: Array
    ) -> Iterator[tuple[int, Array, Array]]:
        """Yield for each layer, from the last, its number, the cotangent of Z and its inputs."""
        h = self._propagate(layers, x)
        t = self._columns(self._tangents, len(x))
        d = t[-1]
        d[...] = w.T
        self._scale_by_bound(d, h[-1])
        for i in reversed(range(len(layers))):
            yield i, d, h[i]
            if i:
                below = t[i]
                if len(d) == 1:  # an outer product, which is quicker so
                    np.multiply(layers[i][:-1], d, out=below)
                else:
                    np.matmul(layers[i][:-1], d, out=below)
                self._activation.to_slope(h[i][:-1])
                below *= h[i][:-1]
                d = below
