"""What the tape records, sweeps and frees."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

from adjoint import Operator, Spec, Tape, Variable
from adjoint.comm import Allreduce
from adjoint.tape import active_tape
from adjoint.testing import check_vjp, dot_test


class Split(Operator):
    """Two outputs, one of which may go unused."""

    needs_inputs = ()
    needs_outputs = ()

    def forward(self, x: Any) -> Any:
        return 2 * x, 3 * x[:1]

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        return 2 * tangents[0], 3 * tangents[0][:1]

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        result = 2 * cotangents[0]
        result[:1] += 3 * cotangents[1]
        return (result,)


class Remember(Operator):
    """Keeps an auxiliary output that the caller does not see."""

    auxiliary = 1
    needs_inputs = ()
    needs_outputs = ()

    def forward(self, x: Any) -> Any:
        return x**2, {"slope": 2 * x}

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        return outputs[1]["slope"] * tangents[0]

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        return (outputs[1]["slope"] * cotangents[0],)


def test_gradient_of_a_product_rule() -> None:
    with Tape() as tape:
        x, y = tape.watch([1.0, 2.0]), tape.watch([3.0, 4.0])
        loss = (x * y).sum()
    gx, gy = tape.gradient(loss, [x, y])
    np.testing.assert_array_equal(gx, [3, 4])
    np.testing.assert_array_equal(gy, [1, 2])


def test_unused_source_has_zero_gradient_of_its_dtype() -> None:
    with Tape() as tape:
        x, y = tape.watch(np.ones(2)), tape.watch(np.ones((2, 3), np.float32))
        loss = x.sum()
    _, g = tape.gradient(loss, [x, y])
    assert g.shape == (2, 3) and g.dtype == np.float32 and not g.any()


def test_source_may_be_an_intermediate_value_or_the_loss_itself() -> None:
    with Tape() as tape:
        x = tape.watch(np.array([1.0, 2.0]))
        y = x * x
        loss = (3 * y).sum()
    gx, gy, gl = tape.gradient(loss, [x, y, loss])
    np.testing.assert_array_equal(gx, [6, 12])
    np.testing.assert_array_equal(gy, [3, 3])
    assert gl == 1


def test_value_used_many_times_sums_its_cotangents() -> None:
    with Tape() as tape:
        x = tape.watch(np.array([1.0, 2.0]))
        loss = (x + x + x * x + x).sum()
    (g,) = tape.gradient(loss, [x])
    np.testing.assert_array_equal(g, [5, 7])


def test_cotangents_given_are_not_modified() -> None:
    with Tape() as tape:
        x = tape.watch(np.ones(3))
        y = x + 0.0
        z = y + y + y * 2
    w, v = np.ones(3), np.ones(3)
    tape.vjp([y, z, y], [w, v, w], [x])
    np.testing.assert_array_equal(w, 1)
    np.testing.assert_array_equal(v, 1)


def test_results_are_the_callers_own() -> None:
    with Tape(persistent=True) as tape:
        x, y = tape.watch(np.ones((2, 3))), tape.watch(np.ones((2, 3)))
        z = x + y
        loss = z.sum()
        turned = z.T
    w, v = np.ones((3, 2)), np.ones((2, 3))
    found = [
        *tape.gradient(loss, [x, y, x]),
        *tape.vjp([turned], [w], [x, y, turned]),
        *tape.jvp([x, z, turned, turned], [x], [v]),
    ]
    for i, result in enumerate(found):
        assert result.flags.writeable and result.flags.c_contiguous
        assert not any(np.shares_memory(result, other) for other in (w, v, *found[:i]))


def test_several_outputs_and_missing_cotangents() -> None:
    x = np.arange(3.0)
    dot_test(Split(), x)
    dot_test(lambda v: Split()(v)[1], x)
    check_vjp(lambda v: Split()(v)[0], x)


def test_auxiliary_outputs_are_kept_for_the_rules_alone() -> None:
    dot_test(Remember(), np.arange(3.0))
    check_vjp(Remember(), np.arange(3.0))
    np.testing.assert_array_equal(Remember()(np.arange(3.0)), [0, 1, 4])


def test_hundred_thousand_operators_reverse_without_recursion() -> None:
    with Tape() as tape:
        x = tape.watch(np.ones(2))
        y = x
        for _ in range(100_000):
            y = y + 1e-5 * x
        loss = y.sum()
    assert len(tape.records) == 200_001
    (g,) = tape.gradient(loss, [x])
    np.testing.assert_allclose(g, 2.0, rtol=1e-9)


def test_only_what_the_rules_need_is_kept() -> None:
    with Tape() as tape:
        x = tape.watch(np.ones(1000))
        y = x + x
        z = np.exp(y)
        np.sin(z)
    add, exp, sin = tape.records
    assert all(isinstance(v, Spec) for v in (*add.inputs, *add.outputs))
    assert isinstance(exp.inputs[0], Spec) and exp.outputs[0] is z.value
    assert sin.inputs[0] is z.value and isinstance(sin.outputs[0], Spec)
    assert add.inputs[0].zeros().shape == (1000,)


def test_constants_are_not_recorded_nor_differentiated() -> None:
    class Loud(Operator):
        def forward(self, a: Any, b: Any) -> Any:
            return a + b

        def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
            def never() -> Any:
                raise AssertionError("cotangent of a constant was computed")

            return cotangents[0], never

    with Tape() as tape:
        Loud()(np.ones(2), np.ones(2))
        assert not tape.records
        x = tape.watch(np.ones(2))
        loss = Loud()(x, np.ones(2)).sum()
    np.testing.assert_array_equal(tape.gradient(loss, [x])[0], 1)


def test_reverse_sweep_frees_values_as_it_goes() -> None:
    alive: list[int] = []

    class Watch(Operator):
        needs_inputs = ()
        needs_outputs = ()

        def forward(self, x: Any) -> Any:
            return x + 0

        def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
            alive.append(sum(r() is not None for r in references))
            return (cotangents[0],)

    references: list[weakref.ref[Any]] = []
    with Tape() as tape:
        x = tape.watch(np.ones(10))
        y = x
        for _ in range(5):
            y = np.exp(Watch()(y) * 0.1)
            references.append(weakref.ref(y.value))
        loss = y.sum()
        del y
    gc.collect()
    tape.gradient(loss, [x])
    assert alive == [4, 3, 2, 1, 0]
    assert not tape.records


def test_a_spent_tape_says_so() -> None:
    with Tape() as tape:
        x = tape.watch(np.ones(2))
        loss = (x * x).sum()
    tape.gradient(loss, [x])
    with pytest.raises(RuntimeError, match="persistent=True"):
        tape.gradient(loss, [x])
    with pytest.raises(RuntimeError, match="take jvp before vjp"):
        tape.jvp([loss], [x], [np.ones(2)])


def test_a_persistent_tape_sweeps_again() -> None:
    with Tape(persistent=True) as tape:
        x = tape.watch(np.array([1.0, 2.0]))
        loss = (x * x).sum()
    first, second = tape.gradient(loss, [x])[0], tape.gradient(loss, [x])[0]
    np.testing.assert_array_equal(first, second)
    assert tape.jvp([loss], [x], [np.array([1.0, 0.0])])[0] == 2


def test_jvp_of_several_outputs_and_of_a_source() -> None:
    with Tape() as tape:
        x, y = tape.watch(np.array([1.0, 2.0])), tape.watch(np.array(3.0))
        p, q = x * y, x.sum()
    tangents = [np.array([1.0, -1.0]), np.array(2.0)]
    tp, tq, tx = tape.jvp([p, q, x], [x, y], tangents)
    np.testing.assert_array_equal(tp, [5, 1])
    assert tq == 0
    np.testing.assert_array_equal(tx, [1, -1])


def test_a_tangent_given_to_an_intermediate_value_is_added_to_its_own() -> None:
    with Tape(persistent=True) as tape:
        x = tape.watch(np.array([1.0, 2.0]))
        y = Allreduce(MPI.COMM_SELF)(x)  # whose rule runs also where x has no tangent
        z = y * y
    v, u, w = np.array([1.0, -1.0]), np.array([3.0, 5.0]), np.array([0.5, 2.0])
    np.testing.assert_array_equal(tape.jvp([z], [y], [u])[0], 2 * y.value * u)
    (t,) = tape.jvp([z], [x, y, x], [v, u, v])
    gx, gy, again = tape.vjp([z], [w], [x, y, x])
    assert t @ w == gx @ v + gy @ u + again @ v


def test_nested_tapes_record_on_the_innermost() -> None:
    with Tape() as outer:
        x = outer.watch(np.array(2.0))
        with Tape() as inner:
            y = inner.watch(x)
            z = y * y
        assert active_tape() is outer
        w = x * 3
    assert len(inner.records) == len(outer.records) == 1
    assert inner.gradient(z, [y])[0] == 4
    assert outer.gradient(w, [x])[0] == 3
    assert active_tape() is None


def test_another_thread_does_not_see_the_tape() -> None:
    seen: list[Any] = []
    with Tape():
        thread = threading.Thread(target=lambda: seen.append(active_tape()))
        thread.start()
        thread.join()
    assert seen == [None]


def test_without_a_tape_operators_give_plain_arrays() -> None:
    with Tape() as tape:
        x = tape.watch(np.ones(2))
    assert type(np.exp(x)) is np.ndarray
    assert not isinstance(x * 2, Variable)


def test_what_is_begun_must_be_finished() -> None:
    with pytest.raises(RuntimeError, match="closed before these were waited for: Isend to 1"):
        with Tape() as tape:
            tape.begin(1, "Isend to 1")
            tape.begin(2, "Irecv from 0")
            tape.end(2)


def test_watch_copies_and_takes_only_floating_point_values() -> None:
    x = np.ones(2)
    with Tape() as tape:
        v = tape.watch(x)
        x[0] = 5
        np.testing.assert_array_equal(v.value, 1)
        assert x.flags.writeable
        with pytest.raises(TypeError, match="dtype int64, expected float32 or float64"):
            tape.watch(np.arange(3))


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (lambda w: (w[:1],), r"Wrong\.vjp: cotangent of input 0 has shape \(1,\), expected \(3,\)"),
        (lambda w: (w, w), r"Wrong\.vjp: returned 2 cotangents for 1 inputs"),
        (lambda w: w, r"Wrong\.vjp: returned a ndarray, expected a tuple with an entry for each"),
        (lambda w: None, r"Wrong\.vjp: returned a NoneType, expected a tuple"),
    ],
)
def test_a_wrong_vjp_is_named(found: Any, message: str) -> None:
    class Wrong(Operator):
        def forward(self, x: Any) -> Any:
            return x + 0

        def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
            return found(cotangents[0])

    with Tape() as tape:
        x = tape.watch(np.ones(3))
        loss = Wrong()(x).sum()
    with pytest.raises((ValueError, TypeError), match=message):
        tape.gradient(loss, [x])


def test_a_jvp_without_a_return_is_named() -> None:
    class Forgetful(Operator):
        def forward(self, x: Any) -> Any:
            return x + 0

        def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
            pass

    with Tape() as tape:
        x = tape.watch(np.ones(3))
        y = Forgetful()(x)
    with pytest.raises(ValueError, match=r"Forgetful\.jvp: returned 0 tangents for 1 outputs"):
        tape.jvp([y], [x], [np.ones(3)])


def test_an_output_may_be_a_python_number_but_no_list() -> None:
    class Square(Operator):
        def forward(self, x: Any) -> Any:
            return float(x @ x)

        def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
            return 2 * float(inputs[0] @ tangents[0])

        def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
            return (2 * cotangents[0] * inputs[0],)

    for check in dot_test, check_vjp:
        check(Square(), np.arange(3.0))

    class Lists(Operator):
        def forward(self, x: Any) -> Any:
            return [x, x]

    with Tape() as tape, pytest.raises(TypeError, match="Lists: forward returned a list, expected"):
        Lists()(tape.watch(np.ones(2)))


def test_calls_are_checked() -> None:
    class Checked(Operator):
        def forward(self, x: Any) -> Any:
            return x

        def check(self, x: Any) -> None:
            self.require("field 0", x.shape, (5, 6))

    with pytest.raises(ValueError, match=r"Checked: field 0 has shape \(3, 4\), expected \(5, 6\)"):
        Checked()(np.ones((3, 4)))
    with pytest.raises(TypeError, match="Checked: got 2 inputs, expected 1"):
        Checked()(np.ones((5, 6)), 1)
    with Tape() as tape:
        x = tape.watch(np.ones(3))
    with pytest.raises(ValueError, match=r"loss has shape \(3,\), expected a scalar"):
        tape.gradient(x, [x])
    with pytest.raises(TypeError, match="loss is a float, expected a Variable"):
        tape.gradient(0.0, [x])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"tangent of a source has shape \(2,\), expected \(3,\)"):
        tape.jvp([x], [x], [np.ones(2)])


def test_missing_rules_say_which() -> None:
    class Nothing(Operator):
        def forward(self, x: Any) -> Any:
            return x * 2

    with Tape(persistent=True) as tape:
        x = tape.watch(np.ones(3))
        loss = Nothing()(x).sum()
    with pytest.raises(NotImplementedError, match="Nothing: vjp is not defined"):
        tape.gradient(loss, [x])
    with pytest.raises(NotImplementedError, match="Nothing: jvp is not defined"):
        tape.jvp([loss], [x], [np.ones(3)])
    with pytest.raises(NotImplementedError, match="Operator: forward is not defined"):
        Operator()(1.0)
