"""The strategy that draws programs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from adjoint.strategies import spmd

from . import algebra, collectives, grids, local, loops, messages
from .program import Kind, Program, Step

#: All steps that programs are made of, by name.
KINDS: dict[str, Kind] = {
    **local.KINDS,
    **collectives.KINDS,
    **messages.KINDS,
    **grids.KINDS,
    **algebra.KINDS,
    **loops.KINDS,
}

# Messages need several steps to be more than one of them, and local work in between.
_OFTEN = ["Local", "Sent", "Finish"]


@st.composite
def programs(draw: Any, ranks: int) -> Program:
    """Draw a program for so many ranks.

    Hypothesis shrinks it to few steps, on short inputs, that take the latest values.
    """
    back = st.integers(0, 7)
    lengths = tuple(
        tuple(draw(st.lists(st.integers(0, 3), min_size=ranks, max_size=ranks))) for _ in range(2)
    )
    # Of a shuffled deck, for names drawn one by one tend to repeat, and some hardly ever come.
    deck = draw(st.permutations([*_OFTEN, *_OFTEN, *KINDS]))
    steps = []
    for name in deck[: draw(st.integers(0, 16))]:
        kind = KINDS[name]
        args = tuple(draw(back) for _ in range(kind.arity))
        steps.append(Step(name, args, kind.settings(draw, ranks)))
    seed, share = draw(st.integers(0, 9999)), draw(st.sampled_from([0.0, 0.5, 1.0]))
    used = np.random.default_rng(seed).random((len(steps) + 2, ranks)) < share
    outputs = tuple((back, tuple(mask)) for back, mask in enumerate(used.tolist()) if any(mask))
    return Program(ranks, seed, lengths, tuple(steps), outputs)


def try_programs(
    ranks: int, seed: int, count: int, test: Callable[[Program], None], **options: Any
) -> None:
    """Draw so many programs, the same on all ranks that call this, and test them.

    A program that fails is shrunk, and what was raised for the smallest is raised. Each has a seed
    of its own, from ``seed`` on: of the examples that hypothesis draws in one sweep, most are the
    one before with some part repeated.
    """
    done = 0

    def attempt(program: Program) -> None:
        nonlocal done
        if program.steps:  # the first one that hypothesis draws is the simplest: empty
            done += 1
            test(program)

    while done < count:
        once = settings(spmd, max_examples=2, **options)
        hypothesis.seed(seed)(once(given(program=programs(ranks))(attempt)))()
        seed += 1
