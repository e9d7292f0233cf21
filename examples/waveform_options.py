"""The command line of the waveform inversions."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from command_line import parsed
from run_report import add_options

from adjoint.comm import size

MISFITS = ("least-squares", "cross-correlation", "envelope")


def traces_file(name: str) -> Path:
    """Return the path of a file for traces, whose ending says of which kind it is."""
    path = Path(name)
    if path.suffix.lower() not in (".npz", ".sgy", ".segy"):
        raise argparse.ArgumentTypeError(
            f"{name}: expected a name that ends in .npz, .sgy or .segy"
        )
    return path


def arguments(
    description: str | None, out: str, memory: str | None, dimensions: tuple[int, ...]
) -> argparse.Namespace:
    """Return the options of the command line, of a problem in so many dimensions."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", type=Path, metavar="FILE", help="model and survey (.npz), or a P velocity "
        "(.sgy, .segy); layers by default")  # fmt: skip
    if len(dimensions) > 1:
        add("--dimensions", type=int, choices=dimensions, default=dimensions[0],
            help=f"without --model (default {dimensions[0]})")  # fmt: skip
    else:
        parser.set_defaults(dimensions=dimensions[0])
    add("--unknown", choices=("grid", "network"), default="grid", help="(default grid)")
    add("--misfit", choices=MISFITS, default=MISFITS[0], help=f"(default {MISFITS[0]})")
    add("--bands", type=float, nargs="*", default=[], metavar="HZ", help="cutoffs of first stages")
    add("--iterations", type=int, default=40, help="of L-BFGS in each stage (default 40)")
    add("--shot-groups", type=int, default=1, metavar="G", help="groups that share the shots")
    add("--noise", type=float, default=0.0, help="relative to the traces' root mean square")
    default = memory or "all it takes"
    add("--memory", default=memory, help=f"for the reverse sweep, per process (default {default})")
    add("--seed", type=int, default=0)
    add("--save-traces", type=traces_file, metavar="FILE", help="write observed traces "
        "(.sgy, .segy, .npz)")  # fmt: skip
    add("--resume", action="store_true", help="continue the run in --out")
    add_options(parser, out)
    return parsed(
        parser,
        {
            "--shot-groups": lambda groups: 1 <= groups <= size(),
            "--bands": lambda cutoffs: all(0 < cutoff < np.inf for cutoff in cutoffs),
        },
    )
