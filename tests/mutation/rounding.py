"""The loss of precision that some faults bring about."""

from __future__ import annotations

from typing import Any

import numpy as np


def rounded(value: Any) -> Any:
    """Return float64 values as float32 leaves them, also in tuples; everything else as it is."""
    if isinstance(value, tuple):
        return tuple(map(rounded, value))
    if isinstance(value, np.ndarray | np.floating) and value.dtype == np.float64:
        return value.astype(np.float32).astype(np.float64)
    return value
