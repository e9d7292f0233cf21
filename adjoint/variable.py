"""Values on a tape, which behave as NumPy arrays do.

A :class:`Variable` is a value and a key; the tape knows variables by their keys alone. Everything
that can be done with a variable is an operator, found in :data:`RULES` under the NumPy function of
the same meaning; ``adjoint.ops`` fills that table, one rule for each function.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from operator import getitem
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]

#: What each NumPy function does to variables: ``RULES[np.exp](x)``.
RULES: dict[Callable[..., Any], Callable[..., Any]] = {}

_keys = itertools.count()


class Spec:
    """Shape and dtype of an array that is not kept.

    Derivative rules are handed a ``Spec`` in place of every input and output they do not need.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    """

    __slots__ = ("dtype", "shape")

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape = shape
        self.dtype = dtype

    @classmethod
    def of(cls, value: Any) -> Any:
        """Return the ``Spec`` of an array, and anything else as it is."""
        try:
            return cls(value.shape, value.dtype)
        except AttributeError:
            return value

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    def zeros(self) -> Array:
        """Return a new array of zeros of this shape and dtype."""
        return np.zeros(self.shape, self.dtype)

    def __repr__(self) -> str:
        return f"Spec({self.shape}, {self.dtype})"


def _unary(function: Callable[..., Any]) -> Callable[[Variable], Any]:
    return lambda self: RULES[function](self)


def _binary(function: Callable[..., Any]) -> Callable[[Variable, Any], Any]:
    return lambda self, other: RULES[function](self, other)


def _reflected(function: Callable[..., Any]) -> Callable[[Variable, Any], Any]:
    return lambda self, other: RULES[function](other, self)


def _comparison(function: Callable[..., Any]) -> Callable[[Variable, Any], Any]:
    return lambda self, other: function(self.value, value_of(other))


class Variable:
    """A value whose history the active tape records.

    Variables are made by :meth:`adjoint.Tape.watch` and by operators. Arithmetic, indexing, NumPy
    ufuncs (``np.exp(x)``) and the common functions (``np.sum(x)``, ``np.concatenate([x, y])``) give
    variables; comparisons give plain boolean arrays.

    Attributes
    ----------
    value : numpy.ndarray
        The value, read-only, so that what the derivative rules kept of it stays true.
    key : int
        The identity under which tapes know it.
    """

    __slots__ = ("__weakref__", "key", "value")
    __array_priority__ = 1000.0
    __hash__ = object.__hash__

    def __init__(self, value: Any) -> None:
        self.value = value
        self.key = next(_keys)

    @property
    def shape(self) -> tuple[int, ...]:
        shape: tuple[int, ...] = self.value.shape
        return shape

    @property
    def dtype(self) -> np.dtype[Any]:
        dtype: np.dtype[Any] = self.value.dtype
        return dtype

    @property
    def ndim(self) -> int:
        return len(self.value.shape)

    @property
    def size(self) -> int:
        return int(self.value.size)

    def __len__(self) -> int:
        return len(self.value)

    def __float__(self) -> float:
        return float(self.value)

    def __bool__(self) -> bool:
        return bool(self.value)

    def __repr__(self) -> str:
        return f"Variable({self.value!r})"

    def __iter__(self) -> Iterator[Variable]:
        return (self[i] for i in range(len(self)))

    __add__, __radd__ = _binary(np.add), _reflected(np.add)
    __sub__, __rsub__ = _binary(np.subtract), _reflected(np.subtract)
    __mul__, __rmul__ = _binary(np.multiply), _reflected(np.multiply)
    __truediv__, __rtruediv__ = _binary(np.divide), _reflected(np.divide)
    __pow__, __rpow__ = _binary(np.power), _reflected(np.power)
    __matmul__, __rmatmul__ = _binary(np.matmul), _reflected(np.matmul)
    __neg__, __abs__ = _unary(np.negative), _unary(np.absolute)
    __lt__, __le__ = _comparison(np.less), _comparison(np.less_equal)
    __gt__, __ge__ = _comparison(np.greater), _comparison(np.greater_equal)
    __eq__, __ne__ = _comparison(np.equal), _comparison(np.not_equal)

    def __pos__(self) -> Variable:
        return self

    def __getitem__(self, index: Any) -> Variable:
        result: Variable = RULES[getitem](self, index)
        return result

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError(
            "Variable: values on a tape are never overwritten; build a new one with np.where, "
            "np.concatenate or np.stack"
        )

    def __array__(self, *args: Any, **kwargs: Any) -> Array:
        raise TypeError(
            "Variable: turning it into a plain array would lose its derivative; "
            "take x.value where that is meant"
        )

    @property
    def T(self) -> Variable:
        return self.transpose()

    def transpose(self, *axes: Any) -> Variable:
        """Permute the axes (all of them reversed by default)."""
        order = axes[0] if len(axes) == 1 and not np.isscalar(axes[0]) else axes
        result: Variable = RULES[np.transpose](self, order or None)
        return result

    def reshape(self, *shape: Any) -> Variable:
        """Return the same values in another shape."""
        new = shape[0] if len(shape) == 1 and not np.isscalar(shape[0]) else shape
        result: Variable = RULES[np.reshape](self, new)
        return result

    def ravel(self) -> Variable:
        """Return the values as a vector."""
        return self.reshape(-1)

    def astype(self, dtype: DTypeLike) -> Variable:
        """Convert to ``float32`` or ``float64``."""
        result: Variable = RULES[np.ndarray.astype](self, dtype)
        return result

    def sum(self, axis: Any = None, *, keepdims: bool = False) -> Variable:
        """Sum over the axes given (all by default)."""
        result: Variable = RULES[np.sum](self, axis=axis, keepdims=keepdims)
        return result

    def mean(self, axis: Any = None, *, keepdims: bool = False) -> Variable:
        """Average over the axes given (all by default)."""
        result: Variable = RULES[np.mean](self, axis=axis, keepdims=keepdims)
        return result

    def max(self, axis: Any = None, *, keepdims: bool = False) -> Variable:
        """Greatest value over the axes given (all by default)."""
        result: Variable = RULES[np.max](self, axis=axis, keepdims=keepdims)
        return result

    def min(self, axis: Any = None, *, keepdims: bool = False) -> Variable:
        """Least value over the axes given (all by default)."""
        result: Variable = RULES[np.min](self, axis=axis, keepdims=keepdims)
        return result

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__" or kwargs:
            extra = f".{method}" if method != "__call__" else f" with {', '.join(kwargs)}"
            raise TypeError(f"Variable: no derivative rule for np.{ufunc.__name__}{extra}")
        return self.__array_function__(ufunc, (), inputs, {})

    def __array_function__(
        self, function: Callable[..., Any], types: Any, args: Any, kwargs: Any
    ) -> Any:
        if function in RULES:
            return RULES[function](*args, **kwargs)
        if function in _WITHOUT_DERIVATIVE:
            return function(*(value_of(a) for a in args), **kwargs)
        raise TypeError(
            f"Variable: no derivative rule for np.{function.__name__}; write an Operator for it, "
            "or take x.value where no derivative is wanted"
        )


#: Functions whose derivative is zero or meaningless: they give plain arrays.
_WITHOUT_DERIVATIVE: set[Callable[..., Any]] = {
    np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal,
    np.isfinite, np.isnan, np.isinf, np.signbit, np.sign, np.floor, np.ceil, np.rint,
    np.argmax, np.argmin, np.argsort, np.shape, np.ndim, np.size,
    np.allclose, np.isclose, np.array_equal, np.zeros_like, np.ones_like, np.empty_like,
    np.full_like, np.array_repr, np.array_str,
}  # fmt: skip


def value_of(x: Any) -> Any:
    """Return the plain value of a variable, and anything else as it is."""
    return x.value if isinstance(x, Variable) else x
