"""Say how well noisy data determine a diffusivity field that a neural network represents.

    mpiexec -n 2 python -m mpi4py examples/poisson_uncertainty.py

The problem is that of poisson_inversion.py, with noise in the observations. Gauss-Newton fits them as
closely as the noise allows. There, the Hessian of the misfit is approximated by its largest
eigenvalues relative to a Gaussian prior of the network's parameters; what they leave of the prior
is the posterior, drawn as the standard deviation of κ at each node.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from command_line import make_folder, one_message, parsed, require_writable
from poisson_inversion import FIELDS, Inversion

from adjoint import Jacobian, Posterior, agreed
from adjoint.comm import GatherField, size
from adjoint.files import written_whole
from adjoint.optimize import Iteration, Result, minimize


def fit(inversion: Inversion, noise: float, iterations: int, seed: int) -> Result:
    """Minimise the misfit until it is what the noise alone would leave.

    Parameters
    ----------
    inversion : Inversion
    noise : float
        Standard deviation of the noise in the residual.
    iterations : int
        At most.
    seed : int
        Of the network.
    """
    count = float(inversion.total(np.asarray(float(inversion.observed.sum()))))

    def stop(iteration: Iteration, theta: Any) -> None:
        if iteration.loss <= count * noise**2:
            raise StopIteration

    return minimize(
        inversion.residual,
        inversion.network.initial(seed) / inversion.scale,
        "gauss-newton",
        options={"maxiter": iterations},
        callback=stop,
    )


def uncertainty(
    inversion: Inversion, unknowns: Any, noise: float, prior: float, rank: int
) -> tuple[Posterior, dict[str, Any]]:
    """Return the posterior, and on rank 0 the fields ``kappa``, ``exact``, ``prior``, ``posterior``.

    Parameters
    ----------
    inversion : Inversion
    unknowns : numpy.ndarray
        Where the misfit is smallest.
    noise : float
        Standard deviation of the noise in the residual.
    prior : float
        Standard deviation of κ beforehand, the root of its mean square over the nodes. That of
        the unknowns, the same for all of them, is chosen for it.
    rank : int
        Number of eigenvalues.
    """
    kappa, inner = Jacobian(inversion.kappa, unknowns), inversion.grid.interior(1)
    unit: Any = sum(kappa.matvec(e) ** 2 for e in np.eye(unknowns.size))
    nodes = np.prod(inversion.grid.shape)
    mean = float(inversion.total(np.asarray(np.sum(unit[inner])))) / nodes
    deviation = prior / np.sqrt(mean)
    posterior = Posterior(Jacobian(inversion.residual, unknowns), deviation, noise, rank)
    before = deviation**2 * unit
    after = posterior.variance(kappa, before)
    gather = GatherField(inversion.grid)
    fields = {
        "kappa": kappa.value, "exact": inversion.exact,
        "prior": np.sqrt(before), "posterior": np.sqrt(after),
    }  # fmt: skip
    return posterior, {name: gather(field[inner].copy()) for name, field in fields.items()}


def draw(path: Path, fields: dict[str, Any], eigenvalues: Any, title: str) -> None:
    """Draw error and standard deviations side by side, and the eigenvalues."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(8.4, 7), layout="constrained")
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
    axis.annotate("above: data know more than the prior", (len(eigenvalues), 1), (0, 4),
                  textcoords="offset points", ha="right")  # fmt: skip
    axis.set(title="eigenvalues of the Hessian, relative to the prior", xlabel="number")
    axis.grid(alpha=0.3)
    figure.suptitle(title)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--size", type=int, default=60, metavar="N", help="N×N nodes (default 60)")
    add("--field", choices=FIELDS, default="bumps", help="exact κ (default bumps)")
    add("--observed", type=float, default=0.8, help="share of nodes observed (default 0.8)")
    add(
        "--noise",
        type=float,
        default=0.01,
        help="standard deviation of the noise relative to the root mean square of u (default 0.01)",
    )
    add(
        "--prior",
        type=float,
        default=1.0,
        help="standard deviation of κ beforehand, averaged over the nodes (default 1)",
    )
    add("--rank", type=int, default=60, help="number of eigenvalues (default 60)")
    add("--iterations", type=int, default=100, help="of Gauss-Newton, at most (default 100)")
    add("--seed", type=int, default=0, help="of network, observations and noise")
    add(
        "--out",
        type=Path,
        default=Path("results/poisson_uncertainty"),
        help="folder for figure and results (default results/poisson_uncertainty)",
    )
    return parsed(
        parser,
        {
            "--size": lambda nodes: nodes >= 2,
            "--observed": lambda share: 0 < share <= 1,
            "--noise": lambda noise: 0 < noise < np.inf,
            "--prior": lambda deviation: 0 < deviation < np.inf,
            "--rank": lambda rank: rank >= 1,
            "--iterations": lambda count: count >= 1,
            "--seed": lambda seed: seed >= 0,
        },
    )


def main() -> None:
    with one_message(ValueError, OSError, ImportError):
        options = arguments()
        require_writable(options.out)
        shape = (options.size, options.size)
        inversion = Inversion(shape, options.field, options.observed, options.noise, options.seed)
        make_folder(options.out)
    noise = inversion.deviation / np.sqrt(inversion.energy)
    solve = inversion.poisson.solve
    result = fit(inversion, noise, options.iterations, options.seed)
    spent = solve.solves
    with one_message(ValueError):
        posterior, fields = uncertainty(
            inversion, result.theta, noise, options.prior, options.rank
        )
    with agreed(inversion.grid.comm):
        if inversion.grid.rank == 0:
            report(options, posterior, fields, result, (spent, solve.solves - spent))


def report(
    options: argparse.Namespace,
    posterior: Posterior,
    fields: dict[str, Any],
    result: Result,
    solves: tuple[int, int],
) -> None:
    """Write and draw the result, and say how far the deviations hold; on rank 0."""
    error = np.abs(fields["kappa"] - fields["exact"])
    within = [float(np.mean(error <= k * fields["posterior"])) for k in (1, 2)]
    prior, after = (np.sqrt(np.mean(fields[name] ** 2)) for name in ("prior", "posterior"))
    values = posterior.eigenvalues
    with written_whole(options.out / "uncertainty.npz") as file:
        np.savez(file, **fields, eigenvalues=values, theta=result.theta)
    n, noise = options.size, 100 * options.noise
    title = f"{options.field}, {n}×{n} nodes on {size()} ranks, {noise:g} % noise"
    draw(options.out / "uncertainty.png", fields, values, title)
    print(f"""
misfit         {result.value:.3e} after {result.iterations} iterations, {solves[0]} PDE solves
eigenvalues    {values[0]:.2e} to {values[-1]:.2e}, {np.sum(values > 1)} above 1, {solves[1]} PDE solves
κ, deviation   {prior:.4f} beforehand, {after:.4f} afterwards
κ, error       {np.sqrt(np.mean(error**2)):.4f}, within one deviation at {100 * within[0]:.1f} % of the nodes, within two at {100 * within[1]:.1f} %
figure         {options.out / "uncertainty.png"}
results        {options.out / "uncertainty.npz"}
""")


if __name__ == "__main__":
    main()
