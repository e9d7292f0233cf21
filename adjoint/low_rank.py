"""How well data determine parameters: the Gauss-Newton Hessian, of low rank, and a posterior."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .variable import Array
from .world import agreed, communicator

if TYPE_CHECKING:
    from mpi4py import MPI
    from scipy.sparse.linalg import LinearOperator

    from .jacobian import Jacobian


def largest_eigenpairs(
    product: Callable[[Array], Array],
    size: int,
    rank: int,
    *,
    oversampling: int = 10,
    power: int = 0,
    seed: int = 0,
    comm: MPI.Comm | None = None,
) -> tuple[Array, Array]:
    """Return the largest eigenvalues of a symmetric positive matrix, and their vectors.

    Parameters
    ----------
    product : callable
        ``v ↦ H v`` for vectors that are the same on all ranks; may be collective.
    size : int
        Of ``v``.
    rank : int
        How many eigenvalues.
    oversampling : int
        How many directions more are drawn: the last eigenvalues are the more accurate for it.
    power : int
        How often the sample is multiplied by ``H`` once more, for eigenvalues that fall slowly.
    seed : int
    comm : mpi4py.MPI.Comm, optional
        The ranks that take part, with the same arguments; ``COMM_WORLD`` by default.

    Returns
    -------
    values : numpy.ndarray, shape (rank,)
        The largest first.
    vectors : numpy.ndarray, shape (size, rank)
        Orthonormal columns. The same on all ranks, as the values are.

    Raises
    ------
    ValueError
        On all ranks, for unfit arguments.
    FloatingPointError
        On all ranks, where a product is not finite.

    Notes
    -----
    The columns of ``Y = H Ω``, with ``Ω`` of normally distributed numbers, span nearly what the
    eigenvectors of the largest eigenvalues span. With ``Q`` an orthonormal basis of it and
    ``Qᵀ H Q = U Λ Uᵀ``, the eigenvectors are ``Q U``: two passes over ``H``, of ``rank +
    oversampling`` products each (but never more than ``size``).

    References
    ----------
    Halko, Martinsson, Tropp (2011). Finding structure with randomness. SIAM Review 53, 217-288.
    DOI 10.1137/090771806

    Examples
    --------
    >>> from mpi4py import MPI
    >>> d = np.array([1.0, 9.0, 4.0])
    >>> values, vectors = largest_eigenpairs(lambda v: d * v, 3, 2, comm=MPI.COMM_SELF)
    >>> np.allclose(values, [9, 4])
    True
    """
    world = communicator(comm)
    with agreed(world):
        if not 1 <= rank <= size:
            raise ValueError(f"largest_eigenpairs: rank is {rank}, expected 1 to {size}")
        if oversampling < 0 or power < 0:
            raise ValueError(
                f"largest_eigenpairs: oversampling is {oversampling} and power {power}, "
                "expected 0 or more"
            )
    count = min(rank + oversampling, size)
    sample = np.random.default_rng(seed).standard_normal((size, count))
    for _ in range(1 + power):
        sample = _orthonormal(_columns(product, sample), world)
    images = _columns(product, sample)
    found = None
    with agreed(world):
        if world.rank == 0:
            small = sample.T @ images
            if not np.isfinite(small).all():
                raise FloatingPointError("largest_eigenpairs: a product is not finite")
            values, basis = np.linalg.eigh((small + small.T) / 2)
            found = values[::-1][:rank].copy(), sample @ basis[:, ::-1][:, :rank]
    values, vectors = world.bcast(found, 0)
    return values, vectors


def _columns(product: Callable[[Array], Array], vectors: Array) -> Array:
    return np.stack([product(np.ascontiguousarray(v)) for v in vectors.T], axis=1)


def _orthonormal(vectors: Array, world: MPI.Comm) -> Array:
    """Return an orthonormal basis, computed on rank 0: ranks must not differ by rounding."""
    basis: Array = world.bcast(np.linalg.qr(vectors)[0] if world.rank == 0 else None, 0)
    return basis


class Posterior:
    """The Gaussian posterior of parameters where the residual is linear and its noise normal.

    Parameters
    ----------
    jacobian : Jacobian
        Of the residual, with a shared theta, at the most probable parameters.
    prior : float, array_like or scipy.sparse.linalg.LinearOperator
        Standard deviation of each parameter, or an ``L`` with which ``Γ = L Lᵀ`` is the
        parameters' covariance. The same on all ranks.
    noise : float
        Standard deviation of each entry of the residual.
    rank : int
        How many directions are looked for which the data determine better than the prior.
    oversampling, power, seed
        See :func:`largest_eigenpairs`.
    comm : mpi4py.MPI.Comm, optional
        The ranks that take part; ``COMM_WORLD`` by default.

    Attributes
    ----------
    eigenvalues : numpy.ndarray, shape (rank,)
        Of ``H v = λ Γ⁻¹ v``: how much more than the prior the data say about ``v``. The
        approximation leaves out those below the last; it should be well below 1.
    vectors : numpy.ndarray, shape (parameters, rank)
        The ``v``, with ``vᵀ Γ⁻¹ v = 1``.

    Notes
    -----
    With the residual's noise of variance ``σ²``, the Gauss-Newton Hessian of its negative
    logarithmic likelihood is ``H = Jᵀ J / σ²``, and the posterior covariance ``(H + Γ⁻¹)⁻¹``. With
    ``W Λ Wᵀ = Lᵀ H L`` and ``V = L W``, it is

        Γ − V diag(λ_i / (1 + λ_i)) Vᵀ

    (Sherman, Morrison and Woodbury), in which eigenvalues far below 1 change nothing. What is a
    linear function ``G`` of the parameters has the variances ``diag(G Γ Gᵀ)`` beforehand and
    ``Σ_i λ_i / (1 + λ_i) (G v_i)²`` less afterwards. All products are collective.

    References
    ----------
    Bui-Thanh, Ghattas, Martin, Stadler (2013). A computational framework for infinite-dimensional
    Bayesian inverse problems, part I. SIAM J. Sci. Comput. 35, A2494-A2523. DOI 10.1137/12089586X

    Examples
    --------
    Two readings of the first of two parameters, with noise as large as what is known beforehand:

    >>> from mpi4py import MPI
    >>> J = Jacobian(lambda x: x[[0, 0]], np.zeros(2), comm=MPI.COMM_SELF)
    >>> posterior = Posterior(J, prior=1.0, noise=1.0, rank=1, comm=MPI.COMM_SELF)
    >>> np.allclose(posterior.variance(), [1 / 3, 1])
    True
    """

    def __init__(
        self,
        jacobian: Jacobian,
        prior: float | Any | LinearOperator,
        noise: float,
        rank: int,
        *,
        oversampling: int = 10,
        power: int = 0,
        seed: int = 0,
        comm: MPI.Comm | None = None,
    ) -> None:
        world = communicator(comm)
        size = jacobian.shape[1]
        with agreed(world):
            if not (noise > 0 and np.isfinite(noise)):
                raise ValueError(f"Posterior: noise is {noise}, expected a positive number")
            self._root = _Root(prior, size)
        self._shape = jacobian.theta_shape

        def product(v: Array) -> Array:
            image = jacobian.matvec(self._root.matvec(v).reshape(self._shape))
            return self._root.rmatvec(jacobian.rmatvec(image).ravel()) / noise**2

        self.eigenvalues, vectors = largest_eigenpairs(
            product, self._root.columns, rank, oversampling=oversampling, power=power, seed=seed,
            comm=comm,
        )  # fmt: skip
        self.eigenvalues = np.maximum(self.eigenvalues, 0.0)
        self.vectors = _columns(self._root.matvec, vectors)

    def covariance_times(self, v: Any) -> Array:
        """Return the posterior covariance times ``v``, of theta's size."""
        v = np.ravel(v)
        weights = self.eigenvalues / (1 + self.eigenvalues)
        reduction = self.vectors @ (weights * (self.vectors.T @ v))
        return np.asarray(self._root.matvec(self._root.rmatvec(v)) - reduction)

    def prior_variance(self, function: Jacobian | None = None) -> Array:
        """Return the prior variance of each value of a linear function of the parameters.

        Parameters
        ----------
        function : Jacobian, optional
            ``G``, such as the derivative of a network's values with respect to its parameters. By
            default the parameters themselves. It takes a product for each parameter.

        Returns
        -------
        numpy.ndarray
            Of the shape of this rank's part of the function's value.
        """
        if function is None and self._root.scale is not None:
            return np.asarray(self._root.scale**2).reshape(self._shape)
        total: Any = 0.0
        for j in range(self._root.columns):
            unit = np.zeros(self._root.columns)
            unit[j] = 1.0
            total = total + self._value(function, self._root.matvec(unit)) ** 2
        return np.asarray(total)

    def variance(self, function: Jacobian | None = None, prior: Array | None = None) -> Array:
        """Return the posterior variance of each value of a linear function of the parameters.

        Parameters
        ----------
        function : Jacobian, optional
            As of :meth:`prior_variance`.
        prior : numpy.ndarray, optional
            What :meth:`prior_variance` returned, if it is known.
        """
        total = np.array(self.prior_variance(function) if prior is None else prior)
        for value, vector in zip(self.eigenvalues, self.vectors.T):
            total -= value / (1 + value) * self._value(function, vector) ** 2
        return np.maximum(total, 0.0)  # what is determined to rounding

    def _value(self, function: Jacobian | None, v: Array) -> Array:
        v = np.reshape(v, self._shape)
        return v if function is None else function.matvec(v)


class _Root:
    """An ``L`` with which ``Γ = L Lᵀ`` is the prior covariance.

    Attributes
    ----------
    columns : int
    scale : numpy.ndarray or None
        The diagonal where there is nothing else.
    """

    def __init__(self, prior: Any, size: int) -> None:
        self.columns = size
        self.scale: Array | None = None
        self._operator: Any = None
        if hasattr(prior, "rmatvec"):
            if prior.shape[0] != size:
                raise ValueError(f"Posterior: prior has shape {prior.shape}, expected {size} rows")
            self._operator, self.columns = prior, int(prior.shape[1])
            return
        scale = np.asarray(prior, np.float64)
        if scale.size not in (1, size) or not (scale > 0).all() or not np.isfinite(scale).all():
            raise ValueError(
                f"Posterior: prior of shape {scale.shape}, expected a positive number or one for "
                f"each of {size} parameters"
            )
        self.scale = np.broadcast_to(scale.ravel(), (size,))

    def matvec(self, v: Array) -> Array:
        return np.asarray(self._operator.matvec(v) if self.scale is None else self.scale * v)

    def rmatvec(self, v: Array) -> Array:
        return np.asarray(self._operator.rmatvec(v) if self.scale is None else self.scale * v)
