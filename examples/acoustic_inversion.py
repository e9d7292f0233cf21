"""Find a velocity from the waves that it scatters: full-waveform inversion.

    mpiexec -n 2 python -m mpi4py examples/acoustic_inversion.py

Several shots at the surface are recorded by receivers there; L-BFGS changes the velocity until the
wave equation gives the same traces. The velocity is unknown at every node, or a neural network. The
ranks decompose the domain, and with --shot-groups G they form G groups that share the shots. With
--bands the traces are fitted up to one frequency after the other, for low ones lead past local
minima. This is section 4.3 of Xu, Zhu and Darve, https://doi.org/10.48550/arXiv.2011.01349.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import uniform_filter
from seismic import (
    PML,
    Model,
    draw_loss,
    draw_models,
    draw_traces,
    draw_wavefield,
    layered,
    read_model,
)

from adjoint import agreed, communicator
from adjoint.comm import Allreduce, CartesianGrid, GatherField, rank, size
from adjoint.files import written_whole
from adjoint.nn import MLP
from adjoint.optimize import Result, minimize
from adjoint.solvers import AcousticWave, Butterworth, Envelope, LeastSquares
from adjoint.solvers import NormalizedCrossCorrelation as CrossCorrelation

if TYPE_CHECKING:
    from mpi4py import MPI

MISFITS = ("least-squares", "cross-correlation", "envelope")
UNIT = 50.0  # m/s per unit of the optimiser's unknowns


class Inversion:
    """The problem on this rank: survey, traces, unknowns and the misfit to be minimised.

    Parameters
    ----------
    model : Model
        Without absorbing layers.
    unknown : str
        ``"grid"`` or ``"network"``.
    groups : int
        Groups of ranks that share the shots.
    misfit : str
        One of ``MISFITS``.
    noise : float
        Standard deviation of the noise, relative to the root mean square of the traces.
    seed : int
    memory : str, optional
        How much each process may keep for the reverse sweep.
    comm : mpi4py.MPI.Comm, optional
        All ranks; ``COMM_WORLD`` by default.
    """

    def __init__(
        self,
        model: Model,
        unknown: str = "grid",
        groups: int = 1,
        misfit: str = "least-squares",
        noise: float = 0.0,
        seed: int = 0,
        memory: str | None = None,
        comm: MPI.Comm | None = None,
    ) -> None:
        world = communicator(comm)
        self.model, self.padded = model, model.padded(PML)
        group = world.rank * groups // world.size
        self.shots = np.arange(group, len(model.sources), groups)
        self.grid = CartesianGrid(self.padded.shape, world.Split(group))
        self.total = Allreduce(comm)
        self.wave = AcousticWave(
            self.grid, model.spacing, model.dt, model.steps,
            sources=self.padded.sources[self.shots, None], receivers=self.padded.receivers,
            pml_width=PML, memory=memory,
        )  # fmt: skip
        own = tuple(slice(a, b) for a, b in zip(self.grid.start, self.grid.stop))
        rows, columns = (
            np.clip(np.arange(a, b) - PML, 0, n - 1)
            for a, b, n in zip(self.grid.start, self.grid.stop, model.shape)
        )
        self.nodes = rows[:, None] * model.shape[1] + columns
        self.start = self.padded.start["vp"][own]
        self.mask = model.mask[rows[:, None], columns].astype(np.float64)
        self.network: MLP | None = None
        if unknown == "network":
            depth, width = model.shape
            self.network = MLP(
                (2, 64, 64, 64, 1), domain=((0, depth - 1), (0, width - 1)), lower=-900, upper=900,
                fourier=64, fourier_scale=2.0, fourier_seed=seed,
            )  # fmt: skip
            ends = np.broadcast_arrays(rows[:, None], columns[None])
            self.points = np.stack([end.ravel() for end in ends], axis=1).astype(np.float64)
        amplitude = 1e6 * model.spacing**2
        self.wavelets = np.broadcast_to(
            amplitude * model.wavelet / np.abs(model.wavelet).max(),
            (len(self.shots), 1, model.steps),
        ).copy()
        traces = self.wave(self.padded.true["vp"][own].copy(), self.wavelets)
        count = len(model.sources) * len(model.receivers) * model.steps
        rms = float(np.sqrt(self.total(np.sum(traces**2)) / count))
        for shot, number in enumerate(self.shots):
            for receiver, index in enumerate(self.wave.receivers):
                random = np.random.default_rng([seed, number, index])
                traces[shot, receiver] += noise * rms * random.standard_normal(model.steps)
        self.observed = traces
        self.kind = misfit
        self.use_band(None)

    @property
    def first(self) -> Any:
        """The unknowns that give the start."""
        if self.network is None:
            return np.zeros(self.model.mask.size)
        theta = self.network.initial(0)
        for name, view in self.network.views(theta).items():
            if int(name[1:]) == len(self.network.widths) - 2:
                view[...] = 0
        return theta

    @property
    def bounds(self) -> Any:
        """Bounds of the unknowns that keep the velocity in the range of the true one."""
        if self.network is not None:
            return None
        true, start = self.model.true["vp"], self.model.start["vp"].ravel()
        low, high = 0.9 * true.min(), 1.1 * true.max()
        return np.stack([(low - start) / UNIT, (high - start) / UNIT], axis=1)

    def use_band(self, cutoff: float | None) -> None:
        """Fit the traces up to a frequency, in hertz, or all of them."""
        model = self.model
        if cutoff is None:
            series, data = self.wavelets, self.observed
        else:
            band = Butterworth(model.dt, high=cutoff)
            series, data = band(self.wavelets), band(self.observed)
        self.series, self.data = series, data
        self.distance = {
            "least-squares": lambda: LeastSquares(model.dt),
            "cross-correlation": CrossCorrelation,
            "envelope": lambda: Envelope(model.dt),
        }[self.kind]()
        self.scale = 1.0
        self.scale = float(self.misfit(self.first))

    def velocity(self, unknowns: Any) -> Any:
        """Return the velocity in this rank's patch."""
        if self.network is None:
            return self.start + self.mask * UNIT * unknowns[self.nodes]
        change = self.network(unknowns, self.points).reshape(self.mask.shape)
        return self.start + self.mask * change

    def misfit(self, unknowns: Any) -> Any:
        """Return the misfit of all shots, 1 at the start."""
        traces = self.wave(self.velocity(unknowns), self.series)
        return self.total(self.distance(traces, self.data)) / self.scale

    def field(self, patch: Any) -> Any:
        """Return a whole field without the layers, on rank 0."""
        whole = GatherField(self.grid)(patch)
        return whole[PML:-PML, PML:-PML] if self.grid.rank == 0 else None

    def gather(self, traces: Any, shot: int = 0) -> Any:
        """Return the traces of one of this group's shots on the group's rank 0."""
        parts = self.grid.comm.gather((self.wave.receivers, traces[shot]))
        if self.grid.rank:
            return None
        whole = np.zeros((len(self.model.receivers), self.model.steps))
        for index, found in parts:
            whole[index] = found
        return whole

    def wavefields(self, velocity: Any, shot: int, times: Any) -> list[tuple[float, Any]]:
        """Return the wavefield of one of this group's shots at some times, on its rank 0."""
        loop = self.wave.propagator
        loop.prepare(velocity, self.wavelets)
        loop.begin(shot)
        frames, step = [], 0
        for seconds in times:
            loop.advance(step, last := round(seconds / self.model.dt))
            step = last
            frames.append((seconds, self.field(loop.state[1][3:-3, 3:-3].copy())))
        return frames

    def illumination(self, velocity: Any, every: int = 10) -> Any:
        """Return the wave's energy at each node, of all shots; on rank 0."""
        loop = self.wave.propagator
        loop.prepare(velocity, self.wavelets)
        energy = np.zeros(self.grid.patch_shape)
        for run in range(loop.runs):
            loop.begin(run)
            for step in range(0, self.model.steps - every, every):
                loop.advance(step, step + every)
                energy += loop.state[1][3:-3, 3:-3] ** 2
        whole = self.field(energy)
        leaders = self.total.comm.gather(whole)
        if self.total.comm.rank:
            return None
        return sum(part for part in leaders if part is not None)


def errors(inversion: Inversion, found: Any, energy: Any) -> dict[str, float]:
    """Return how far the model is off, and where it is nearer than the start.

    The error at a place is the root mean square of that in a window of half a wavelength; a place
    is illuminated where the waves of all shots have at least half of their median energy.
    """
    model = inversion.model
    true, start = model.true["vp"], model.start["vp"]
    wavelength = float(np.median(true)) / model.peak_frequency / model.spacing
    window = max(3, round(wavelength / 2))
    local = [
        np.sqrt(uniform_filter((field - true) ** 2, window, mode="nearest"))
        for field in (found, start)
    ]
    lit = model.mask & (energy > 0.5 * np.median(energy[model.mask]))
    better = local[0] < local[1]
    return {
        "model_error": float(np.linalg.norm((found - true)[lit]) / np.linalg.norm(true[lit])),
        "start_error": float(np.linalg.norm((start - true)[lit]) / np.linalg.norm(true[lit])),
        "illuminated": float(lit.mean()),
        "improved": float(better[lit].mean()),
        "window": window * model.spacing,
    }


def arguments() -> argparse.Namespace:
    """Parse the command line; of all ranks, rank 0 alone prints what is wrong with it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", type=Path, metavar="FILE.npz", help="model and survey; layers by default")
    add("--unknown", choices=("grid", "network"), default="grid", help="(default grid)")
    add("--misfit", choices=MISFITS, default=MISFITS[0], help=f"(default {MISFITS[0]})")
    add("--bands", type=float, nargs="*", default=[], metavar="HZ", help="cutoffs of first stages")
    add("--iterations", type=int, default=40, help="of L-BFGS in each stage (default 40)")
    add("--shot-groups", type=int, default=1, metavar="G", help="groups that share the shots")
    add("--noise", type=float, default=0.0, help="relative to the traces' root mean square")
    add("--memory", help="for the reverse sweep, per process, like 2GB (default: all it takes)")
    add("--seed", type=int, default=0)
    add("--out", type=Path, default=Path("results/acoustic"), help="(default results/acoustic)")
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
    return options


def main() -> None:
    started = time.perf_counter()
    options = arguments()
    world = communicator()
    with agreed(world):
        model = layered() if options.model is None else read_model(options.model, ("vp",))
        if options.shot_groups > len(model.sources):
            raise ValueError(
                f"--shot-groups {options.shot_groups} is more than the {len(model.sources)} shots"
            )
    with agreed(world):
        if world.rank == 0:
            options.out.mkdir(parents=True, exist_ok=True)
    inversion = Inversion(
        model, options.unknown, options.shot_groups, options.misfit, options.noise, options.seed,
        options.memory,
    )  # fmt: skip
    if world.rank == 0:
        print(
            f"{model.shape[0]}×{model.shape[1]} nodes, {len(model.sources)} shots, "
            f"{len(model.receivers)} receivers, {model.steps} steps; {size()} ranks in "
            f"{options.shot_groups} groups; unknown: {options.unknown}",
            flush=True,
        )
    theta = inversion.first
    stages: list[tuple[str, Result]] = []
    for number, cutoff in enumerate([*options.bands, None]):
        inversion.use_band(cutoff)
        name = "all frequencies" if cutoff is None else f"up to {cutoff:g} Hz"
        if world.rank == 0:
            print(f"\nstage {number + 1}: {name}", flush=True)
        result = minimize(
            inversion.misfit, theta, bounds=inversion.bounds,
            options={"maxiter": options.iterations, "maxcor": 20},
            state=options.out / f"state-{number + 1}.npz", resume=options.resume,
            metadata={"shape": list(model.shape), "unknown": options.unknown, "cutoff": cutoff or 0,
                      "misfit": options.misfit, "noise": options.noise, "seed": options.seed,
                      "ranks": size(), "groups": options.shot_groups},
        )  # fmt: skip
        theta = result.theta
        stages.append((name, result))
    report(options, inversion, stages, started)


def report(
    options: argparse.Namespace,
    inversion: Inversion,
    stages: list[tuple[str, Result]],
    started: float,
) -> None:
    """Write and draw the result, and say how good it is; on rank 0."""
    model, theta, out = inversion.model, stages[-1][1].theta, options.out
    velocity = inversion.velocity(theta)
    found = inversion.field(velocity)
    energy = inversion.illumination(inversion.start)
    last = inversion.misfit(theta)
    shot = len(inversion.shots) // 2
    gathers = {
        "observed": inversion.gather(inversion.observed, shot),
        "start": inversion.gather(inversion.wave(inversion.start, inversion.wavelets), shot),
        "inverted": inversion.gather(inversion.wave(velocity, inversion.wavelets), shot),
    }
    end = model.steps * model.dt
    frames = inversion.wavefields(
        velocity, shot, np.round(np.array([0.2, 0.35, 0.5, 0.75]) * end, 2)
    )
    with agreed(inversion.total.comm):
        if rank() == 0:
            numbers = errors(inversion, found, energy)
            history = [i.loss for _, result in stages for i in result.history]
            with written_whole(out / "result.npz") as file:
                np.savez(file, vp=found, true=model.true["vp"], start=model.start["vp"],
                         energy=energy, theta=theta, loss=history, **numbers)  # fmt: skip
            draw_models(out / "model.png", model, found, "vp", "velocity (m/s)")
            draw_traces(out / "traces.png", model, gathers, "amplitude")
            columns, rows = model.shape[1] * model.spacing, model.shape[0] * model.spacing
            draw_wavefield(
                out / "wavefield.png", frames, (0, columns / 1e3, rows / 1e3, 0), "amplitude"
            )
            draw_loss(out / "loss.png", [(n, [i.loss for i in r.history]) for n, r in stages])
            iterations = sum(result.iterations for _, result in stages)
            evaluations = sum(result.evaluations for _, result in stages)
            figures = ", ".join(str(out / f"{n}.png")
                                for n in ("model", "traces", "wavefield", "loss"))  # fmt: skip
            print(f"""
iterations       {iterations} ({evaluations} evaluations), {time.perf_counter() - started:.1f} s
misfit           {float(last):.4f} of the start's: {100 * (1 - float(last)):.1f} % less
velocity error   {100 * numbers["start_error"]:.2f} % → {100 * numbers["model_error"]:.2f} %
illuminated      {100 * numbers["illuminated"]:.0f} % of the model; of that {100 * numbers["improved"]:.1f} % is nearer to the truth
                 than the start, in windows of {numbers["window"]:.0f} m
figures          {figures}
results          {out / "result.npz"}
""")  # noqa: E501


if __name__ == "__main__":
    main()
