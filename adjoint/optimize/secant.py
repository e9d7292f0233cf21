"""A derivative of low rank, learned from the values and adjoints that a run has met."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..variable import Array
from .sums import summed

if TYPE_CHECKING:
    from mpi4py import MPI

#: Parts of a direction, relative to its length, that are nothing but rounding.
_ROUNDING = 1e-10


class Secant:
    """``B = Qᵀ R``, an approximation of the derivative ``D`` of a field's residual.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
    residuals, nodes : int
        Entries of this rank's parts of the residual and of the field.
    limit : int
        Largest rank of ``B`` after an adjoint was learned. Room for it is made before, where only
        the largest singular values are kept, so that what was learned last holds exactly.

    Attributes
    ----------
    left : numpy.ndarray, shape (rank, residuals)
        This rank's part of ``Q``, whose rows are orthonormal over all ranks.
    right : numpy.ndarray, shape (rank, nodes)
        This rank's part of ``R``.

    Notes
    -----
    Two updates make ``B`` agree with what is known and change it as little as possible, in the
    Frobenius norm. After the field has moved by ``v`` and its residual by ``y``, the secant
    condition ``B v = y`` holds with

        B ← B + (y − B v) vᵀ / (vᵀ v),

    and after an adjoint evaluation ``a = Dᵀ w``, the tangent condition ``Bᵀ w = a`` with

        B ← B + w (a − Bᵀ w)ᵀ / (wᵀ w).

    In terms of ``c = Q w / |w|``, where ``Q`` has got the direction of ``w`` as another row if it
    was not in it, the latter is ``R ← R + c (a / |w| − Rᵀ c)ᵀ``, and the former likewise. The
    second with ``w`` the residual makes ``Bᵀ r`` the exact gradient.

    Entries of the field that several ranks hold (ghosts) count once for each of them in ``vᵀ v``.

    References
    ----------
    Broyden (1965). A class of methods for solving nonlinear simultaneous equations.
    DOI 10.1090/S0025-5718-1965-0198670-6

    Schlenkrich, Griewank, Walther (2010). On the local convergence of adjoint Broyden methods.
    DOI 10.1007/s10107-008-0232-y
    """

    def __init__(self, comm: MPI.Comm, residuals: int, nodes: int, limit: int) -> None:
        self._comm = comm
        self._limit = limit
        self.left = np.zeros((0, residuals))
        self.right = np.zeros((0, nodes))

    def learn_secant(self, v: Array, y: Array) -> None:
        """Make ``B v = y``; collective."""
        square = float(summed(self._comm, v @ v))
        if square == 0.0:
            return
        difference = y - summed(self._comm, self.right @ v) @ self.left
        c = self._coordinates(difference)  # which may add a row
        self.right += np.outer(c, v / square)

    def learn_adjoint(self, w: Array, a: Array) -> None:
        """Make ``Bᵀ w = a``; collective."""
        length = np.sqrt(float(summed(self._comm, w @ w)))
        if length == 0.0:
            return
        self._truncate(self._limit - 1)
        c = self._coordinates(w / length)
        self.right += np.outer(c, a / length - c @ self.right)

    def project(self, residual: Array) -> Array:
        """Return ``Q r``, the same on all ranks; collective."""
        return summed(self._comm, self.left @ residual)

    def _coordinates(self, w: Array) -> Array:
        """Return ``Q w``, with another row in ``Q`` where it does not span ``w``."""
        c = self.project(w)
        rest = w - c @ self.left
        again = self.project(rest)  # orthogonal to rounding, not to rounding times 1 / |rest|
        rest -= again @ self.left
        c += again
        length = np.sqrt(float(summed(self._comm, rest @ rest)))
        if length <= _ROUNDING * np.sqrt(c @ c + length**2):
            return c
        self.left = np.concatenate([self.left, rest[None] / length])
        self.right = np.concatenate([self.right, np.zeros((1, self.right.shape[1]))])
        return np.append(c, length)

    def _truncate(self, limit: int) -> None:
        """Keep the part of so many singular values."""
        if len(self.right) <= limit:
            return
        gram = summed(self._comm, self.right @ self.right.T)
        basis = None
        if self._comm.rank == 0:
            basis = np.linalg.eigh(gram)[1][:, ::-1][:, :limit].T
        basis = self._comm.bcast(basis, 0)
        self.left = basis @ self.left
        self.right = basis @ self.right
