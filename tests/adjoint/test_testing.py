"""The checks themselves: right operators pass, wrong ones fail with both numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adjoint import Operator
from adjoint.testing import check_jvp, check_vjp, dot_test, taylor_test, taylor_to_dict


class Scaled(Operator):
    """``y = 2 x²`` with derivatives that may be off by a factor."""

    def __init__(self, forward_error: float = 0.0, reverse_error: float = 0.0) -> None:
        self.forward_error = forward_error
        self.reverse_error = reverse_error

    def forward(self, x: Any) -> Any:
        return 2 * x**2

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        return 4 * inputs[0] * tangents[0] * (1 + self.forward_error)

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        return (4 * inputs[0] * cotangents[0] * (1 + self.reverse_error),)


X = np.linspace(0.5, 2.0, 6)


def test_a_right_operator_passes() -> None:
    for check in (dot_test, check_jvp, check_vjp):
        comparison = check(Scaled(), X)
        assert comparison.error <= comparison.tolerance
        assert comparison.found == pytest.approx(comparison.expected, rel=1e-6)
        assert comparison.found != 0


def test_dot_test_finds_rules_that_are_not_each_others_transpose() -> None:
    with pytest.raises(AssertionError, match=r"dot_test of Scaled: ⟨Jv, w⟩ = .*, ⟨v, Jᵀw⟩ = "):
        dot_test(Scaled(reverse_error=1e-11), X)


def test_check_jvp_finds_a_consistent_but_wrong_pair() -> None:
    wrong = Scaled(1e-5, 1e-5)
    dot_test(wrong, X)
    with pytest.raises(AssertionError, match=r"check_jvp of Scaled: Jv on rank 0 = .* difference"):
        check_jvp(wrong, X)
    with pytest.raises(AssertionError, match=r"check_vjp of Scaled: ⟨v, Jᵀw⟩ = .*, ⟨d, w⟩ = "):
        check_vjp(wrong, X)


def test_one_wrong_entry_among_many_is_found() -> None:
    class OneWrong(Scaled):
        def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
            result = super().jvp(tangents, inputs, outputs)
            result[777] *= 1 + 1e-5
            return result

    x = np.linspace(0.5, 2.0, 1000)
    with pytest.raises(AssertionError):
        dot_test(OneWrong(), x)
    with pytest.raises(AssertionError):
        check_jvp(OneWrong(), x)


def test_nan_never_passes() -> None:
    broken = Scaled(np.nan, np.nan)
    for check in (dot_test, check_jvp, check_vjp):
        with pytest.raises(AssertionError, match="nan"):
            check(broken, X)


def test_single_precision_has_its_own_tolerance() -> None:
    x = X.astype(np.float32)
    for check in (dot_test, check_jvp, check_vjp):
        check(Scaled(), x)
        with pytest.raises(AssertionError):
            check(Scaled(*((0.1, 0.1) if check is not dot_test else (0.1, 0.0))), x)


def test_inputs_that_are_not_floating_point_are_constants() -> None:
    dot_test(lambda x, n, flag: x**n if flag else x, X, 3, True)


def test_taylor_rates_tell_right_from_wrong() -> None:
    right = taylor_test(lambda x: Scaled()(x).sum() ** 2, X)
    assert right.shape == (4,)
    assert right.min() > 1.95
    wrong = taylor_test(lambda x: Scaled(reverse_error=0.1)(x).sum() ** 2, X)
    assert wrong[-1] < 1.2


def test_taylor_of_a_linear_function_has_no_remainder() -> None:
    np.testing.assert_array_equal(taylor_test(lambda x: 3 * x.sum(), X), np.inf)
    assert taylor_test(lambda x: Scaled(reverse_error=0.1)(x).sum(), X)[-1] < 1.2


def test_taylor_to_dict_has_first_order_remainders_too() -> None:
    result = taylor_to_dict(
        lambda x, y: (np.exp(x) * y).sum(), [X, X], [np.ones(6), np.cos(X)], levels=4
    )
    assert result["eps"] == [1e-2, 5e-3, 2.5e-3, 1.25e-3]
    assert len(result["R0"]["Residual"]) == 4
    assert result["R0"]["Rate"] == pytest.approx([1, 1, 1], abs=0.05)
    assert result["R1"]["Rate"] == pytest.approx([2, 2, 2], abs=0.05)


def test_state_of_the_misfit_is_left_at_the_point() -> None:
    seen: list[Any] = []

    def misfit(x: Any) -> Any:
        seen.append(x.value.copy())
        return (x * x).sum()

    taylor_test(misfit, X)
    np.testing.assert_array_equal(seen[-1], X)
