"""Programs as scripts that anybody can run again."""

from __future__ import annotations

from .program import Program


def script(program: Program, fault: str | None = None, error: str | None = None) -> str:
    """Return a script that checks a program.

    Parameters
    ----------
    program : Program
    fault : str, optional
        Name of the operator that was wrong on purpose.
    error : str, optional
        What was wrong, as a comment.
    """
    comment = "".join(f"# {line}\n" for line in (error or "").splitlines()[:40])
    extra = ["from tests.fuzz.faults import FAULTS"] if fault else []
    imports = ["from tests.fuzz.checks import check", *extra]
    imports.append("from tests.fuzz.program import Program, Step")
    argument = f", FAULTS[{fault!r}]" if fault else ""
    return "\n".join(
        [
            "# In the top folder of the repository:",
            f"# PYTHONPATH=. mpiexec -n {program.ranks} .venv/bin/python -m mpi4py THIS_FILE",
            f"{comment}",
            *imports,
            "",
            f"program = {program.text()}",
            f"check(program{argument})",
            "",
        ]
    )


def size_of(program: Program) -> tuple[int, int]:
    """Return what is to be small: the number of steps, then that of characters."""
    return len(program.steps), len(program.text())
