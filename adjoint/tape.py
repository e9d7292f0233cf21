"""The tape: the calls that a program made, and the Jacobian of that program."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, Token
from importlib import import_module
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from . import spans
from .profile import Profile
from .profile_table import Table
from .sweeps import Cotangents, conform, forward, own, reverse
from .variable import Array, Spec, Variable, value_of
from .world import communicator

if TYPE_CHECKING:
    from mpi4py import MPI

    from .operator import Operator

_tapes: ContextVar[tuple[Tape | None, ...]] = ContextVar("tapes", default=())


def active_tape() -> Tape | None:
    """Return the innermost tape that is recording, or ``None``."""
    tapes = _tapes.get()
    return tapes[-1] if tapes else None


@contextmanager
def unrecorded() -> Iterator[None]:
    """Let no tape record what is done within the block, for an operator made of operators."""
    token = _tapes.set((*_tapes.get(), None))
    try:
        yield
    finally:
        _tapes.reset(token)


class Record:
    """One call of an operator.

    Attributes
    ----------
    operator : Operator
    sources : tuple of (int or None)
        Key of each input; ``None`` where it was a constant.
    targets : tuple of int
        Key of each output.
    inputs, outputs : tuple
        What the rules are handed: values they need, a ``Spec`` for the others.
    """

    __slots__ = ("inputs", "operator", "outputs", "sources", "targets")

    def __init__(
        self,
        operator: Operator,
        sources: tuple[int | None, ...],
        targets: tuple[int, ...],
        inputs: tuple[Any, ...],
        outputs: tuple[Any, ...],
    ) -> None:
        self.operator = operator
        self.sources = sources
        self.targets = targets
        self.inputs = inputs
        self.outputs = outputs


class Tape:
    """Records operators while it is open, and applies the Jacobian of what it recorded.

    Parameters
    ----------
    persistent : bool
        Keep all values after a reverse sweep, so that another one may follow. By default each
        cotangent and each kept value is freed as soon as it is spent, and a tape serves one
        reverse sweep.
    comm : mpi4py.MPI.Comm, optional
        The ranks that run the recorded program together; ``COMM_WORLD`` by default.
    profile : bool
        Measure what the recorded program and its sweeps cost, for :meth:`profile`.

    Notes
    -----
    The program on N ranks is one function of all ranks' inputs to all ranks' outputs. ``jvp`` and
    ``vjp`` apply its Jacobian and the transpose of it, so all ranks must call them together. A
    cotangent on a rank is the derivative with respect to that rank's copy.

    Examples
    --------
    >>> with Tape() as tape:
    ...     x = tape.watch(np.array([1.0, 2.0]))
    ...     loss = (x**2).sum()
    >>> (gradient,) = tape.gradient(loss, [x])
    >>> gradient
    array([2., 4.])
    """

    def __init__(
        self, persistent: bool = False, comm: MPI.Comm | None = None, profile: bool = False
    ) -> None:
        self.persistent = persistent
        self.comm = comm
        self.records: list[Record] = []
        self._communicates = False
        self._spent = False
        self._unfinished: dict[int, str] = {}
        self._token: Token[tuple[Tape | None, ...]] | None = None
        self._profile = Profile() if profile else None

    def __enter__(self) -> Tape:
        if self._token is not None:
            raise RuntimeError("Tape: it is open already")
        self._token = _tapes.set((*_tapes.get(), self))
        if self._profile is not None:
            self._profile.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._token is not None
        _tapes.reset(self._token)
        self._token = None
        if self._profile is not None:
            self._profile.stop()
        if self._unfinished and error is None:
            raise RuntimeError(
                "Tape: closed before these were waited for: " + "; ".join(self._unfinished.values())
            )

    def watch(self, value: Any) -> Variable:
        """Return a variable with a copy of ``value``, with respect to which one may differentiate.

        Parameters
        ----------
        value : array_like of float32 or float64
        """
        array = np.array(value_of(value))
        if array.dtype not in (np.float32, np.float64):
            raise TypeError(f"Tape.watch: dtype {array.dtype}, expected float32 or float64")
        array.flags.writeable = False
        return Variable(array)

    def record(
        self, operator: Operator, arguments: tuple[Any, ...], inputs: tuple[Any, ...], result: Any
    ) -> Any:
        """Append a call and return its outputs as variables."""
        if type(result) is list:
            raise TypeError(
                f"{operator.name}: forward returned a list, expected an array or a tuple of arrays"
            )
        if type(result) is tuple:
            outputs = result
        else:
            outputs = () if result is None else (result,)
        if float in map(type, outputs):
            outputs = tuple([np.float64(y) if type(y) is float else y for y in outputs])
        visible = outputs[: len(outputs) - operator.auxiliary]
        variables = []
        for y in visible:
            if type(y) is np.ndarray:
                y.flags.writeable = False
            variables.append(Variable(y))
        self._communicates |= operator.communicates
        self.records.append(
            Record(
                operator,
                tuple([x.key if isinstance(x, Variable) else None for x in arguments]),
                tuple([y.key for y in variables]),
                _kept(inputs, operator.needs_inputs),
                _kept(outputs, operator.needs_outputs, len(visible)),
            )
        )
        if len(variables) == 1:
            return variables[0]
        return tuple(variables) if variables else None

    def begin(self, key: int, description: str) -> None:
        """Note something that must be finished before the tape closes (a pending request)."""
        self._unfinished[key] = description

    def end(self, key: int) -> None:
        """Note that what ``begin`` announced under this key is finished."""
        self._unfinished.pop(key, None)

    def vjp(
        self, outputs: Sequence[Variable], cotangents: Sequence[Any], sources: Sequence[Variable]
    ) -> list[Array]:
        """Return ``Jᵀ w`` for each source; collective where the program communicates.

        Parameters
        ----------
        outputs : sequence of Variable
        cotangents : sequence of array_like
            One for each output, of its shape.
        sources : sequence of Variable

        Returns
        -------
        list of numpy.ndarray
            One for each source, of its shape and dtype; zeros where nothing depends on it. They are
            the caller's own.
        """
        self._require_unspent("use Tape(persistent=True) to sweep more than once")
        if self._communicates:
            _records().check_first(self)
        sweep = Cotangents()
        for y, w in zip(outputs, cotangents, strict=True):
            sweep.add(y.key, w, Spec.of(y.value), "Tape.vjp: cotangent of an output")
        self._spent = not self.persistent
        found = reverse(self._reversed(), sweep, {x.key for x in sources}, self._watch())
        return own([_or_zeros(found[x.key], x) for x in sources], cotangents)

    def jvp(
        self, outputs: Sequence[Variable], sources: Sequence[Variable], tangents: Sequence[Any]
    ) -> list[Array]:
        """Return ``J v`` for each output; collective where the program communicates.

        Parameters
        ----------
        outputs, sources : sequence of Variable
        tangents : sequence of array_like
            One for each source, of its shape.

        Returns
        -------
        list of numpy.ndarray
            One for each output, of its shape and dtype. They are the caller's own.
        """
        self._require_unspent("take jvp before vjp, or use Tape(persistent=True)")
        found: dict[int, Any] = {}
        for x, v in zip(sources, tangents, strict=True):
            v = conform(v, Spec.of(x.value), "Tape.jvp: tangent of a source")
            found[x.key] = found[x.key] + v if x.key in found else v
        forward(self.records, found, {y.key for y in outputs}, self._watch())
        return own([_or_zeros(found.get(y.key), y) for y in outputs], tangents)

    def gradient(self, loss: Variable, sources: Sequence[Variable], root: int = 0) -> list[Array]:
        """Return the gradient of a scalar; collective.

        Parameters
        ----------
        loss : Variable
            A scalar. Its value on ``root`` is the one that is differentiated, so that a loss that
            ``Reduce`` left on root and one that ``Allreduce`` made everywhere give the same.
        sources : sequence of Variable
        root : int
            Rank in the tape's communicator.

        Returns
        -------
        list of numpy.ndarray
            Derivative with respect to *this rank's copy* of each source. A parameter that all
            ranks share enters through ``Bcast``; its gradient is then complete on root.
        """
        if not isinstance(loss, Variable):
            raise TypeError(f"Tape.gradient: loss is a {type(loss).__name__}, expected a Variable")
        if loss.size != 1:
            raise ValueError(f"Tape.gradient: loss has shape {loss.shape}, expected a scalar")
        if communicator(self.comm).rank != root:
            return self.vjp([], [], sources)
        return self.vjp([loss], [np.ones(loss.shape, loss.dtype)], sources)

    def check_communication(self) -> None:
        """Check that the communication recorded by all ranks fits together; collective.

        Raises
        ------
        CommunicationError
            On all ranks, naming both sides, where the reverse sweep would hang or mix messages up.
        """
        _records().check_records(self)

    def profile(self) -> Table:
        """Return what program and sweeps have cost on all ranks; see ``profiling``. Collective."""
        if self._profile is None:
            raise RuntimeError("Tape.profile: nothing was measured; use Tape(profile=True)")
        self._watch()
        return self._profile.table(self.comm)

    def draw(
        self, path: str | os.PathLike[str] | None = None, ranks: int | Sequence[int] = 4
    ) -> str:
        """Draw what all ranks recorded and send each other, before it is swept; collective.

        See :func:`adjoint.draw.draw`.
        """
        from .draw import draw

        return draw(self, path, ranks)

    def _require_unspent(self, remedy: str) -> None:
        if self._spent:
            raise RuntimeError(f"Tape: its values were freed by an earlier reverse sweep; {remedy}")

    def _watch(self) -> Profile | None:
        """Return the profile that watches a sweep, and tell it what is kept."""
        watch = spans.active if self._profile is None else self._profile
        if watch is not None:
            watch.keep(self.records)
        return watch

    def _reversed(self) -> Iterable[Record]:
        """Yield the records from the last to the first, letting go of each unless persistent."""
        if self.persistent:
            yield from reversed(self.records)
            return
        while self.records:
            yield self.records.pop()


def _records() -> Any:
    """Return the module that compares tapes.

    The one place where the core calls what is built on it; a tape without communication does not.
    """
    return import_module("adjoint.comm.records")


def _kept(
    values: tuple[Any, ...], needed: tuple[int, ...] | None, visible: int | None = None
) -> tuple[Any, ...]:
    """Replace by their ``Spec`` the values that are not needed; auxiliary outputs always are."""
    if needed is None:
        return values
    return tuple(
        [
            v if i in needed or (visible is not None and i >= visible) else Spec.of(v)
            for i, v in enumerate(values)
        ]
    )


def _or_zeros(derivative: Any, of: Variable) -> Any:
    return Spec.of(of.value).zeros() if derivative is None else derivative
