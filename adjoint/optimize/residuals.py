"""A residual on all ranks, with what Gauss-Newton asks of its derivative."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..jacobian import Jacobian
from ..variable import Array, Variable
from ..world import agreed
from .composite import Composite
from .ranks import Ranks, finite
from .rejection import Rejecting
from .secant import Secant
from .state import StateError
from .sums import summed

if TYPE_CHECKING:
    from mpi4py import MPI

#: A step after which the misfit is so many times what it was tells nothing of the derivative.
_FAR = 4.0


class _Whole:
    """The residual at a point, and its derivative, by sweeps over the tape."""

    value = np.inf

    def __init__(self, function: Callable[[Variable], Variable], theta: Array, comm: Any) -> None:
        self._jacobian = Jacobian(function, theta, comm=comm)
        self.residual = self._jacobian.value

    def adjoint(self) -> Array:
        """Return ``Jᵀ r``; collective."""
        return self._jacobian.rmatvec(self.residual)

    def normal(self, v: Array) -> Array:
        """Return ``JᵀJ v``; collective."""
        return self._jacobian.rmatvec(self._jacobian.matvec(v))


class _Parts:
    """The field at a point, its residual, and the derivatives of both, by sweeps over two tapes.

    Attributes
    ----------
    field, residual : numpy.ndarray
        This rank's parts, as vectors.
    sensitivity : numpy.ndarray
        ``Dᵀ r``, the residual's cotangent of the field, once ``adjoint`` was called.
    """

    value = np.inf

    def __init__(self, function: Composite, theta: Array, comm: Any) -> None:
        self._inner = Jacobian(function.inner, theta, comm=comm)
        self._outer = Jacobian(function.outer, self._inner.value, shared=False, comm=comm)
        self.field = self._inner.value.ravel()
        self.residual = self._outer.value.ravel()

    def adjoint(self) -> Array:
        """Return ``Gᵀ Dᵀ r``; collective."""
        self.sensitivity = self._outer.rmatvec(self._outer.value).ravel()
        return self.pull(self.sensitivity)

    def pull(self, w: Array) -> Array:
        """Return ``Gᵀ w`` for this rank's part of a cotangent of the field; collective."""
        return self._inner.rmatvec(w.reshape(self._inner.value.shape))


class Residuals(Ranks):
    """The sum of a residual's squares over all ranks, in place of the misfit.

    The point of the lowest value so far is kept with its tape: products are with the derivative
    there. The gradient is taken at those points only; elsewhere it is given as zero.

    Parameters
    ----------
    misfit : callable
        Returns this rank's part of the residual. Of a :class:`Composite`, the outer derivative is
        learned; see :class:`Secant`.
    shape, dtype, world, reject
        As of :class:`Ranks`.
    memory : int
        Largest rank of what is learned.
    ridge : float
        ``µ``: ``µ |θ − θ₀|²`` is added to the sum of squares.
    start : numpy.ndarray or None
        ``θ₀``, on rank 0.
    """

    def __init__(
        self,
        misfit: Callable[[Variable], Variable],
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        world: MPI.Comm,
        reject: Rejecting,
        memory: int,
        ridge: float,
        start: Array | None,
    ) -> None:
        super().__init__(misfit, shape, dtype, world, reject)
        self.learns: bool = world.bcast(isinstance(misfit, Composite), 0)
        with agreed(world):
            if isinstance(misfit, Composite) != self.learns:
                raise TypeError("minimize: the residual is a Composite on some ranks only")
        self._limit = memory
        self._ridge = ridge
        self._start = start
        self._arrays: dict[str, Array] = {}
        self._point: Any = None
        self._secant: Secant | None = None

    def normal(self, v: Array) -> Array:
        """Return ``(JᵀJ + µI) v``, on rank 0."""
        with self._together("normal"):
            return np.asarray(self._normal(v) + self._ridge * v)

    def rows(self) -> tuple[Array, Array]:
        """Return the learned ``J`` and the residual in the coordinates of its rows, on rank 0."""
        with self._together("rows"):
            return self._rows(self._empty())

    def learned(self) -> dict[str, Array]:
        """Return what was learned, of all ranks, on rank 0."""
        if not self.learns:
            return {}
        with self._together("gather"):
            return self._gather(self._empty())

    def restore(self, theta: Array, arrays: dict[str, Array]) -> None:
        """Evaluate at a point and go on with what was learned before, on rank 0.

        Raises
        ------
        StateError
            On all ranks, where it is of other parts of field and residual than there are.
        """
        self._arrays = arrays
        with self._together("restore"):
            self._restore(theta)

    def _value_and_gradient(self, theta: Array, where: str) -> tuple[float, Array]:
        former, point = self._point, self._at(theta)
        with agreed(self.world):
            if not np.isfinite(point.value):
                raise FloatingPointError(f"minimize: the misfit is {point.value} at {where}")
        gradient = np.zeros_like(theta)
        lower = former is None or point.value < former.value
        if lower:
            gradient = 2 * np.asarray(point.adjoint(), np.float64).ravel()
            gradient += 2 * self._ridge * self._offset(theta)
            with agreed(self.world):
                finite(gradient, where)  # or the point would be kept
            self._point = point
        if self.learns:
            self._learn(former, point)
        return point.value, gradient

    def _at(self, theta: Array) -> Any:
        """Return the point, with its value, of a theta that all ranks have."""
        x = theta.reshape(self.shape).astype(self.dtype)
        kind: Any = _Parts if self.learns else _Whole
        point = kind(self.misfit, x, self.world)
        residual = point.residual.astype(np.float64, copy=False)
        value = float(summed(self.world, np.sum(residual**2)))
        if self._ridge:
            value += self._ridge * float(np.sum(self._offset(theta) ** 2))
            value = self.world.bcast(value, 0)
        point.value = value
        return point

    def _offset(self, theta: Array) -> Array:
        """Return ``θ − θ₀`` on rank 0, and zeros elsewhere."""
        return np.zeros_like(theta) if self._start is None else theta - self._start

    def _learn(self, former: Any, point: Any) -> None:
        """Learn from the way between two points, and keep the gradient at the lower one exact."""
        if self._secant is None:
            sizes = point.residual.size, point.field.size
            self._secant = Secant(self.world, *sizes, self._limit)
        if former is not None and point.value < _FAR * former.value:
            moved = point.field - former.field
            self._secant.learn_secant(moved, point.residual - former.residual)
        lowest = self._point
        self._secant.learn_adjoint(lowest.residual, lowest.sensitivity)

    def _normal(self, v: Array) -> Array:
        self.world.Bcast(v, 0)
        image = self._point.normal(v.reshape(self.shape).astype(self.dtype))
        return np.asarray(image, np.float64).ravel()

    def _rows(self, _: Array) -> tuple[Array, Array]:
        assert self._secant is not None
        rows = [self._point.pull(row).ravel() for row in self._secant.right]
        return np.array(rows, np.float64), self._secant.project(self._point.residual)

    def _gather(self, _: Array) -> dict[str, Array]:
        assert self._secant is not None
        arrays = {}
        for name, part in (("left", self._secant.left), ("right", self._secant.right)):
            parts = self.world.gather(part, 0)
            if parts is not None:
                arrays[name] = np.concatenate(parts, axis=1)
                arrays[f"{name}_counts"] = np.array([p.shape[1] for p in parts])
        return arrays

    def _restore(self, theta: Array) -> None:
        self.world.Bcast(theta, 0)
        self._point = self._at(theta)
        if not self.learns:
            return
        sizes = self._point.residual.size, self._point.field.size
        self._secant = Secant(self.world, *sizes, self._limit)
        self._point.adjoint()
        parts: Any = None
        with agreed(self.world):
            if self.world.rank == 0:
                parts = _divided(self._arrays, self.world.size)
        left, right = self.world.scatter(parts, 0)
        with agreed(self.world):
            if (left.shape[1], right.shape[1]) != sizes:
                raise StateError(
                    f"minimize: the state is of {left.shape[1]} residuals and {right.shape[1]} "
                    f"nodes on this rank, expected {sizes[0]} and {sizes[1]}"
                )
        self._secant.left, self._secant.right = left, right


class Squares:
    """What Gauss-Newton sees of it: evaluations that the run takes note of, and the rest.

    See :class:`~adjoint.optimize.gauss_newton.LeastSquares`.
    """

    def __init__(self, ranks: Residuals, evaluate: Callable[[Array], tuple[float, Array]]) -> None:
        self._evaluate = evaluate
        self.learns = ranks.learns
        self.normal, self.rows = ranks.normal, ranks.rows
        self.learned, self.restore = ranks.learned, ranks.restore

    def __call__(self, theta: Array) -> tuple[float, Array]:
        return self._evaluate(theta)


def _divided(arrays: dict[str, Array], size: int) -> list[tuple[Array, Array]]:
    """Return each rank's part of what was learned."""
    parts = []
    for name in ("left", "right"):
        counts = arrays[f"{name}_counts"]
        if len(counts) != size:
            raise StateError(f"minimize: the state is of {len(counts)} ranks, expected {size}")
        parts.append(np.split(arrays[name], np.cumsum(counts)[:-1], axis=1))
    return [(np.ascontiguousarray(a), np.ascontiguousarray(b)) for a, b in zip(*parts)]
