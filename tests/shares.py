"""Shares of a parallel loop that are taken one after the other, where kernels are interpreted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np


def alone(work: Any, blank: float = np.nan) -> Callable[[int], Iterator[int]]:
    """Return a loop over shares, the last one first, each of which finds those of others spoilt.

    Parameters
    ----------
    work : numpy.ndarray
        Each share's room for work, along the first axis.
    blank : float
        What a share finds in its own.
    """

    def shares(count: int) -> Iterator[int]:
        for t in reversed(range(count)):
            work[...] = np.nan
            work[t] = blank
            yield t
            assert np.isnan(np.delete(work, t, axis=0)).all(), "what a share writes is another's"

    return shares
