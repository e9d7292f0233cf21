"""Stores around the cache and loads ahead of it, for compiled loops that memory would hold up.

An ordinary store first loads its cache line from memory, and drives another one, which may still be
needed, out of the cache. Where a forward run keeps a copy of each level of a field, that doubles
what it moves. In reverse such a level comes from memory, and a processor that finds out row by row
which lines it needs waits for each of them.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .padding import LINE
from .unsigned import interpreted

_I64 = ir.IntType(64)


def _copy(target: Any, at: int, source: Any, begin: int, count: int) -> None:
    """``target[at : at + count] = source[begin : begin + count]``, of flattened arrays.

    Parameters
    ----------
    target, source : numpy.ndarray
        Contiguous, of the same dtype. ``target``'s entry ``at`` begins a cache line.
    at, begin, count : int
        Entries.
    """
    target.reshape(-1)[at : at + count] = source.reshape(-1)[begin : begin + count]


def _stream(
    context: Any, target: Any, at: Any, source: Any, begin: Any, count: Any
) -> tuple[Any, Any]:
    size = target.dtype.bitwidth // 8
    lanes = LINE // size
    order = types.void(target, types.intp, source, types.intp, types.intp)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        to, at, of, begin, count = arguments
        entry = context.get_value_type(target.dtype)
        to, of = (
            builder.gep(context.make_array(kind)(context, builder, value).data, [first])
            for kind, value, first in ((target, to, at), (source, of, begin))
        )
        whole = builder.sdiv(count, _I64(lanes))
        vector = ir.VectorType(entry, lanes).as_pointer()
        around = builder.module.add_metadata([ir.IntType(32)(1)])
        lines = (builder.bitcast(pointer, vector) for pointer in (to, of))
        line_to, line_of = lines
        with cgutils.for_range(builder, whole, intp=_I64) as loop:
            value = builder.load(builder.gep(line_of, [loop.index]), align=size)
            store = builder.store(value, builder.gep(line_to, [loop.index]), align=LINE)
            store.set_metadata("nontemporal", around)
        done = builder.mul(whole, _I64(lanes))
        with cgutils.for_range(builder, builder.sub(count, done), intp=_I64) as loop:
            k = builder.add(done, loop.index)
            builder.store(builder.load(builder.gep(of, [k])), builder.gep(to, [k]))
        return context.get_dummy_value()

    return order, generate


def _no_prefetch(array: Any, begin: int, count: int) -> None:
    """Have entries ``begin`` … ``begin + count − 1`` of a flattened array brought into the cache.

    They may lie beyond the array's end.
    """


def _prefetch(context: Any, array: Any, begin: Any, count: Any) -> tuple[Any, Any]:
    lanes = LINE // (array.dtype.bitwidth // 8)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value, begin, count = arguments
        first = builder.gep(context.make_array(array)(context, builder, value).data, [begin])
        byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
        fetch = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag]),
            "llvm.prefetch.p0",
        )  # fmt: skip
        lines = builder.sdiv(builder.add(count, _I64(lanes - 1)), _I64(lanes))
        # To be read, into the second cache, as data.
        how = [flag(0), flag(2), flag(1)]
        with cgutils.for_range(builder, lines, intp=_I64) as loop:
            place = builder.gep(first, [builder.mul(loop.index, _I64(lanes))])
            builder.call(fetch, [builder.bitcast(place, byte), *how])
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp), generate


stream: Any = _copy if interpreted else intrinsic(_stream)
stream.__doc__ = _copy.__doc__
prefetch: Any = _no_prefetch if interpreted else intrinsic(_prefetch)
prefetch.__doc__ = _no_prefetch.__doc__
