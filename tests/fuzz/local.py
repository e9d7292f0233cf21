"""Steps without communication: NumPy's functions, bounded and smooth, and networks.

One definition serves both ways to run a program, for NumPy's functions are what a ``Variable``
stands for: on arrays they are the oracle.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from .program import Everyone, Grouped, Here, Kind, Settings, fit

#: Longest vector that the functions below are applied to.
LONGEST = 12

# Slopes of order one and values that stay so however they are composed, and no kinks: a central
# difference says nothing about a program whose derivative jumps, or grows without bound.
FUNCTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "keep": lambda a, b: a,
    "add": lambda a, b: (a + b) / 2,
    "subtract": lambda a, b: a - 0.5 * b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / (2 + b * b),
    "reciprocal": lambda a, b: 1 / (2 + a * a) - b / 3,
    "power": lambda a, b: (2 + a * a) ** (b / 3),
    "square": lambda a, b: np.square(a) / 2,
    "sqrt": lambda a, b: np.sqrt(1 + a * a) - b / 2,
    "sin": lambda a, b: np.sin(a + b),
    "cos": lambda a, b: np.cos(a - b),
    "tan": lambda a, b: np.tan(np.sin(a) / 2),
    "tanh": lambda a, b: np.tanh(a) * b,
    "sinh": lambda a, b: np.sinh(np.sin(a)) / 2,
    "cosh": lambda a, b: np.cosh(np.sin(b)) / 2,
    "arctan": lambda a, b: np.arctan(a) - b / 2,
    "exp": lambda a, b: np.exp(-a * a) * b,
    "expm1": lambda a, b: np.expm1(np.sin(a)) / 2,
    "log": lambda a, b: np.log(2 + a * a),
    "log1p": lambda a, b: np.log1p(b * b),
    "mean": lambda a, b: a - np.mean(b),
    "sum": lambda a, b: np.broadcast_to(np.sum(a * b) / len(a), a.shape),
    "reverse": lambda a, b: a[::-1],
    "take": lambda a, b: a[(np.arange(len(a)) ** 2) % len(a)],
    "concatenate": lambda a, b: np.concatenate([a[1:], b[:1]]),
    "stack": lambda a, b: np.stack([a, b]).T.reshape(-1)[1 : len(a) + 1],
    "where": lambda a, b: np.where(np.arange(len(a)) % 2 == 0, a, b),
    "matmul": lambda a, b: (a.reshape(-1, 1) @ b.reshape(1, -1)).mean(axis=0),
    "constant": lambda a, b: np.full(len(a), 0.5),
}


def _apply(name: str, a: Any, b: Any) -> Any:
    n = min(len(a), LONGEST)
    return FUNCTIONS[name](fit(a, (n,)), fit(b, (n,))) if n else a


class Local(Kind):
    """A function of two values, the same on all ranks or another on each."""

    arity = 2

    def settings(self, draw: Any, ranks: int) -> Settings:
        names = st.sampled_from(list(FUNCTIONS))
        if draw(st.booleans()):
            return {"names": (draw(names),) * ranks}
        return {"names": tuple(draw(names) for _ in range(ranks))}

    def run(self, here: Here, s: Settings, *args: Any) -> list[Any]:
        return [_apply(s["names"][here.rank], *args)]

    def plain(self, everyone: Everyone, s: Settings, *args: list[Any]) -> list[list[Any]]:
        return [[_apply(name, a, b) for name, a, b in zip(s["names"], *args)]]


ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "tanh": np.tanh,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "softplus": lambda z: np.log1p(np.exp(z)),
    "identity": lambda z: z,
}


class Network(Grouped):
    """A network on each rank, with parameters and points from two values."""

    arity = 2

    def settings(self, draw: Any, ranks: int) -> Settings:
        return {
            "split": None,
            "widths": tuple(draw(st.lists(st.integers(1, 3), min_size=2, max_size=4))),
            "activation": draw(st.sampled_from(list(ACTIVATIONS))),
            "bounds": draw(st.sampled_from([(), (-0.5,), (-0.5, 1.0)])),
            "points": draw(st.integers(0, 4)),
            "chunk": draw(st.integers(1, 3)),
        }

    def here(self, here: Here, s: Settings, members: list[int], *args: Any) -> list[Any]:
        settings = {
            "activation": s["activation"],
            "chunk": s["chunk"],
            **dict(zip(("lower", "upper"), s["bounds"])),
        }
        network = here.once(
            f"MLP{s['widths']}{settings}", lambda: here.library["MLP"](s["widths"], **settings)
        )
        theta, x = (
            fit(args[0], (network.n_parameters,)),
            fit(args[1], (s["points"], s["widths"][0])),
        )
        return [network(theta, x) / 3]

    def all(self, s: Settings, members: list[int], *args: list[Any]) -> list[list[Any]]:
        return [[_network(s, theta, x) / 3 for theta, x in zip(*args)]]


def _network(s: Settings, values: Any, x: Any) -> Any:
    shapes = [(p + 1, q) for p, q in zip(s["widths"], s["widths"][1:])]
    theta = fit(values, (sum(p * q for p, q in shapes),))
    h, start = fit(x, (s["points"], s["widths"][0])), 0
    for layer, (p, q) in enumerate(shapes):
        w = theta[start : start + p * q].reshape(p, q)
        start += p * q
        h = h @ w[:-1] + w[-1]
        if layer < len(shapes) - 1:
            h = ACTIVATIONS[s["activation"]](h)
    if len(s["bounds"]) == 1:
        return s["bounds"][0] + ACTIVATIONS["softplus"](h)
    if s["bounds"]:
        low, high = s["bounds"]
        return low + (high - low) * ACTIVATIONS["sigmoid"](h)
    return h


KINDS = {"Local": Local(), "Network": Network()}
