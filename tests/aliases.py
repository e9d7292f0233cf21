"""What compiled loops are told of their rows, held against the rows that interpreted ones touch."""

from __future__ import annotations

import sys
from types import FrameType, ModuleType
from typing import Any

import pytest


class Loops:
    """Loads and stores of :mod:`~adjoint.solvers.disjoint` that find out whether rows overlap.

    A scope is a call of a function that begins with ``disjoint()``. An entry that is stored in it
    must be loaded and stored by one number alone, and no index may be below zero.
    """

    def __init__(self) -> None:
        self.scopes: list[tuple[FrameType, dict[int, tuple[int, bool]]]] = []
        self.stores = 0

    def disjoint(self) -> None:
        self.scopes.append((sys._getframe(1), {}))

    def get(self, array: Any, i: int, j: int) -> Any:
        self._touch(array, (i, j), 0, False)
        return array[i, j]

    def entry(self, array: Any, i: int) -> Any:
        self._touch(array, (i,), 0, False)
        return array[i]

    def take(self, array: Any, i: int, j: int, number: int) -> Any:
        self._touch(array, (i, j), number, False)
        return array[i, j]

    def put(self, array: Any, i: int, j: int, value: Any, number: int) -> None:
        self._touch(array, (i, j), number, True)
        self.stores += 1
        array[i, j] = value

    def unsigned(self, k: int) -> int:
        assert k >= 0, f"an index is {k}"
        return int(k)

    def _touch(self, array: Any, indices: tuple[int, ...], number: int, stored: bool) -> None:
        assert min(indices) >= 0, f"indices are {indices}"
        scope = self._scope(sys._getframe(2))
        place = array.__array_interface__["data"][0]
        place += sum(index * stride for index, stride in zip(indices, array.strides))
        known, before = scope.get(place, (number, False))
        if stored or before:
            assert known == number, f"entry {indices} is of row {known}, and of row {number}"
        scope[place] = number, stored or before

    def _scope(self, frame: FrameType) -> dict[int, tuple[int, bool]]:
        """Return the scope of a call, and leave those of functions that have returned."""
        while True:
            caller: FrameType | None = frame
            while caller is not None and caller is not self.scopes[-1][0]:
                caller = caller.f_back
            if caller is not None:
                return self.scopes[-1][1]
            self.scopes.pop()


def watch(patch: pytest.MonkeyPatch, kernels: ModuleType) -> Loops:
    """Have the interpreted loops of a module watched."""
    loops = Loops()
    for name in ("disjoint", "get", "entry", "take", "put", "unsigned"):
        if hasattr(kernels, name):
            patch.setattr(kernels, name, getattr(loops, name))
    return loops
