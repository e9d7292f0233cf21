"""The command line of the waveform inversions."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from adjoint import communicator
from adjoint.comm import rank, size

MISFITS = ("least-squares", "cross-correlation", "envelope")


@contextlib.contextmanager
def one_message(program: str) -> Iterator[None]:
    """End all ranks with one line of rank 0 where what the user gave is refused.

    The first rank to end ends the job, so the others wait until rank 0 has printed; not for ever,
    for a fault that only some ranks find must not block them.
    """
    try:
        yield
        return
    except (ValueError, OSError, ImportError) as error:
        code: str | int | None = 2
        if rank() == 0:
            print(f"{program}: error: {error}", file=sys.stderr, flush=True)
    except SystemExit as end:
        code = end.code
    printed = communicator().Ibarrier()
    patience = time.monotonic() + 3
    while not printed.Test() and time.monotonic() < patience:
        time.sleep(0.01)
    sys.exit(code)


def require_writable(folder: Path) -> None:
    """Raise where a folder cannot be made or written in; leave nothing behind."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise NotADirectoryError(f"--out {folder}: {there} is not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(f"--out {folder}: no permission to write in {there}")


def arguments(description: str | None, out: str, memory: str | None) -> argparse.Namespace:
    """Parse the command line; of all ranks, rank 0 alone prints what is wrong with it."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", type=Path, metavar="FILE", help="model and survey (.npz), or a P velocity "
        "(.sgy, .segy); layers by default")  # fmt: skip
    add("--unknown", choices=("grid", "network"), default="grid", help="(default grid)")
    add("--misfit", choices=MISFITS, default=MISFITS[0], help=f"(default {MISFITS[0]})")
    add("--bands", type=float, nargs="*", default=[], metavar="HZ", help="cutoffs of first stages")
    add("--iterations", type=int, default=40, help="of L-BFGS in each stage (default 40)")
    add("--shot-groups", type=int, default=1, metavar="G", help="groups that share the shots")
    add("--noise", type=float, default=0.0, help="relative to the traces' root mean square")
    default = memory or "all it takes"
    add("--memory", default=memory, help=f"for the reverse sweep, per process (default {default})")
    add("--seed", type=int, default=0)
    add("--out", type=Path, default=Path(out), help=f"folder for results (default {out})")
    add(
        "--save-traces", type=Path, metavar="FILE", help="write observed traces (.sgy, .segy, .npz)"
    )
    add("--resume", action="store_true", help="continue the run in --out")
    silent = contextlib.redirect_stderr(io.StringIO()) if rank() else contextlib.nullcontext()
    quiet = contextlib.redirect_stdout(io.StringIO()) if rank() else contextlib.nullcontext()
    with silent, quiet:
        options = parser.parse_args()
        for name, fault in {
            "--iterations": options.iterations < 1,
            "--shot-groups": not 1 <= options.shot_groups <= size(),
            "--noise": not 0 <= options.noise < np.inf,
            "--bands": any(not 0 < cutoff < np.inf for cutoff in options.bands),
            "--seed": options.seed < 0,
        }.items():
            if fault:
                value = getattr(options, name.strip("-").replace("-", "_"))
                parser.error(f"{name} {value} is out of range")
        kinds = (".npz", ".sgy", ".segy")
        if options.save_traces and options.save_traces.suffix.lower() not in kinds:
            parser.error(f"--save-traces {options.save_traces}: expected a name that ends in "
                         ".npz, .sgy or .segy")  # fmt: skip
    return options
