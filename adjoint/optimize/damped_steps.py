"""Damped least squares steps: from a Krylov space of the derivative, or from its few rows."""

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
    """Minimises ``|b + J p|² + µ |d + p|² + λ |p|²`` for a ``J`` of a few rows.

    Parameters
    ----------
    rows : callable
        Returns the ``J`` of today, and the residual ``b`` in the coordinates of its rows.
    offset : numpy.ndarray
        ``d``, the way from the centre of the ridge to here.
    ridge : float
        ``µ``, 0 for none.

    Notes
    -----
    With ``J = U S Vᵀ``, ``c = Uᵀ b`` and ``e = Vᵀ d``, the step has the coordinates
    ``−(s c + µ e) / (s² + µ + λ)`` in ``V``, and perpendicular to it it is ``−µ / (µ + λ)`` times
    what ``d`` is there.
    """

    def __init__(
        self, rows: Callable[[], tuple[Array, Array]], offset: Array, ridge: float
    ) -> None:
        self._rows = rows
        self._offset = offset
        self._ridge = ridge

    def step(self, damping: float) -> tuple[Array, float]:
        """Return ``p`` and how much ``|b|² + µ |d|²`` falls by it where they are linear."""
        jacobian, b = self._rows()
        d, ridge = self._offset, self._ridge
        u, s, v = np.linalg.svd(jacobian, full_matrices=False)
        e = v @ d
        y = -(s * (u.T @ b) + ridge * e) / (s**2 + ridge + damping)
        step = y @ v - ridge / (ridge + damping) * (d - e @ v)
        moved = jacobian @ step
        fall = -(2 * b + moved) @ moved - ridge * (2 * d + step) @ step
        return step, float(fall)
