"""The local operators: NumPy's common functions, each with its two derivatives.

NumPy's own functions apply to variables (``np.exp(x)``), so these classes are rarely named.
"""

from .arithmetic import Add, Divide, Matmul, Maximum, Minimum, Multiply, Power, Subtract, Where
from .elementwise import (
    Absolute,
    Arctan,
    Cast,
    Cos,
    Cosh,
    Elementwise,
    Exp,
    Expm1,
    Log,
    Log1p,
    Negative,
    Reciprocal,
    Sin,
    Sinh,
    Sqrt,
    Square,
    Tan,
    Tanh,
)
from .reductions import Max, Mean, Min, Reduction, Sum
from .shaping import BroadcastTo, Concatenate, Index, Reshape, Stack, Transpose

__all__ = [
    "Absolute", "Add", "Arctan", "BroadcastTo", "Cast", "Concatenate", "Cos", "Cosh", "Divide",
    "Elementwise", "Exp", "Expm1", "Index", "Log", "Log1p", "Matmul", "Max", "Maximum", "Mean",
    "Min", "Minimum", "Multiply", "Negative", "Power", "Reciprocal", "Reduction", "Reshape", "Sin",
    "Sinh", "Sqrt", "Square", "Stack", "Subtract", "Sum", "Tan", "Tanh", "Transpose", "Where",
]  # fmt: skip
