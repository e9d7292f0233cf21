"""The command line that the examples share: what the user gave, and one message where it is bad."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from adjoint import agreed, communicator
from adjoint.comm import CartesianGrid

#: Seconds that a rank waits for rank 0's message before it prints its own.
PATIENCE = 4.0

#: What values are in range, of options that several programs have.
LIMITS: dict[str, Callable[[Any], bool]] = {
    "--patch": lambda nodes: nodes >= 2,
    "--size": lambda nodes: nodes is None or nodes >= 2,
    "--iterations": lambda count: count is None or count >= 1,
    "--observed": lambda share: 0 < share <= 1,
    "--noise": lambda noise: 0 <= noise < math.inf,
    "--seed": lambda seed: seed >= 0,
}


def parsed(
    parser: argparse.ArgumentParser, limits: Mapping[str, Callable[[Any], bool]] | None = None
) -> argparse.Namespace:
    """Parse the command line on rank 0, and give all ranks its options or its end.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    limits : dict, optional
        For the names of options, ``"--steps"``, what values of theirs are in range, beside or
        instead of :data:`LIMITS`.

    Raises
    ------
    OSError
        If there is an option ``--out`` and its folder cannot be made or written in.
    """
    world = communicator()
    found: Any = None
    if world.rank == 0:
        try:
            found = parser.parse_args()
            for name, in_range in {**LIMITS, **(limits or {})}.items():
                option = name.strip("-").replace("-", "_")
                if option in found and not in_range(getattr(found, option)):
                    parser.error(f"{name} {getattr(found, option)} is out of range")
        except SystemExit as end:
            found = end.code
            sys.stderr.flush()
    # The first rank to end may end the job: none does so before rank 0 has printed.
    found = world.bcast(found)
    if not isinstance(found, argparse.Namespace):
        sys.exit(found)
    if "out" in found:
        require_writable(found.out)
    return found


def add_extent(parser: argparse.ArgumentParser, patch: int) -> None:
    """Add the options that say how many nodes there are: a patch a rank, or all of them."""
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--patch",
        type=int,
        default=patch,
        metavar="P",
        help=f"each rank a patch of P×P nodes (default {patch})",
    )
    either.add_argument(
        "--size", type=int, metavar="N", help="N×N nodes in all, on any number of ranks"
    )


def add_observations(parser: argparse.ArgumentParser, noise: float) -> None:
    """Add the options that say how a network is to be learned: from which values of u."""
    add = parser.add_argument
    add("--observed", type=float, default=0.8,
        help="share of each patch's unknowns that is observed (default 0.8)")  # fmt: skip
    add("--noise", type=float, default=noise, help="standard deviation of the noise relative to "
        f"the root mean square of u (default {noise:g})")  # fmt: skip
    add("--seed", type=int, default=0, help="of network, observations and noise")


def extent(options: argparse.Namespace) -> tuple[int, int]:
    """Return the nodes along each axis; collective."""
    if options.size is not None:
        return options.size, options.size
    dims = CartesianGrid((2**20,) * 2).dims
    return dims[0] * options.patch, dims[1] * options.patch


@contextlib.contextmanager
def one_message(*kinds: type[Exception]) -> Iterator[None]:
    """End all ranks with one line of rank 0 where an exception says what the user can mend.

    Parameters
    ----------
    *kinds
        Of exceptions; all others pass.
    """
    try:
        yield
    except kinds as error:
        message = f"{Path(sys.argv[0]).name}: error: {error}"
    else:
        return
    if communicator().rank == 0:
        print(message, file=sys.stderr, flush=True)
    # The first rank to end ends the job, so the others wait until rank 0 has printed; not for ever,
    # for a fault that only some ranks find must not block them.
    printed = communicator().Ibarrier()
    patience = time.monotonic() + PATIENCE
    while not printed.Test() and time.monotonic() < patience:
        time.sleep(0.01)
    if not printed.Test() and communicator().rank:
        print(message, file=sys.stderr, flush=True)
    sys.exit(2)


def require_writable(folder: Path) -> None:
    """Raise on all ranks where a folder cannot be made or written in; leave nothing behind."""
    world = communicator()
    with agreed(world):
        if world.rank:
            return
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not there.is_dir():
            raise NotADirectoryError(f"--out {folder}: {there} is not a folder")
        if not os.access(there, os.W_OK | os.X_OK):
            raise PermissionError(f"--out {folder}: no permission to write in {there}")


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; where that fails, raise on all ranks."""
    world = communicator()
    with agreed(world):
        if world.rank == 0:
            folder.mkdir(parents=True, exist_ok=True)
