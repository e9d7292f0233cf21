"""Loads and stores in compiled loops over rows that do not overlap, as the compiler is told.

A loop that stores into some rows and loads from others can take whole vectors only if no store
changes what is still to be loaded. A compiler that does not know this for certain tests each pair
of rows before each loop: with a dozen of rows that takes longer than a hundred columns do, for the
processor cannot foresee how the tests end when rows of a ring come in turns. Here it is told:

    disjoint()
    for j in columns:
        put(u, i, j, get(v, i, j) + take(u, i, j, 1), 1)

``get`` loads from a row that the loop does not store into; ``put`` stores into a row that has the
number it is given, and ``take`` loads from it. Within a call of a function that begins with
``disjoint()``, entries of rows with different numbers, and those that ``get`` loads, must be
different ones.

Loads and stores carry LLVM's ``alias.scope`` and ``noalias`` metadata, as if the rows were
``restrict`` pointers of C; see https://llvm.org/docs/LangRef.html#noalias-and-alias-scope-metadata.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .unsigned import interpreted

#: Numbers of rows that are stored into; 0 is for all that are not.
NUMBERS = range(7)


def _scopes(module: Any) -> list[Any]:
    domain = module.add_metadata(["rows"])
    return [module.add_metadata([f"row {number}", domain]) for number in NUMBERS]


def _mark(module: Any, instruction: Any, number: int) -> Any:
    scopes = _scopes(module)
    others = scopes[:number] + scopes[number + 1 :]
    instruction.set_metadata("alias.scope", module.add_metadata([scopes[number]]))
    instruction.set_metadata("noalias", module.add_metadata(others))
    return instruction


def _place(context: Any, builder: Any, kind: Any, value: Any, indices: Any) -> Any:
    array = context.make_array(kind)(context, builder, value)
    return cgutils.get_item_pointer(context, builder, kind, array, indices, wraparound=False)


def _disjoint(context: Any) -> tuple[Any, Any]:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        module = builder.module
        declare = cgutils.get_or_insert_function(
            module,
            ir.FunctionType(ir.VoidType(), [ir.MetaDataType()]),
            "llvm.experimental.noalias.scope.decl",
        )
        for scope in _scopes(module):
            builder.call(declare, [module.add_metadata([scope])])
        return context.get_dummy_value()

    return types.void(), generate


def _get(context: Any, array: Any, i: Any, j: Any) -> tuple[Any, Any]:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(context, builder, array, arguments[0], arguments[1:])
        return _mark(builder.module, builder.load(place), 0)

    return array.dtype(array, types.uint64, types.uint64), generate


def _entry(context: Any, array: Any, i: Any) -> tuple[Any, Any]:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(context, builder, array, arguments[0], arguments[1:])
        return _mark(builder.module, builder.load(place), 0)

    return array.dtype(array, types.uint64), generate


def _take(context: Any, array: Any, i: Any, j: Any, number: Any) -> tuple[Any, Any]:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(context, builder, array, arguments[0], arguments[1:3])
        return _mark(builder.module, builder.load(place), number.literal_value)

    return array.dtype(array, types.uint64, types.uint64, number), generate


def _put(context: Any, array: Any, i: Any, j: Any, value: Any, number: Any) -> tuple[Any, Any]:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(context, builder, array, arguments[0], arguments[1:3])
        _mark(builder.module, builder.store(arguments[3], place), number.literal_value)
        return context.get_dummy_value()

    return types.void(array, types.uint64, types.uint64, array.dtype, number), generate


def _assign(array: Any, i: int, j: int, value: Any, number: int) -> None:
    array[i, j] = value


if interpreted:
    disjoint: Any = lambda: None  # noqa: E731
    get: Any = lambda array, i, j: array[i, j]  # noqa: E731
    entry: Any = lambda array, i: array[i]  # noqa: E731
    take: Any = lambda array, i, j, number: array[i, j]  # noqa: E731
    put: Any = _assign
else:
    disjoint, get, entry = intrinsic(_disjoint), intrinsic(_get), intrinsic(_entry)
    take, put = intrinsic(prefer_literal=True)(_take), intrinsic(prefer_literal=True)(_put)
