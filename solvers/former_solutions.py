"""Where a solve starts: what former solutions tell of the one that is sought."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..optimize.sums import summed
from ..variable import Array

#: Differences of solutions that are remembered: more take longer than they save.
REMEMBERED = 8

#: Eigenvalues of the Gram matrix below this share of the largest are noise of single precision.
_NOISE = 1e-6

Product = Callable[[Array], Array]


class FormerSolutions:
    """Solutions of systems that change little, from which the next solve starts.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
    rows : int
        Of the system, on this rank.

    Notes
    -----
    In the variables ``w = √D x``, where ``D`` is the diagonal of the matrix of the time, the
    matrices ``Ã = D^{-½} A D^{-½}`` of an inversion are much alike (see
    :class:`~adjoint.solvers.scaled.ScaledPreconditioner`). Remembered are the last solution ``w``,
    the differences ``d_k`` of successive ones, and what the matrix of the time made of them,
    ``e_k = Ã d_k``. A solve with ``b`` starts from ``w + Σ c_k d_k``, where ``c`` makes
    ``‖D^{-½} b − Ã w − Σ c_k e_k‖`` smallest: the steps of an optimiser lie for the most part in
    the space of those before. That the ``e_k`` are of earlier matrices matters little, as the
    correction is small; it spares a product with each of them. This is Fischer's projection [1]_,
    with the residual's norm in place of the energy.

    Differences are of length one and in single precision, which is enough for where to start. What
    is kept is 64 bytes of a row and the last solution.

    References
    ----------
    .. [1] Fischer (1998). Projection techniques for iterative solution of Ax = b with successive
       right-hand sides. DOI 10.1016/S0045-7825(98)00012-7
    """

    def __init__(self, comm: Any, rows: int) -> None:
        self._comm = comm
        self._differences, self._images = np.zeros((2, REMEMBERED, rows), np.float32)
        self._gram = np.zeros((REMEMBERED, REMEMBERED))
        self._count = 0
        self._last: tuple[Array, Array] | None = None

    def start(self, b: Array, root: Array, product: Product) -> Array | None:
        """Return where to start, None if nothing is known; collective.

        Parameters
        ----------
        b : numpy.ndarray of float64
            This rank's rows of the right-hand side.
        root : numpy.ndarray
            ``√D`` of the present matrix; the very same array as long as that is the same.
        product : callable
            The present matrix times a vector.
        """
        if self._last is None:
            return None
        x, before = self._last
        x = x.copy() if before is root else x * (before / root)
        if self._count:
            residual = (b - product(x)) / root
            c = summed(self._comm, self._images @ residual.astype(np.float32))
            c = np.linalg.pinv(self._gram, _NOISE, hermitian=True) @ c
            x += (c.astype(np.float32) @ self._differences) / root
        return x

    def remember(self, x: Array, root: Array, product: Product) -> None:
        """Note a solution, of which a copy is kept; collective. The arguments are as before."""
        if self._last is not None:
            last, before = self._last
            difference: Array = x * root - last * before
            image = product(difference / root) / root
            length = np.sqrt(summed(self._comm, image @ image))
            if length > 0:
                k = self._count % REMEMBERED
                self._differences[k] = difference / length
                self._images[k] = image / length
                products = summed(self._comm, self._images @ self._images[k])
                self._gram[k] = self._gram[:, k] = products
                self._count += 1
        self._last = x.copy(), root
