"""The command line of the waveform inversions."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from command_line import parsed
from run_report import add_options
from seismic import Model
from waveform_unknowns import PENALTIES, PLAIN, UNKNOWNS, Smoothness

from adjoint import Operator
from adjoint.comm import size
from adjoint.solvers import Envelope, LeastSquares, NormalizedCrossCorrelation

#: What makes a misfit of a time step, by its name.
MISFITS: dict[str, Callable[[float], Operator]] = {
    "least-squares": LeastSquares,
    "cross-correlation": lambda dt: NormalizedCrossCorrelation(),
    "envelope": Envelope,
}

#: Of a wavelength, the length over which directions of a field are smoothed.
SHARE = 0.1


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
    add("--unknown", choices=UNKNOWNS, default="grid", help="a value at each node, all of them on "
        "every process (grid, the default), or each process those of its patch (field), or a "
        "network")  # fmt: skip
    usual = next(iter(MISFITS))
    add("--misfit", choices=MISFITS, default=usual, help=f"(default {usual})")
    add("--penalty", choices=PENALTIES, help="on a rough field (default none): variation keeps "
        "edges, tikhonov blurs them")  # fmt: skip
    add("--weight", type=float, metavar="α", help="of the penalty, that of a field which rises "
        f"evenly through its bounds from top to bottom (default {PLAIN.weight})")  # fmt: skip
    add("--length", type=float, metavar="M", help="over which directions of a field are smoothed, "
        f"in metres (default {SHARE:g} of a wavelength)")  # fmt: skip
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
            "--weight": lambda weight: weight is None or 0 <= weight < np.inf,
            "--length": lambda length: length is None or 0 <= length < np.inf,
            "--shot-groups": lambda groups: 1 <= groups <= size(),
            "--bands": lambda cutoffs: all(0 < cutoff < np.inf for cutoff in cutoffs),
        },
    )


def smoothness(options: argparse.Namespace, model: Model) -> Smoothness:
    """Return what the command line asks of a field besides that it fits the traces.

    Raises
    ------
    ValueError
        Where the unknown is no field.
    """
    given = {name: getattr(options, name) for name in Smoothness._fields}
    given = {name: value for name, value in given.items() if value is not None}
    if options.unknown != "field":
        if given:
            raise ValueError(f"--{next(iter(given))} is for --unknown field")
        return PLAIN
    return PLAIN._replace(**{"length": SHARE * model.wavelength, **given})
