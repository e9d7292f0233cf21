"""What must be true of every program.

References
----------
Squire, Trapp (1998). Using complex variables to estimate derivatives of real functions.
DOI 10.1137/S003614459631241X
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from mpi4py import MPI

from adjoint import Tape
from adjoint.comm import Allreduce
from adjoint.comm.tags import user_tags
from adjoint.testing import Prepared, check_jvp, check_vjp, dot_test
from adjoint.variable import value_of

from .drawing import KINDS
from .program import Everyone, Here, Program

# So short that the truncation of central differences of a dozen composed functions, and so long
# that rounding, do not matter beside the tolerance.
STEP = 2e-3

#: Of values and gradients that the oracle gives, relative to the largest, or to 1 if that is less.
TOLERANCE = 1e-12

#: A derivative is the imaginary part of a function so little off the real axis, to all digits.
TINY = 1e-20


def check(program: Program, fault: tuple[str, Callable[..., Any]] | None = None) -> set[str]:
    """Check a program; collective over ``COMM_WORLD``.

    Parameters
    ----------
    program : Program
    fault : tuple of (str, callable), optional
        Takes the place of an operator of the library.

    Returns
    -------
    set of str
        Names of the operators that it consists of.

    Raises
    ------
    AssertionError
        On all ranks: the transpose is none, derivatives are not those of central differences,
        values or the gradient are not those of all ranks in one process, or a message is left.
    """
    here = Here(fault)
    assert program.ranks == here.size, f"the program is for {program.ranks} ranks"
    inputs = program.inputs(here.rank)

    def function(*values: Any) -> list[Any]:
        here.pending.clear()
        made = program.interpret(
            values, lambda step, args: KINDS[step.kind].run(here, step.settings, *args)
        )
        assert not here.pending
        return program.results(made, here.rank)

    prepared = Prepared(function, *inputs)
    dot_test(prepared)
    check_jvp(prepared, step=STEP)
    check_vjp(prepared, step=STEP)
    operators = _against_the_oracle(program, function, inputs, here)
    _nothing_is_left(here)
    here.close()
    return operators


def serial(program: Program, inputs: list[list[Any]]) -> list[list[Any]]:
    """Return the results of each rank, computed in this process from the inputs of each."""
    everyone = Everyone(program.ranks)
    values = [list(value) for value in zip(*inputs)]
    made = program.interpret(
        values, lambda step, args: KINDS[step.kind].plain(everyone, step.settings, *args)
    )
    by_rank = zip(*made)
    return [program.results(vectors, rank) for rank, vectors in enumerate(by_rank)]


def weights(program: Program, results: list[Any], rank: int) -> list[Any]:
    """Return the factors with which a rank's results enter the loss."""
    generator = np.random.default_rng([program.seed, rank, 1])
    return [generator.standard_normal(y.shape) for y in results]


def _against_the_oracle(
    program: Program, function: Callable[..., Any], inputs: list[Any], here: Here
) -> set[str]:
    with Tape() as tape:
        sources = [tape.watch(x) for x in inputs]
        results = function(*sources)
        terms = [(w * y).sum() for w, y in zip(weights(program, results, here.rank), results)]
        loss = Allreduce()(sum(terms))
    tape.check_communication()
    operators = {type(record.operator).__name__ for record in tape.records}
    gradient = tape.gradient(loss, sources)

    everybody = [program.inputs(rank) for rank in range(program.ranks)]
    expected = serial(program, everybody)
    factors = [weights(program, ys, rank) for rank, ys in enumerate(expected)]

    def misfit(moved: Any, position: int) -> Any:
        """Return the loss with another array in one place of this rank's inputs."""
        points = [list(xs) for xs in everybody]
        points[here.rank][position] = moved
        ranks = zip(factors, serial(program, points))
        return sum((w * y).sum() for ws, ys in ranks for w, y in zip(ws, ys))

    exact = []
    for position, x in enumerate(inputs):
        exact.append(np.zeros(x.shape))
        for i in range(len(x)):
            moved = x.astype(complex)
            moved[i] += TINY * 1j
            exact[-1][i] = misfit(moved, position).imag / TINY
    value = sum((w * y).sum() for ws, ys in zip(factors, expected) for w, y in zip(ws, ys))
    _compare(here, "results", [value_of(y) for y in results], expected[here.rank])
    _compare(here, "the loss", [np.array(float(loss))], [np.array(value)])
    _compare(here, "the gradient", gradient, exact)
    return set().union(*here.world.allgather(operators))


def _compare(here: Here, what: str, found: list[Any], expected: list[Any]) -> None:
    """Raise on all ranks where arrays differ on any."""
    largest = max((float(np.abs(y).max(initial=1.0)) for y in expected), default=1.0)
    largest = max(here.world.allgather(largest))
    fault = None
    for i, (y, known) in enumerate(zip(found, expected, strict=True)):
        if y.shape != known.shape:
            fault = f"array {i} has shape {y.shape}, expected {known.shape}"
        elif not np.abs(y - known).max(initial=0.0) <= TOLERANCE * largest:
            fault = f"array {i} is {y}, expected {known}"
    for rank, text in enumerate(here.world.allgather(fault)):
        if text is not None:
            raise AssertionError(f"{what} on rank {rank}: {text}")


def _nothing_is_left(here: Here) -> None:
    """Raise on all ranks where a message was sent that nobody receives.

    Those of the check before the first reverse sweep do not count: it does not wait for ranks that
    come to it much later than the others, and what these say then is left.
    """
    here.world.Barrier()
    status = MPI.Status()
    fault = None
    for comm in here.comms:
        while (message := comm.Improbe(status=status)) is not None:
            message.Recv(bytearray(status.Get_count()))
            if status.tag != user_tags():
                fault = f"from rank {status.source} of {comm.size}, tag {status.tag}"
    for rank, text in enumerate(here.world.allgather(fault)):
        if text is not None:
            raise AssertionError(f"a message is left on rank {rank}, {text}")
