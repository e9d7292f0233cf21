"""Programs recorded without being run, so that those whose ranks do not match can be recorded."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

from adjoint import Tape
from adjoint.comm import CommunicationError, Recv, Request, Send, Wait
from adjoint.variable import Spec

X = np.ones(3)


class Recorder:
    """Records calls without making them."""

    def __init__(self) -> None:
        self.tape = Tape()
        self.tape.__enter__()
        self.requests = 0

    def __call__(self, operator: Any, *inputs: Any) -> None:
        outputs: Any = tuple(X for _ in inputs)
        if isinstance(operator, Recv):
            outputs = np.zeros(operator.shape)
        elif isinstance(operator, Send):
            outputs = None
        self.tape.record(operator, inputs, inputs, outputs)

    def start(self, operator: Any, *inputs: Any) -> Any:
        """Record the start of a request, and return it as ``Wait`` takes it."""
        request = object.__new__(Request)
        request.comm, request.text, request.number = operator.comm, repr(operator), self.requests
        request.peer = operator.dest if inputs else operator.source
        request.tag, request.sends = operator.tag, bool(inputs)
        request.spec = Spec((3,), np.dtype(float))
        self.requests += 1
        self.tape.record(operator, inputs, inputs, request)
        return request

    def wait(self, request: Any) -> None:
        outputs = None if request.sends else X
        self.tape.record(Wait(), (request,), (request,), outputs)


Program = Callable[[Recorder], None]


def record(program: Program) -> Tape:
    """Return the tape of a program on this rank."""
    recorder = Recorder()
    try:
        program(recorder)
    finally:
        recorder.tape.__exit__(None, None, None)
    return recorder.tape


def require_report(program: Program, message: str) -> None:
    """Make sure that a program is reported within 5 s, alike on all ranks; collective."""
    tape = record(program)
    start = time.monotonic()
    with pytest.raises(CommunicationError, match=message) as caught:
        tape.check_communication()
    assert time.monotonic() - start < 5
    assert len(set(MPI.COMM_WORLD.allgather(str(caught.value)))) == 1
