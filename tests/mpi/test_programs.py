"""Random programs of all ranks together, against the same in one process."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

import numpy as np
import pytest

from adjoint import Operator, comm, communicator
from adjoint.strategies import on_all_ranks
from tests.fuzz.checks import check, serial
from tests.fuzz.drawing import KINDS, try_programs
from tests.fuzz.faults import FAULTS
from tests.fuzz.program import Program, Step

SIZE = communicator().size

#: Two hundred programs in parts, for a test has a minute.
PARTS, EACH = 10, 20

#: Operators of `adjoint.comm`, and the others that programs are made for.
OPERATORS = {
    *("Allgather", "Allreduce", "Alltoall", "Barrier", "Bcast", "ContinueEdges", "Gather"),
    *("GatherField", "HaloExchange", "HaloFinish", "HaloStart", "Irecv", "Isend", "Recv", "Reduce"),
    *("Redistribute", "ReduceScatter", "Scatter", "ScatterField", "Send", "SendRecv", "Wait"),
    *("LinearSolve", "MatVec", "MLP", "NonlinearSolve", "TimeLoop", "Transpose"),
}


@cache
def checked(part: int) -> tuple[set[str], Counter[str]]:
    """Check a part of the programs; return them, and how many of them have each operator."""
    tried, found = set(), Counter[str]()

    @on_all_ranks
    def test(program: Program) -> None:
        operators = check(program)
        tried.add(program.line())
        found.update(operators)
        found.update({"split"} if any(s.settings.get("split") for s in program.steps) else ())

    try_programs(SIZE, 1000 * part, EACH, test)
    return tried, found


@pytest.mark.parallel([2, 3])
@pytest.mark.parametrize("part", range(PARTS))
def test_random_programs(part: int) -> None:
    tried, _ = checked(part)
    assert len(tried) == EACH


@pytest.mark.parallel([2, 3])
def test_the_programs_have_all_operators() -> None:
    classes = [found for name in comm.__all__ if isinstance(found := getattr(comm, name), type)]
    applied = {cls.__name__ for cls in classes if issubclass(cls, Operator)} - {"Communication"}
    assert applied <= OPERATORS
    found = sum((checked(part)[1] for part in range(PARTS)), Counter())
    assert min((found[name], name) for name in (*OPERATORS, "split")) >= (10, "")


def only(name: str, **settings: Any) -> Program:
    """Return a program of one step on inputs of two entries a rank."""
    step = Step(name, (0, 1)[: KINDS[name].arity], {"split": None, **settings})
    return Program(SIZE, 1, ((2,) * SIZE, (2,) * SIZE), (step,), ((0, (True,) * SIZE),))


@pytest.mark.parallel([2, 3])
def test_wrong_adjoints_are_found() -> None:
    for program, fault in (
        (only("Allreduce", shape=(2,), turned=False), "identity"),
        (only("Halo", dims=0, more=(1,), width=(1,), periodic=(False,), turned=False, corners=False,
              fields=1, halves=False), "cropped"),
        (only("Sent", source=0, dest=1, sends="later", receives="later", tag=0, shape=(2,),
              turned=False), "forgetful"),
    ):  # fmt: skip
        check(program)
        with pytest.raises(AssertionError, match="dot_test of function"):
            check(program, FAULTS[fault])


@pytest.mark.parallel([2, 3])
def test_wrong_values_messages_left_and_gradients_are_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class TwiceTheSum(comm.Allreduce):
        """A linear function with its transpose, but not the one that is meant."""

        def forward(self, x: Any) -> Any:
            return 2 * super().forward(x)

        def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
            return 2 * super().jvp(tangents, inputs, outputs)

        def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
            return (2 * super().vjp(cotangents, inputs, outputs)[0],)

    class Littering(comm.Allreduce):
        """Leaves a message that nobody receives."""

        def forward(self, x: Any) -> Any:
            if self.comm.rank == 0:
                left.append(self.comm.isend("litter", 1, 77))
            return super().forward(x)

    left: list[Any] = []
    program = only("Allreduce", shape=(2,), turned=False)
    with pytest.raises(AssertionError, match=r"results on rank 0: array \d is .*, expected"):
        check(program, ("Allreduce", TwiceTheSum))
    with pytest.raises(AssertionError, match=r"a message is left on rank 1, from rank 0 of .* 77"):
        check(program, ("Allreduce", Littering))
    for request in left:
        if communicator().rank == 0:
            request.wait()
    while communicator().rank == 1 and communicator().iprobe(0, 77):
        communicator().recv(None, 0, 77)


@pytest.mark.parallel([3])
def test_the_oracle_gives_what_is_written_out_here() -> None:
    """Steps one after another, by hand, so that the oracle is not the only witness."""
    inputs = [[np.array([1.0, 2.0]) + rank, np.array([3.0]) * (rank + 1)] for rank in range(3)]
    program = Program(
        3, 0, ((2, 2, 2), (1, 1, 1)),
        (
            Step("Local", (0, 1), {"names": ("multiply", "keep", "multiply")}),
            Step("Gather", (0,), {"split": ((0, -1, 0), True), "rows": (1, 1, 1), "rest": (),
                                  "number": False, "turned": False, "root": 0}),
        ),
        ((1, (False, True, True)),),
    )  # fmt: skip
    results = serial(program, inputs)
    # The last value is b a[0] of ranks 2 and 0 on rank 2, nothing on rank 0, b on rank 1.
    for found, known in zip(results[2], ([27.0, 3.0], [3.0, 4.0], [27.0])):
        np.testing.assert_array_equal(found, known)
    for found, known in zip(results[0], ([], [1.0, 2.0])):
        np.testing.assert_array_equal(found, known)
    for found, known in zip(results[1], ([6.0], [2.0, 3.0], [6.0])):
        np.testing.assert_array_equal(found, known)
    assert [len(found) for found in results] == [2, 3, 3]
