"""Transport by a flow and by diffusion, in time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..comm import CartesianGrid
from ..schedules import Plan
from ..variable import Variable
from ..world import agreed
from .advection import AdvectionDiffusionMatrix, InflowLoad
from .evolution import Evolution
from .fluxes import Sides
from .petsc import Closing
from .sensors import Sensors
from .spacing import node_spacing
from .stencil import multigrid_options


class AdvectionDiffusion(Closing):
    """``(κ, v, s, …) ↦ (traces, u)`` with ``∂u/∂t + ∇·(v u) − ∇·(κ∇u) = s`` in a box.

    Implicit steps and finite volumes, in one, two or three dimensions: stable for any time step,
    and without oscillations in space however little diffuses. Where ``∇·v = 0``, as of a flow of
    constant density, ``∇·(v u) = v·∇u``.

    Parameters
    ----------
    grid : CartesianGrid
        Without periodic axes; each node is the middle of a cell.
    spacing : float or sequence of float
        Distance of nodes along each axis, in metres.
    dt : float
        Time step, in seconds.
    steps : int
    scheme : str
        In time: ``"bdf2"``, of second order, or ``"euler"``, of first order, which never makes a
        negative value of data without any.
    flux : str
        In space: ``"fitted"``, exponentially fitted (Scharfetter and Gummel), smooth in κ and v, of
        second order as the spacing goes to zero and upwind where little diffuses; or ``"upwind"``,
        of first order.
    sides : str or sequence
        What the ends of the axes are: one for all, or for each axis one for both ends or a pair
        (low, high). ``"value"``: ``u`` is the inflow value at the first node beyond (Dirichlet).
        ``"open"``: the boundary is half a cell beyond the last node; flow that enters brings the
        inflow value with it, flow that leaves takes ``u`` along, nothing diffuses through.
        ``"closed"``: that boundary lets nothing through.
    sensors : array_like, shape (sensors, ndim), optional
        Positions in metres from the grid's first node, between nodes, the same on all ranks; ``u``
        is interpolated linearly.
    fixed : bool
        κ and v have no derivative and are refused as variables. Then the steps keep nothing for the
        reverse sweep, for ``u`` is linear in everything else.
    rtol : float
        Tolerance of the linear solves, relative to their right-hand sides.
    options : mapping of str to object, optional
        PETSc options of the linear solves, without prefix.
    prefix : str, optional
        Prefix of options in PETSc's own database.
    **loop
        What :class:`~adjoint.checkpoint.TimeLoop` takes: how much memory the derivative may use.

    Attributes
    ----------
    spacing : tuple of float
    sensors : numpy.ndarray of int64
        The sensors whose traces this rank returns: those nearest to its patch's nodes.
    matrix : AdvectionDiffusionMatrix
    load : InflowLoad
    evolution : Evolution
    solve : LinearSolve
        Counts solves and setups of preconditioners: one each way, as long as κ and v stay.

    Raises
    ------
    ValueError
        On all ranks: bad arguments, wrong shapes, a negative κ, values that are not finite.
    ConvergenceError
        On all ranks.

    Notes
    -----
    :class:`AdvectionDiffusionMatrix`, :class:`InflowLoad` and :class:`Evolution` are applied one
    after the other and recorded on the active tape; the derivative is theirs. What enters through
    the boundary is one more source, ``Σ_k w_k s_k + w_in s_in``, with a course of its own. The
    adjoint steps solve with ``Aᵀ`` and a hierarchy of its own; the matrix's cotangent is summed
    over them and goes through the assembly once.

    The cells' content ``Σ u h^ndim`` changes by what sources and open or value sides bring or take,
    and by nothing else.

    References
    ----------
    Scharfetter, Gummel (1969). Large-signal analysis of a silicon Read diode oscillator.
    DOI 10.1109/T-ED.1969.16566

    Examples
    --------
    >>> from mpi4py import MPI
    >>> grid = CartesianGrid((40,), comm=MPI.COMM_SELF)
    >>> kappa, velocity = np.full(42, 1.0), np.full((1, 42), 2.0)
    >>> with AdvectionDiffusion(grid, 0.5, 0.1, 30, sensors=[[7.25]]) as transport:
    ...     traces, u = transport(kappa, velocity, inflow=1.0)
    >>> traces.shape, u.shape
    ((1, 30), (40,))
    """

    name = "AdvectionDiffusion"

    def __init__(
        self,
        grid: CartesianGrid,
        spacing: float | Sequence[float],
        dt: float,
        steps: int,
        *,
        scheme: str = "bdf2",
        flux: str = "fitted",
        sides: Sides = "open",
        sensors: Any = None,
        fixed: bool = False,
        rtol: float = 1e-10,
        options: Mapping[str, Any] | None = None,
        prefix: str | None = None,
        **loop: Any,
    ) -> None:
        self.grid = grid
        self.spacing = node_spacing(self.name, grid, spacing)
        self.matrix = AdvectionDiffusionMatrix(grid, self.spacing, sides, flux)
        self.load = InflowLoad(grid, self.spacing, sides, flux)
        positions = np.zeros((0, grid.ndim)) if sensors is None else sensors
        points = Sensors(f"{self.name}: sensors", grid, self.spacing, positions)
        self.sensors = points.owned
        self.evolution = Evolution(
            self.matrix.pattern, dt, steps, scheme=scheme, record=(points.pattern, points.values),
            fixed=fixed, rtol=rtol, options=multigrid_options(grid, options), prefix=prefix, **loop,
        )  # fmt: skip
        self.solve = self.evolution.solve
        self.dt, self.steps = self.evolution.dt, self.evolution.steps

    @property
    def plan(self) -> Plan:
        """What is kept for the reverse sweep and what is recomputed."""
        return self.evolution.plan

    def __call__(
        self,
        kappa: Any,
        velocity: Any,
        source: Any = None,
        series: Any = None,
        *,
        initial: Any = None,
        inflow: Any = 0.0,
        inflow_series: Any = None,
    ) -> Any:
        """Take all steps, and record them on the active tape; collective.

        Each argument is an array or a Variable of float64.

        Parameters
        ----------
        kappa : [*grid.padded_shape(1)]
            Diffusivity κ ≥ 0 in m²/s, at own nodes and one layer around them, which are other
            ranks' nodes (a halo exchange brings them) or beyond the boundary. The layer's edges and
            corners are not used.
        velocity : [ndim, *grid.padded_shape(1)]
            In m/s, likewise. Faces take the mean of the nodes on both sides of them.
        source : [*grid.patch_shape] or [term, *grid.patch_shape], optional
            In units of ``u`` a second: the ``s_k`` of ``s(x, t) = Σ_k w_k(t) s_k(x)``.
        series : [step] or [term, step], optional
            The ``w_k`` at the end of each step, the same on all ranks; 1 by default.
        initial : [*grid.patch_shape], optional
            ``u`` at time 0; 0 by default.
        inflow : float or [*grid.padded_shape(1)]
            ``u`` beyond the boundary, of which what lies around the grid is used.
        inflow_series : [step], optional
            A factor on ``inflow`` at the end of each step; 1 by default.

        Returns
        -------
        traces : array or Variable [sensor, step]
            ``u`` at this rank's ``sensors`` at the end of each step.
        u : array or Variable [*grid.patch_shape]
            At the end of the last step.
        """
        terms, courses = self._sources(source, series)
        if isinstance(inflow, float | int) and inflow == 0:
            with agreed(self.grid.comm):
                if inflow_series is not None:
                    raise ValueError(f"{self.name}: got inflow_series without inflow")
        else:
            g = np.broadcast_to(inflow, self.grid.padded_shape(1))
            terms.append(self.load(kappa, velocity, g).reshape(1, -1))
            courses.append(self._course(1, inflow_series, "inflow_series"))
        start = np.zeros(self.grid.patch_shape) if initial is None else initial
        with agreed(self.grid.comm):
            self._require("initial", start, self.grid.patch_shape)
        rows = int(np.prod(self.grid.patch_shape))
        traces, final = self.evolution(
            self.matrix(kappa, velocity),
            np.concatenate(terms) if terms else np.zeros((0, rows)),
            np.concatenate(courses) if courses else np.zeros((0, self.steps)),
            start.reshape(-1),
        )
        return traces, final.reshape(self.grid.patch_shape)

    def _sources(self, source: Any, series: Any) -> tuple[list[Any], list[Any]]:
        """Return the given terms and their courses, as lists of arrays [term, …]."""
        with agreed(self.grid.comm):
            if source is None and series is not None:
                raise ValueError(f"{self.name}: got series without source")
            if source is not None:
                many = np.ndim(source) > self.grid.ndim
                leading = np.shape(source)[:1] if many else ()
                self._require("source", source, (*leading, *self.grid.patch_shape))
        if source is None:
            return [], []
        count = leading[0] if many else 1
        return [source.reshape(count, -1)], [self._course(count, series, "series")]

    def _course(self, count: int, series: Any, argument: str) -> Any:
        """Return time functions as [term, step]."""
        if series is None:
            return np.ones((count, self.steps))
        with agreed(self.grid.comm):
            one = count == 1 and np.ndim(series) == 1
            self._require(argument, series, (self.steps,) if one else (count, self.steps))
        return series.reshape(count, self.steps)

    def _require(self, argument: str, value: Any, shape: tuple[int, ...]) -> None:
        found = np.shape(value)
        if found != shape:
            raise ValueError(f"{self.name}: {argument} has shape {found}, expected {shape}")
        if not isinstance(value, np.ndarray | Variable):
            kind = type(value).__name__
            raise TypeError(f"{self.name}: {argument} is a {kind}, expected an array")

    def close(self) -> None:
        """Destroy PETSc's objects; collective."""
        self.evolution.close()
