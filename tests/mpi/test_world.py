"""The library's communicator, and errors that all ranks raise together."""

from __future__ import annotations

import pytest
from mpi4py import MPI

from adjoint import agreed, communicator

WORLD = MPI.COMM_WORLD


class Unusual(Exception):
    """Not made from one message."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


class Coded(Exception):
    """Made from something else than a message."""

    def __init__(self, answer: OSError) -> None:
        super().__init__(f"code {answer.errno}")


@pytest.mark.parallel([1, 2, 3])
def test_a_communicator_has_one_duplicate() -> None:
    own = communicator()
    assert own is communicator(WORLD)
    assert own is communicator(own)
    assert MPI.Comm.Compare(own, WORLD) == MPI.CONGRUENT
    group = WORLD.Split(WORLD.rank % 2)
    assert MPI.Comm.Compare(communicator(group), group) == MPI.CONGRUENT
    group.Free()


@pytest.mark.parallel([2, 3])
@pytest.mark.parametrize("faulty", [(0,), (-1,), (1, -1)])
def test_one_rank_s_exception_is_raised_on_all(faulty: tuple[int, ...]) -> None:
    class Local(Exception):
        """Cannot be looked up by the other ranks."""

    ranks = {rank % WORLD.size for rank in faulty}
    first = min(ranks)
    for error, kind, message in (
        (ValueError("bad"), ValueError, f"rank {first}: bad"),
        (Unusual(1, 2), RuntimeError, f"rank {first}: Unusual: 1 and 2"),
        (Coded(OSError(5, "")), RuntimeError, f"rank {first}: Coded: code 5"),
        (Local("here"), RuntimeError, f"rank {first}: Local: here"),
        (KeyError("name"), KeyError, f"rank {first}: 'name'"),
    ):
        with pytest.raises(Exception) as caught:  # noqa: PT011
            with agreed(communicator()):
                if WORLD.rank in ranks:
                    raise error
        assert type(caught.value) is kind
        assert caught.value.args == (message,)


@pytest.mark.parallel([1, 2, 3])
def test_nothing_is_raised_where_nothing_is_wrong() -> None:
    with agreed(communicator()):
        done = True
    assert done
