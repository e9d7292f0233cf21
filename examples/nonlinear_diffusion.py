"""Learn how a conductivity depends on the temperature, with a network inside a nonlinear PDE.

    mpiexec -n 2 python -m mpi4py examples/nonlinear_diffusion.py

−∇·(κ(u)∇u) = f on the unit square, u = g on its boundary. The unknown is the law κ(u), a network of
one input with the layers 1-16-16-1; what is known are the temperatures u in four experiments with
different heaters f and boundaries g, at 80 % of the nodes and with noise. The network depends on
the solution of the equation that it is a part of: each evaluation solves four nonlinear systems by
Newton's method, each gradient four linear ones more.

The integral of the law over u solves a linear equation (Kirchhoff's transformation), so the
experiments determine it at all temperatures that occur, and there the error is measured.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from command_line import add_observations, one_message, parsed
from plotting import save, subplots
from run_report import Report, add_options
from scipy.ndimage import distance_transform_edt
from scipy.optimize import Bounds

from adjoint import Variable, agreed
from adjoint.comm import Allreduce, CartesianGrid, GatherField, size
from adjoint.files import written_whole
from adjoint.nn import MLP
from adjoint.optimize import Result, StateError, minimize
from adjoint.solvers import ConvergenceError, NonlinearDiffusion

if TYPE_CHECKING:
    from mpi4py import MPI

LIMITS = (0.2, 2.5)  # what is known of κ beforehand
#: So that no trial of the optimiser is a law that jumps, which no grid would resolve.
PARAMETERS = Bounds(-4.0, 4.0)


def exact_law(u: Any) -> Any:
    """Return the conductivity to be found: it rises, falls and rises again."""
    return 0.5 + np.exp(-(((u - 0.3) / 0.15) ** 2)) + 0.8 * u**2


def experiments(x: Any, y: Any) -> list[tuple[Any, Any]]:
    """Return the heater f and the temperature g on the boundary of each experiment."""
    wide = 18 * np.exp(-((x - 0.5) ** 2 + (y - 0.45) ** 2) / 0.2)
    narrow = 30 * np.exp(-((x - 0.3) ** 2 + (y - 0.65) ** 2) / 0.04)
    none = np.zeros_like(x)
    return [(wide, none), (narrow, 0.3 * y), (none, 1.0 * x), (none, (1 - x) * (1 - y))]


class Inversion:
    """The problem on this rank: experiments, data, network and the misfit to be minimised.

    Parameters
    ----------
    shape : tuple of int
        Interior nodes along each axis; ``n`` of them are ``1 / (n + 1)`` apart.
    observed : float
        Share of each patch's unknowns that is observed, at least one of them.
    noise : float
        Standard deviation of the noise, relative to the root mean square of u.
    seed : int
    comm : mpi4py.MPI.Comm, optional
        The ranks that share the problem; ``COMM_WORLD`` by default.

    Attributes
    ----------
    experiments : list of (numpy.ndarray, numpy.ndarray)
        Heater, of the patch's shape, and boundary values, of the padded patch's.
    true, data : list of numpy.ndarray, each of the patch's shape
        Temperatures, and observations of them.
    observed : numpy.ndarray of bool, shape of the patch
    starts : list of numpy.ndarray, each of the patch's shape
        Where Newton's method starts: the nearest observations.
    range : tuple of float
        Least and greatest temperature that occur.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        observed: float = 0.8,
        noise: float = 0.01,
        seed: int = 0,
        comm: MPI.Comm | None = None,
    ) -> None:
        self.grid = CartesianGrid(shape, comm)
        self.total = Allreduce(comm)
        spacing = [1 / (n + 1) for n in shape]
        ring = self.grid.coordinates(spacing, spacing, width=1)
        inner = self.grid.interior(1)
        self.experiments = [(f[inner].copy(), g) for f, g in experiments(*ring)]
        with NonlinearDiffusion(self.grid, exact_law) as exact:
            self.true = [exact(f, boundary=g, start=0.3) for f, g in self.experiments]
        ends = self.grid.comm.allgather([(u.min(), u.max()) for u in self.true])
        self.range = min(0.0, float(np.min(ends))), max(1.0, float(np.max(ends)))  # g: 0 to 1

        random = np.random.default_rng([seed, self.grid.rank])
        nodes = self.true[0]
        order = random.permutation(nodes.size).reshape(nodes.shape)
        self.observed = order < max(1, round(observed * nodes.size))
        self.data = []
        for u in self.true:
            rms = np.sqrt(self.total(np.sum(u**2)) / np.prod(shape))
            self.data.append(u + noise * rms * random.standard_normal(u.shape))
        nearest = distance_transform_edt(
            ~self.observed, return_distances=False, return_indices=True
        )
        self.starts = [d[tuple(nearest)] for d in self.data]
        self.energy = float(self.total(sum(np.sum(d[self.observed] ** 2) for d in self.data)))

        self.network = MLP((1, 16, 16, 1), domain=(self.range,), lower=LIMITS[0], upper=LIMITS[1])
        self.diffusion = NonlinearDiffusion(self.grid, self.law, max_iterations=100)

    def law(self, u: Any, theta: Any) -> Any:
        """Return the network's κ for an array of temperatures."""
        return self.network(theta, u.reshape(-1, 1)).reshape(u.shape)

    def temperatures(self, theta: Any) -> list[Any]:
        """Return u in each experiment."""
        return [
            self.diffusion(f, theta, boundary=g, start=start)
            for (f, g), start in zip(self.experiments, self.starts)
        ]

    def misfit(self, theta: Variable) -> Variable:
        """Return Σ (u − data)² / Σ data² over all experiments and observed nodes.

        Newton's method may not arrive for a trial of the optimiser that is too steep a law; it is
        rejected then.
        """
        found = self.temperatures(theta)
        terms = [
            np.sum(np.where(self.observed, u - data, 0.0) ** 2) for u, data in zip(found, self.data)
        ]
        misfit: Variable = self.total(sum(terms)) / self.energy
        return misfit

    def errors(self, theta: Any) -> tuple[float, float]:
        """Return the law's greatest relative error where temperatures occur, and in the L2 norm."""
        u = np.linspace(*self.range, 1001)
        exact = exact_law(u)
        difference = self.law(u, theta) - exact
        relative = float(np.linalg.norm(difference) / np.linalg.norm(exact))
        return float(np.abs(difference / exact).max()), relative

    def fields(self, theta: Any) -> dict[str, Any]:
        """Return the whole fields of each experiment on rank 0: true, observed, and fitted u."""
        gather = GatherField(self.grid)
        seen = [np.where(self.observed, d, np.nan) for d in self.data]
        parts = {"true": self.true, "data": seen, "u": self.temperatures(theta)}
        return {name: np.array([gather(u) for u in us]) for name, us in parts.items()}


def draw_law(path: Path, inversion: Inversion, start: Any, theta: Any, true: Any) -> None:
    """Draw the law to be found, that of the start and that of the end, and how often u occurs."""
    u = np.linspace(*inversion.range, 401)
    exact, found = exact_law(u), inversion.law(u, theta)
    figure, (above, below) = subplots(2, 1, figsize=(7, 6), sharex=True, height_ratios=(2.2, 1))
    above.plot(u, exact, "k", linewidth=4, alpha=0.3, label="exact")
    above.plot(u, found, "C0", label="learned")
    above.plot(u, inversion.law(u, start), "C1--", label="start")
    above.set(ylabel="conductivity κ(u)", ylim=(0, None), title="The law inside −∇·(κ(u)∇u) = f")
    above.grid(alpha=0.3)
    above.legend(loc="lower right")
    below.plot(u, 100 * (found / exact - 1), "C0")
    below.axhspan(-2, 2, color="C2", alpha=0.15)
    below.set(xlabel="temperature u", ylabel="error of κ in % (band: 2 %)", ylim=(-4, 4))
    below.grid(alpha=0.3)
    counts = below.twinx()
    counts.hist(true.ravel(), bins=60, range=inversion.range, color="grey", alpha=0.35)
    counts.set(ylabel="nodes with that u")
    save(figure, path)


def draw_temperatures(path: Path, fields: dict[str, Any]) -> None:
    """Draw u, its observations, and how far the fitted u is from it, for each experiment."""
    rows = fields["true"], fields["data"], fields["u"] - fields["true"]
    count = len(rows[0])
    greatest, largest = float(rows[0].max()), float(np.abs(rows[2]).max())
    figure, axes = subplots(3, count, figsize=(2.4 * count + 1.2, 7.4), sharex=True, sharey=True)
    names = "temperature u", "observations (white: none)", "fitted − true u"
    for name, line, row in zip(names, axes, rows):
        difference = row is rows[2]
        low, high = (-largest, largest) if difference else (0.0, greatest)
        colours = "RdBu_r" if difference else "inferno"
        for axis, field in zip(line, row):
            image = axis.imshow(
                field.T, origin="lower", extent=(0, 1, 0, 1), cmap=colours, vmin=low, vmax=high
            )
        line[0].set(ylabel="y")
        figure.colorbar(image, ax=line, shrink=0.9, label=name)
    for number, axis in enumerate(axes[0]):
        axis.set(title=f"experiment {number + 1}")
    for axis in axes[-1]:
        axis.set(xlabel="x")
    save(figure, path)


def arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=60, metavar="N", help="N×N nodes (default 60)")
    parser.add_argument("--iterations", type=int, default=300, help="of L-BFGS (default 300)")
    add_observations(parser, noise=0.01)
    parser.add_argument("--resume", action="store_true", help="continue the run in --out")
    add_options(parser, out="results/nonlinear")
    return parsed(parser)


def main() -> None:
    with one_message(ValueError, OSError, ImportError):
        options = arguments()
        n = options.size
        inversion = Inversion((n, n), options.observed, options.noise, options.seed)
    grid, network = inversion.grid, inversion.network
    if grid.rank == 0:
        print(
            f"{len(inversion.experiments)} experiments on {n}×{n} nodes, {size()} ranks "
            f"({grid.dims[0]}×{grid.dims[1]}), network {'-'.join(map(str, network.widths))} with "
            f"{network.n_parameters} parameters",
            flush=True,
        )
    start = network.initial(options.seed)
    with one_message(StateError, OSError), Report(options, __doc__) as report:
        report.draw(inversion.misfit, start)
        result = minimize(
            inversion.misfit,
            start,
            bounds=PARAMETERS,
            options={"maxiter": options.iterations, "maxcor": 100},
            reject=ConvergenceError,
            callback=report.iteration,
            state=options.out / "state.npz",
            resume=options.resume,
            metadata=report.metadata(size=n, observed=options.observed, noise=options.noise,
                                     seed=options.seed, ranks=size()),
        )  # fmt: skip
        fields = inversion.fields(result.theta)
        numbers: dict[str, str] = {}
        with agreed(grid.comm):
            if grid.rank == 0:
                numbers = write(options.out, inversion, start, result, fields)
        figures = {
            "law.png": "The law: exact, learned and at the start",
            "temperature.png": "u, its observations, and how far the fitted u is off",
        }
        report.finish([("", result)], figures, numbers)
        report.tell("result.npz", "network.npz", "state.npz")


def write(
    out: Path, inversion: Inversion, start: Any, result: Result, fields: dict[str, Any]
) -> dict[str, str]:
    """Write and draw the result on rank 0, and return how good it is."""
    largest, relative = inversion.errors(result.theta)
    loss = [i.loss for i in result.history]
    with written_whole(out / "result.npz") as file:
        np.savez(file, **fields, theta=result.theta, loss=loss, range=inversion.range,
                 max_error=largest, l2_error=relative)  # fmt: skip
    inversion.network.save(out / "network.npz", result.theta)
    draw_law(out / "law.png", inversion, start, result.theta, fields["true"])
    draw_temperatures(out / "temperature.png", fields)
    low, high = inversion.range
    return {
        "law, u": f"from {low:.2f} to {high:.2f}, all that occur",
        "law, max error": f"{100 * largest:.2f} %",
        "law, L2 error": f"{100 * relative:.2f} %",
    }


if __name__ == "__main__":
    main()
