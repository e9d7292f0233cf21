"""Value and gradient of a network, against PyTorch on the CPU with the same threads.

A 2-20-20-20-1 tanh network at 360,000 points in double precision: forward, then the gradient with
respect to all parameters. Target: at most half of PyTorch's time. PyTorch is no dependency; where
it is not installed the script says so and measures ours alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from harness import interleaved, parser, ratio, table, write

from adjoint import Tape
from adjoint.nn import MLP

WIDTHS = (2, 20, 20, 20, 1)


def ours(network: MLP, theta: Any, points: Any) -> Callable[[], Any]:
    """Return a case that computes Σ y and its gradient."""

    def case() -> Any:
        with Tape() as tape:
            t = tape.watch(theta)
            loss = network(t, points).sum()
        return tape.gradient(loss, [t])[0]

    return case


def pytorch(network: MLP, theta: Any, points: Any, threads: int) -> Callable[[], Any] | None:
    """Return the same case in PyTorch, or ``None`` where it is not installed."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(threads)
    layers: list[Any] = []
    for i, (p, q) in enumerate(zip(WIDTHS, WIDTHS[1:])):
        layer = torch.nn.Linear(p, q, dtype=torch.float64)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(network.views(theta)[f"W{i}"].T.copy()))
            layer.bias.copy_(torch.from_numpy(network.views(theta)[f"b{i}"].copy()))
        layers += [layer, torch.nn.Tanh()]
    model = torch.nn.Sequential(*layers[:-1])
    x = torch.from_numpy(points)

    def case() -> Any:
        model.zero_grad()
        model(x).sum().backward()
        pieces = []
        for layer in layers[::2]:
            pieces += [layer.weight.grad.numpy().T.ravel(), layer.bias.grad.numpy()]
        return np.concatenate(pieces)

    return case


def main() -> None:
    arguments = parser(__doc__).parse_args()
    points = np.random.default_rng(0).uniform(-1, 1, (36_000 if arguments.quick else 360_000, 2))
    network = MLP(WIDTHS)
    theta = network.initial(0)
    threads = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))
    cases = {"ours": ours(network, theta, points)}
    other = pytorch(network, theta, points, threads)
    if other is None:
        print("PyTorch is not installed (pip install torch); measuring ours alone")
    else:
        cases["PyTorch"] = other
        difference = np.abs(other() - cases["ours"]()).max() / np.abs(other()).max()
        assert difference < 1e-10, f"the two gradients differ by {difference:.1e}"
    seconds = interleaved(cases, 5 if arguments.quick else 15, warmup=2)
    rows = [
        [name, float(np.median(s)), "" if other is None else ratio(s, seconds["PyTorch"])]
        for name, s in seconds.items()
    ]
    title = f"Forward and gradient, {len(points)} points, {threads} threads"
    table(title, rows, ["", "seconds", "ratio to PyTorch"])
    write(arguments.json, {"points": len(points), "widths": WIDTHS}, seconds)


if __name__ == "__main__":
    main()
