"""One rank of the job that checks the programs it is sent: ``mpiexec -n 3 … tests.fuzz.worker``.

Rank 0 reads programs from its standard input, one a line, and answers each by a line with what is
wrong, or nothing, and the operators that it consisted of. Every rank that is still busy with a
program after a time prints where it is and ends the job.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import traceback

from adjoint import communicator

from .checks import check
from .faults import FAULTS
from .program import Program


def main() -> None:
    limit, name = float(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None
    fault = FAULTS[name] if name else None
    comm = communicator()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else prints does not get between the answers
    if comm.rank == 0:
        print("ready", file=answers, flush=True)
    while True:
        line = comm.bcast(sys.stdin.readline() if comm.rank == 0 else None, 0)
        if not line:
            return
        faulthandler.dump_traceback_later(limit, exit=True)
        error, operators = None, set()
        try:
            operators = check(Program.parse(line), fault)
        except Exception as raised:
            traceback.print_exc()
            error = f"{type(raised).__name__}: {raised}"
        # A rank that raised alone waits here, and the others somewhere else, until time is up.
        errors = comm.gather(error, 0)
        faulthandler.cancel_dump_traceback_later()
        if comm.rank == 0:
            first = next((text for text in errors if text is not None), None)
            print(repr((first, sorted(operators))), file=answers, flush=True)


if __name__ == "__main__":
    main()
