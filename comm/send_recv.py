"""A message from one rank to another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import DTypeLike

from ..spans import span
from ..variable import Array, Spec
from .communication import Communication, CommunicationError, Message
from .keeping import keep_until_complete
from .tags import next_number, reversed_tag
from .transport import contiguous, note_message


def receive(comm: MPI.Comm, into: Array, source: int, tag: int, name: str) -> Array:
    """Receive a message of the size of ``into``; another size is an error, and nothing is lost."""
    status = MPI.Status()
    with span("wait"):
        message = comm.Mprobe(source, tag, status)
    found, expected = status.Get_count(MPI.BYTE), into.nbytes
    if found != expected:
        message.Recv([np.empty(found, np.uint8), MPI.BYTE])
        raise CommunicationError(
            f"{name}: rank {comm.rank} got a message of {found} bytes from rank {source} "
            f"(tag {tag}), expected {expected} bytes: shape {into.shape} of {into.dtype}"
        )
    message.Recv(into)
    return into


def send(comm: MPI.Comm, x: Any, dest: int, tag: int) -> None:
    """Send an array; a long one waits for its receiver."""
    x = contiguous(x)
    note_message(comm, x, dest)
    with span("wait"):
        comm.Send(x, dest, tag)


class ToRank(Communication):
    """What ``Send`` and ``Isend`` share: an array for another rank."""

    def __init__(self, dest: int, tag: int = 0, comm: MPI.Comm | None = None) -> None:
        super().__init__(comm)
        self.dest = self.require_rank("dest", dest)
        self.tag = self.require_tag(tag)

    def check(self, x: Any) -> None:
        self.require_floats(x)

    def message(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> Message:
        return Message("send", repr(self), self.comm, self.dest, self.tag, size_of(inputs[0]))


class FromRank(Communication):
    """What ``Recv`` and ``Irecv`` share: an array from another rank, whose shape is known."""

    def __init__(
        self,
        source: int,
        shape: int | Sequence[int] = (),
        dtype: DTypeLike = np.float64,
        tag: int = 0,
        comm: MPI.Comm | None = None,
    ) -> None:
        super().__init__(comm)
        self.source = self.require_rank("source", source)
        self.shape = (int(shape),) if isinstance(shape, int) else tuple(int(n) for n in shape)
        self.dtype = np.dtype(dtype)
        self.require_floats(np.empty(0, self.dtype))
        self.tag = self.require_tag(tag)

    @property
    def spec(self) -> Spec:
        """Shape and dtype of what is received."""
        return Spec(self.shape, self.dtype)


class Send(ToRank):
    """Send an array to another rank, which must call :class:`Recv`.

    Parameters
    ----------
    dest : int
    tag : int
        From 0 to MPI's greatest tag less two.
    comm : mpi4py.MPI.Comm, optional
        ``COMM_WORLD`` by default.

    Notes
    -----
    Any shape, float32 or float64. There is no output. In the reverse sweep the message goes the
    other way: the cotangent of the input is received from ``dest``.

    Examples
    --------
    >>> send = Send(dest=0)
    """

    auxiliary = 1

    def forward(self, x: Any) -> Any:
        number = next_number(self.comm, "send", self.dest, self.tag)
        send(self.comm, x, self.dest, self.tag)
        return (number,)

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> None:
        send(self.comm, tangents[0], self.dest, self.tag)

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        (x,), (number,) = inputs, outputs
        tag = reversed_tag(self.tag, number)
        return (receive(self.comm, np.empty(x.shape, x.dtype), self.dest, tag, self.name),)


class Recv(FromRank):
    """Receive an array that another rank sends with :class:`Send`.

    Parameters
    ----------
    source : int
    shape : tuple of int
    dtype : dtype_like
        float64 (default) or float32.
    tag : int
        From 0 to MPI's greatest tag less two.
    comm : mpi4py.MPI.Comm, optional
        ``COMM_WORLD`` by default.

    Notes
    -----
    There is no input. In the reverse sweep the cotangent of the output is sent to ``source``, zeros
    if there is none.

    What is compared with the message on arrival is its length in bytes, which is all that MPI tells
    of it: n values of float64 are taken for 2n of float32, and any shape for another of that many
    values. The dtypes of both ends are compared by :func:`check_records`, and so before the first
    reverse sweep.

    Raises
    ------
    CommunicationError
        Where the message has another length.

    Examples
    --------
    >>> receive = Recv(source=0, shape=(3,))
    """

    auxiliary = 1

    def forward(self) -> Any:
        number = next_number(self.comm, "receive", self.source, self.tag)
        return self._receive(), number

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        return self._receive()

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        tag = reversed_tag(self.tag, outputs[1])
        send(self.comm, cotangents[0], self.source, tag)
        return ()

    def _receive(self) -> Array:
        into = np.empty(self.shape, self.dtype)
        return receive(self.comm, into, self.source, self.tag, self.name)

    def message(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> Message:
        return Message("receive", repr(self), self.comm, self.source, self.tag, size_of(self.spec))


class SendRecv(Communication):
    """Send an array to one rank and receive one of the same shape from another, at once.

    Parameters
    ----------
    dest, source : int or None
        ``None``: nothing is sent, or zeros are received.
    tag : int
        From 0 to MPI's greatest tag less two.
    comm : mpi4py.MPI.Comm, optional
        ``COMM_WORLD`` by default.

    Notes
    -----
    What rank r sends to s, s receives from r. The adjoint swaps the roles: the output's cotangent
    goes to ``source``, the input's comes from ``dest`` (zero without one). So a shift along a ring
    becomes the opposite shift.

    Raises
    ------
    CommunicationError
        Where the message has another size.

    Examples
    --------
    A shift along the ring of ranks:

    >>> comm = communicator()
    >>> shift = SendRecv(dest=(comm.rank + 1) % comm.size, source=(comm.rank - 1) % comm.size)
    >>> float(shift(np.array(comm.rank + 0.0))) == (comm.rank - 1) % comm.size
    True
    """

    auxiliary = 1

    def __init__(
        self, dest: int | None, source: int | None, tag: int = 0, comm: MPI.Comm | None = None
    ) -> None:
        super().__init__(comm)
        self.dest = None if dest is None else self.require_rank("dest", dest)
        self.source = None if source is None else self.require_rank("source", source)
        self.tag = self.require_tag(tag)

    def check(self, x: Any) -> None:
        self.require_floats(x)

    def forward(self, x: Any) -> Any:
        sent = received = 0
        if self.dest is not None:
            sent = next_number(self.comm, "send", self.dest, self.tag)
        if self.source is not None:
            received = next_number(self.comm, "receive", self.source, self.tag)
        return self._exchange(x, self.dest, self.source, self.tag, self.tag), (sent, received)

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        return self._exchange(tangents[0], self.dest, self.source, self.tag, self.tag)

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        sent, received = (reversed_tag(self.tag, number) for number in outputs[1])
        return (self._exchange(cotangents[0], self.source, self.dest, received, sent),)

    def _exchange(self, x: Any, dest: int | None, source: int | None, out: int, into: int) -> Array:
        """Send ``x`` to one rank with tag ``out``, receive from another with tag ``into``."""
        x = contiguous(x)
        result = np.zeros(x.shape, x.dtype)
        request = MPI.REQUEST_NULL
        if dest is not None:
            note_message(self.comm, x, dest)
            request = self.comm.Isend(x, dest, out)
        try:
            if source is not None:
                receive(self.comm, result, source, into, self.name)
        except CommunicationError:
            keep_until_complete(request, x)
            raise
        with span("wait"):
            request.Wait()
        return result

    def message(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> Message:
        payload = (self.dest, self.source), size_of(inputs[0])
        return Message("exchange", repr(self), self.comm, None, self.tag, payload)


def size_of(x: Array | Spec) -> tuple[int, str]:
    """Return what both ends of a message must have alike: number of values and dtype."""
    return x.size, x.dtype.name
