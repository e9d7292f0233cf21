"""One call of a function, recorded for its transpose: what all bridges need of the library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..tape import Tape
from ..variable import Array, Variable, value_of
from ..world import agree, communicator

if TYPE_CHECKING:
    from mpi4py import MPI


class Recorded:
    """A function applied to arrays, some of which it can be differentiated by.

    Parameters
    ----------
    name : str
        Of the bridge, for messages.
    function : callable
        Takes arrays and variables; returns one, or a tuple of them.
    inputs : sequence of numpy.ndarray
    wanted : sequence of bool
        For which of them a cotangent will be asked.
    persistent : bool
        Whether it may be asked for more than once.
    comm : mpi4py.MPI.Comm, optional

    Attributes
    ----------
    outputs : list of numpy.ndarray
    single : bool
        Whether the function returned one output, not a tuple.

    Raises
    ------
    ValueError
        On all ranks, if the function communicates and some ranks will not reverse the call: the
        others would wait for them.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        inputs: Sequence[Array],
        wanted: Sequence[bool],
        persistent: bool,
        comm: MPI.Comm | None,
    ) -> None:
        self._tape = Tape(persistent=persistent, comm=comm)
        with self._tape:
            self._sources = [self._tape.watch(x) if w else None for x, w in zip(inputs, wanted)]
            found = function(*(x if s is None else s for x, s in zip(inputs, self._sources)))
        self.single = not isinstance(found, tuple)
        self._results = (found,) if self.single else found
        self.outputs = [np.asarray(value_of(y)) for y in self._results]
        if any(record.operator.communicates for record in self._tape.records):
            self._require_all(name, any(wanted), communicator(comm))

    def vjp(self, cotangents: Sequence[Any]) -> list[Array | None]:
        """Return ``Jᵀ w``: a cotangent for each input that is wanted, else ``None``; collective.

        Parameters
        ----------
        cotangents : sequence of array_like
            One for each output, of its shape.
        """
        pairs = [(y, w) for y, w in zip(self._results, cotangents) if isinstance(y, Variable)]
        sources = [s for s in self._sources if s is not None]
        found = iter(self._tape.vjp([y for y, _ in pairs], [w for _, w in pairs], sources))
        return [None if s is None else next(found) for s in self._sources]

    @staticmethod
    def _require_all(name: str, reversed_here: bool, world: MPI.Comm) -> None:
        """Raise on all ranks unless all of them, or none, will reverse the call."""
        everywhere = world.allgather(reversed_here)
        error = None
        if not reversed_here and any(everywhere):
            error = ValueError(
                f"{name}: no input of this rank asks for a gradient, and inputs of other ranks do, "
                "which would wait for it in the reverse sweep"
            )
        agree(world, error)
