"""Unsigned indices for compiled loops.

A signed index that is shifted, ``u[i, j - 1]``, is tested for wrapping around in each turn of a
loop, which forbids vector instructions. Slices of rows, the other way around this, cost a tenth of
a microsecond a loop. Where loops are interpreted, indices are Python's, which NumPy does not turn
into floating-point numbers when they meet others.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import config

#: Whether compiled functions are run as Python.
interpreted: bool = getattr(config, "DISABLE_JIT")  # noqa: B009 - set when numba is imported

unsigned: Any = int if interpreted else np.uint64
