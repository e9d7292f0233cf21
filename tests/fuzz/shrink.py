"""From a program that fails to a small one that still does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from .program import Program, Step

# What can be put in the place of any value of a setting of that name, and is simpler.
SIMPLE: dict[str, Any] = {
    "split": None, "seed": 0, "root": 0, "dims": 0, "tag": 0, "pick": 0, "runs": 1, "fields": 1,
    "block": 1, "spare": None, "schedule": None, "bounds": (), "counts": None, "rest": (),
    "density": 1.0, "solver": "Jacobi", "activation": "tanh", "chunk": 3,
}  # fmt: skip


def shrunk(program: Program, fails: Callable[[Program], bool]) -> Program:
    """Return a program that fails and of which no simpler neighbour does.

    Parameters
    ----------
    program : Program
        One that fails.
    fails : callable
        Whether another does. It may say no to everything after a time, to end the search.
    """
    found = True
    while found:
        found = False
        for simpler in _with_fewer_steps(program):
            if fails(simpler):
                program, found = simpler, True
                break
        if found:
            continue
        for simpler in _with_simpler_steps(program):
            if fails(simpler):
                program, found = simpler, True
                break
    return program


def _with_fewer_steps(program: Program) -> Iterator[Program]:
    """Yield the program without some of its steps, or without some of its results."""
    for steps in _fewer(program.steps):
        yield program._replace(steps=steps)
    for outputs in _fewer(program.outputs):
        yield program._replace(outputs=outputs)


def _fewer(items: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Yield the items without all, half, a quarter, …, one of them, the last ones first."""
    length = len(items)
    while length:
        for start in range(len(items) - length, -1, -length):
            yield items[:start] + items[start + length :]
        length //= 2


def _with_simpler_steps(program: Program) -> Iterator[Program]:
    """Yield the program with one number or text changed."""
    for lengths in ((1,) * program.ranks, (2,) * program.ranks):
        if program.lengths[0] != lengths and program.lengths[0] != (1,) * program.ranks:
            yield program._replace(lengths=(lengths,) * len(program.lengths))
    if program.seed:
        yield program._replace(seed=0)
    for i, step in enumerate(program.steps):
        for simpler in _simpler(step):
            yield program._replace(steps=(*program.steps[:i], simpler, *program.steps[i + 1 :]))


def _simpler(step: Step) -> Iterator[Step]:
    if any(step.args):
        yield step._replace(args=(0,) * len(step.args))
    for name, value in step.settings.items():
        simple = SIMPLE.get(name, value)
        if type(value) is bool:
            simple = False
        elif name == "names":
            simple = ("keep",) * len(value)
        if simple != value and not (name == "fields" and value < simple):
            yield step._replace(settings={**step.settings, name: simple})
