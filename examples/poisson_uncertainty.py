"""Say how well noisy data determine a diffusivity field that a neural network represents.

    mpiexec -n 2 python -m mpi4py examples/poisson_uncertainty.py

The problem is that of poisson_inversion.py, with noise in the observations and a Gaussian prior of
the network's parameters. Gauss-Newton finds the most probable ones. There, the Hessian of the
misfit is approximated by its largest eigenvalues relative to the prior; what they leave of the
prior is the posterior, drawn as the standard deviation of κ at each node.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from command_line import add_observations, one_message, parsed
from plotting import save, subplots
from poisson_inversion import FIELDS, Inversion
from run_report import Report, add_options

from adjoint import Jacobian, Posterior, agreed
from adjoint.comm import GatherField
from adjoint.files import written_whole
from adjoint.optimize import Iteration, Result, minimize


class Prior:
    """What is known of κ beforehand: the network's unknowns are normal around the initial ones.

    Parameters
    ----------
    inversion : Inversion
    deviation : float
        Standard deviation of κ, the root of its mean square over the nodes, as the derivative of
        the network at the initial unknowns has it.
    seed : int
        Of the network.

    Attributes
    ----------
    mean : numpy.ndarray
        The initial unknowns.
    deviation : float
        Standard deviation of each of them.
    """

    def __init__(self, inversion: Inversion, deviation: float, seed: int) -> None:
        self.mean = inversion.network.initial(seed) / inversion.scale
        unit = self.unit_variance(Jacobian(inversion.kappa, self.mean))
        square = float(inversion.total(np.asarray(np.sum(unit[inversion.grid.interior(1)]))))
        self.deviation = float(deviation / np.sqrt(square / np.prod(inversion.grid.shape)))

    @staticmethod
    def unit_variance(kappa: Jacobian) -> Any:
        """Return the variance of κ at this rank's nodes where that of each unknown is 1."""
        return sum(kappa.matvec(e) ** 2 for e in np.eye(kappa.shape[1]))


def fit(
    inversion: Inversion,
    prior: Prior,
    noise: float,
    iterations: int,
    callback: Callable[[Iteration, Any], None] | None = None,
) -> Result:
    """Find the most probable unknowns.

    Notes
    -----
    ``Σ r² / σ² + |θ − θ₀|² / s²`` is minimised, times ``σ²``: it is twice the negative logarithm of
    their probability. Where five iterations together bring less than one of it, the noise does not
    tell the iterates apart.
    """
    losses: list[float] = []

    def stop(iteration: Iteration, theta: Any) -> None:
        if callback is not None:
            callback(iteration, theta)
        losses.append(iteration.loss)
        if len(losses) > 5 and losses[-6] - losses[-1] < noise**2:
            raise StopIteration

    return minimize(
        inversion.residual,
        prior.mean,
        "gauss-newton",
        options={"maxiter": iterations, "ridge": (noise / prior.deviation) ** 2},
        callback=stop,
    )


def uncertainty(
    inversion: Inversion, prior: Prior, unknowns: Any, noise: float, rank: int
) -> tuple[Posterior, dict[str, Any]]:
    """Return the posterior, and on rank 0 κ, its exact values and its standard deviations.

    Parameters
    ----------
    inversion : Inversion
    prior : Prior
    unknowns : numpy.ndarray
        The most probable ones.
    noise : float
        Standard deviation of the noise in the residual.
    rank : int
        Number of eigenvalues.
    """
    kappa, inner = Jacobian(inversion.kappa, unknowns), inversion.grid.interior(1)
    posterior = Posterior(Jacobian(inversion.residual, unknowns), prior.deviation, noise, rank)
    before = prior.deviation**2 * prior.unit_variance(kappa)
    after = posterior.variance(kappa, before)
    gather = GatherField(inversion.grid)
    fields = {
        "kappa": kappa.value, "exact": inversion.exact,
        "prior": np.sqrt(before), "posterior": np.sqrt(after),
    }  # fmt: skip
    return posterior, {name: gather(field[inner].copy()) for name, field in fields.items()}


def draw(path: Path, fields: dict[str, Any], eigenvalues: Any, title: str) -> None:
    """Draw error and standard deviations side by side, and the eigenvalues."""
    figure, axes = subplots(2, 2, figsize=(9, 7))
    error = np.abs(fields["kappa"] - fields["exact"])
    most = float(max(np.quantile(error, 0.995), np.quantile(fields["posterior"], 0.995)))
    panels = [
        ("|network κ − exact κ|", error, most),
        ("posterior standard deviation of κ", fields["posterior"], most),
        ("prior standard deviation of κ", fields["prior"], None),
    ]
    for axis, (name, values, highest) in zip(axes.flat, panels):
        image = axis.imshow(
            values.T, origin="lower", extent=(0, 1, 0, 1), cmap="viridis", vmin=0, vmax=highest
        )
        figure.colorbar(image, ax=axis, extend="neither" if highest is None else "max")
        axis.set(title=name, xlabel="x", ylabel="y")
    axis = axes[1, 1]
    axis.semilogy(np.arange(1, len(eigenvalues) + 1), eigenvalues, ".-")
    axis.axhline(1, color="k", linewidth=0.8, linestyle="--")
    axis.annotate("dashed: data and prior\nsay as much", (0.04, 0.05), xycoords="axes fraction")
    axis.set(title="eigenvalues of the Hessian relative to the prior", xlabel="number")
    axis.grid(alpha=0.3)
    figure.suptitle(title)
    save(figure, path)


def arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--size", type=int, default=60, metavar="N", help="N×N nodes (default 60)")
    add("--field", choices=FIELDS, default="bumps", help="exact κ (default bumps)")
    add_observations(parser, noise=0.01)
    add(
        "--prior",
        type=float,
        default=1.0,
        help="standard deviation of κ beforehand, averaged over the nodes (default 1)",
    )
    add("--rank", type=int, default=60, help="number of eigenvalues (default 60)")
    add("--iterations", type=int, default=100, help="of Gauss-Newton, at most (default 100)")
    add_options(parser, out="results/poisson_uncertainty")
    return parsed(
        parser,
        {
            "--noise": lambda noise: 0 < noise < np.inf,
            "--prior": lambda deviation: 0 < deviation < np.inf,
            "--rank": lambda rank: rank >= 1,
        },
    )


def main() -> None:
    with one_message(ValueError, OSError, ImportError):
        options = arguments()
        shape = (options.size, options.size)
        inversion = Inversion(shape, options.field, options.observed, options.noise, options.seed)
        if options.rank > inversion.network.n_parameters:
            raise ValueError(
                f"--rank {options.rank} is more than the {inversion.network.n_parameters} unknowns"
            )
    noise = inversion.deviation / np.sqrt(inversion.energy)
    solve = inversion.poisson.solve
    before = solve.solves
    with one_message(ValueError, OSError), Report(options, __doc__) as report:
        prior = Prior(inversion, options.prior, options.seed)
        report.draw(inversion.residual, prior.mean)
        result = fit(inversion, prior, noise, options.iterations, report.iteration)
        between = solve.solves
        posterior, fields = uncertainty(inversion, prior, result.theta, noise, options.rank)
        solves = between - before, solve.solves - between
        numbers: dict[str, str] = {}
        with agreed(inversion.grid.comm):
            if inversion.grid.rank == 0:
                numbers = write(options, posterior, fields, result, solves)
        figures = {"uncertainty.png": "The error of κ and its standard deviations"}
        report.finish([("", result)], figures, numbers)
        report.tell("result.npz")


def write(
    options: argparse.Namespace,
    posterior: Posterior,
    fields: dict[str, Any],
    result: Result,
    solves: tuple[int, int],
) -> dict[str, str]:
    """Write and draw the result on rank 0, and return how far the deviations hold."""
    error = np.abs(fields["kappa"] - fields["exact"])
    prior, after = (np.sqrt(np.mean(fields[name] ** 2)) for name in ("prior", "posterior"))
    values = posterior.eigenvalues
    with written_whole(options.out / "result.npz") as file:
        np.savez(file, **fields, eigenvalues=values, theta=result.theta)
    n, noise = options.size, 100 * options.noise
    title = f"{options.field}, {n}×{n} nodes, {noise:g} % noise"
    draw(options.out / "uncertainty.png", fields, values, title)
    rms = np.sqrt(np.mean(error**2))
    inside = [f"{100 * np.mean(error <= k * fields['posterior']):.0f} %" for k in (1, 2)]
    return {
        "misfit": f"{result.value:.3e} after {result.iterations} iterations, "
        f"{solves[0]} PDE solves",
        "eigenvalues": f"{np.sum(values > 1)} above 1, the last {values[-1]:.1e}, "
        f"{solves[1]} PDE solves",
        "κ, deviation": f"{prior:.4f} beforehand, {after:.4f} afterwards",
        "κ, error": f"{rms:.4f}, within one deviation at {inside[0]} of the nodes, two {inside[1]}",
    }


if __name__ == "__main__":
    main()
