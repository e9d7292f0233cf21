"""What the waveform inversions share: unknowns, misfits, shot groups, stages and the report."""

from __future__ import annotations

import argparse
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from command_line import make_folder, one_message
from run_report import Report
from seismic import Model, layered, read_model
from seismic_figures import draw_models, draw_slices, draw_traces, draw_wavefield, section
from waveform_errors import errors, told
from waveform_options import MISFITS, arguments

from adjoint import agreed, communicator
from adjoint.comm import Allreduce, CartesianGrid, GatherField, rank, size
from adjoint.files import written_whole
from adjoint.nn import MLP
from adjoint.optimize import Result, StateError, minimize
from adjoint.solvers import Butterworth, write_traces

if TYPE_CHECKING:
    from mpi4py import MPI


class Inversion(ABC):
    """The problem on this rank: survey, traces, unknowns and the misfit to be minimised.

    A subclass says which field is unknown, in which unit, and how traces come of it.

    Parameters
    ----------
    model : Model
        Without absorbing layers.
    unknown : str
        ``"grid"`` or ``"network"``.
    groups : int
        Groups of ranks that share the shots.
    misfit : str
        One of ``waveform_options.MISFITS``.
    noise : float
        Standard deviation of the noise, relative to the root mean square of the traces.
    seed : int
    memory : str, optional
        How much each process may keep for the reverse sweep.
    comm : mpi4py.MPI.Comm, optional
        All ranks; ``COMM_WORLD`` by default.
    """

    #: Key and colour-bar label of the field that is unknown, and how much of it one unit of the
    #: optimiser's unknowns is. A network changes the start by a share between −0.45 and 0.45.
    name: ClassVar[str]
    label: ClassVar[str]
    unit: ClassVar[float]
    #: What makes the model where no file is given, by the number of dimensions.
    layered: ClassVar[dict[int, Callable[[], Model]]] = {2: layered}
    #: What the traces of each kind are called in names of files.
    kinds: ClassVar[tuple[str, ...]]
    #: Which field of the propagator's state is drawn, that of the first kind of traces, and its
    #: quantity and unit.
    drawn: ClassVar[int]
    signal: ClassVar[str]

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
        self.model = model
        group = world.rank * groups // world.size
        self.shots = np.arange(group, len(model.sources), groups)
        shape = tuple(n + 2 * model.layer for n in model.shape)
        self.grid = CartesianGrid(shape, world.Split(group))
        self.total = Allreduce(comm)
        #: The model's nodes in this rank's patch; layers continue its edges.
        self.lines = lines = np.ix_(*(
            np.clip(np.arange(a, b) - model.layer, 0, n - 1)
            for a, b, n in zip(self.grid.start, self.grid.stop, model.shape)
        ))  # fmt: skip
        shift = model.layer * model.spacing
        self.wave = self.make_wave(
            grid=self.grid, spacing=model.spacing, dt=model.dt, steps=model.steps,
            sources=model.sources[self.shots, None] + shift, receivers=model.receivers + shift,
            pml_width=model.layer, memory=memory,
        )  # fmt: skip
        self.nodes = np.ravel_multi_index(lines, model.shape)
        self.start = model.start[self.name][lines]
        self.mask = model.mask[lines].astype(np.float64)
        self.network: MLP | None = None
        if unknown == "network":
            self.network = MLP(
                (len(lines), 64, 64, 64, 1), domain=tuple((0, n - 1) for n in model.shape),
                lower=-0.45, upper=0.45,
                fourier=64, fourier_scale=2.0, fourier_seed=seed,
            )  # fmt: skip
            ends = np.broadcast_arrays(*lines)
            self.points = np.stack([end.ravel() for end in ends], axis=1).astype(np.float64)
        amplitude = 1e6 * model.spacing ** len(lines)
        self.wavelets = np.broadcast_to(
            amplitude * model.wavelet / np.abs(model.wavelet).max(),
            (len(self.shots), 1, model.steps),
        ).copy()
        self.observed = self.traces(model.true[self.name][lines], self.wavelets)
        for kind, traces in enumerate(self.observed):
            count = len(model.sources) * len(model.receivers) * model.steps
            rms = float(np.sqrt(self.total(np.sum(traces**2)) / count))
            for shot, number in enumerate(self.shots):
                for receiver, index in enumerate(self.wave.receivers):
                    random = np.random.default_rng([seed, kind, number, index])
                    traces[shot, receiver] += noise * rms * random.standard_normal(model.steps)
        self.distance = MISFITS[misfit](model.dt)
        self.use_band(None)

    @abstractmethod
    def make_wave(self, **survey: Any) -> Any:
        """Return the operator that makes traces, with these arguments."""

    @abstractmethod
    def traces(self, field: Any, series: Any) -> tuple[Any, ...]:
        """Return the traces of the unknown field in this rank's patch, of each kind."""

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
        """Bounds of the unknowns that keep the field in the range of the true one."""
        if self.network is not None:
            return None
        true, start = self.model.true[self.name], self.model.start[self.name].ravel()
        low, high = 0.9 * true.min(), 1.1 * true.max()
        return np.stack([(low - start) / self.unit, (high - start) / self.unit], axis=1)

    def use_band(self, cutoff: float | None) -> None:
        """Fit the traces up to a frequency, in hertz, or all of them."""
        model = self.model
        if cutoff is None:
            series, data = self.wavelets, self.observed
        else:
            band = Butterworth(model.dt, high=cutoff)
            series, data = band(self.wavelets), tuple(band(traces) for traces in self.observed)
        self.series, self.data = series, data
        self.scale = 1.0
        self.scale = float(self.misfit(self.first))

    def patch(self, unknowns: Any) -> Any:
        """Return the unknown field in this rank's patch."""
        if self.network is None:
            return self.start + self.mask * self.unit * unknowns[self.nodes]
        change = self.network(unknowns, self.points).reshape(self.mask.shape)
        return self.start * (1 + self.mask * change)

    def misfit(self, unknowns: Any) -> Any:
        """Return the misfit of all shots, 1 at the start."""
        traces = self.traces(self.patch(unknowns), self.series)
        parts = [self.distance(found, data) for found, data in zip(traces, self.data)]
        return self.total(sum(parts[1:], parts[0])) / self.scale

    def field(self, patch: Any) -> Any:
        """Return a whole field without the layers, on rank 0."""
        whole = GatherField(self.grid)(patch)
        width = self.model.layer
        return whole[(slice(width, -width),) * whole.ndim] if self.grid.rank == 0 else None

    def gather(self, traces: Any, shot: int = 0) -> Any:
        """Return the traces of one of this group's shots on the group's rank 0."""
        parts = self.grid.comm.gather((self.wave.receivers, traces[shot]))
        if parts is None:
            return None
        whole = np.zeros((len(self.model.receivers), self.model.steps))
        for index, found in parts:
            whole[index] = found
        return whole

    def save_observed(self, path: Path) -> None:
        """Write the observed traces; those of several kinds into a file for each."""
        model = self.model
        for kind, traces in zip(self.kinds, self.observed):
            whole = np.zeros((len(model.sources), len(model.receivers), model.steps))
            parts = self.total.comm.gather((self.shots, self.wave.receivers, traces))
            for shots, receivers, part in parts or ():
                whole[np.ix_(shots, receivers)] = part
            single = path if len(self.kinds) == 1 else path.with_stem(f"{path.stem}-{kind}")
            write_traces(single, whole, model.dt, model.sources, model.receivers, self.total.comm)

    def displayed(self) -> Any:
        """Return what is drawn of the present wavefield, in this rank's patch."""
        propagator = self.wave.propagator
        return propagator.state[self.drawn][propagator.padding.inner]

    def wavefields(self, field: Any, shot: int, times: Any) -> list[tuple[float, Any]]:
        """Return the wavefield of one of this group's shots at some times, on its rank 0."""
        self.traces(field, self.wavelets)  # prepares the propagator
        loop = self.wave.propagator
        loop.begin(shot)
        frames, step = [], 0
        for seconds in times:
            loop.advance(step, last := round(seconds / self.model.dt))
            step = last
            frames.append((seconds, self.field(self.displayed().copy())))
        return frames

    def illumination(self, field: Any, every: int = 10) -> Any:
        """Return the wave's energy at each node, of all shots; on rank 0."""
        self.traces(field, self.wavelets)
        loop = self.wave.propagator
        energy = np.zeros(self.grid.patch_shape)
        for run in range(loop.runs):
            loop.begin(run)
            for step in range(0, self.model.steps - every, every):
                loop.advance(step, step + every)
                energy += self.displayed() ** 2
        whole = self.field(energy)
        leaders = self.total.comm.gather(whole)
        if leaders is None:
            return None
        return sum(part for part in leaders if part is not None)


def invert(
    kind: type[Inversion],
    description: str | None,
    out: str,
    parameters: tuple[str, ...],
    memory: str | None = None,
) -> None:
    """Run an inversion from the command line.

    Parameters
    ----------
    kind : type
    description : str
        For ``--help``.
    out : str
        Default folder for results.
    parameters : tuple of str
        Fields that a model file must have.
    memory : str, optional
        Default budget of a process.
    """
    world = communicator()
    with one_message(ValueError, OSError, ImportError):
        options = arguments(description, out, memory, tuple(kind.layered))
        with agreed(world):
            if options.dimensions == 3 and (options.model or options.save_traces):
                raise ValueError("--dimensions 3 takes neither --model nor --save-traces")
            make = kind.layered[options.dimensions]
            model = make() if options.model is None else read_model(options.model, parameters)
            if options.shot_groups > len(model.sources):
                raise ValueError(
                    f"--shot-groups {options.shot_groups} is more than the "
                    f"{len(model.sources)} shots"
                )
        inversion = kind(
            model, options.unknown, options.shot_groups, options.misfit, options.noise,
            options.seed, options.memory,
        )  # fmt: skip
        make_folder(options.out)
        if options.save_traces is not None:
            inversion.save_observed(options.save_traces)
    if world.rank == 0:
        print(
            f"{'×'.join(map(str, model.shape))} nodes, {len(model.sources)} shots, "
            f"{len(model.receivers)} receivers, {model.steps} steps; {size()} ranks in "
            f"{options.shot_groups} groups; unknown: {options.unknown}",
            flush=True,
        )
    with one_message(StateError, OSError), Report(options, description) as report:
        report.draw(inversion.misfit, inversion.first)
        finish(options, inversion, fitted(options, inversion, report), report)


def fitted(
    options: argparse.Namespace, inversion: Inversion, report: Report
) -> list[tuple[str, Result]]:
    """Fit the traces up to one frequency after the other; return each stage's name and result."""
    theta = inversion.first
    stages: list[tuple[str, Result]] = []
    for number, cutoff in enumerate([*options.bands, None]):
        inversion.use_band(cutoff)
        name = "all frequencies" if cutoff is None else f"up to {cutoff:g} Hz"
        if rank() == 0:
            print(f"\nstage {number + 1}: {name}", flush=True)
        report.stage(name)
        result = minimize(
            inversion.misfit, theta, bounds=inversion.bounds,
            options={"maxiter": options.iterations, "maxcor": 20},
            callback=report.iteration,
            state=options.out / f"state-{number + 1}.npz", resume=options.resume,
            metadata=report.metadata(
                shape=list(inversion.model.shape), unknown=options.unknown, cutoff=cutoff or 0,
                misfit=options.misfit, noise=options.noise, seed=options.seed,
            ),
        )  # fmt: skip
        theta = result.theta
        stages.append((name, result))
    return stages


def finish(
    options: argparse.Namespace,
    inversion: Inversion,
    stages: list[tuple[str, Result]],
    report: Report,
) -> None:
    """Write and draw the result, and say how good it is."""
    model, theta, out = inversion.model, stages[-1][1].theta, options.out
    patch = inversion.patch(theta)
    found = inversion.field(patch)
    energy = inversion.illumination(inversion.start)
    last = inversion.misfit(theta)
    shot = len(inversion.shots) // 2
    gathers = {
        "observed": inversion.gather(inversion.observed[0], shot),
        "start": inversion.gather(inversion.traces(inversion.start, inversion.wavelets)[0], shot),
        "inverted": inversion.gather(inversion.traces(patch, inversion.wavelets)[0], shot),
    }
    end = model.steps * model.dt
    frames = inversion.wavefields(patch, shot, np.round(np.array([0.2, 0.35, 0.5, 0.75]) * end, 2))
    found_out: dict[str, str] = {}
    figures = {
        "model.png": f"{inversion.label}: true, start, inverted, and the difference",
        "traces.png": "Traces of a shot: observed, of the start, inverted, and the difference",
        "wavefield.png": "The wave of a shot in the inverted model",
    }
    with agreed(inversion.total.comm):
        if rank() == 0:
            numbers = errors(inversion, found, energy)
            history = [i.loss for _, result in stages for i in result.history]
            with written_whole(out / "result.npz") as file:
                name = inversion.name
                np.savez(file, found=found, true=model.true[name], start=model.start[name],
                         energy=energy, theta=theta, loss=history, **numbers)  # fmt: skip
            draw = draw_models if found.ndim == 2 else draw_slices
            draw(out / "model.png", inversion.model, found, name, inversion.label)
            draw_traces(out / "traces.png", model, gathers, inversion.signal)
            rows, *_, columns = (n * model.spacing / 1e3 for n in model.shape)
            frames = [(seconds, section(field)) for seconds, field in frames]
            draw_wavefield(out / "wavefield.png", frames, (0, columns, rows, 0), inversion.signal)
            found_out = told(float(last), numbers)
    report.finish(stages, figures, found_out)
    report.tell("result.npz", *(f"state-{number}.npz" for number, _ in enumerate(stages, 1)))
