"""What the waveform inversions may have for unknowns, and how each of them is minimised over."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from mpi4py import MPI
from seismic import Model

from adjoint.comm import CartesianGrid, HaloExchange, Redistribute, write_field
from adjoint.nn import MLP
from adjoint.optimize import Result, minimize
from adjoint.solvers import InnerProduct, Tikhonov, TotalVariation, minimize_field

#: Pairs of vectors that L-BFGS keeps.
PAIRS = 20


class Smoothness(NamedTuple):
    """What is asked of a field besides that it fits the traces.

    Attributes
    ----------
    penalty : str
        One of ``PENALTIES``.
    weight : float
        Of the penalty, where the misfit is 1 at the start: that of a field which rises evenly from
        its lower bound to the upper one, from the top of the model to the bottom.
    length : float
        Over which directions are smoothed, in metres.
    """

    penalty: str = "none"
    weight: float = 0.01
    length: float = 0.0


#: Nothing is asked.
PLAIN = Smoothness()


class Sought(NamedTuple):
    """Which field is sought, and where this rank's waves need it.

    Attributes
    ----------
    model : Model
    name : str
        Key of the field.
    unit : float
        How much of the field one unit of an unknown is.
    lines : tuple of numpy.ndarray
        The model's nodes along each axis that are in the patch of the waves' grid, in the form of
        ``numpy.ix_``.
    comm : mpi4py.MPI.Comm
        All ranks.
    seed : int
    smoothness : Smoothness
    """

    model: Model
    name: str
    unit: float
    lines: tuple[Any, ...]
    comm: MPI.Comm
    seed: int
    smoothness: Smoothness

    @property
    def start(self) -> Any:
        return self.model.start[self.name]

    @property
    def limits(self) -> tuple[float, float]:
        """Bounds that are a little wider than the range of the true field."""
        true = self.model.true[self.name]
        return 0.9 * float(true.min()), 1.1 * float(true.max())


class Unknown(ABC):
    """The field that is sought, in one rank's patch, in terms of the optimiser's unknowns.

    Parameters
    ----------
    sought : Sought

    Attributes
    ----------
    first : numpy.ndarray
        The unknowns that give the start.
    bounds : object
        Those that keep the field in the range of the true one, as the optimiser takes them.
    same : mapping
        What two runs have alike of which one continues the other.
    """

    first: Any
    bounds: Any = None
    same: Mapping[str, Any] = MappingProxyType({})

    @abstractmethod
    def __init__(self, sought: Sought) -> None: ...

    @abstractmethod
    def patch(self, unknowns: Any) -> Any:
        """Return the field in the waves' patch."""

    def penalty(self, unknowns: Any) -> Any:
        """Return this rank's share of a penalty, ``None`` where there is none."""
        return None

    def minimised(
        self, misfit: Callable[[Any], Any], first: Any, iterations: int, **run: Any
    ) -> Result:
        """Return what L-BFGS finds from the first unknowns on."""
        return minimize(misfit, first, bounds=self.bounds,
                        options={"maxiter": iterations, "maxcor": PAIRS}, **run)  # fmt: skip

    def written(self, folder: Path, unknowns: Any) -> tuple[dict[str, Any], list[str]]:
        """Return what ``result.npz`` has of the unknowns, and which files were written besides."""
        return {"theta": unknowns}, []


class Values(Unknown):
    """A value at each node, all of them on every rank: what is added to the start."""

    def __init__(self, sought: Sought) -> None:
        start, lines = sought.start, sought.lines
        self.first = np.zeros(start.size)
        ends = [(end - start.ravel()) / sought.unit for end in sought.limits]
        self.bounds = np.stack(ends, axis=1)
        self._nodes = np.ravel_multi_index(lines, start.shape)
        self._start, self._weight = start[lines], sought.unit * sought.model.mask[lines]

    def patch(self, unknowns: Any) -> Any:
        return self._start + self._weight * unknowns[self._nodes]


class Network(Unknown):
    """The parameters of a network, which changes the start by a share between −0.45 and 0.45."""

    def __init__(self, sought: Sought) -> None:
        model, lines = sought.model, sought.lines
        self.network = MLP(
            (len(lines), 64, 64, 64, 1), domain=tuple((0, n - 1) for n in model.shape),
            lower=-0.45, upper=0.45, fourier=64, fourier_scale=2.0, fourier_seed=sought.seed,
        )  # fmt: skip
        self.first = self.network.initial(0)
        for key, view in self.network.views(self.first).items():
            if int(key[1:]) == len(self.network.widths) - 2:
                view[...] = 0
        ends = np.broadcast_arrays(*lines)
        self._points = np.stack([end.ravel() for end in ends], axis=1).astype(np.float64)
        self._start, self._mask = sought.start[lines], model.mask[lines].astype(np.float64)

    def patch(self, unknowns: Any) -> Any:
        change = self.network(unknowns, self._points).reshape(self._mask.shape)
        return self._start * (1 + self._mask * change)


class Field(Unknown):
    """A value at each node, of which each rank has those of its own patch and no others.

    All ranks together decompose the model. Each group of them, whose waves decompose it once more,
    gets the values from there, and the groups' gradients are added up on the way back. Where the
    model may not change, both bounds are the start.
    """

    def __init__(self, sought: Sought) -> None:
        model, smoothness = sought.model, sought.smoothness
        self.grid = grid = CartesianGrid(model.shape, sought.comm)
        self._name, self._unit = sought.name, sought.unit
        own = grid.patch_slices(grid.rank)
        self.first = sought.start[own] / self._unit
        low, high = (end / self._unit for end in sought.limits)
        mask = model.mask[own]
        self.bounds = np.where(mask, low, self.first), np.where(mask, high, self.first)
        start = [int(line.min()) for line in sought.lines]
        stop = [int(line.max()) + 1 for line in sought.lines]
        self._move = Redistribute(grid, (start, stop), sought.comm)
        self._within = tuple(line - first for line, first in zip(sought.lines, start))
        self._halo = HaloExchange(grid)
        depth = (model.shape[0] - 1) * model.spacing
        self._penalty = penalty_of(grid, model.spacing, smoothness, (high - low) / depth)
        self._inner = InnerProduct(grid, model.spacing, smoothness.length)
        self.same = {"penalty": smoothness.penalty, "weight": smoothness.weight}

    def patch(self, unknowns: Any) -> Any:
        return self._unit * self._move(unknowns)[self._within]

    def penalty(self, unknowns: Any) -> Any:
        return None if self._penalty is None else self._penalty(self._halo(unknowns))

    def minimised(
        self, misfit: Callable[[Any], Any], first: Any, iterations: int, **run: Any
    ) -> Result:
        return minimize_field(misfit, first, self.grid, bounds=self.bounds, inner=self._inner,
                              options={"maxiter": iterations, "memory": PAIRS}, **run)  # fmt: skip

    def written(self, folder: Path, unknowns: Any) -> tuple[dict[str, Any], list[str]]:
        file = f"{self._name}.npy"
        write_field(folder / file, self.grid, self._unit * unknowns)
        return {}, [file]


#: Each by its name on the command line.
UNKNOWNS: dict[str, type[Unknown]] = {"grid": Values, "network": Network, "field": Field}

PENALTIES = ("none", "tikhonov", "variation")


def penalty_of(
    grid: CartesianGrid, spacing: float, smoothness: Smoothness, slope: float
) -> Tikhonov | TotalVariation | None:
    """Return the penalty that is the weight for a field of this slope everywhere.

    Slopes that are gentler than this one are no edges, which a total variation is to keep.
    """
    volume = prod(grid.shape) * spacing**grid.ndim
    if smoothness.penalty == "tikhonov":
        return Tikhonov(grid, spacing, smoothness.weight / (volume * slope**2 / 2))
    if smoothness.penalty == "variation":
        return TotalVariation(grid, spacing, smoothness.weight / (volume * slope), epsilon=slope)
    return None
