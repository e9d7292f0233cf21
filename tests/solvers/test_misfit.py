"""Misfits and filters of traces, against SciPy and against what they must not change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.fft
import scipy.signal

from adjoint.solvers import Butterworth, Envelope, LeastSquares, NormalizedCrossCorrelation
from adjoint.solvers.misfit import Misfit, hilbert
from adjoint.testing import check_jvp, check_vjp, dot_test, taylor_test

DT = 2e-3

MISFITS: dict[str, Misfit] = {
    "least squares": LeastSquares(DT),
    "weighted": LeastSquares(DT, weights=[[1.0, 0.0, 2.5], [0.5, 1.0, 1.0]]),
    "cross-correlation": NormalizedCrossCorrelation(),
    "envelope": Envelope(DT),
    "squared envelope": Envelope(DT, power=2),
}
FILTERS: dict[str, Butterworth] = {
    "low-pass": Butterworth(DT, high=30.0),
    "high-pass": Butterworth(DT, low=30.0, order=2),
    "band, zero phase": Butterworth(DT, low=10.0, high=60.0, zero_phase=True),
}


def traces(seed: int = 0, dtype: Any = np.float64) -> Any:
    return np.random.default_rng(seed).standard_normal((2, 3, 61)).astype(dtype)


@pytest.mark.parametrize("name", MISFITS)
def test_derivatives_of_misfits(name: str) -> None:
    misfit, inputs = MISFITS[name], (traces(1), traces(2))
    dot_test(misfit, *inputs, rtol=1e-12)
    check_jvp(misfit, *inputs)
    check_vjp(misfit, *inputs)
    rates = taylor_test(lambda d: misfit(d, inputs[1]), inputs[0], 0.1 * traces(3))
    assert min(rates) >= 1.95


@pytest.mark.parametrize("name", FILTERS)
def test_derivatives_of_filters(name: str) -> None:
    dot_test(FILTERS[name], traces(), rtol=1e-12)
    check_jvp(FILTERS[name], traces())
    check_vjp(FILTERS[name], traces())


def test_values_of_misfits() -> None:
    d, o = traces(1), traces(2)
    assert LeastSquares(DT)(d, o) == pytest.approx(0.5 * DT * np.sum((d - o) ** 2))
    cosine = np.sum(d * o, -1) / np.linalg.norm(d, axis=-1) / np.linalg.norm(o, axis=-1)
    correlation = NormalizedCrossCorrelation()
    assert correlation(d, o) == pytest.approx(np.sum(1 - cosine))
    assert correlation(3 * d, o) == pytest.approx(float(correlation(d, o)))
    assert correlation(d, 2 * d) == pytest.approx(0, abs=1e-12)
    padded = [np.pad(x, [(0, 0), (0, 0), (0, 4096)]) for x in (d, o)]
    e, f = (np.abs(scipy.signal.hilbert(x, axis=-1)) for x in padded)
    expected = 0.5 * DT * np.sum((e - f)[..., :61] ** 2)
    assert Envelope(DT)(d, o) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("samples", [1, 4, 61, 64])
def test_the_hilbert_transform_is_scipys_and_antisymmetric(samples: int) -> None:
    x, y = np.random.default_rng(4).standard_normal((2, 3, samples))
    length = scipy.fft.next_fast_len(2 * samples, real=True)  # odd for 61
    expected = scipy.signal.hilbert(x, length).imag[:, :samples]
    np.testing.assert_allclose(hilbert(x), expected, rtol=0, atol=1e-14)
    assert np.sum(hilbert(x) * y) == pytest.approx(-np.sum(x * hilbert(y)), abs=1e-12)


@pytest.mark.parametrize("name", MISFITS)
@pytest.mark.parametrize("axes", [(2, 1, 0), (0, 2, 1)])
def test_traces_in_another_order_of_memory(name: str, axes: tuple[int, ...]) -> None:
    """Views such as a gather by time, turned round, have the gradient of their copies."""
    misfit, one, inputs = MISFITS[name], np.float64(1), (traces(1), traces(2))
    back = np.argsort(axes)
    turned = [x.transpose(axes).copy().transpose(back) for x in inputs]
    _, expected = cotangents = misfit.vjp((one,), inputs, (one,))
    _, found = misfit.vjp((one,), tuple(turned), (one,))
    assert np.abs(cotangents[0]).max() > 0
    np.testing.assert_array_equal(misfit.vjp((one,), tuple(turned), (one,))[0], cotangents[0])
    np.testing.assert_array_equal(found(), expected())


@pytest.mark.parametrize("name", MISFITS)
def test_silent_traces_and_ranks_without_receivers(name: str) -> None:
    misfit = MISFITS[name]
    if name != "weighted":
        empty = np.zeros((2, 0, 61))
        assert misfit(empty, empty) == 0
    d, o = traces(1), traces(2)
    d[0, 0] = 0
    o[1, 1] = 0
    value = misfit(d, o)
    assert np.isfinite(value)
    gradient = misfit.vjp((np.float64(1),), (d, o), (value,))[0]
    assert np.isfinite(gradient).all()
    if name in ("cross-correlation", "envelope", "squared envelope"):
        assert not gradient[0, 0].any()
    if name == "cross-correlation":
        assert not gradient[1, 1].any()
    assert gradient[0, 2].any()


@pytest.mark.parametrize("name", MISFITS)
def test_single_precision(name: str) -> None:
    misfit = MISFITS[name]
    found = misfit(traces(1, np.float32), traces(2, np.float32))
    assert found.dtype == np.float32
    assert found == pytest.approx(float(misfit(traces(1), traces(2))), rel=1e-5)


def test_a_filter_is_scipys() -> None:
    sections = scipy.signal.butter(4, 30.0, fs=1 / DT, output="sos")
    found = Butterworth(DT, high=30.0, order=4)(traces())
    np.testing.assert_allclose(found, scipy.signal.sosfilt(sections, traces()), atol=1e-12)


def test_filters_of_no_traces_and_of_one_sample() -> None:
    sections = scipy.signal.butter(4, 30.0, fs=1 / DT, output="sos")
    low_pass = FILTERS["low-pass"]
    np.testing.assert_allclose(low_pass(np.ones(1)), scipy.signal.sosfilt(sections, np.ones(1)))
    for name in FILTERS:
        assert FILTERS[name](np.zeros((2, 0, 61))).shape == (2, 0, 61)
        dot_test(FILTERS[name], traces()[..., :1], rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LeastSquares(0.0), "LeastSquares: dt is 0.0, expected a positive"),
        (lambda: LeastSquares(DT, weights=-1.0), "weights are negative or not finite"),
        (lambda: LeastSquares(DT)(traces(), traces()[:1]), r"observed has shape \(1, 3, 61\)"),
        (lambda: LeastSquares(DT, weights=np.ones(5))(traces(), traces()), "weights has shape"),
        (lambda: LeastSquares(DT)(traces(), traces() * np.nan), "observed trace .* not finite"),
        (lambda: Butterworth(DT, high=300.0), "Butterworth: .*300"),
        (lambda: Butterworth(DT), "Butterworth: "),
    ],
)
def test_bad_input(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
