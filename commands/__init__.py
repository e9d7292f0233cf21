"""What ``python -m adjoint`` can do. Programs on top of the library; nothing imports them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the command line by default.
    """
    parser = argparse.ArgumentParser(prog="python -m adjoint", description=__doc__.split(".")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser(
        "doctor",
        help="say what is installed, whether it works here, and how to mend what does not",
        description="Also under mpiexec: mpiexec -n 4 python -m adjoint doctor. Ends with 1 where "
        "there is a fault.",
    )
    examples = commands.add_parser("examples", help="list the example programs, or copy one out")
    examples.add_argument("name", nargs="?", help="of the example to copy")
    examples.add_argument(
        "--to", type=Path, default=Path(), metavar="FOLDER", help="(default: the present one)"
    )
    options = parser.parse_args(arguments)
    if options.command == "doctor":
        from .doctor import doctor

        return doctor()
    from .examples import copy_example, listed

    if options.name is None:
        print(listed())
        return 0
    try:
        print(copy_example(options.name, options.to))
    except (LookupError, OSError) as error:
        parser.exit(2, f"{parser.prog}: error: {error}\n")
    return 0
