"""Checks of hand-written derivatives, for our operators and for yours.

Each check takes an operator, or any function of variables, and this rank's inputs. In serial and
under ``mpiexec`` alike it treats the program on all ranks as one function: inner products are
summed over ranks, directions are random and different on every rank, and the verdict is the same
everywhere. Floating-point arrays are differentiated, all other inputs are constants.

Examples
--------
>>> import numpy as np
>>> from adjoint.ops import Tanh
>>> from adjoint.testing import check_jvp, check_vjp, dot_test
>>> for check in dot_test, check_jvp, check_vjp:
...     _ = check(Tanh(), np.linspace(-1, 1, 5))
"""

from __future__ import annotations

from .derivatives import Comparison, check_jvp, check_vjp, dot_test
from .prepared import Prepared
from .taylor import taylor_test, taylor_to_dict

__all__ = [
    "Comparison",
    "Prepared",
    "check_jvp",
    "check_vjp",
    "dot_test",
    "taylor_test",
    "taylor_to_dict",
]
