"""Wavefronts: all half steps of all rows, each when the rows about it are as it needs them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adjoint.solvers.wavefront import LAG, Wavefront

FIRST = 2


class Patches:
    """Two kinds of fields on neighbouring patches, as the number of half steps that rows have had.

    Even half steps change the fields of the first kind, odd ones those of the second. Ghosts have
    what the last exchange brought.
    """

    def __init__(self, heights: list[int]) -> None:
        # Before any half step, the second kind is that of a step before.
        self.had = [np.tile([[-2], [-1]], h + 2 * LAG) for h in heights]
        for field, (low, high) in zip(self.had, self.shared()):
            field[:, :LAG] = field[:, :LAG] if low else 99
            field[:, -LAG:] = field[:, -LAG:] if high else 99

    def shared(self) -> list[tuple[bool, bool]]:
        last = len(self.had) - 1
        return [(k > 0, k < last) for k in range(last + 1)]

    def exchange(self, kind: int) -> None:
        for upper, lower in zip(self.had, self.had[1:]):
            lower[kind, :LAG] = upper[kind, -2 * LAG : -LAG]
            upper[kind, -LAG:] = lower[kind, LAG : 2 * LAG]

    def take(self, patch: int, half: int, row: int) -> None:
        """Take a half step in a row, from what the one before has left within reach."""
        kind, had = half % 2, self.had[patch]
        assert had[kind, row] == half - 2
        near = had[1 - kind, row - LAG : row + LAG + 1]
        assert np.isin(near, (half - 1, 99)).all(), (patch, half, row, near)  # 99: off the grid
        had[kind, row] = half

    def run(self, patch: int, phase: Any, random: Any) -> None:
        """Run the parts of a phase at once: each goes on at random moments."""
        parts = [list(reversed(list(positions(part)))) for part in phase]
        while waiting := [part for part in parts if part]:
            part = waiting[random.integers(len(waiting))]
            for half, row in part.pop():
                self.take(patch, half, row)


def positions(part: Any) -> Any:
    """Yield what a part takes at each position, in the order of kernels."""
    for r in range(part.max() + LAG * len(part)):
        taken = [(k, r - LAG * k) for k in range(len(part))]
        yield [(k, row) for k, row in taken if part[k, 0] <= row < part[k, 1]]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("heights", [[1], [9], [16], [37], [100], [2, 3], [9, 8], [40, 70, 33]])
def test_half_steps_find_what_they_need(heights: list[int], threads: int, steps: int) -> None:
    patches = Patches(heights)
    random = np.random.default_rng(1)

    def fronts(most: int) -> list[Wavefront]:
        return [Wavefront(FIRST, FIRST + h, threads, most, shared)
                for h, shared in zip(heights, patches.shared())]  # fmt: skip

    found = fronts(min(front.steps for front in fronts(steps)))
    taken = found[0].steps
    assert taken == min(front.steps for front in found) == max(front.steps for front in found)
    for half, phases in enumerate(zip(*(front.phases for front in found), strict=True)):
        if len(heights) > 1:
            patches.exchange(1 - half % 2)
        for patch, phase in enumerate(phases):
            patches.run(patch, phase, random)
    for had in patches.had:
        owned = had[:, LAG:-LAG]
        assert (owned[0] == 2 * taken - 2).all()
        assert (owned[1] == 2 * taken - 1).all()


def test_as_many_steps_as_shares_have_room_for() -> None:
    assert Wavefront(2, 12, 1, 4).steps == 4
    assert Wavefront(2, 34, 2, 4).steps == 2
    assert Wavefront(2, 34, 1, 4, (True, False)).steps == 4
    assert Wavefront(2, 18, 1, 4, (True, False)).steps == 2
    assert Wavefront(20, 35, 1, 4, (True, False)).steps == 1
    assert Wavefront(2, 6, 1, 4, (True, False)).steps == 1
    assert Wavefront(2, 1000, 2, 4, fused=False).steps == 1


#: Sweeps over the rows from 2, with the number of shares and the row behind the last.
SWEEPS: dict[str, tuple[Wavefront, int, int]] = {
    "one share": (Wavefront(2, 72, 1, 2), 1, 72),
    "two shares": (Wavefront(2, 72, 2, 2), 2, 72),
    "three shares": (Wavefront(2, 72, 3, 2), 3, 72),
    "other ranks'": (Wavefront(2, 72, 3, 2, (True, True)), 3, 72),
    "half step by half step": (Wavefront(2, 72, 3, 2, fused=False), 3, 72),
    "no room": (Wavefront(2, 8, 8, 2, (False, True)), 6, 8),
}


@pytest.mark.parametrize("name", SWEEPS)
def test_phases_run_together_where_nothing_is_exchanged(name: str) -> None:
    front, shares, _ = SWEEPS[name]
    assert len(front.phases[0]) == shares
    assert front.parts == max(2, *(len(phase) for phase in front.phases))
    stacks = front.forward()
    assert len(stacks) == (1 if "share" in name else 2 * front.steps)
    phases = [whole for stack in stacks for whole in stack]
    for phase, expected in zip(phases, front.phases, strict=True):
        assert expected.shape[1:] == (2 * front.steps, 2)
        np.testing.assert_array_equal(phase[: len(expected)], expected)
        assert not phase[len(expected) :].any()


@pytest.mark.parametrize("name", SWEEPS)
def test_rows_are_made_ready_before_a_sweep_back(name: str) -> None:
    """Half step 0 takes all rows once; the others are those of a sweep forwards."""
    front, shares, last = SWEEPS[name]
    ready, later = front.reverse()
    assert ready.shape == (1, shares, 2 * front.steps + 1, 2)
    rows = np.concatenate([np.arange(*part[0]) for part in ready[0]])
    np.testing.assert_array_equal(np.sort(rows), np.arange(2, last))
    assert not ready[0][:, 1:].any()
    assert len(later) == len(front.forward())
    if len(later) == 1:
        np.testing.assert_array_equal(later[0][0, :shares], ready[0])
    phases = [whole for stack in later for whole in stack[1:]]
    for phase, expected in zip(phases, front.phases, strict=True):
        np.testing.assert_array_equal(phase[: len(expected), 1:], expected)
        assert not phase[:, 0].any()
        assert not phase[len(expected) :].any()


@pytest.mark.parametrize("name", ["other ranks'", "half step by half step", "no room"])
def test_rows_of_other_ranks_come_first_in_a_sweep_back(name: str) -> None:
    front, _, last = SWEEPS[name]
    _, later = front.reverse()
    for half, (came, _) in enumerate(later):
        assert came[0, half].tolist() == [0, 2]
        assert came[1, half].tolist() == [last, last + 2]
        assert came.sum() == 2 + 2 * last + 2
