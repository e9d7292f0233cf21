"""Damped least squares steps from a Krylov space, truncated when they are good enough."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..variable import Array


class KrylovSteps:
    """Solves ``(JᵀJ + λI) p = −Jᵀr`` in the Krylov space of ``JᵀJ`` and ``Jᵀr``, for any ``λ``.

    Parameters
    ----------
    normal : callable
        ``v ↦ JᵀJ v``.
    h : numpy.ndarray
        ``Jᵀr``, not zero.
    forcing : float
        The space grows until ``|(JᵀJ + λI) p + h| ≤ forcing |h|``.
    limit : int
        Largest dimension of the space.

    Notes
    -----
    With ``V`` the orthonormal basis that the Lanczos process makes from ``h``, ``T = Vᵀ JᵀJ V`` is
    tridiagonal, and ``p = −|h| V (T + λI)⁻¹ e₁`` is the iterate of conjugate gradients. ``V`` does
    not depend on ``λ``: a step that is refused is followed by a shorter one without another
    product. The vectors are orthogonalised against all before, so that rounding costs no product
    either. The residual of the system is ``β |y_m|``, with ``y`` the coordinates of ``p`` and ``β``
    the length of what is left of ``JᵀJ v_m``.
    """

    def __init__(
        self, normal: Callable[[Array], Array], h: Array, forcing: float, limit: int
    ) -> None:
        self._normal = normal
        self._length = float(np.linalg.norm(h))
        self._forcing = forcing
        self._limit = min(limit, h.size)
        self._basis = [h / self._length]
        self._images: list[Array] = []
        self._rest = np.inf

    @property
    def products(self) -> int:
        """How many products with ``JᵀJ`` were taken."""
        return len(self._images)

    def step(self, damping: float) -> tuple[Array, float]:
        """Return ``p`` and how much ``|r|²`` falls by it where the residual is linear."""
        while True:
            if not self._images or not self._fine(damping):
                self._extend()
                continue
            y, matrix = self._coordinates(damping), self._matrix()
            step = y @ np.stack(self._basis[: len(y)])
            return step, float(-2 * self._length * y[0] - y @ matrix @ y)

    def _fine(self, damping: float) -> bool:
        y = self._coordinates(damping)
        spent = len(y) >= self._limit or len(self._basis) == len(y)
        return spent or self._rest * abs(y[-1]) <= self._forcing * self._length

    def _extend(self) -> None:
        v = self._basis[-1]
        image = self._normal(v)
        self._images.append(image)
        known = np.stack(self._basis)
        rest = image - (known @ image) @ known
        rest -= (known @ rest) @ known
        self._rest = float(np.linalg.norm(rest))
        if self._rest > 1e-12 * np.linalg.norm(image):  # else the space is invariant
            self._basis.append(rest / self._rest)

    def _matrix(self) -> Array:
        known = np.stack(self._basis[: len(self._images)])
        matrix = known @ np.stack(self._images).T
        return np.asarray((matrix + matrix.T) / 2)

    def _coordinates(self, damping: float) -> Array:
        matrix = self._matrix()
        right = np.zeros(len(matrix))
        right[0] = -self._length
        return np.linalg.solve(matrix + damping * np.eye(len(matrix)), right)


class RowSteps:
    """Solves ``(JᵀJ + λI) p = −Jᵀr`` for a ``J`` of a few rows.

    Parameters
    ----------
    rows : callable
        Returns the ``J`` of today, and the residual in the coordinates of its rows.

    Notes
    -----
    With ``J Jᵀ = U E Uᵀ`` and ``c = Uᵀ b``: ``p = −Jᵀ U (E + λI)⁻¹ c``, and ``|b + J p|²`` is the
    sum of ``(λ c_i / (e_i + λ))²``.
    """

    def __init__(self, rows: Callable[[], tuple[Array, Array]]) -> None:
        self._rows = rows

    def step(self, damping: float) -> tuple[Array, float]:
        """Return ``p`` and how much ``|r|²`` falls by it where the residual is linear."""
        jacobian, b = self._rows()
        squares, basis = np.linalg.eigh(jacobian @ jacobian.T)
        squares = np.maximum(squares, 0.0)
        c = basis.T @ b
        step = -(basis @ (c / (squares + damping))) @ jacobian
        return step, float(np.sum(c**2) - np.sum((damping * c / (squares + damping)) ** 2))
