"""What communication operators share: a communicator, and one error for all ranks."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, ClassVar, NamedTuple

import numpy as np
from mpi4py import MPI

from ..operator import Operator, require_float
from ..spans import span
from ..world import agree, communicator
from .blocks import even_parts
from .tags import user_tags


class CommunicationError(RuntimeError):
    """Ranks that should have done the same, or the two ends of a message, did not match."""


class Message(NamedTuple):
    """What a recorded call sends or receives, for the check of whole programs.

    Attributes
    ----------
    kind : str
        ``"collective"``, ``"send"``, ``"receive"``, ``"exchange"``, ``"start"`` (of a message that
        is received) or ``"wait"``.
    text : str
        The call, as messages to people name it.
    comm : mpi4py.MPI.Comm
    peer : int or None
        The other rank of a message, in ``comm``.
    tag : int
    payload : tuple
        What must be equal at both ends, or on all ranks: operator, root, sizes, dtype.
    """

    kind: str
    text: str
    comm: MPI.Comm
    peer: int | None
    tag: int
    payload: tuple[Any, ...]


class Communication(Operator):
    """An operator in which the ranks of a communicator take part together.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm, optional
        ``COMM_WORLD`` by default; the operator works on a duplicate of it.
    """

    needs_inputs: ClassVar[tuple[int, ...] | None] = ()
    needs_outputs: ClassVar[tuple[int, ...] | None] = ()
    communicates = True

    def __init__(self, comm: MPI.Comm | None = None) -> None:
        self.comm = communicator(comm)

    def __call__(self, *inputs: Any) -> Any:
        """Apply the operator, to numbers and lists as to arrays, and record the call."""
        return super().__call__(*map(_as_array, inputs))

    def require_rank(self, argument: str, value: Any) -> int:
        """Return a rank of the communicator, or raise."""
        if not isinstance(value, int | np.integer) or not 0 <= value < self.comm.size:
            raise ValueError(
                f"{self.name}: {argument} is {value!r}, expected a rank from 0 to "
                f"{self.comm.size - 1} (found on rank {self.comm.rank})"
            )
        return int(value)

    def require_tag(self, value: Any) -> int:
        """Return the tag of a message, or raise."""
        if not isinstance(value, int | np.integer) or not 0 <= value < user_tags():
            raise ValueError(
                f"{self.name}: tag is {value!r}, expected a number from 0 to {user_tags() - 1} "
                f"(found on rank {self.comm.rank})"
            )
        return int(value)

    def meet_alike(self, x: Any, **arguments: Any) -> Any:
        """Return ``x`` as an array; its shape and dtype and the arguments agree on all ranks."""
        array, error = self.floats(x)
        self.meet(error, (*arguments.items(), array.shape, array.dtype.name))
        return array

    def meet_rows(self, x: Any, **arguments: Any) -> tuple[Any, tuple[int, ...]]:
        """Return ``x`` with a first axis, and all ranks' lengths of it; the rest agrees."""
        array, error = self.floats(x)
        rows = as_rows(array)
        payload = (*arguments.items(), rows.shape[1:], array.dtype.name)
        return rows, self.meet(error, payload, count=len(rows))

    def parts_of(
        self, x: Any, counts: tuple[int, ...] | None, error: Exception | None = None
    ) -> tuple[tuple[int, ...], Exception | None]:
        """Return how the first axis is cut, and what is wrong unless something was before."""
        if error is not None:
            return (), error
        if not x.shape:
            error = ValueError(f"{self.name}: the input has shape (), expected at least one axis")
            return (), error
        if counts is None:
            return even_parts(x.shape[0], self.comm.size), None
        if len(counts) != self.comm.size or sum(counts) != x.shape[0] or min(counts) < 0:
            error = ValueError(
                f"{self.name}: counts is {counts}, expected {self.comm.size} numbers with the sum "
                f"{x.shape[0]}"
            )
        return counts, error

    def require_floats(self, x: Any) -> None:
        """Raise on this rank unless ``x`` is an array of ``float32`` or ``float64``."""
        _, error = self.floats(x)
        if error is not None:
            raise error

    def floats(self, x: Any) -> tuple[Any, Exception | None]:
        """Return ``x`` as an array, and what is wrong with it unless its dtype is a float's."""
        try:
            array = np.asarray(x)
            require_float(self.name, "the input", array)
        except (TypeError, ValueError) as error:  # not even an array, it may be
            return np.zeros(0), error
        return array, None

    def meet(
        self, error: Exception | None, payload: Sequence[Any], count: int | None = None
    ) -> tuple[int, ...]:
        """Make sure that all ranks do the same; every collective begins with it.

        Parameters
        ----------
        error : Exception or None
            What is wrong on this rank: all ranks raise it then.
        payload : sequence
            What must be equal on all ranks.
        count : int, optional
            A number that may differ.

        Returns
        -------
        tuple of int
            All ranks' counts.

        Raises
        ------
        CommunicationError
            On all ranks, with what each of them does.

        Notes
        -----
        One ``Allgather`` of three integers, the same for every operator: ranks that call different
        operators must meet in the same collective call, or they would never find out.
        """
        if self.comm.size == 1:
            if error is not None:
                raise error
            return () if count is None else (count,)
        text = f"{self.name}{tuple(payload)}"
        mark = zlib.crc32(text.encode())
        table = np.empty((self.comm.size, 3), np.int64)
        with span("wait"):
            self.comm.Allgather(np.array([error is None, mark, count or 0], np.int64), table)
        if not table[:, 0].all():
            agree(self.comm, error)
        if (table[:, 1] != mark).any():
            texts = self.comm.allgather(text)
            other = next(r for r, found in enumerate(texts) if found != texts[0])
            raise CommunicationError(
                f"{self.name}: ranks do not match: rank 0 calls {texts[0]}, "
                f"rank {other} calls {texts[other]}"
            )
        return () if count is None else tuple(int(n) for n in table[:, 2])

    def message(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> Message:
        """Describe a recorded call; see :func:`adjoint.comm.check_records`."""
        payload = (self.name, getattr(self, "root", None))  # counts may differ from rank to rank
        return Message("collective", repr(self), self.comm, None, 0, payload)


def _as_array(x: Any) -> Any:
    """Return numbers and lists as arrays, for the rules need their shape, and all else as it is."""
    if isinstance(x, int | float | list):
        with suppress(TypeError, ValueError):  # what is no array is refused by all ranks together
            return np.asarray(x)
    return x


def as_rows(x: Any) -> Any:
    """Return an array with at least one axis: a number is an array of one entry."""
    return x.reshape(1) if x.ndim == 0 else x
