"""An inversion of the examples, small, that faults are put to.

    mpiexec -n 2 python -m mpi4py tests/faults/program.py poisson FOLDER

Its state is written at every iteration. All that is observed belongs to the problem, not to the
decomposition, so that it may be continued on another number of ranks.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from adjoint import Variable, communicator
from adjoint.comm import rank
from adjoint.optimize import minimize
from adjoint.solvers import minimize_field


def poisson() -> tuple[Any, Any, Any]:
    """Return misfit, start and bounds of a diffusivity that is a network."""
    from examples.poisson_inversion import Inversion

    inversion = Inversion((14, 11), observed=1.0)
    return inversion.misfit, inversion.network.initial(0) / inversion.scale, None


def acoustic() -> tuple[Any, Any, Any]:
    """Return misfit, start and bounds of a velocity."""
    from acoustic_inversion import AcousticInversion
    from seismic import Model

    from adjoint.solvers import ricker

    spacing, dt, steps = 18.0, 3e-3, 90
    z, x = np.mgrid[:8, :13] * spacing
    start = 1800 + 1.5 * z
    true = start + 250 * np.exp(-((z - 90) ** 2 + (x - 130) ** 2) / 2 / 50**2)
    model = Model(
        true={"vp": true}, start={"vp": start}, mask=z > 30, spacing=spacing, dt=dt,
        sources=np.array([[20.0, 60.0], [20.0, 190.0]]),
        receivers=np.stack([np.full(6, 20.0), np.linspace(20, 200, 6)], axis=1),
        wavelet=ricker(dt * np.arange(steps), 8.0), peak_frequency=8.0,
    )  # fmt: skip
    inversion = AcousticInversion(model)
    return inversion.misfit, inversion.first, inversion.bounds


def field() -> tuple[Any, Any, Any, Any]:
    """Return misfit, start and bounds of a diffusivity at every node, and their grid."""
    from examples.field_inversion import BOUNDS, Inversion

    inversion = Inversion((14, 11), observed=1.0)
    return inversion.misfit, inversion.start, BOUNDS, inversion.grid


def prepared(problem: str) -> tuple[Any, Callable[..., Any]]:
    """Return the misfit of a problem, and what minimises a misfit from the problem's start."""
    if problem == "field":
        misfit, start, bounds, grid = field()
        return misfit, partial(minimize_field, theta0=start, grid=grid, bounds=bounds)
    misfit, start, bounds = {"poisson": poisson, "acoustic": acoustic}[problem]()
    return misfit, partial(minimize, theta0=start, bounds=bounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("problem", choices=("poisson", "acoustic", "field"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--iterations", type=int, default=12)
    parser.add_argument("--pause", type=float, default=0.02, help="seconds before an evaluation")
    parser.add_argument("--seed", type=int, default=0, help="another run than that of 0")
    parser.add_argument("--file-size", type=int, help="bytes that a file may have from now on")
    options = parser.parse_args()
    misfit, minimised = prepared(options.problem)
    if options.file_size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (options.file_size, resource.RLIM_INFINITY))

    def paced(theta: Variable) -> Any:
        time.sleep(options.pause)
        return misfit(theta)

    result = minimised(
        paced, options={"maxiter": options.iterations}, state=options.folder / "state.npz",
        every=1, resume=True, metadata={"seed": options.seed},
    )  # fmt: skip
    parts = communicator().gather(result.theta.tobytes().hex())
    if rank() == 0:
        print("end", *parts, flush=True)


if __name__ == "__main__":
    main()
