"""A preconditioner that is kept while its matrix changes, in variables of diagonal one."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..variable import Array
from .pattern import Pattern


class DiagonalRoot:
    """``values ↦ √|A_ii|`` of this rank's rows, one where that is zero or absent.

    Parameters
    ----------
    pattern : Pattern
        Of a square matrix.
    """

    def __init__(self, pattern: Pattern) -> None:
        begin, end = pattern.row_range
        self._entries = np.flatnonzero(pattern.indices == pattern.rows)
        self._rows = pattern.indices[self._entries] - begin
        self._count = end - begin

    def __call__(self, values: Array) -> Array:
        root: Array = np.ones(self._count)
        diagonal = values[self._entries]
        diagonal[diagonal == 0] = 1
        root[self._rows] = np.sqrt(np.abs(diagonal))
        return root


class ScaledPreconditioner:
    """PETSc's context of ``r ↦ S B S r``, with ``B`` the preconditioner of an earlier matrix.

    Parameters
    ----------
    inner : petsc4py.PETSc.PC
        ``B``, set up only when the preconditioner around it is.
    vector : petsc4py.PETSc.Vec
        Like those that it is applied to.

    Notes
    -----
    With ``D`` and ``D'`` the diagonals of the present matrix ``A`` and of that of ``B``, ``S`` is
    ``√(D'/D)``. So the matrices are compared in the variables ``√D x``, in which their diagonals
    are one, and there they are much more alike: of diffusion it is known that ``v = √κ u`` turns
    ``−∇·(κ∇u)`` into ``√κ (−Δv + v Δ√κ / √κ)``. A smooth change of ``κ`` leaves the leading part
    as it is, and conjugate gradients soon find the few smooth modes that feel the other one. With
    ``B``, ``S B S`` is symmetric and positive.
    """

    def __init__(self, inner: Any, vector: Any) -> None:
        self.objects = (inner, vector.duplicate(), vector.duplicate())
        self._inner, self._scale, self._work = self.objects
        self._scaled = False

    def scale(self, ratio: Array | None) -> None:
        """Make this rank's part of ``S`` the diagonal; None for the identity."""
        self._scaled = ratio is not None
        if ratio is not None:
            self._scale.setArray(ratio)

    def setUp(self, pc: Any) -> None:
        self._inner.setReusePreconditioner(False)
        self._inner.setOperators(*pc.getOperators())
        self._inner.setUp()
        self._inner.setReusePreconditioner(True)  # or it would follow the matrix by itself

    def apply(self, pc: Any, x: Any, y: Any) -> None:
        if not self._scaled:
            self._inner.apply(x, y)
            return
        self._work.pointwiseMult(x, self._scale)
        self._inner.apply(self._work, y)
        y.pointwiseMult(y, self._scale)
