"""The network against a plain composition of local operators, and its derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adjoint import Tape
from adjoint.nn import ACTIVATIONS, MLP
from adjoint.strategies import spmd
from adjoint.testing import check_jvp, check_vjp, dot_test, taylor_test

BOUNDS: list[dict[str, float]] = [{}, {"lower": 0.3}, {"lower": 0.3, "upper": 2.5}]


def plain(network: MLP, theta: Any, x: Any) -> Any:
    """The same function, written with local operators, unchunked, points in rows."""
    functions = {
        "identity": lambda z: z,
        "tanh": np.tanh,
        "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
        "softplus": lambda z: np.log1p(np.exp(z)),
        "relu": lambda z: np.maximum(z, 0),
    }
    h = x
    if network.domain is not None:
        lower, upper = np.array(network.domain, x.dtype).T
        h = 2 * (x - lower) / (upper - lower) - 1
    if network.fourier:
        random = np.random.default_rng(network.fourier_seed)
        frequencies = random.standard_normal((network.fourier, network.widths[0]))
        angle = h @ (2 * np.pi * network.fourier_scale * frequencies.T).astype(x.dtype)
        h = np.concatenate([h, np.sin(angle), np.cos(angle)], axis=1)
    start, previous = 0, network.widths[0] + 2 * network.fourier
    for i, width in enumerate(network.widths[1:]):
        w = theta[start : start + previous * width].reshape(previous, width)
        b = theta[start + previous * width : start + (previous + 1) * width]
        start, previous = start + (previous + 1) * width, width
        h = h @ w + b
        if i < len(network.widths) - 2:
            h = functions[network.activation](h)
    if network.upper is not None and network.lower is not None:
        return network.lower + (network.upper - network.lower) / (1 + np.exp(-h))
    return h if network.lower is None else network.lower + np.log1p(np.exp(h))


def parameters(network: MLP, seed: int = 0) -> Any:
    random = np.random.default_rng(seed)
    noise = 0.1 * random.standard_normal(network.n_parameters)  # biases are zero initially
    return network.initial(seed) + noise.astype(network.dtype)


def points(n: int, inputs: int = 2, dtype: Any = np.float64) -> Any:
    return np.random.default_rng(1).uniform(-1, 1, (n, inputs)).astype(dtype)


@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
@pytest.mark.parametrize("fourier", [0, 3])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_value_and_derivatives_are_those_of_the_plain_composition(
    activation: str, fourier: int, bounds: dict[str, float]
) -> None:
    network = MLP(
        (2, 5, 4, 3), activation, domain=((0, 1), (-1, 3)), fourier=fourier, chunk=4, **bounds
    )
    theta, x = parameters(network), points(11)
    results = []
    for function in (network, lambda t, p: plain(network, t, p)):
        with Tape(persistent=True) as tape:
            t, p = tape.watch(theta), tape.watch(x)
            y = function(t, p)
        w = np.random.default_rng(2).standard_normal(y.shape)
        v = [np.cos(theta), np.sin(3 * x)]
        results.append([y.value, *tape.vjp([y], [w], [t, p]), *tape.jvp([y], [t, p], v)])
    for ours, expected in zip(*results):
        np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-13 * abs(expected).max())


def test_coordinates_are_taken_as_they_are_without_a_domain() -> None:
    network = MLP((2, 4, 1), fourier=3, fourier_scale=0.7, fourier_seed=5)
    theta, x = parameters(network), points(6)
    np.testing.assert_allclose(network(theta, x), plain(network, theta, x), rtol=1e-13)


@spmd
@given(
    hidden=st.lists(st.integers(1, 6), max_size=3),
    inputs=st.integers(1, 3),
    n=st.integers(0, 9),
    chunk=st.integers(1, 10),
    bounds=st.sampled_from(BOUNDS),
    activation=st.sampled_from(["identity", "tanh", "sigmoid", "softplus"]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_any_network_is_differentiated_rightly(
    hidden: list[int], inputs: int, n: int, chunk: int, bounds: Any, activation: str, dtype: Any
) -> None:
    network = MLP((inputs, *hidden, 2), activation, chunk=chunk, dtype=dtype, **bounds)
    theta, x = parameters(network), points(n, inputs, dtype)
    assert network(theta, x).dtype == dtype
    dot_test(network, theta, x)
    check_jvp(network, theta, x)
    check_vjp(network, theta, x)


def test_relu_away_from_its_kink() -> None:
    network = MLP((2, 6, 1), "relu", chunk=3)
    theta, x = parameters(network), points(7)
    dot_test(network, theta, x)
    check_jvp(network, theta, x, step=1e-6, rtol=1e-6)
    check_vjp(network, theta, x, step=1e-6, rtol=1e-6)


def test_taylor_rates() -> None:
    network = MLP((2, 8, 8, 1), lower=0.1, upper=2.0)
    x = points(20)
    rates = taylor_test(lambda t: (network(t, x) ** 2).sum(), parameters(network))
    assert rates.min() > 1.95


def test_result_does_not_depend_on_the_chunk() -> None:
    x = points(100)
    values = []
    for chunk in (1, 7, 100, 1000):
        network = MLP((2, 20, 20, 1), chunk=chunk)
        with Tape() as tape:
            theta = tape.watch(parameters(network))
            loss = network(theta, x).sum()
        values.append((float(loss), tape.gradient(loss, [theta])[0]))
    for value, gradient in values[1:]:
        assert value == pytest.approx(values[0][0], rel=1e-13)
        np.testing.assert_allclose(gradient, values[0][1], rtol=1e-11, atol=1e-13)


def test_one_network_may_be_applied_many_times_on_a_tape() -> None:
    network = MLP((1, 4, 1), chunk=3)
    theta, x, y = parameters(network), points(5, 1), points(2, 1)
    dot_test(lambda t: (network(t, x).sum() + network(t, y).sum(), network(t, x)), theta)
    dot_test(lambda t, p: network(t, network(t, p)), theta, x)
    check_vjp(lambda t, p: network(t, network(t, p)), theta, x)


def test_large_values_neither_overflow_nor_leave_the_bounds() -> None:
    for bounds in BOUNDS[1:]:
        network = MLP((1, 1), **bounds)
        theta = np.array([1e4, 0.0])
        with Tape() as tape:
            t = tape.watch(theta)
            y = network(t, np.array([[-1.0], [1.0]]))
        assert np.isfinite(y.value).all()
        assert y.value.min() == pytest.approx(0.3)
        assert y.value.max() == pytest.approx(bounds.get("upper", 1e4), rel=1e-4)
        assert np.isfinite(tape.vjp([y], [np.ones((2, 1))], [t])[0]).all()


def test_views_name_the_parameters() -> None:
    network = MLP((2, 3, 1))
    theta = np.arange(float(network.n_parameters))
    views = network.views(theta)
    assert {name: view.shape for name, view in views.items()} == {
        "W0": (2, 3), "b0": (3,), "W1": (3, 1), "b1": (1,),
    }  # fmt: skip
    views["b1"][0] = -1
    assert theta[-1] == -1
    assert network.n_parameters == 2 * 3 + 3 + 3 + 1
    assert MLP((2, 20, 20, 20, 1)).n_parameters == 921


@pytest.mark.parametrize("distribution", ["uniform", "normal"])
@pytest.mark.parametrize(("scheme", "variance"), [("glorot", 2 / 500), ("he", 2 / 200)])
def test_initial_parameters_have_the_variance_of_their_scheme(
    scheme: str, variance: float, distribution: str
) -> None:
    network = MLP((200, 300))
    theta = network.initial(3, scheme, distribution)
    views = network.views(theta)
    assert views["W0"].var() == pytest.approx(variance, rel=0.03)
    assert abs(views["W0"].mean()) < 3 * np.sqrt(variance / views["W0"].size)
    bounded = abs(views["W0"]).max() <= np.sqrt(3 * variance)
    assert bounded == (distribution == "uniform")
    assert not views["b0"].any()
    np.testing.assert_array_equal(theta, network.initial(3, scheme, distribution))
    assert (theta != network.initial(4, scheme, distribution)).any()


def test_save_and_load(tmp_path: Any) -> None:
    network = MLP((2, 5, 1), "sigmoid", domain=((0, 1), (0, 2)), lower=0.1, fourier=2, chunk=7)
    theta = parameters(network)
    network.save(tmp_path / "network.npz", theta)
    loaded, found = MLP.load(tmp_path / "network.npz")
    np.testing.assert_array_equal(found, theta)
    assert loaded.settings == network.settings
    np.testing.assert_array_equal(loaded(found, points(5)), network(theta, points(5)))
    assert [p.name for p in tmp_path.iterdir()] == ["network.npz"]


def test_a_bad_file_is_named(tmp_path: Any) -> None:
    network = MLP((2, 5, 1))
    good = tmp_path / "good.npz"
    network.save(good, parameters(network))
    whole = good.read_bytes()
    bad = tmp_path / "bad.npz"
    for content in (b"", b"text", whole[: len(whole) // 2], whole[:-20]):
        bad.write_bytes(content)
        with pytest.raises(ValueError, match=r"file .*bad\.npz is damaged or not a network"):
            MLP.load(bad)
    np.savez(bad, theta=np.ones(3))
    with pytest.raises(ValueError, match="damaged or not a network"):
        MLP.load(bad)
    for settings in (b'{"format": "other"}', b"[1]"):
        np.savez(bad, settings=np.frombuffer(settings, np.uint8), theta=np.ones(3))
        with pytest.raises(ValueError, match=r"is not of the .adjoint\.nn network 1. format"):
            MLP.load(bad)
    MLP((2, 6, 1)).save(bad, parameters(MLP((2, 6, 1))))
    with np.load(bad) as archive:
        np.savez(tmp_path / "mixed.npz", settings=archive["settings"], theta=np.ones(3))
    with pytest.raises(ValueError, match=r"inconsistent: MLP: theta has shape \(3,\), expected"):
        MLP.load(tmp_path / "mixed.npz")
    with pytest.raises(OSError, match="absent"):
        MLP.load(tmp_path / "absent.npz")


def test_an_objects_file_executes_nothing(tmp_path: Any) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (open, (str(tmp_path / "executed"), "w"))

    np.savez(tmp_path / "evil.npz", settings=np.array([Evil()], object), theta=np.ones(2))
    with pytest.raises(ValueError, match="damaged or not a network"):
        MLP.load(tmp_path / "evil.npz")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"widths": (2,)}, r"widths is \(2,\), expected at least two positive numbers"),
        ({"widths": (2, 0, 1)}, "expected at least two positive"),
        ({"widths": (2, 1), "activation": "tahn"}, "'tahn' is not known; choose one of identity"),
        ({"widths": (2, 1), "upper": 1.0}, "lower is None and upper 1.0, expected lower < upper"),
        ({"widths": (2, 1), "lower": 2.0, "upper": 1.0}, "expected lower < upper"),
        ({"widths": (2, 1), "domain": ((0, 1),)}, "for each of 2 inputs"),
        ({"widths": (2, 1), "domain": ((0, 1), (1, 1))}, "for each of 2 inputs"),
        ({"widths": (2, 1), "chunk": 0}, "chunk is 0, expected a positive number"),
    ],
)
def test_bad_settings_are_named(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MLP(**arguments)


def test_bad_inputs_are_named() -> None:
    network = MLP((2, 3, 1))
    theta, x = network.initial(0), points(4)
    with pytest.raises(ValueError, match=r"MLP: theta has shape \(5,\), expected \(13,\)"):
        network(theta[:5], x)
    with pytest.raises(ValueError, match=r"MLP: x has shape \(4, 1\), expected \(points, 2\)"):
        network(theta, x[:, :1])
    with pytest.raises(ValueError, match="MLP: x has dtype float32, expected float64"):
        network(theta, x.astype(np.float32))
    with pytest.raises(TypeError, match="dtype int64, expected float32 or float64"):
        MLP((2, 1), dtype=np.int64)
    with pytest.raises(ValueError, match="scheme is 'xavier', expected 'glorot' or 'he'"):
        network.initial(0, "xavier")
    with pytest.raises(ValueError, match="distribution is 'beta', expected 'uniform'"):
        network.initial(0, distribution="beta")
    with pytest.raises(ValueError, match=r"theta has shape \(2,\)"):
        network.save("nowhere.npz", np.ones(2))
