"""Minimisation on one rank: SciPy's own iterates, Adam's definition, bounds, messages, progress."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.optimize

from adjoint import Tape, Variable
from adjoint.optimize import Composite, Iteration, Result, minimize

START = np.linspace(-1.0, 1.5, 5)
SCIPY = ("L-BFGS-B", "CG", "BFGS", "Newton-CG", "TNC", "SLSQP", "trust-constr")


def rosenbrock(x: Any) -> Any:
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def by_numpy(x: Any) -> tuple[float, Any]:
    """Value and gradient in the operations that the tape makes, so that they agree bit for bit."""
    with Tape() as tape:
        theta = tape.watch(x)
        loss = rosenbrock(theta)
    return float(loss), tape.gradient(loss, [theta])[0]


def quiet(misfit: Callable[..., Any], theta0: Any, *args: Any, **kwargs: Any) -> Result:
    return minimize(misfit, theta0, *args, progress=False, **kwargs)


def numbers(result: Result) -> list[tuple[float, ...]]:
    """The history without clock and memory."""
    return [i[:4] for i in result.history]


@pytest.mark.parametrize("method", SCIPY)
def test_iterates_are_those_of_scipy(method: str) -> None:
    options = _limit(method, 12)
    iterates: list[Any] = []
    expected: list[Any] = []
    found = quiet(
        rosenbrock, START, method, options=options, callback=lambda _, x: iterates.append(x)
    )
    reference = scipy.optimize.minimize(
        by_numpy,
        START,
        jac=True,
        method=method,
        callback=lambda x, *state: expected.append(np.array(x)),
        options={**options, **_tolerances(method)},
    )
    if method == "trust-constr":  # which calls back at the start, too
        expected = expected[1:]
    assert np.array_equal(iterates[0], START)
    assert np.array_equal(np.array(iterates[1:]), np.array(expected))
    assert np.array_equal(found.theta, reference.x)
    assert found.value == reference.fun
    assert found.message == reference.message
    assert found.iterations == len(expected) > 2


def _limit(method: str, number: int) -> dict[str, Any]:
    return {"maxfun" if method == "TNC" else "maxiter": number}


def _tolerances(method: str) -> dict[str, Any]:
    if method == "L-BFGS-B":
        return {"maxcor": 50, "ftol": 0.0, "gtol": 0.0}
    return {"gtol": 0.0} if method in ("CG", "BFGS") else {}


def test_rosenbrock_is_solved() -> None:
    found = quiet(rosenbrock, START)
    np.testing.assert_allclose(found.theta, 1, rtol=1e-10)
    assert found.value < 1e-20
    assert found.gradient_norm < 1e-8


@pytest.mark.parametrize("method", SCIPY)
def test_one_run_of_the_misfit_gives_value_and_gradient(method: str) -> None:
    points: list[bytes] = []

    def counting(x: Variable) -> Any:
        points.append(x.value.tobytes())
        return rosenbrock(x)

    found = quiet(counting, START, method, options=_limit(method, 8))
    assert len(points) == found.evaluations
    assert all(a != b for a, b in zip(points, points[1:]))


SCALES = np.array([1.0, 10.0, 100.0])


class Refused(Exception):
    """There is no logarithm."""


class Logarithm:
    """``Σ (c x − ln x)``, least at ``1 / c``, or the residual ``ln(c x)``, of positive ``x``."""

    def __init__(self) -> None:
        self.evaluations = self.refused = 0

    def of(self, x: Any) -> Any:
        self.evaluations += 1
        if x.value.min() <= 0:
            self.refused += 1
            raise Refused("x is negative")
        return np.log(x)

    def misfit(self, x: Any) -> Any:
        return (SCALES * x - self.of(x)).sum()

    def residual(self, x: Any) -> Any:
        return self.of(SCALES * x)


@pytest.mark.parametrize("method", SCIPY)
def test_a_trial_that_the_misfit_rejects_is_followed_by_a_nearer_one(method: str) -> None:
    logarithm = Logarithm()
    found = quiet(logarithm.misfit, np.full(3, 0.5), method, reject=Refused)
    assert 1 <= logarithm.refused < 20
    assert found.evaluations == logarithm.evaluations < 150
    if method != "SLSQP":  # which calls back at the first trial of each iteration
        assert all(np.isfinite(i.loss) for i in found.history)
    np.testing.assert_allclose(SCALES * found.theta, 1, rtol=1e-3)


@pytest.mark.parametrize("composite", [False, True])
def test_gauss_newton_is_damped_where_the_residual_rejects(composite: bool) -> None:
    logarithm = Logarithm()
    residual: Any = logarithm.residual
    if composite:
        residual = Composite(lambda x: SCALES * x, logarithm.of)
    found = quiet(residual, np.full(3, 0.5), "Gauss-Newton", reject=(Refused,),
                  options={"maxiter": 30})  # fmt: skip
    assert 1 <= logarithm.refused < 10
    np.testing.assert_allclose(SCALES * found.theta, 1, rtol=1e-8)


def test_values_that_are_not_finite_may_be_rejected() -> None:
    with np.errstate(invalid="ignore", divide="ignore"):
        found = quiet(lambda x: (SCALES * x - np.log(x)).sum(), np.full(3, 0.5),
                      reject=FloatingPointError)  # fmt: skip
    np.testing.assert_allclose(SCALES * found.theta, 1, rtol=1e-6)


@pytest.mark.parametrize("method", ["L-BFGS-B", "Gauss-Newton"])
def test_a_gradient_that_is_not_finite_may_be_rejected(method: str) -> None:
    def misfit(x: Any) -> Any:
        root = np.sqrt(np.maximum(x, 0.0))  # of x < 0 it is 0, and its derivative 0 · ∞
        return SCALES * root - 1 if method == "Gauss-Newton" else (SCALES * x - 2 * root).sum()

    start = np.full(3, 0.5)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = quiet(misfit, start, method, reject=FloatingPointError)
        with pytest.raises(FloatingPointError, match="the gradient is not finite at evaluation"):
            quiet(misfit, start, method)
    np.testing.assert_allclose(SCALES**2 * found.theta, 1, rtol=1e-3)


@pytest.mark.parametrize("method", SCIPY)
def test_no_search_ends_where_the_misfit_rejects(method: str) -> None:
    # Far from the edge the slope changes little, so that searches come down before they meet it.
    def misfit(x: Any) -> Any:
        if x.value[0] >= -92:
            raise Refused
        return (x**2 / 2 - 1e-3 * np.log(-92 - x)).sum()

    found = quiet(misfit, np.array([-100.0]), method, reject=Refused)
    np.testing.assert_allclose(found.theta, -92.00001, atol=1e-5)
    assert found.value == pytest.approx(float(misfit(Variable(found.theta))), rel=1e-12)


def test_a_start_that_is_rejected_is_an_error() -> None:
    with pytest.raises(ValueError, match="the misfit rejects theta0: x is negative"):
        quiet(Logarithm().misfit, -np.ones(3), reject=Refused)
    with pytest.raises(Refused):
        quiet(Logarithm().misfit, np.full(3, 0.5))


def test_history_describes_the_iterates() -> None:
    iterates: list[Any] = []
    seen: list[Iteration] = []

    def watch(iteration: Iteration, theta: Any) -> None:
        seen.append(iteration)
        iterates.append(theta)

    found = quiet(rosenbrock, START, "CG", options={"maxiter": 6}, callback=watch)
    assert found.history == tuple(seen)
    assert [i.iteration for i in seen] == list(range(7))
    for iteration, theta in zip(seen, iterates):
        value, gradient = by_numpy(theta)
        assert iteration.loss == value
        assert iteration.gradient_norm == np.linalg.norm(gradient)
        assert iteration.memory > 1e6
    steps = [0, *np.linalg.norm(np.diff(iterates, axis=0), axis=1)]
    np.testing.assert_allclose([i.step for i in seen], steps, rtol=1e-14)
    seconds = [i.seconds for i in seen]
    assert seconds == sorted(seconds)
    assert seconds[0] > 0


def test_adam_follows_its_definition() -> None:
    rate, beta1, beta2, epsilon = 0.05, 0.8, 0.95, 1e-6
    x = START.copy()
    first, second = [0.0] * x.size, [0.0] * x.size
    expected = [x.copy()]
    for t in range(1, 8):
        _, gradient = by_numpy(x)
        for i in range(x.size):
            first[i] = beta1 * first[i] + (1 - beta1) * gradient[i]
            second[i] = beta2 * second[i] + (1 - beta2) * gradient[i] ** 2
            root = (second[i] / (1 - beta2**t)) ** 0.5
            x[i] -= rate * first[i] / (1 - beta1**t) / (root + epsilon)
        expected.append(x.copy())
    iterates: list[Any] = []
    options = {"learning_rate": rate, "beta1": beta1, "beta2": beta2, "epsilon": epsilon}
    found = quiet(
        rosenbrock,
        START,
        "adam",
        options={**options, "maxiter": 7},
        callback=lambda _, theta: iterates.append(theta),
    )
    np.testing.assert_allclose(iterates, expected, rtol=1e-13)
    assert (found.value, found.evaluations) == (by_numpy(found.theta)[0], 8)
    assert not found.success


def test_adam_stops_at_its_tolerance() -> None:
    found = quiet(
        lambda x: (x**2).sum(),
        np.ones(3),
        "Adam",
        options={"learning_rate": 0.1, "gtol": 1e-3, "maxiter": 5000},
    )
    assert found.success
    assert found.iterations < 5000
    assert np.abs(2 * found.theta).max() <= 1e-3


@pytest.mark.parametrize("method", ["L-BFGS-B", "TNC", "SLSQP", "trust-constr", "Adam"])
def test_bounds_hold(method: str) -> None:
    target = np.array([[-2.0, 0.5], [3.0, 0.0]])
    options = _limit(method, 300)
    if method == "Adam":
        options["learning_rate"] = 0.1
    bounds = scipy.optimize.Bounds(np.full((2, 2), -1.0), 1.0)
    pairs = [(-1, 1), (None, 1), (-1.0, 1.0), (None, None)]
    for limits in (bounds, pairs):
        found = quiet(
            lambda x: ((x - target) ** 2).sum(),
            np.zeros((2, 2)),
            method,
            bounds=limits,
            options=options,
        )
        np.testing.assert_allclose(found.theta, [[-1, 0.5], [1, 0]], atol=2e-2)
        assert found.theta.shape == (2, 2)


@pytest.mark.parametrize("start", [np.array(4.0), np.full((2, 1, 3), 4.0), [1.0, 2.0]])
def test_theta_keeps_its_shape(start: Any) -> None:
    shapes = set()

    def misfit(x: Variable) -> Any:
        shapes.add(x.shape)
        return ((x - 1) ** 2).sum()

    found = quiet(misfit, start, callback=lambda _, theta: shapes.add(theta.shape))
    assert shapes == {np.shape(start)} == {found.theta.shape}
    np.testing.assert_allclose(found.theta, 1, rtol=1e-12)


def test_single_precision_theta() -> None:
    found = quiet(lambda x: ((x - 3) ** 2).sum(), np.zeros(4, np.float32))
    assert found.theta.dtype == np.float32
    np.testing.assert_allclose(found.theta, 3, rtol=1e-6)


def test_a_misfit_that_does_not_depend_on_theta_ends_at_once() -> None:
    found = quiet(lambda x: (0 * x).sum(), START)
    assert (found.iterations, found.gradient_norm, found.success) == (0, 0.0, True)


def test_stop_iteration_in_the_callback_ends_the_run() -> None:
    iterates: list[Any] = []

    def callback(iteration: Iteration, theta: Any) -> None:
        iterates.append(theta)
        if iteration.iteration == 3:
            raise StopIteration

    for method in ("L-BFGS-B", "Adam"):
        found = quiet(rosenbrock, START, method, callback=callback)
        assert found.iterations == 3
        assert np.array_equal(found.theta, iterates[-1])
        assert found.value == by_numpy(found.theta)[0]
        assert not found.success
        assert "callback" in found.message


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"theta0": np.array([1.0, np.nan])}, ValueError, "theta0 has entries that are not finite"),
        ({"theta0": np.array([1, 2])}, TypeError, "theta0 has dtype int64, expected float32"),
        ({"theta0": np.array([1j])}, TypeError, "theta0 has dtype complex128"),
        ({"theta0": None}, TypeError, "theta0 has dtype object"),
        ({"theta0": np.zeros((0, 3))}, ValueError, r"theta0 has shape \(0, 3\)"),
        ({"method": "Powell"}, ValueError, "method 'Powell', expected one of L-BFGS-B, CG"),
        ({"method": 3}, ValueError, "method 3, expected one of"),
        ({"method": "CG", "bounds": [(0, 1)] * 5}, ValueError, "CG takes no bounds"),
        ({"bounds": [(0, 1)] * 4}, ValueError, r"shape \(4, 2\), expected \(5, 2\)"),
        ({"bounds": [(0, 1)] * 4 + [(2, 1)]}, ValueError, r"parameter 4 are \(2.0, 1.0\)"),
        (
            {"bounds": scipy.optimize.Bounds([0, 0], [1, 1])},
            ValueError,
            r"shapes \(2,\) and \(2,\), expected \(5,\)",
        ),
        ({"options": {"maxcorr": 3}}, ValueError, "L-BFGS-B: Unknown solver options: maxcorr"),
        ({"method": "Adam", "reject": ValueError}, ValueError, "Adam takes every step"),
        ({"reject": "ValueError"}, TypeError, "reject is 'ValueError', expected classes"),
        ({"method": "Adam", "options": {"lr": 3}}, ValueError, "Adam has no option lr"),
        ({"method": "Adam", "options": {"beta1": 1}}, ValueError, "beta1 is 1"),
        ({"every": 0}, ValueError, "every is 0, expected at least 1"),
        ({"resume": True}, ValueError, "resume=True without a state file"),
        ({"misfit": 3}, TypeError, "misfit is a int, expected a function"),
        ({"misfit": lambda x: 3.0}, TypeError, "misfit returned a float, expected a Variable"),
        ({"misfit": lambda x: x * 2}, ValueError, r"misfit has shape \(5,\), expected a scalar"),
    ],
)
def test_unfit_arguments(arguments: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=f"^minimize: .*{message}"):
        quiet(**{"misfit": rosenbrock, "theta0": START, **arguments})


@pytest.mark.parametrize("method", ["L-BFGS-B", "Adam"])
@pytest.mark.parametrize("what", ["misfit", "gradient"])
def test_numbers_that_are_not_finite(method: str, what: str) -> None:
    calls = 0

    def misfit(x: Variable) -> Any:
        nonlocal calls
        calls += 1
        if calls <= 4:
            return rosenbrock(x)
        with np.errstate(all="ignore"):
            if what == "misfit":
                return np.log(-(x[0] ** 2))
            return ((0 * x) ** 0.5).sum()  # the slope of a root at 0

    found = {"misfit": "misfit is nan", "gradient": "gradient is not finite"}[what]
    with np.errstate(all="ignore"):
        with pytest.raises(FloatingPointError, match=f"the {found} at evaluation 4, after iterat"):
            quiet(misfit, START, method)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, RuntimeError])
def test_an_exception_leaves_the_callback_as_it_is(kind: type[BaseException]) -> None:
    error = kind("enough")

    def callback(iteration: Iteration, theta: Any) -> None:
        raise error

    with pytest.raises(kind) as caught:
        quiet(rosenbrock, START, callback=callback)
    assert caught.value is error


def test_a_line_is_printed_for_each_iteration(capsys: pytest.CaptureFixture[str]) -> None:
    found = minimize(rosenbrock, START, options={"maxiter": 4})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    number = r"\d\.\d+e[+-]\d+"
    pattern = (
        rf"iteration +(\d+)  loss ({number})  gradient ({number})  step ({number})"
        r"  (\d+\.\d) s  (\d+) MB"
    )
    for line, iteration in zip(lines, found.history):
        match = re.fullmatch(pattern, line)
        assert match, line
        assert int(match[1]) == iteration.iteration
        assert float(match[2]) == pytest.approx(iteration.loss, rel=1e-8)
        assert float(match[3]) == pytest.approx(iteration.gradient_norm, rel=1e-3)
    quiet(rosenbrock, START, options={"maxiter": 4})
    assert capsys.readouterr().out == ""


TERMINAL = """
import numpy as np
from adjoint.optimize import minimize

def misfit(x):
    return ((x - 3) ** 4).sum()

def fail(iteration, theta):
    raise RuntimeError("enough")

try:
    minimize(misfit, np.zeros(2), callback=fail)
except RuntimeError:
    pass  # a bar that was left open would forbid the next
minimize(misfit, np.zeros(2), options={"maxiter": 4})
"""


@pytest.mark.parametrize("columns", [80, 0])
@pytest.mark.parametrize("rich", [True, False])
def test_a_bar_is_shown_on_a_terminal_that_has_a_size(columns: int, rich: bool) -> None:
    """Open MPI's pseudo-terminals have none."""
    if rich:
        pytest.importorskip("rich")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    code = TERMINAL if rich else "import sys; sys.modules['rich.progress'] = None" + TERMINAL
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        stdout=theirs,
        stderr=subprocess.PIPE,
        env={**environment, "TERM": "xterm"},
        timeout=60,
    )
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # which is how a closed terminal ends
        while part := os.read(ours, 65536):
            shown += part
    os.close(ours)
    text = shown.decode()
    assert done.stderr == b""
    assert done.returncode == 0
    if columns and rich:
        assert "━" in text
        assert re.search(r"4  loss \S+  gradient \S+  step \S+  \d+\.\d s  \d+ MB", text)
        assert "…" not in text
    else:
        assert [line.split()[1] for line in text.splitlines()] == ["0", "0", "1", "2", "3", "4"]


def test_importing_the_library_leaves_scipy_alone() -> None:
    code = (
        "import sys, adjoint; "
        "assert adjoint.optimize.minimize; "
        "print([m for m in ('scipy.optimize', 'mpi4py.MPI', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
