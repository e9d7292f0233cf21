"""Messages that travel while the ranks work on.

``Isend`` and ``Irecv`` give a :class:`Request`, ``Wait`` completes it. The cotangent of a request
is the reversed request: in the reverse sweep ``Wait`` comes first and posts the reversed message,
then come the adjoints of the work in between, and ``Isend`` or ``Irecv`` completes it. So what
overlapped forwards overlaps backwards.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any
from weakref import finalize

import numpy as np
from mpi4py import MPI

from ..operator import Operator
from ..spans import span
from ..tape import active_tape
from ..variable import Array, Spec
from .communication import Communication, CommunicationError, Message
from .keeping import keep_until_complete
from .send_recv import FromRank, ToRank, size_of
from .tags import next_number, reversed_tag
from .transport import contiguous, note_message

_numbers = itertools.count()


class Request:
    """A message under way.

    Attributes
    ----------
    sends : bool
        Whether this rank sends it.
    peer, tag : int
    spec : Spec
        Shape and dtype of the message.
    text : str
        The call that started it.
    turn : int
        Which message of its channel it is, at both ends.
    """

    def __init__(
        self, comm: MPI.Comm, peer: int, tag: int, text: str, sent: Any = None, spec: Any = None
    ) -> None:
        self.comm = comm
        self.peer = peer
        self.tag = tag
        self.text = text
        self.sends = sent is not None
        self.turn = 0
        self.number = next(_numbers)
        # The message must outlive the request, and what is sent must not change meanwhile.
        self._memory: Array | None
        if sent is not None:
            self._memory = contiguous(sent)
            if self._memory.flags.writeable and np.may_share_memory(self._memory, sent):
                self._memory = self._memory.copy()
            note_message(comm, self._memory, peer)
            self._pending = comm.Isend(self._memory, peer, tag)
        else:
            self._memory = np.empty(spec.shape, spec.dtype)
            self._pending = comm.Irecv(self._memory, peer, tag)
        self.spec = Spec.of(self._memory)
        # Where nobody waits for it, MPI writes to or reads from the memory after this object.
        self._dropped = finalize(self, keep_until_complete, self._pending, self._memory)

    def reversed(self, cotangent: Any = None) -> Request:
        """Start the message in the other direction, which carries the cotangent."""
        tag = reversed_tag(self.tag, self.turn)
        if self.sends:
            return Request(self.comm, self.peer, tag, self.text, spec=self.spec)
        return Request(self.comm, self.peer, tag, self.text, sent=cotangent)

    def wait(self) -> Array:
        """Complete it and return the message."""
        if self._memory is None:
            raise CommunicationError(f"Wait: {self.text} was waited for before")
        status = MPI.Status()
        expected = self.spec.size * self.spec.dtype.itemsize
        found: int | str = expected
        try:
            with span("wait"):
                self._pending.Wait(status)
            if not self.sends:
                found = status.Get_count(MPI.BYTE)
        except MPI.Exception as error:
            if error.Get_error_class() != MPI.ERR_TRUNCATE:
                raise
            found = f"more than {expected}"
        if found != expected:
            raise CommunicationError(
                f"{self.text}: rank {self.comm.rank} got a message of {found} bytes from rank "
                f"{self.peer} (tag {self.tag}), expected {expected} bytes: shape "
                f"{self.spec.shape} of {self.spec.dtype}"
            )
        memory, self._memory = self._memory, None
        self._dropped.detach()
        return memory

    def __repr__(self) -> str:
        return f"Request({self.text})"


def announced(request: Request, turn: int) -> Request:
    """Return a request with its turn, which the active tape must see waited for."""
    request.turn = turn
    tape = active_tape()
    if tape is not None:
        tape.begin(request.number, request.text)
    return request


def completed(operator: Operator, reversed_request: Any) -> Array:
    """Wait for a reversed request in the reverse sweep, and return its message."""
    if not isinstance(reversed_request, Request):
        raise CommunicationError(f"{operator!r} was not waited for on this tape")
    return reversed_request.wait()


class Isend(ToRank):
    """Start to send an array; :class:`Wait` completes it.

    Parameters
    ----------
    dest : int
    tag : int
        From 0 to MPI's greatest tag less two.
    comm : mpi4py.MPI.Comm, optional
        ``COMM_WORLD`` by default.

    Notes
    -----
    Any shape, float32 or float64. The output is a :class:`Request`. In the reverse sweep ``Wait``
    starts to receive the input's cotangent from ``dest``, and ``Isend`` completes that.

    Raises
    ------
    RuntimeError
        When a tape closes before the request was waited for.

    Examples
    --------
    >>> send = Isend(dest=0)
    """

    def forward(self, x: Any) -> Request:
        turn = next_number(self.comm, "send", self.dest, self.tag)
        return announced(Request(self.comm, self.dest, self.tag, repr(self), sent=x), turn)

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Request:
        return Request(self.comm, self.dest, self.tag, repr(self), sent=tangents[0])

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        return (completed(self, cotangents[0]),)


class Irecv(FromRank):
    """Start to receive an array; :class:`Wait` completes it and returns the array.

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
    The output is a :class:`Request`. In the reverse sweep ``Wait`` starts to send the message's
    cotangent to ``source``, and ``Irecv`` completes that.

    ``Wait`` compares the length of the message in bytes, which is all that MPI tells of it, as
    :class:`Recv` does.

    Raises
    ------
    RuntimeError
        When a tape closes before the request was waited for.

    Examples
    --------
    >>> receive = Irecv(source=0, shape=(3,))
    """

    def forward(self) -> Request:
        turn = next_number(self.comm, "receive", self.source, self.tag)
        return announced(self._post(), turn)

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Request:
        return self._post()

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        completed(self, cotangents[0])
        return ()

    def _post(self) -> Request:
        return Request(self.comm, self.source, self.tag, repr(self), spec=self.spec)

    def message(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> Message:
        payload = (outputs[0].number, size_of(self.spec))
        return Message("start", repr(self), self.comm, self.source, self.tag, payload)


class Wait(Communication):
    """Complete a request; of one that receives the output is the array, of one that sends nothing.

    Notes
    -----
    A request is waited for once. See :class:`Isend` and :class:`Irecv` for the adjoint.

    Raises
    ------
    CommunicationError
        Where the request was waited for before, or the message has another size.

    Examples
    --------
    Work while the message travels:

    >>> comm = communicator()
    >>> receives = Irecv(source=comm.rank)()
    >>> sends = Isend(dest=comm.rank)(np.array(3.0))
    >>> work = np.arange(4.0) ** 2
    >>> float(Wait()(receives)), Wait()(sends)
    (3.0, None)
    """

    needs_inputs = None

    def check(self, request: Any) -> None:
        if not isinstance(request, Request):
            raise TypeError(
                f"Wait: got a {type(request).__name__}, expected what Isend or Irecv returned"
            )

    def forward(self, request: Any) -> Any:
        array = request.wait()
        tape = active_tape()
        if tape is not None:
            tape.end(request.number)
        return None if request.sends else array

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        (tangent,) = tangents
        if not isinstance(tangent, Request):  # started before the tape: a constant
            return tuple(y.zeros() for y in outputs)
        array = tangent.wait()
        return None if tangent.sends else array

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        # Not called for a request that was started before the tape, which is a constant.
        return (lambda: inputs[0].reversed(*cotangents),)

    def message(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> Message:
        (request,) = inputs
        text = f"Wait for {request.text}"
        return Message("wait", text, request.comm, request.peer, request.tag, (request.number,))
