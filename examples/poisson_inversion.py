"""Learn a diffusivity field with a neural network inside a distributed PDE solve.

    mpiexec -n 4 python -m mpi4py examples/poisson_inversion.py

−∇·(κ∇u) = f on the unit square, u = 0 on its boundary. The unknown κ is a network with the layers
2-20-20-20-1; it is trained so that u meets observations at 80 % of the nodes. The network's
parameters live on rank 0 and are broadcast, every rank evaluates the network at the nodes of its
patch, all ranks solve for u together, and the misfit is summed: each step an operator with an
adjoint. This is section 4.2 of Xu, Zhu and Darve, https://doi.org/10.48550/arXiv.2011.01349.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import numpy as np
from command_line import add_extent, add_observations, extent, one_message, parsed
from plotting import draw_fields
from run_report import Report, add_options

from adjoint import Variable, agreed
from adjoint.comm import Allreduce, CartesianGrid, size, thumbnail, write_field
from adjoint.files import written_whole
from adjoint.nn import MLP
from adjoint.optimize import Composite, Result, StateError, minimize
from adjoint.solvers import Poisson

if TYPE_CHECKING:
    from mpi4py import MPI

FIELDS = ("bumps", "quadratic")
BOUNDS = (0.5, 4.0)  # what is known of κ beforehand

#: What each method is given, and how many iterations it makes if nothing else is said.
METHODS: dict[str, dict[str, Any]] = {
    "l-bfgs-b": {"maxiter": 400, "maxcor": 400},
    "gauss-newton": {"maxiter": 100},
}


def exact_kappa(field: str, x: Any, y: Any) -> Any:
    """Return the diffusivity to be found."""
    if field == "quadratic":
        return 1 + x**2 + y**2
    return 1.5 + 0.4 * np.sin(2 * np.pi * x) * np.sin(2 * np.pi * y)


def source(field: str, x: Any, y: Any) -> Any:
    """Return f; for ``quadratic`` the one that makes u = x(1−x)y(1−y)."""
    if field == "quadratic":
        p, q = x * (1 - x), y * (1 - y)
        flux = 2 * x * (1 - 2 * x) * q + 2 * y * (1 - 2 * y) * p  # ∇κ·∇u
        return -flux + 2 * exact_kappa(field, x, y) * (p + q)
    return np.ones_like(x)


class Inversion:
    """The problem on this rank: geometry, data, network and the misfit to be minimised.

    Parameters
    ----------
    shape : tuple of int
        Interior nodes along each axis; ``n`` of them are ``1 / (n + 1)`` apart.
    field : str
        Which exact κ is to be found: ``"bumps"`` or ``"quadratic"``.
    observed : float
        Share of each patch's unknowns that is observed, at least one of them.
    noise : float
        Standard deviation of the noise, relative to the root mean square of u.
    seed : int
    comm : mpi4py.MPI.Comm, optional
        The ranks that share the problem; ``COMM_WORLD`` by default.

    Attributes
    ----------
    points : numpy.ndarray, shape (padded nodes, 2)
        Where the network is evaluated: the nodes of the patch and one ring around it.
    observed : numpy.ndarray of bool, shape of the patch
    data : numpy.ndarray, shape of the patch
        Observations of u.
    deviation, energy : float
        Standard deviation of their noise, and the sum of their squares.
    scale : numpy.ndarray, shape (parameters,)
        Parameters per unit of the optimiser's unknowns.
    residual : Composite
        From the unknowns to κ, and from κ to this patch's residuals.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        field: str = "bumps",
        observed: float = 0.8,
        noise: float = 0.0,
        seed: int = 0,
        comm: MPI.Comm | None = None,
    ) -> None:
        self.field = field
        self.grid = CartesianGrid(shape, comm)
        spacing = [1 / (n + 1) for n in shape]
        self.poisson = Poisson(self.grid, spacing)
        self.network = MLP(
            (2, 20, 20, 20, 1), domain=((0, 1), (0, 1)), lower=BOUNDS[0], upper=BOUNDS[1]
        )
        self.scale = typical(self.network)
        self.source = np.asarray(source(field, *self.grid.coordinates(spacing, spacing)))
        ring = self.grid.coordinates(spacing, spacing, width=1)
        self.points = np.stack([c.ravel() for c in ring], axis=1)
        self.exact = np.asarray(exact_kappa(field, *ring))

        u = self.poisson(self.exact, self.source)
        self.total = Allreduce(comm)
        rms = np.sqrt(self.total(np.sum(u**2)) / np.prod(shape))
        random = np.random.default_rng([seed, self.grid.rank])
        order = random.permutation(u.size).reshape(u.shape)
        self.observed = order < max(1, round(observed * u.size))
        self.deviation = float(noise * rms)
        self.data = u + self.deviation * random.standard_normal(u.shape)
        self.energy = float(self.total(np.sum(self.data[self.observed] ** 2)))
        self.residual = Composite(self.kappa, self.difference)

    def kappa(self, unknowns: Any) -> Any:
        """Return the network's diffusivity at the nodes of the padded patch."""
        theta = self.scale * unknowns
        return self.network(theta, self.points).reshape(self.grid.padded_shape(1))

    def difference(self, kappa: Any) -> Any:
        """Return ``(u − data) / √(Σ data²)`` where u is observed, and zero elsewhere."""
        u = self.poisson(kappa, self.source)
        return np.where(self.observed, u - self.data, 0.0) / np.sqrt(self.energy)

    def misfit(self, unknowns: Variable) -> Variable:
        """Return Σ (u − data)² / Σ data² over all observed nodes."""
        misfit: Variable = self.total(np.sum(self.residual(unknowns) ** 2))
        return misfit

    def fields(self, unknowns: Any) -> dict[str, Any]:
        """Return the fields in this rank's patch: κ found and exact, and the solution."""
        inner = self.grid.interior(1)
        kappa = self.kappa(unknowns)
        return {
            "kappa": kappa[inner],
            "exact": self.exact[inner],
            "u": self.poisson(kappa, self.source),
        }


def typical(network: MLP) -> Any:
    """Return the size of each parameter in the units of the optimiser's unknowns.

    L-BFGS begins with the same step for all unknowns. The layers between the hidden ones may move
    further than the others before the field changes as much, so theirs are made larger; this
    halves the error that is left after 400 iterations.
    """
    scale = np.ones(network.n_parameters)
    for name, view in network.views(scale).items():
        if 0 < int(name[1:]) < len(network.widths) - 2:
            view[...] = 2
    return scale


def errors(inversion: Inversion, kappa: Any) -> tuple[float, float]:
    """Return the greatest error of κ and its relative error in the L2 norm, over all ranks."""
    exact = inversion.exact[inversion.grid.interior(1)]
    difference = kappa - exact
    largest = max(inversion.grid.comm.allgather(float(np.abs(difference).max())))
    wrong, whole = inversion.total(np.array([np.sum(difference**2), np.sum(exact**2)]))
    return largest, float(np.sqrt(wrong / whole))


def arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_extent(parser, patch=300)
    parser.add_argument("--field", choices=FIELDS, default="bumps", help="exact κ (default bumps)")
    parser.add_argument("--method", choices=[*METHODS], default="l-bfgs-b", help="default l-bfgs-b")
    parser.add_argument(
        "--iterations",
        type=int,
        help="of the method (default 400 of L-BFGS, 100 of Gauss-Newton)",
    )
    add_observations(parser, noise=0.0)
    parser.add_argument("--resume", action="store_true", help="continue the run in --out")
    add_options(parser, out="results/poisson")
    return parsed(parser)


def main() -> None:
    with one_message(ValueError, OSError, ImportError):
        options = arguments()
        shape = extent(options)
        inversion = Inversion(shape, options.field, options.observed, options.noise, options.seed)
    grid = inversion.grid
    if grid.rank == 0:
        print(
            f"κ = {options.field}, {shape[0]}×{shape[1]} nodes on {size()} ranks "
            f"({grid.dims[0]}×{grid.dims[1]}), network 2-20-20-20-1 with "
            f"{inversion.network.n_parameters} parameters",
            flush=True,
        )
    with one_message(StateError, OSError), Report(options, __doc__) as report:
        settings = dict(METHODS[options.method])
        settings["maxiter"] = options.iterations or settings["maxiter"]
        first = inversion.network.initial(options.seed) / inversion.scale
        report.draw(inversion.misfit, first)
        before = inversion.poisson.solve.solves
        result = minimize(
            inversion.residual if options.method == "gauss-newton" else inversion.misfit,
            first,
            options.method,
            options=settings,
            callback=report.iteration,
            state=options.out / "state.npz",
            resume=options.resume,
            metadata=report.metadata(field=options.field, shape=shape, observed=options.observed,
                                     noise=options.noise, seed=options.seed, ranks=size()),
        )  # fmt: skip
        solves = inversion.poisson.solve.solves - before
        numbers = {"PDE solves": f"{solves}", **write(options, inversion, result)}
        report.finish([("", result)], {"kappa.png": "κ: exact, found, and the difference"}, numbers)
        report.tell("kappa.npy", "exact.npy", "u.npy", "result.npz", "network.npz", "state.npz")


def write(options: argparse.Namespace, inversion: Inversion, result: Result) -> dict[str, str]:
    """Write and draw the result, and return how good it is; collective.

    Every rank writes its part of the fields; what is drawn is a thumbnail.
    """
    out, grid = options.out, inversion.grid
    fields = inversion.fields(result.theta)
    largest, relative = errors(inversion, fields["kappa"])
    for name, patch in fields.items():
        write_field(out / f"{name}.npy", grid, patch)
    exact, found = (thumbnail(grid, fields[name]) for name in ("exact", "kappa"))
    with agreed(grid.comm):
        if grid.rank == 0:
            theta = inversion.scale * result.theta
            loss = [i.loss for i in result.history]
            with written_whole(out / "result.npz") as file:
                np.savez(file, theta=theta, loss=loss, max_error=largest, l2_error=relative)
            inversion.network.save(out / "network.npz", theta)
            n, m = grid.shape
            title = f"{options.field}, {n}×{m} nodes on {grid.size} ranks (dashed: patches)"
            draw_fields(out / "kappa.png", exact, found, grid, title, "network")
    return {"κ, max error": f"{largest:.4f}", "κ, L2 error": f"{100 * relative:.3f} %"}


if __name__ == "__main__":
    main()
