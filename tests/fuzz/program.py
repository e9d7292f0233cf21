"""A program of all ranks as plain data, and the two ways to run it.

A program is a list of steps. Each takes values that earlier steps have made and makes new ones; a
value is one vector on every rank, whose length may differ from rank to rank and be zero. What a
step does is said twice, in its :class:`Kind`: ``run`` applies the library's operators on one rank,
``plain`` does the same to the vectors of all ranks in a list, with NumPy alone and without MPI. It
is the oracle, and works on complex numbers too, so that it also gives exact derivatives.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
from mpi4py import MPI

from adjoint import comm, communicator
from adjoint.checkpoint import TimeLoop
from adjoint.comm.channel import new_channel
from adjoint.nn import MLP
from adjoint.solvers import LinearSolve, MatVec, NonlinearSolve, Pattern, Transpose
from adjoint.solvers.petsc import petsc

Settings = dict[str, Any]

#: Colours of all ranks and whether their order is turned round; ``None`` is the whole world.
Split = tuple[tuple[int, ...], bool] | None

#: What programs are made of; a fault to be found takes the place of one of them.
LIBRARY: dict[str, Callable[..., Any]] = {
    **{name: getattr(comm, name) for name in comm.__all__},
    **{
        cls.__name__: cls
        for cls in (LinearSolve, MatVec, MLP, NonlinearSolve, Pattern, TimeLoop, Transpose)
    },
}


class Step(NamedTuple):
    """One instruction.

    Attributes
    ----------
    kind : str
        Its name in ``KINDS``.
    args : tuple of int
        The values it takes: how many others were made after each of them.
    settings : dict
        Numbers, texts and tuples, the same on all ranks.
    """

    kind: str
    args: tuple[int, ...]
    settings: Settings


class Program(NamedTuple):
    """A program for so many ranks.

    Attributes
    ----------
    ranks : int
    seed : int
        Of the inputs' values.
    lengths : tuple of tuple of int
        Of each input, on each rank.
    steps : tuple of Step
    outputs : tuple of (int, tuple of bool)
        Values that are results, counted as ``Step.args``, and the ranks that use them. The last
        and the first value always are.
    """

    ranks: int
    seed: int
    lengths: tuple[tuple[int, ...], ...]
    steps: tuple[Step, ...]
    outputs: tuple[tuple[int, tuple[bool, ...]], ...]

    def inputs(self, rank: int) -> list[Any]:
        """Return a rank's inputs, in [−1, 1)."""
        generator = np.random.default_rng([self.seed, rank])
        return [generator.uniform(-1, 1, lengths[rank]) for lengths in self.lengths]

    def interpret(self, values: Sequence[Any], perform: Callable[[Step, list[Any]], Any]) -> Any:
        """Return all values that the steps make of the inputs, the latter included."""
        made = list(values)
        for step in (*self.steps, *[Step("Finish", (0,), {"pick": 0})] * MOST_PENDING):
            args = [made[-1 - back % len(made)] for back in step.args]
            made += perform(step, args)
        return made

    def results(self, made: Sequence[Any], rank: int) -> list[Any]:
        """Return those values that are results on a rank."""
        used = [made[-1 - back % len(made)] for back, mask in self.outputs if mask[rank]]
        return [made[-1], made[0], *used]

    def text(self) -> str:
        """Return it as Python source, one step a line."""
        lines = [f"Program({self.ranks}, {self.seed}, {self.lengths}, ("]
        lines += [f"    Step{tuple(step)}," for step in self.steps]
        return "\n".join([*lines, f"), {self.outputs})"])

    @classmethod
    def parse(cls, text: str) -> Program:
        """Return the program that was written as ``repr(tuple(program))`` in one line."""
        ranks, seed, lengths, steps, outputs = ast.literal_eval(text)
        return cls(ranks, seed, lengths, tuple(Step(*step) for step in steps), outputs)

    def line(self) -> str:
        """Return it in one line, for ``parse``."""
        return repr((*self[:3], tuple(map(tuple, self.steps)), self.outputs))


#: Exchanges under way at once, at most: the ``Finish`` steps that end every program.
MOST_PENDING = 8


class Kind:
    """What the steps of one kind do.

    Attributes
    ----------
    arity : int
        Number of values that they take.
    """

    arity = 1

    def settings(self, draw: Any, ranks: int) -> Settings:
        """Draw the settings of a step."""
        return {}

    def run(self, here: Here, s: Settings, *args: Any) -> list[Any]:
        """Return the vectors that this rank makes of its own."""
        raise NotImplementedError

    def plain(self, everyone: Everyone, s: Settings, *args: list[Any]) -> list[list[Any]]:
        """Return the values, each a list of all ranks' vectors."""
        raise NotImplementedError


class Here:
    """One rank that runs a program, with the operators that it has made for it.

    Parameters
    ----------
    fault : tuple of (str, callable), optional
        Takes the place of that entry of ``LIBRARY``.

    Attributes
    ----------
    pending : list
        What was started and is not finished.
    comms : list of mpi4py.MPI.Comm
        All that may carry messages.
    """

    def __init__(self, fault: tuple[str, Callable[..., Any]] | None = None) -> None:
        if find_spec("petsc4py"):
            petsc()  # all ranks start it together, whoever solves anything
        self.world = communicator()
        self.rank, self.size = self.world.rank, self.world.size
        self.library = {**LIBRARY, **({fault[0]: fault[1]} if fault else {})}
        self.pending: list[Any] = []
        self.comms = [*_comms(None)]
        self._made: dict[str, Any] = {}

    def operator(self, name: str, *args: Any, split: Split = None, **kwargs: Any) -> Any:
        """Return a member of the library on a communicator; equal ones are made once."""
        return self.once(
            f"{name}{args}{kwargs}{split}",
            lambda: self.library[name](*args, comm=self.comm(split), **kwargs),
        )

    def once(self, key: str, make: Callable[[], Any]) -> Any:
        """Return what was made under this key, or make it."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def comm(self, split: Split) -> Any:
        """Return this rank's communicator, ``None`` on ranks that have none; collective."""
        found = _comms(split)
        self.comms += found
        return found[0] if found else None

    def close(self) -> None:
        """Destroy what takes more than memory; collective."""
        for made in self._made.values():
            if hasattr(made, "close"):
                made.close()
        self._made.clear()


class Everyone:
    """All ranks in one process, without MPI."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.pending: list[Any] = []


@cache
def _comms(split: Split) -> list[Any]:
    """Return this rank's communicator and the one of its internal messages; collective."""
    found: Any = MPI.COMM_WORLD
    if split is not None:
        colours, turned = split
        colour, rank = colours[found.rank], found.rank
        found = found.Split(MPI.UNDEFINED if colour < 0 else colour, -rank if turned else rank)
    if found == MPI.COMM_NULL:
        return []
    own = communicator(found)
    return [own, new_channel(own)[0]]


def groups(split: Split, size: int) -> Iterator[list[int]]:
    """Yield the ranks of each communicator, in the order of their ranks there."""
    if split is None:
        yield list(range(size))
        return
    colours, turned = split
    for colour in sorted({c for c in colours if c >= 0}):
        members = [rank for rank in range(size) if colours[rank] == colour]
        yield members[::-1] if turned else members


class Grouped(Kind):
    """Steps that the ranks of a communicator take together.

    A rank outside of it keeps its first argument. Where a step makes several values, it says so in
    ``count``.
    """

    def count(self, s: Settings) -> int:
        return 1

    def here(self, here: Here, s: Settings, members: list[int], *args: Any) -> list[Any]:
        """Return this rank's arrays."""
        raise NotImplementedError

    def all(self, s: Settings, members: list[int], *args: list[Any]) -> list[list[Any]]:
        """Return the values, each a list of the members' arrays in their order."""
        raise NotImplementedError

    def run(self, here: Here, s: Settings, *args: Any) -> list[Any]:
        comm = here.comm(s["split"])
        for members in groups(s["split"], here.size):
            if here.rank in members:
                assert comm.size == len(members)
                return [flat(y) for y in self.here(here, s, members, *args)]
        return [args[0]] * self.count(s)

    def plain(self, everyone: Everyone, s: Settings, *args: list[Any]) -> list[list[Any]]:
        values = [list(args[0]) for _ in range(self.count(s))]
        for members in groups(s["split"], everyone.size):
            found = self.all(s, members, *[[value[r] for r in members] for value in args])
            for value, arrays in zip(values, found, strict=True):
                for rank, array in zip(members, arrays, strict=True):
                    value[rank] = flat(array)
        return values


def flat(x: Any) -> Any:
    """Return a vector of the entries of an array or variable."""
    return x if x.ndim == 1 else x.reshape(-1)


def fit(x: Any, shape: tuple[int, ...], turned: bool = False) -> Any:
    """Return the entries of a vector in another shape, repeated or cut to its number of them.

    Parameters
    ----------
    x : numpy.ndarray or Variable
        Where it is empty, zeros are returned.
    shape : tuple of int
    turned : bool
        Whether the last axis is the slowest in memory.
    """
    n = int(np.prod(shape))
    if len(x) == 0:
        return np.zeros(shape)
    if len(x) > n:
        x = x[:n]
    elif len(x) < n:
        x = x[np.arange(n) % len(x)]
    if turned:
        return x.reshape(shape[::-1]).transpose()
    return x if x.shape == shape else x.reshape(shape)
