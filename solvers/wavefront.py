"""Wavefronts: which rows are taken when, if several half steps go through a patch in one sweep.

Half steps take turns at two kinds of fields, in place, and each needs rows of the other kind up to
``LAG`` away. In one sweep, half step ``k`` is ``k LAG`` rows behind the first. Where a share of the
rows borders on one of another thread or rank, half step ``k`` stays ``k LAG`` rows away from the
border, so that neighbours need nothing of each other meanwhile. What is left about a border is a
triangle: ``k LAG`` rows on either side, which are taken likewise when all shares are done.
About another thread's border this is done at once. About another rank's, its rows of each half step
have to come before the next one is taken.

Ranges of rows are arrays of int64 of shape (parts, half steps, 2): parts may run at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..variable import Array

#: Rows by which a half step follows the one before.
LAG = 2


class Wavefront:
    """The phases of a sweep over a patch.

    Parameters
    ----------
    first, last : int
        The rows ``first`` … ``last − 1``.
    threads : int
        At most so many parts of a phase are worth while.
    steps : int
        At most so many steps of two halves in a sweep.
    shared : tuple of bool
        Whether the rows border on another rank's before the first and behind the last.
    fused : bool
        Whether half steps may be taken in one sweep: not where they need columns of other ranks.

    Attributes
    ----------
    steps : int
        Steps in a sweep.
    phases : list of numpy.ndarray
        One after the other. If rows are shared, or not ``fused``, there is one for each half step,
        before which the rows of the one before it, or those of the last sweep, are exchanged.
    parts : int
        The most parts of a phase.
    """

    def __init__(
        self,
        first: int,
        last: int,
        threads: int,
        steps: int,
        shared: tuple[bool, bool] = (False, False),
        fused: bool = True,
    ) -> None:
        height = last - first
        count = max(1, min(threads, height // (4 * LAG)))
        if fused and (count > 1 or any(shared)):
            # Triangles about both borders of a share must not meet.
            steps = min(steps, height // count // (4 * LAG))
        self._exchanged = not fused or any(shared)
        if not fused or steps == 0:
            self.steps = 1
            self._shares = _shares(first, last, min(threads, height))
            self.phases = [_parts(2, [{k: share} for share in self._shares]) for k in (0, 1)]
        else:
            self.steps = steps
            self._shares = _shares(first, last, count)
            self.phases = _phases(self._shares, 2 * steps, shared)
        self.parts = max(2, *(len(phase) for phase in self.phases))

    def forward(self) -> list[Array]:
        """Return phases that may be run without anything in between, stacked."""
        if self._exchanged:
            return [phase[None] for phase in self.phases]
        return [_stacked(self.phases)]

    def reverse(self) -> tuple[Array, list[Array]]:
        """Return the same with a half step 0 before, which makes rows ready for the first.

        Returns
        -------
        ready : numpy.ndarray
            The phase of half step 0 alone.
        phases : list of numpy.ndarray
            As :meth:`forward`. The first phase of each has been done, or is that of the rows of
            other ranks that have come.
        """
        stages = 2 * self.steps + 1
        later = [np.pad(phase, ((0, 0), (1, 0), (0, 0))) for phase in self.phases]
        ready = _parts(stages, [{0: share} for share in self._shares])
        if not self._exchanged:
            return ready[None], [_stacked([ready, *later])]
        first, last = self._shares[0][0], self._shares[-1][1]
        beyond = (first - LAG, first), (last, last + LAG)
        came = [_parts(stages, [{k: rows} for rows in beyond]) for k in range(stages - 1)]
        return ready[None], [_stacked(pair) for pair in zip(came, later)]


def _shares(first: int, last: int, count: int) -> list[tuple[int, int]]:
    edges = [first + (last - first) * t // count for t in range(count + 1)]
    return list(zip(edges, edges[1:]))


def _phases(
    shares: Sequence[tuple[int, int]], stages: int, shared: tuple[bool, bool]
) -> list[Array]:
    first, last = shares[0][0], shares[-1][1]
    reach = [LAG * k for k in range(stages)]
    inner = []
    for a, b in shares:
        low, high = a > first or shared[0], b < last or shared[1]
        inner.append({k: (a + low * x, b - high * x) for k, x in enumerate(reach)})
    between = [{k: (e - x, e + x) for k, x in enumerate(reach)} for e, _ in shares[1:]]
    phases = [inner]
    if not any(shared):
        if between:
            phases.append(between)
        return [_parts(stages, parts) for parts in phases]
    for k in range(1, stages):
        ends = ((first, first + reach[k]), (last - reach[k], last))
        parts = [{k: rows} for rows, present in zip(ends, shared) if present]
        phases.append(parts + (between if k == 1 else []))
    return [_parts(stages, parts) for parts in phases]


def _parts(stages: int, parts: Sequence[Mapping[int, tuple[int, int]]]) -> Array:
    """Return the parts of a phase; a half step that a part does not have takes no rows."""
    found = np.zeros((len(parts), stages, 2), np.int64)
    for rows, ranges in zip(found, parts):
        for k, pair in ranges.items():
            rows[k] = pair
    return found


def _stacked(phases: Sequence[Array]) -> Array:
    """Stack phases; parts that a phase does not have take no rows."""
    found = np.zeros((len(phases), max(map(len, phases)), *phases[0].shape[1:]), np.int64)
    for whole, phase in zip(found, phases):
        whole[: len(phase)] = phase
    return found
