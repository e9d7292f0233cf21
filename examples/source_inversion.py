"""Find where, how much and when a contaminant entered a flow, from the series of a few sensors.

    mpiexec -n 2 python -m mpi4py examples/source_inversion.py

∂c/∂t + v·∇c − ∇·(κ∇c) = w(t) s(x) in a basin of 1 km × 1 km with a known flow: a gyre between
closed walls, or a channel. The unknown is s ≥ 0, a value at every node or a network; with --course
sought, w(t) as well. It is found from the concentrations that sensors record once a minute, which
were computed with half the time step. Every evaluation is a time loop of implicit steps, every
gradient one more with the transposed matrix; the whole inversion takes two preconditioners.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import numpy as np
from basin import (
    DURATION,
    FLOWS,
    KAPPA,
    LENGTH,
    STRENGTH,
    exact_course,
    exact_source,
    velocity,
)
from command_line import one_message, parsed
from run_report import Report, add_options
from source_figures import draw

from adjoint import Variable, agreed
from adjoint.comm import Allreduce, CartesianGrid, GatherField, size
from adjoint.files import written_whole
from adjoint.nn import MLP
from adjoint.optimize import Result, StateError, minimize
from adjoint.solvers import AdvectionDiffusion

if TYPE_CHECKING:
    from mpi4py import MPI

SMOOTH = 50.0  # over which the source is taken to vary, in metres
UNKNOWNS = ("field", "network")
COURSES = ("known", "sought")


class SourceInversion:
    """The problem on this rank: flow, sensors, observations and the misfit to be minimised.

    Parameters
    ----------
    nodes : int
        Along each axis.
    steps : int
    flow : str
        ``"gyre"`` or ``"channel"``.
    sensors : int
        In each of so many rows.
    unknown : str
        ``"field"``, a value at every node, or ``"network"``.
    course : str
        Whether the source's course in time is ``"known"`` or ``"sought"``.
    noise : float
        Standard deviation of the noise, relative to the root mean square of the observations.
    smoothing : float
        Weight of the Tikhonov terms.
    seed : int
    comm : mpi4py.MPI.Comm, optional
        The ranks that share the problem; ``COMM_WORLD`` by default.

    Attributes
    ----------
    times : numpy.ndarray, shape (steps,)
        At which sensors record, in seconds.
    data : numpy.ndarray, shape (sensors of this rank, steps)
        Observed concentrations in g/m³.
    first, bounds
        Where the optimiser starts, and its bounds.
    """

    def __init__(
        self,
        nodes: int,
        steps: int,
        flow: str = "gyre",
        sensors: int = 5,
        unknown: str = "field",
        course: str = "known",
        noise: float = 0.0,
        smoothing: float = 1e-3,
        seed: int = 0,
        comm: MPI.Comm | None = None,
    ) -> None:
        self.flow, self.smoothing = flow, smoothing
        self.grid = CartesianGrid((nodes, nodes), comm)
        self.total = Allreduce(comm)
        self.spacing = LENGTH / nodes
        half = self.spacing / 2
        self.kappa = np.full(self.grid.padded_shape(1), KAPPA)
        self.velocity = velocity(flow, *self.grid.coordinates(self.spacing, half, width=1))
        centres = self.grid.coordinates(self.spacing, half)
        self.exact = exact_source(flow, *centres)
        line = (np.arange(sensors) + 0.5) / sensors * LENGTH
        self.positions = np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1).reshape(-1, 2)

        dt = DURATION / steps
        self.times = dt * np.arange(1, steps + 1)
        course_of_all = exact_course(self.times)
        self.exact_course = course_of_all / course_of_all.mean()
        fine = exact_course(dt / 2 * np.arange(1, 2 * steps + 1)) / course_of_all.mean()
        with self._transport(dt / 2, 2 * steps) as transport:
            observed, _ = transport(self.kappa, self.velocity, self.exact, fine)
        self.transport = self._transport(dt, steps)
        data = observed[:, 1::2]
        count = len(self.positions) * steps
        rms = float(np.sqrt(self.total(np.sum(data**2)) / count))
        self.data = data + noise * rms * self._noise(seed, steps)
        self.energy = float(self.total(np.sum(self.data**2)))

        # Own nodes and the next one along each axis: all differences of a rank.
        ends = [min(stop + 1, nodes) for stop in self.grid.stop]
        self.window = tuple(slice(a, b) for a, b in zip(self.grid.start, ends))
        lines = [half + self.spacing * np.arange(nodes)[part] for part in self.window]
        self.network: MLP | None = None
        if unknown == "network":
            domain = ((0, LENGTH), (0, LENGTH))
            self.network = MLP((2, 30, 30, 1), domain=domain, lower=0.0, fourier=20)
            start = self.network.initial(seed)
            self.network.views(start)["b2"][...] = -4.0  # about as weak as a field's start
            self.points = np.stack([c.ravel() for c in np.meshgrid(*lines, indexing="ij")], axis=1)
        else:
            start = np.full(nodes**2, 0.02)
        lower = np.full(len(start), -np.inf if self.network else 0.0)
        self.parameters = len(start)
        if course == "sought":
            start = np.concatenate([start, np.ones(steps)])
            lower = np.concatenate([lower, np.zeros(steps)])
        self.first = start
        self.bounds = np.stack([lower, np.full(len(start), np.inf)], axis=1)

    def _transport(self, dt: float, steps: int) -> AdvectionDiffusion:
        return AdvectionDiffusion(
            self.grid, self.spacing, dt, steps, sides=FLOWS[self.flow], fixed=True,
            sensors=self.positions - self.spacing / 2,
        )  # fmt: skip

    def _noise(self, seed: int, steps: int) -> Any:
        """Return what each sensor hears, whoever owns it."""
        owned = self.transport.sensors
        noise = [np.random.default_rng([seed, k]).standard_normal(steps) for k in owned]
        return np.array(noise).reshape(len(owned), steps)

    def course(self, unknowns: Any) -> Any:
        """Return w at all times; its mean is 1, for only s w is seen."""
        if len(unknowns) == self.parameters:
            return self.exact_course
        course = unknowns[self.parameters :]
        return course / course.mean()

    def strength(self, unknowns: Any) -> Any:
        """Return s at the nodes of the window, where 1 is ``STRENGTH``."""
        theta = unknowns[: self.parameters]
        if self.network is None:
            return theta.reshape(self.grid.shape)[self.window]
        return self.network(theta, self.points).reshape(
            tuple(part.stop - part.start for part in self.window)
        )

    def source(self, strength: Any) -> Any:
        """Return s at the nodes of the patch, in g/(m³ s)."""
        return STRENGTH * strength[tuple(slice(0, n) for n in self.grid.patch_shape)]

    def traces(self, unknowns: Any) -> Any:
        """Return what the sensors of this rank would record."""
        source = self.source(self.strength(unknowns))
        traces, _ = self.transport(self.kappa, self.velocity, source, self.course(unknowns))
        return traces

    def relative(self, unknowns: Any) -> Any:
        """Return Σ (c − data)² / Σ data² over all sensors and times."""
        return self.total(np.sum((self.traces(unknowns) - self.data) ** 2)) / self.energy

    def rough(self, unknowns: Any) -> Any:
        """Return the mean of s² + ℓ²|∇s|² with the length ``SMOOTH``, where 1 is ``STRENGTH``."""
        s, (n, m) = self.strength(unknowns), self.grid.patch_shape
        slopes = np.sum((s[1:, :m] - s[:-1, :m]) ** 2) + np.sum((s[:n, 1:] - s[:n, :-1]) ** 2)
        own = np.sum(s[:n, :m] ** 2) + (SMOOTH / self.spacing) ** 2 * slopes
        return self.total(own) / np.prod(self.grid.shape)

    def misfit(self, unknowns: Variable) -> Variable:
        """Return the relative misfit with what keeps the unknowns smooth."""
        loss = self.relative(unknowns) + self.smoothing * self.rough(unknowns)
        if len(unknowns) > self.parameters:
            course, steps = self.course(unknowns), len(self.times)
            slopes = np.sum((course[1:] - course[:-1]) ** 2)
            loss = loss + self.smoothing * (0.05 * steps) ** 2 * slopes / steps
        misfit: Variable = loss
        return misfit

    def gathered(self, unknowns: Any) -> dict[str, Any]:
        """Return whole fields and all sensors' series on rank 0."""
        gather, comm = GatherField(self.grid), self.grid.comm
        fields = {
            "found": gather(self.source(self.strength(unknowns))),
            "exact": gather(self.exact),
        }
        parts = comm.gather((self.transport.sensors, self.traces(unknowns), self.data))
        if parts is None:
            return fields
        shape = len(self.positions), len(self.times)
        series = {"predicted": np.zeros(shape), "observed": np.zeros(shape)}
        for owned, predicted, observed in parts:
            series["predicted"][owned], series["observed"][owned] = predicted, observed
        return {**fields, **series, "course": self.course(unknowns)}


def errors(found: dict[str, Any], exact_course: Any) -> dict[str, float]:
    """Return relative errors: of the source, of what it releases in all, and of its course."""

    def relative(a: Any, b: Any) -> float:
        return float(np.linalg.norm(a - b) / np.linalg.norm(b))

    return {
        "source_error": relative(found["found"], found["exact"]),
        "mass_error": float(abs(found["found"].sum() / found["exact"].sum() - 1)),
        "course_error": relative(found["course"], exact_course),
    }


def arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--size", type=int, default=64, metavar="N", help="N×N nodes in all (default 64)")
    add("--steps", type=int, default=100, help="of time (default 100)")
    add("--flow", choices=FLOWS, default="gyre", help="default gyre")
    add("--sensors", type=int, default=5, metavar="K", help="K×K of them (default 5)")
    add("--unknown", choices=UNKNOWNS, default="field", help="what s is made of (default field)")
    add("--course", choices=COURSES, default="known", help="of time, w(t) (default known)")
    add(
        "--noise",
        type=float,
        default=0.0,
        help="standard deviation relative to the root mean square of the observations",
    )
    add("--smoothing", type=float, default=1e-3, help="weight of Tikhonov's terms (default 1e-3)")
    add("--iterations", type=int, default=150, help="of L-BFGS (default 150)")
    add("--seed", type=int, default=0, help="of noise and network")
    add("--resume", action="store_true", help="continue the run in --out")
    add_options(parser, out="results/source")
    return parsed(
        parser,
        {
            "--size": lambda nodes: nodes >= 4,
            "--steps": lambda count: count >= 2,
            "--sensors": lambda count: count >= 1,
            "--smoothing": lambda weight: 0 <= weight < np.inf,
        },
    )


def main() -> None:
    with one_message(ValueError, OSError, ImportError):
        options = arguments()
        inversion = SourceInversion(
            options.size, options.steps, options.flow, options.sensors, options.unknown,
            options.course, options.noise, options.smoothing, options.seed,
        )  # fmt: skip
    grid = inversion.grid
    if grid.rank == 0:
        print(
            f"{options.flow}, {options.size}×{options.size} nodes on {size()} ranks, "
            f"{options.steps} steps, {len(inversion.positions)} sensors; unknown: "
            f"{options.unknown}, course {options.course}: {len(inversion.first)} numbers",
            flush=True,
        )
    with one_message(StateError, OSError), Report(options, __doc__) as report:
        report.draw(inversion.misfit, inversion.first)
        names = ("size", "steps", "flow", "sensors", "unknown", "course", "noise", "smoothing",
                 "seed")  # fmt: skip
        result = minimize(
            inversion.misfit, inversion.first, bounds=inversion.bounds,
            options={"maxiter": options.iterations}, callback=report.iteration,
            state=options.out / "state.npz", resume=options.resume,
            metadata=report.metadata(**{n: getattr(options, n) for n in names}, ranks=size()),
        )  # fmt: skip
        misfits = [float(inversion.relative(x)) for x in (inversion.first, result.theta)]
        found = inversion.gathered(result.theta)
        numbers: dict[str, str] = {}
        with agreed(grid.comm):
            if grid.rank == 0:
                numbers = write(options, inversion, result, found, misfits)
        figures = {"source.png": "The source, the sensors and their series, the course, the loss"}
        report.finish([("", result)], figures, numbers)
        report.tell("result.npz", "state.npz")


def write(
    options: argparse.Namespace,
    inversion: SourceInversion,
    result: Result,
    found: dict[str, Any],
    misfits: list[float],
) -> dict[str, str]:
    """Write and draw the result on rank 0, and return how good it is."""
    numbers = errors(found, inversion.exact_course)
    loss = [i.loss for i in result.history]
    with written_whole(options.out / "result.npz") as file:
        np.savez(file, **found, times=inversion.times, theta=result.theta, loss=loss,
                 misfits=misfits, **numbers)  # fmt: skip
    draw(options.out / "source.png", inversion, found, loss)
    solve, (first, last) = inversion.transport.solve, misfits
    return {
        "solves": f"{solve.solves}, with {solve.setups} preconditioners set up",
        "misfit": f"{first:.3e} → {last:.3e}, {first / last:.0f} times less",
        "source, error": f"{100 * numbers['source_error']:.1f} % in the L2 norm, "
        f"{100 * numbers['mass_error']:.2f} % of what it releases",
        "course, error": f"{100 * numbers['course_error']:.1f} % ({options.course})",
    }


if __name__ == "__main__":
    main()
