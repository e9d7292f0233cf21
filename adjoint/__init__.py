"""Neural networks and partial differential equations trained together on many processes.

Every operator stands beside its two hand-written derivatives; communication is an operator too.
"""

from . import ops, optimize
from .jacobian import Jacobian
from .low_rank import Posterior, largest_eigenpairs
from .operator import Operator
from .profile import profiling
from .tape import Tape
from .variable import Spec, Variable
from .world import agreed, communicator

__version__ = "0.1.0"

__all__ = [
    "Jacobian",
    "Operator",
    "Posterior",
    "Spec",
    "Tape",
    "Variable",
    "agreed",
    "communicator",
    "largest_eigenpairs",
    "ops",
    "optimize",
    "profiling",
]
