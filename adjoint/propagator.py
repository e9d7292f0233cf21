"""What a time loop is made of: steps that work in place, forwards, tangentially and in reverse."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .variable import Array

if TYPE_CHECKING:
    from mpi4py import MPI


class Propagator(ABC):
    """Steps of a time loop, with their derivatives, on fields that are allocated once.

    A propagator knows how to go from step to step; :class:`~adjoint.checkpoint.TimeLoop` decides
    which steps are taken when, what is kept of them, and what is computed anew, and is the operator
    that is recorded on a tape. All ranks call all methods together.

    Attributes
    ----------
    comm : mpi4py.MPI.Comm
        The ranks that take the steps together.
    steps : int
        Steps of a run; state ``n`` is the state before step ``n``.
    runs : int
        Independent runs with the same coefficients (shots).
    backwards : bool
        Whether ``reverse`` takes the state back along with its cotangent, in place of keeping what
        that would tell. The time loop sets it, before anything is kept, where there is a
        ``backward_cost``.
    backward_cost : float or None
        What a step of ``reverse`` then takes longer, in forward steps; ``None`` where steps cannot
        be taken back.

    Notes
    -----
    With the coefficients ``m``, step ``n`` is

        (s_{n+1}, d_n) = S_n(s_n, m, q),

    where ``s`` is the state, ``d`` what is recorded (a sample of the traces) and ``q`` are other
    inputs (source time functions, an initial state). In reverse,

        (s̄_n, Δm̄, Δq̄) = [∂S_n/∂(s, m, q)]ᵀ (s̄_{n+1}, d̄_n),

    and the cotangents of inputs are summed over steps and runs. What the transpose needs of step
    ``n`` (a strain rate, a Laplacian, rarely all of ``s_n``) is called *kept*.

    The order of calls is: ``prepare``; for each run ``begin`` and ``advance`` over all steps;
    ``results``. In reverse: ``prepare``, ``prepare_reverse``; for each run, in any order,
    ``begin``, ``begin_reverse``, then ``reverse`` over all steps with ``advance`` in between where
    steps are taken again (from a state that was loaded into ``state``), ``finish_reverse``;
    ``gradients``. Tangents: ``prepare``, ``prepare_tangent``; for each run ``begin``,
    ``begin_tangent``, and ``advance_tangent`` over all steps; ``result_tangents``.
    """

    comm: MPI.Comm
    steps: int
    runs: int = 1
    backwards: bool = False
    backward_cost: float | None = None

    @property
    @abstractmethod
    def state(self) -> Sequence[Array]:
        """The fields that make the present state, in a fixed order.

        A snapshot is a copy of them; writing a snapshot into them goes back to it. Ghosts that
        ``advance`` fills before it reads them need not be right.
        """

    @abstractmethod
    def new_kept(self, steps: int) -> Sequence[Array]:
        """Return arrays for what ``reverse`` needs of so many steps; ``kept_bytes`` large."""

    @abstractmethod
    def kept_bytes(self, steps: int) -> int:
        """Return how much memory ``new_kept(steps)`` takes on this rank, in bytes."""

    @abstractmethod
    def prepare(self, *inputs: Array) -> None:
        """Compute coefficients from the inputs, and clear what was recorded."""

    @abstractmethod
    def begin(self, run: int) -> None:
        """Set ``state`` to the initial state of a run."""

    @abstractmethod
    def advance(self, first: int, last: int, kept: Any = None) -> None:
        """Take the steps ``first`` … ``last − 1`` of the present run, in place, and record.

        Parameters
        ----------
        first, last : int
            ``state`` is state ``first`` before and state ``last`` after.
        kept : object, optional
            Of ``new_kept(n)`` with ``n ≥ last − first``: what ``reverse`` needs of these steps is
            written into it. It serves one ``advance`` at a time.
        """

    @abstractmethod
    def results(self) -> tuple[Array, ...]:
        """Return the outputs of all runs, as new arrays."""

    @abstractmethod
    def prepare_tangent(self, tangents: Sequence[Array]) -> None:
        """Compute the tangents of the coefficients from those of the inputs."""

    @abstractmethod
    def begin_tangent(self, run: int) -> None:
        """Set the tangent of the state to that of the initial state of a run."""

    @abstractmethod
    def advance_tangent(self, first: int, last: int) -> None:
        """Take steps as ``advance`` does, and the tangent along with them."""

    @abstractmethod
    def result_tangents(self) -> tuple[Array, ...]:
        """Return the tangents of the outputs, as new arrays."""

    @abstractmethod
    def prepare_reverse(self, cotangents: Sequence[Array]) -> None:
        """Take the cotangents of the outputs, and set those of the inputs to zero."""

    @abstractmethod
    def begin_reverse(self, run: int) -> None:
        """Set the cotangent of the state to that of the final state of a run."""

    @abstractmethod
    def reverse(self, last: int, first: int, kept: Any) -> None:
        """Take the steps ``last − 1`` … ``first`` back: the cotangent of the state, in place.

        ``kept`` holds what ``advance(first, last, kept)`` has written. The present ``state`` is
        not read, and lost where it is taken back; the cotangents of the inputs are added to.
        """

    @abstractmethod
    def finish_reverse(self, run: int) -> None:
        """Take the cotangent of the initial state of a run."""

    @abstractmethod
    def gradients(self) -> tuple[Array | None, ...]:
        """Return the cotangents of the inputs, as new arrays; ``None`` where there is none."""
