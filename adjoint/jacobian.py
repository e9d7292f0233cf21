"""The derivative of a function at a point, as a linear map."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .tape import Tape
from .variable import Array, Variable
from .world import agreed, communicator

if TYPE_CHECKING:
    from mpi4py import MPI
    from scipy.sparse.linalg import LinearOperator


class Jacobian:
    """``J``, the derivative at ``theta`` of a function that all ranks compute together.

    Parameters
    ----------
    function : callable
        Takes a Variable of ``theta``'s shape and dtype and returns one; it may communicate.
    theta : array_like of float32 or float64
    shared : bool
        ``theta`` is the same on all ranks, as the parameters of a network are: ``J v`` is for a
        ``v`` that is the same on all ranks, and ``Jᵀ w`` is summed over them. Otherwise each rank
        has a part of ``theta`` of its own.
    comm : mpi4py.MPI.Comm, optional
        The ranks that take part; ``COMM_WORLD`` by default.

    Attributes
    ----------
    value : numpy.ndarray
        This rank's part of the function's value.
    shape : tuple of int
        Of this rank's part of ``J``: entries of ``value`` and of ``theta``.
    theta_shape : tuple of int

    Notes
    -----
    Creating it runs the function once and keeps its tape; a product then takes one sweep over the
    tape, forwards or in reverse. All calls are collective.

    ``matvec`` returns ``J v``, the derivative of ``F(θ + t v)`` at ``t = 0``, and ``rmatvec`` the
    ``Jᵀ w`` for which ``⟨Jᵀ w, v⟩ = Σ ⟨w, J v⟩``, the sum being over ranks. Where ``θ`` is shared,
    ``F`` acts on copies of it; the transpose adds the copies' cotangents.

    Examples
    --------
    >>> import numpy as np
    >>> from mpi4py import MPI
    >>> J = Jacobian(lambda x: x**2, np.array([1.0, 3.0]), comm=MPI.COMM_SELF)
    >>> J.matvec(np.array([1.0, 1.0]))
    array([2., 6.])
    >>> J.linear_operator() @ np.array([0.0, 1.0])
    array([0., 6.])
    """

    def __init__(
        self,
        function: Callable[[Variable], Variable],
        theta: Any,
        *,
        shared: bool = True,
        comm: MPI.Comm | None = None,
    ) -> None:
        self._comm = communicator(comm)
        self._shared = shared
        with Tape(persistent=True, comm=comm) as self._tape:
            self._theta = self._tape.watch(theta)
            self._value = function(self._theta)
        with agreed(self._comm):
            if not isinstance(self._value, Variable):
                raise TypeError(
                    f"Jacobian: the function returned a {type(self._value).__name__} that does not "
                    "depend on theta, expected a Variable"
                )
        self.value: Array = self._value.value
        self.shape = (self._value.size, self._theta.size)
        self.theta_shape = self._theta.shape

    def matvec(self, v: Any) -> Array:
        """Return ``J v``, of ``value``'s shape; collective.

        Parameters
        ----------
        v : array_like
            Of ``theta``'s shape.
        """
        self._require_shape("v", v, self._theta)
        return self._tape.jvp([self._value], [self._theta], [v])[0]

    def rmatvec(self, w: Any) -> Array:
        """Return ``Jᵀ w``, of ``theta``'s shape; collective.

        Parameters
        ----------
        w : array_like
            Of ``value``'s shape.
        """
        self._require_shape("w", w, self._value)
        (part,) = self._tape.vjp([self._value], [w], [self._theta])
        if not self._shared or self._comm.size == 1:
            return part
        total = np.empty_like(part)
        self._comm.Allreduce(part, total)
        return total

    def _require_shape(self, name: str, array: Any, like: Variable) -> None:
        with agreed(self._comm):
            if np.shape(array) != like.shape:
                raise ValueError(
                    f"Jacobian: {name} has shape {np.shape(array)}, expected {like.shape}"
                )

    def linear_operator(self) -> LinearOperator:
        """Return this rank's part of ``J`` for SciPy and PyLops, which take vectors.

        On several ranks its methods are collective. With a shared ``theta``, a solver of SciPy's
        that keeps to vectors like ``theta`` (conjugate gradients for ``Jᵀ J``, ``eigsh``) does the
        same on all ranks; one that takes norms of residuals (``lsqr``) does not.
        """
        from scipy.sparse.linalg import LinearOperator

        theta, value = self._theta.shape, self._value.shape
        return LinearOperator(
            self.shape,
            matvec=lambda v: self.matvec(np.reshape(v, theta)).ravel(),
            rmatvec=lambda w: self.rmatvec(np.reshape(w, value)).ravel(),
            dtype=self.value.dtype,
        )
