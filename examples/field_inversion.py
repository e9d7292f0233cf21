"""Find a diffusivity at every node, with jumps, each process holding its own part of it.

    mpiexec -n 2 python -m mpi4py examples/field_inversion.py

−∇·(κ∇u) = 2 on the unit square. In a first experiment u = x on the boundary, in a second u = y; in
both, u is observed with noise at a part of the nodes. κ is unknown at every node, between bounds,
and what the observations leave open is settled by a penalty: the total variation, which keeps
edges, or Tikhonov's, which blurs them. No process holds more than its own patch: the optimiser's
vectors, its state and the result are distributed, and the figure shows every so many-th node.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import numpy as np
from command_line import add_extent, extent, one_message, parsed
from plotting import draw_fields
from run_report import Report, add_options

from adjoint import Variable, agreed
from adjoint.comm import (
    Allreduce,
    CartesianGrid,
    ContinueEdges,
    HaloExchange,
    size,
    thumbnail,
    write_field,
)
from adjoint.files import written_whole
from adjoint.optimize import Result, StateError
from adjoint.solvers import InnerProduct, Poisson, Tikhonov, TotalVariation, minimize_field

if TYPE_CHECKING:
    from mpi4py import MPI

BOUNDS = (0.3, 4.0)  # what is known of κ beforehand
BACKGROUND = 1.0

#: Weight of the penalty by its name; the misfit of data that are met up to their noise is 1/2.
WEIGHTS = {"variation": 0.3, "tikhonov": 0.01}

#: Gradients of κ below it are not penalised as edges; one in a unit square is far steeper.
GENTLE = 0.5

#: Length over which directions are smoothed, so that iterations do not grow with the grid.
LENGTH = 0.01


def exact_kappa(x: Any, y: Any) -> Any:
    """Return the diffusivity to be found: a disc, a bar and an L in a background of one."""
    kappa = np.full(np.broadcast(x, y).shape, BACKGROUND)
    kappa[(x - 0.3) ** 2 + (y - 0.68) ** 2 < 0.15**2] = 2.5
    kappa[(abs(x - 0.7) < 0.17) & (abs(y - 0.75) < 0.05)] = 0.5
    corner = (x > 0.5) & (x < 0.85) & (y > 0.15) & (y < 0.5)
    kappa[corner & ~((x > 0.65) & (y > 0.3))] = 2.0
    return kappa


class Inversion:
    """The problem on this rank: geometry, data, penalty and the misfit to be minimised.

    Parameters
    ----------
    shape : tuple of int
        Nodes along each axis, ``1 / (n + 1)`` apart.
    penalty : str
        ``"variation"`` or ``"tikhonov"``.
    weight : float
        Of the penalty.
    observed : float
        Share of the nodes at which u is observed.
    noise : float
        Standard deviation of the noise; u rises by 1 across the square.
    seed : int
    comm : mpi4py.MPI.Comm, optional
        The ranks that share the problem; ``COMM_WORLD`` by default.

    Raises
    ------
    ValueError
        If no node is observed.

    Attributes
    ----------
    exact : numpy.ndarray, shape of the patch
    observed : numpy.ndarray of bool, shape of the patch
    data : list of numpy.ndarray, shape of the patch
        Observations of u in both experiments.
    inner : InnerProduct
        In which a gradient is made a direction.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        penalty: str = "variation",
        weight: float | None = None,
        observed: float = 0.3,
        noise: float = 1e-3,
        seed: int = 0,
        comm: MPI.Comm | None = None,
    ) -> None:
        self.grid = grid = CartesianGrid(shape, comm)
        spacing = [1 / (n + 1) for n in shape]
        self.poisson = Poisson(grid, spacing, rtol=1e-9)
        self.halo, self.edges, self.total = HaloExchange(grid), ContinueEdges(grid), Allreduce(comm)
        ring = grid.coordinates(spacing, spacing, width=1)
        self.boundary = [np.array(c) for c in ring]
        self.source = np.full(grid.patch_shape, 2.0)
        alpha = WEIGHTS[penalty] if weight is None else weight
        self.penalty: TotalVariation | Tikhonov
        if penalty == "variation":
            self.penalty = TotalVariation(grid, spacing, alpha, epsilon=GENTLE)
        else:
            self.penalty = Tikhonov(grid, spacing, alpha)
        self.inner = InnerProduct(grid, spacing, LENGTH)
        self.start = np.full(grid.patch_shape, BACKGROUND)
        self.exact = np.asarray(exact_kappa(*grid.coordinates(spacing, spacing)))
        self.observed, errors = drawn(grid, observed, seed)
        self.noise = noise
        clean = self.experiments(self.edges(self.halo(self.exact)))
        self.data = [u + noise * error for u, error in zip(clean, errors)]
        count = float(self.total(np.array(2.0 * self.observed.sum())))
        if not count:
            raise ValueError(
                f"a share of {observed} leaves none of the {shape[0]}×{shape[1]} nodes observed"
            )
        self.weights = self.observed / (noise**2 * count)

    def experiments(self, kappa: Any) -> list[Any]:
        """Return u of both experiments, of κ at the nodes of the padded patch."""
        return [self.poisson(kappa, self.source, g) for g in self.boundary]

    def misfit(self, kappa: Variable) -> Variable:
        """Return ½ mean((u − d)² / σ²) and the penalty, for κ in this rank's patch."""
        padded = self.halo(kappa)
        share: Any = self.penalty(padded)
        for u, data in zip(self.experiments(self.edges(padded)), self.data):
            share = share + 0.5 * (self.weights * (u - data) ** 2).sum()
        misfit: Variable = self.total(share)
        return misfit

    def error(self, kappa: Any) -> float:
        """Return the relative error of κ in the L² norm."""
        sums = np.array([np.sum((kappa - self.exact) ** 2), np.sum(self.exact**2)])
        wrong, whole = self.total(sums)
        return float(np.sqrt(wrong / whole))


def drawn(grid: CartesianGrid, share: float, seed: int) -> tuple[Any, list[Any]]:
    """Return which nodes of the patch are observed, and two fields of standard normal numbers.

    They are drawn row by row of the whole grid, so that they do not depend on the ranks.
    """
    observed = np.empty(grid.patch_shape, bool)
    errors = np.empty((2, *grid.patch_shape))
    columns = slice(grid.start[1], grid.stop[1])
    for i in range(grid.patch_shape[0]):
        random = np.random.default_rng([seed, grid.start[0] + i])
        observed[i] = random.random(grid.shape[1])[columns] < share
        errors[:, i] = random.standard_normal((2, grid.shape[1]))[:, columns]
    return observed, [*errors]


def arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_extent(parser, patch=150)
    parser.add_argument("--penalty", choices=WEIGHTS, default="variation",
                        help="variation keeps edges (default), tikhonov blurs them")  # fmt: skip
    parser.add_argument("--weight", type=float, metavar="α",
                        help=f"of the penalty (default {WEIGHTS})")  # fmt: skip
    parser.add_argument("--iterations", type=int, default=150, help="of L-BFGS (default 150)")
    parser.add_argument("--observed", type=float, default=0.3,
                        help="share of the nodes at which u is observed (default 0.3)")  # fmt: skip
    parser.add_argument("--noise", type=float, default=1e-3,
                        help="standard deviation, where u rises by 1 (default 0.001)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of observations and noise")
    add_options(parser, out="results/field")
    parser.add_argument("--resume", action="store_true",
                        help="continue the run in --out, on any number of processes")  # fmt: skip
    return parsed(
        parser,
        {
            "--weight": lambda weight: weight is None or 0 <= weight < np.inf,
            "--noise": lambda noise: 0 < noise < np.inf,
        },
    )


def main() -> None:
    with one_message(ValueError, OSError, ImportError):
        options = arguments()
        shape = extent(options)
        inversion = Inversion(
            shape, options.penalty, options.weight, options.observed, options.noise, options.seed
        )  # fmt: skip
    grid = inversion.grid
    if grid.rank == 0:
        print(
            f"κ at {shape[0]}×{shape[1]} nodes on {size()} ranks ({grid.dims[0]}×{grid.dims[1]}), "
            f"penalty {inversion.penalty}",
            flush=True,
        )
    with one_message(StateError, OSError), Report(options, __doc__) as report:
        report.draw(inversion.misfit, inversion.start)
        result = minimize_field(
            inversion.misfit,
            inversion.start,
            grid,
            bounds=BOUNDS,
            inner=inversion.inner,
            options={"maxiter": options.iterations},
            callback=report.iteration,
            state=options.out / "state.npz",
            every=25,
            resume=options.resume,
            metadata=report.metadata(penalty=str(inversion.penalty), observed=options.observed,
                                     noise=options.noise, seed=options.seed),
        )  # fmt: skip
        numbers = write(options, inversion, result)
        report.finish([("", result)], {"kappa.png": "κ: exact, found, and the difference"}, numbers)
        report.tell("kappa.npy", "result.npz", "state.npz")


def write(options: argparse.Namespace, inversion: Inversion, result: Result) -> dict[str, str]:
    """Write and draw the result, and return how good it is; collective."""
    out, grid = options.out, inversion.grid
    write_field(out / "kappa.npy", grid, result.theta)
    error, before = inversion.error(result.theta), inversion.error(inversion.start)
    exact, found = (thumbnail(grid, field) for field in (inversion.exact, result.theta))
    with agreed(grid.comm):
        if exact is not None and found is not None:  # on rank 0
            with written_whole(out / "result.npz") as file:
                np.savez(file, loss=[i.loss for i in result.history], error=error,
                         start_error=before, found=found, exact=exact)  # fmt: skip
            penalty = {"variation": "total variation", "tikhonov": "Tikhonov"}[options.penalty]
            nodes = "×".join(map(str, grid.shape))
            title = f"penalty: {penalty}; {nodes} unknowns, ranks: {grid.size} (dashed: patches)"
            draw_fields(out / "kappa.png", exact, found, grid, title, "found")
    return {
        "misfit": f"{result.history[0].loss:.4f} → {result.value:.4f} (noise alone: 0.5, and the "
        "penalty)",
        "κ, L2 error": f"{100 * before:.2f} % → {100 * error:.2f} %",
        "memory": f"{result.history[-1].memory / 1e6:.0f} MB, the largest rank",
    }


if __name__ == "__main__":
    main()
