"""The inverse Hessian of L-BFGS on a distributed field, in an inner product of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np

from ..optimize.sums import summed
from ..variable import Array

if TYPE_CHECKING:
    from mpi4py import MPI

#: ``(g, free) ↦ R⁻¹ g`` on the space of the free nodes.
Riesz = Callable[[Array, Array], Array]


class LimitedMemory:
    """An inverse Hessian made of the last steps and of what the gradient changed along them.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
        The ranks among which the vectors are distributed.
    memory : int
        Pairs of vectors that are kept.
    riesz : callable, optional
        The inverse ``R⁻¹`` of the inner product's matrix; the identity by default.

    Attributes
    ----------
    pairs : deque of (step, change, product)
        The oldest first.

    Notes
    -----
    With the steps ``s_k``, the changes ``y_k`` of the gradient and ``H₀ = γ R⁻¹``, the inverse
    Hessian is made by ``H ← (1 − ρ s yᵀ) H (1 − ρ y sᵀ) + ρ s sᵀ``, ``ρ = 1 / s·y``, and applied by
    the recursion of two loops. ``s·y`` is the pairing of a direction and a linear form, the same in
    every inner product; that of the space comes in by ``R`` alone. In ``γ = s·y / y·R⁻¹y`` and
    before there is a pair in ``γ = 2|f| / g·R⁻¹g``, the step that would take a parabola with its
    minimum at zero there, the scale of ``R`` drops out. For a quadratic misfit with the Hessian
    ``R + C`` the number of iterations depends on ``R⁻¹C``, which for a compact ``C`` does not
    change with the grid.

    Where nodes are held at bounds, ``H`` acts on the others alone: the changes ``y`` are those of
    projected gradients, and ``R`` is restricted, so held and free nodes never mix.

    References
    ----------
    J. Nocedal, Updating quasi-Newton matrices with limited storage, 1980,
    doi:10.1090/S0025-5718-1980-0572855-7.
    S. J. Benson and J. J. Moré, A limited memory variable metric method in subspaces and bound
    constrained optimization problems, 2001, doi:10.2172/822565.
    """

    def __init__(self, comm: MPI.Comm, memory: int, riesz: Riesz | None = None) -> None:
        self.comm = comm
        self.pairs: deque[tuple[Array, Array, float]] = deque(maxlen=memory)
        self._riesz = riesz

    def dot(self, a: Array, b: Array) -> float:
        """Return the sum of products over all ranks, the same on all of them; collective."""
        return float(summed(self.comm, np.vdot(a, b)))

    def update(self, step: Array, change: Array) -> None:
        """Take a pair in, unless the misfit is not convex along it; collective."""
        product = self.dot(step, change)
        lengths = self.dot(step, step) * self.dot(change, change)
        if product > np.finfo(float).eps * np.sqrt(lengths):
            self.pairs.append((step, change, product))

    def apply(self, gradient: Array, free: Array, value: float) -> Array:
        """Return ``H g`` at the free nodes and zero at the others; collective.

        Parameters
        ----------
        gradient : numpy.ndarray of float64
        free : numpy.ndarray of bool
            Which of this rank's nodes are not held at a bound.
        value : float
            The misfit.
        """
        q = np.where(free, gradient, 0.0)
        weights = []
        for step, change, product in reversed(self.pairs):
            weights.append(self.dot(step, q) / product)
            q -= weights[-1] * change
        direction = self._represent(q, free)
        direction *= self._scale(direction, q, free, value)
        for (step, change, product), weight in zip(self.pairs, reversed(weights)):
            direction += (weight - self.dot(change, direction) / product) * step
        direction[~free] = 0.0
        return direction

    def _represent(self, form: Array, free: Array) -> Array:
        if self._riesz is None:
            return np.where(free, form, 0.0)
        return self._riesz(form, free)

    def _scale(self, direction: Array, q: Array, free: Array, value: float) -> float:
        if self.pairs:
            _, change, product = self.pairs[-1]
            length = self.dot(change, self._represent(change, free))
            if length > 0:
                return product / length
        length = self.dot(q, direction)
        return 2 * (abs(value) or 1.0) / length if length > 0 else 1.0

    def rows(self) -> list[Array]:
        """Return all vectors kept, for a file."""
        return [vector for step, change, _ in self.pairs for vector in (step, change)]

    def recall(self, rows: Iterable[Array]) -> None:
        """Continue from the vectors of :meth:`rows`; collective."""
        self.pairs.clear()
        vectors = iter(rows)
        for step, change in zip(vectors, vectors):
            self.pairs.append((step, change, self.dot(step, change)))
