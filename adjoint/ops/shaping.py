"""Operators that move entries without changing them: their transposes move cotangents back."""

from __future__ import annotations

from collections.abc import Sequence
from operator import getitem
from typing import Any

import numpy as np

from ..operator import Operator
from ..variable import RULES
from .arithmetic import unbroadcast


def _shape(shape: int | Sequence[int]) -> tuple[int, ...]:
    return (int(shape),) if isinstance(shape, int | np.integer) else tuple(shape)


class Reshape(Operator):
    """The same entries in another shape."""

    needs_inputs = ()
    needs_outputs = ()

    def __init__(self, shape: int | Sequence[int]) -> None:
        self.shape = _shape(shape)

    def forward(self, x: Any) -> Any:
        return np.reshape(x, self.shape)

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        return np.reshape(tangents[0], self.shape)

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        return (np.reshape(cotangents[0], inputs[0].shape),)


class Transpose(Operator):
    """Permutation of the axes; the transpose applies the inverse permutation."""

    needs_inputs = ()
    needs_outputs = ()

    def __init__(self, axes: Sequence[int] | None = None) -> None:
        self.axes = None if axes is None else tuple(axes)

    def forward(self, x: Any) -> Any:
        return np.transpose(x, self.axes)

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        return np.transpose(tangents[0], self.axes)

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        if self.axes is None:
            return (np.transpose(cotangents[0]),)
        inverse = np.argsort([axis % len(self.axes) for axis in self.axes])
        return (np.transpose(cotangents[0], tuple(inverse)),)


class BroadcastTo(Operator):
    """Repetition along new axes and axes of length 1; the transpose sums over them."""

    needs_inputs = ()
    needs_outputs = ()

    def __init__(self, shape: int | Sequence[int]) -> None:
        self.shape = _shape(shape)

    def forward(self, x: Any) -> Any:
        return np.broadcast_to(x, self.shape)

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        return np.broadcast_to(tangents[0], self.shape)

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        return (unbroadcast(cotangents[0], inputs[0]),)


class Index(Operator):
    """``y = x[index]`` with any index NumPy takes; the transpose adds ``ȳ`` where ``y`` came from.

    An entry that an array of integers picks several times gets the sum of their cotangents.
    """

    needs_inputs = ()
    needs_outputs = ()

    def __init__(self, index: Any) -> None:
        self.index = index
        parts = index if isinstance(index, tuple) else (index,)
        self._may_repeat = any(
            not isinstance(p, int | np.integer | slice | type(None) | type(Ellipsis))
            and np.asarray(p).dtype != bool
            for p in parts
        )

    def forward(self, x: Any) -> Any:
        return x[self.index]

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        return tangents[0][self.index]

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        result = np.zeros(inputs[0].shape, inputs[0].dtype)
        if self._may_repeat:
            np.add.at(result, self.index, cotangents[0])
        else:
            result[self.index] = cotangents[0]
        return (result,)


class Concatenate(Operator):
    """Arrays joined along an axis; the transpose cuts the cotangent at the same places.

    With ``axis=None`` they are joined as vectors.
    """

    needs_inputs = ()
    needs_outputs = ()

    def __init__(self, axis: int | None = 0) -> None:
        self.axis = axis

    def forward(self, *arrays: Any) -> Any:
        return np.concatenate(arrays, self.axis)

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        return np.concatenate(tangents, self.axis)

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        if self.axis is None:
            ends = np.cumsum([np.size(x) for x in inputs])
            parts = np.split(cotangents[0], ends[:-1])
            return tuple([w.reshape(np.shape(x)) for w, x in zip(parts, inputs)])
        ends = np.cumsum([np.shape(x)[self.axis] for x in inputs])
        return tuple(np.split(cotangents[0], ends[:-1], self.axis))


class Stack(Operator):
    """Arrays of one shape joined along a new axis; the transpose takes the cotangent apart."""

    needs_inputs = ()
    needs_outputs = ()

    def __init__(self, axis: int = 0) -> None:
        self.axis = axis

    def forward(self, *arrays: Any) -> Any:
        return np.stack(arrays, self.axis)

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        return np.stack(tangents, self.axis)

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        return tuple(np.moveaxis(cotangents[0], self.axis, 0))


RULES[np.reshape] = lambda x, shape: Reshape(shape)(x)
RULES[np.ravel] = lambda x: Reshape(-1)(x)
RULES[np.squeeze] = lambda x, axis=None: Reshape(np.squeeze(x.value, axis).shape)(x)
RULES[np.expand_dims] = lambda x, axis: Reshape(np.expand_dims(x.value, axis).shape)(x)
RULES[np.transpose] = lambda x, axes=None: Transpose(axes)(x)
RULES[np.broadcast_to] = lambda x, shape: BroadcastTo(shape)(x)
RULES[getitem] = lambda x, index: Index(index)(x)
RULES[np.concatenate] = lambda arrays, axis=0: Concatenate(axis)(*arrays)
RULES[np.stack] = lambda arrays, axis=0: Stack(axis)(*arrays)
