"""Distributed sparse matrices, linear solves and PDEs."""

from .errors import ConvergenceError
from .krylov import Solved
from .linear_solve import LinearSolve
from .matvec import MatVec
from .pattern import Pattern
from .transpose import Transpose

__all__ = ["ConvergenceError", "LinearSolve", "MatVec", "Pattern", "Solved", "Transpose"]
