"""Loops over rows that do not overlap: what they compute, and that no row is tested before them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from llvmlite import ir
from numba import njit

from adjoint.solvers.disjoint import _mark, _scopes, disjoint, get, put, take
from adjoint.solvers.unsigned import interpreted, unsigned

ROWS, COLUMNS = 6, 37


def plainly(u: Any, i: int, k: int) -> None:
    """Two rows from two others and themselves."""
    a, b, c, d = unsigned(i), unsigned(i + 1), unsigned(k), unsigned(k + 1)
    for j in range(unsigned(u.shape[1])):
        u[c, j] += u[a, j] + 2 * u[b, j]
        u[d, j] = u[a, j] - u[b, j]


def told(u: Any, i: int, k: int) -> None:
    disjoint()
    a, b, c, d = unsigned(i), unsigned(i + 1), unsigned(k), unsigned(k + 1)
    for j in range(unsigned(u.shape[1])):
        put(u, c, j, take(u, c, j, 1) + get(u, a, j) + 2 * get(u, b, j), 1)
        put(u, d, j, get(u, a, j) - get(u, b, j), 2)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_rows_are_those_of_plain_loops(dtype: Any) -> None:
    start = np.random.default_rng(0).random((ROWS, COLUMNS)).astype(dtype)
    expected, found = start.copy(), start.copy()
    plainly(expected, 0, 3)
    function = told if interpreted else njit(told)
    function(found, 0, 3)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found.dtype == dtype


@pytest.mark.skipif(interpreted, reason="loops are interpreted")
def test_no_rows_are_tested_before_a_loop() -> None:
    array = np.zeros((ROWS, COLUMNS))
    tests = {}
    for function in (plainly, told):
        compiled = njit(error_model="numpy")(function)
        compiled(array, 0, 3)
        (code,) = compiled.inspect_llvm().values()
        assert "<8 x double>" in code or "<4 x double>" in code or "<2 x double>" in code
        tests[function] = "memcheck" in code
    assert tests == {plainly: True, told: False}


def test_a_row_is_told_from_all_others_and_not_from_itself() -> None:
    module = ir.Module()
    kind = ir.FunctionType(ir.VoidType(), [ir.PointerType(ir.DoubleType())])
    function = ir.Function(module, kind, "f")
    load = ir.IRBuilder(function.append_basic_block()).load(function.args[0])
    scopes = _scopes(module)
    assert _mark(module, load, 2) is load
    assert [*load.metadata["alias.scope"].operands] == [scopes[2]]
    assert [*load.metadata["noalias"].operands] == scopes[:2] + scopes[3:]
