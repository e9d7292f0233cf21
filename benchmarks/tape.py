"""What recording a small operator costs over the NumPy call it wraps (at most 10 µs each).

Also the reverse sweep of a program of 100,000 operators, per operator.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from harness import interleaved, parser, table, write

from adjoint import Tape

CALLS = 2000


def repeated(function: Callable[..., Any], *arguments: Any) -> Callable[[], None]:
    """Return a case that calls ``function`` many times on a tape of its own."""

    def case() -> None:
        with Tape() as tape:
            watched = [tape.watch(a) for a in arguments]
            for _ in range(CALLS):
                function(*watched)

    return case


def plain(function: Callable[..., Any], *arguments: Any) -> Callable[[], None]:
    """Return the same case on plain arrays."""

    def case() -> None:
        for _ in range(CALLS):
            function(*arguments)

    return case


def main() -> None:
    arguments = parser(__doc__).parse_args()
    repetitions = 5 if arguments.quick else 25
    x = np.linspace(0.5, 1.5, 8)
    a = np.ones((4, 4))
    functions: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
        "x * y": (lambda u, v: u * v, (x, x)),
        "x + 1": (lambda u: u + 1.0, (x,)),
        "np.exp(x)": (np.exp, (x,)),
        "A @ x": (lambda m, v: m @ v, (a, x[:4])),
        "x.sum()": (lambda u: u.sum(), (x,)),
        "x[2:5]": (lambda u: u[2:5], (x,)),
        "x.reshape(2, 4)": (lambda u: u.reshape(2, 4), (x,)),
        "np.where(x > 1, x, y)": (lambda u, v: np.where(u > 1, u, v), (x, x)),
        "np.concatenate([x, y])": (lambda u, v: np.concatenate([u, v]), (x, x)),
    }
    cases: dict[str, Callable[[], Any]] = {}
    for name, (function, inputs) in functions.items():
        cases[f"{name} recorded"] = repeated(function, *inputs)
        cases[f"{name} plain"] = plain(function, *inputs)
    seconds = interleaved(cases, repetitions)

    def microseconds(case: str) -> float:
        return 1e6 * float(np.median(seconds[case])) / CALLS

    rows = []
    for name in functions:
        recorded, bare = microseconds(f"{name} recorded"), microseconds(f"{name} plain")
        rows.append([name, bare, recorded, recorded - bare])
    table("Cost of a record, µs", rows, ["operator", "NumPy", "recorded", "added"])

    with Tape() as tape:
        v = tape.watch(x)
        y = v
        for _ in range(100_000):
            y = y * 0.99999
        loss = y.sum()
    start = time.perf_counter()
    tape.gradient(loss, [v])
    each = (time.perf_counter() - start) / 1e5 * 1e6
    table("Reverse sweep of 100,000 operators", [["x * c", each]], ["operator", "µs each"])
    write(arguments.json, {"calls": CALLS, "repetitions": repetitions}, seconds)


if __name__ == "__main__":
    main()
