"""Distributed sparse matrices, linear solves and PDEs."""

from .diffusion import DiffusionMatrix, DirichletLoad
from .errors import ConvergenceError
from .krylov import Solved
from .linear_solve import LinearSolve
from .matvec import MatVec
from .pattern import Pattern
from .poisson import Poisson
from .transpose import Transpose

__all__ = [
    "ConvergenceError", "DiffusionMatrix", "DirichletLoad", "LinearSolve", "MatVec", "Pattern",
    "Poisson", "Solved", "Transpose",
]  # fmt: skip
