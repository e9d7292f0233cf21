"""Minimisation of a misfit that all ranks compute together.

:func:`minimize` runs an optimiser on the root while the other ranks serve it, writes its state so
that a run that was killed continues with the same iterates bit for bit, and reports one line an
iteration.
"""

from .composite import Composite
from .driver import minimize
from .result import Iteration, Result
from .state import StateError, read_configuration

__all__ = ["Composite", "Iteration", "Result", "StateError", "minimize", "read_configuration"]
