"""Functions of this library as functions of other frameworks: PyTorch and JAX.

Each framework is imported when its bridge is built. SciPy and PyLops need none: see
:meth:`adjoint.Jacobian.linear_operator`.
"""

from .jax import as_jax
from .torch import as_torch

__all__ = ["as_jax", "as_torch"]
