"""The elastic wave in two dimensions (P-SV) with perfectly matched layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..checkpoint import TimeLoop
from ..comm import CartesianGrid
from ..operator import Operator
from ..variable import Array
from ..world import agreed
from .acquisition import Points
from .elastic_propagator import SHIFTS, ElasticPropagator
from .waves import (
    Sampling,
    absorbing_layers,
    free_sides,
    layer_widths,
    per_source,
    require_inputs,
    spacings,
)

#: What a source does, in the order of a mechanism's entries.
MECHANISM = ("force 0", "force 1", "moment 00", "moment 11", "moment 01")


class ElasticWave(TimeLoop):
    """``(λ, µ, ρ, wavelets, mechanisms) ↦ traces`` of velocity and stress.

    ``ρ ∂v_i/∂t = σ_ij,j + F_i`` and ``∂σ_ij/∂t = λ v_k,k δ_ij + µ (v_i,j + v_j,i) − Ṁ_ij``, where
    a source at ``x_s`` is the force ``F_i = f_i w(t) δ(x − x_s)`` and the moment rate
    ``Ṁ_ij = m_ij w(t) δ(x − x_s)``.

    Parameters
    ----------
    grid : CartesianGrid
        Two-dimensional, without periodic axes; axis 0 is depth ``z``, downwards, axis 1 is ``x``.
        The absorbing layers are part of it.
    spacing : float or pair of float
        Distance of nodes along the axes, in metres.
    dt : float
        Time step, in seconds.
    steps : int
    sources : array_like, shape (sources, 2) or (shots, sources, 2)
        Positions ``(z, x)`` in metres; the first form is one shot.
    receivers : array_like, shape (receivers, 2) or (shots, receivers, 2)
        Positions ``(z, x)`` in metres.
    wavelets : array_like, shape (steps,), (sources, steps) or (shots, sources, steps), optional
        Source time functions ``w`` of calls that give none.
    mechanisms : array_like, shape (5,), (sources, 5) or (shots, sources, 5), optional
        ``(f_0, f_1, m_00, m_11, m_01)`` of calls that give none, in N/m (per metre across the
        plane) and N; by default an explosion, ``(0, 0, 1, 1, 0)``.
    record : sequence of str
        Fields whose traces are returned, of ``"v0"``, ``"v1"``, ``"s00"``, ``"s11"``, ``"s01"``.
    pml_width : int
        Nodes in an absorbing layer.
    pml_sides : str or sequence of str, optional
        Those of ``"top"``, ``"bottom"``, ``"left"``, ``"right"`` that absorb, by default all;
        fields are zero beyond the others.
    pml_velocity, pml_frequency : float, optional
        About those of the waves to be absorbed, in m/s and Hz; by default half of the greatest P
        velocity for which ``dt`` is stable, and the frequency for which that is 20 nodes a
        wavelength.
    free_surface : bool or str
        ``True`` or ``"top"``: no traction on the first row of nodes, in place of an absorbing layer
        on top.
    dtype : dtype_like
        float64 (default) or float32.
    **loop
        What :class:`~adjoint.checkpoint.TimeLoop` takes: how much memory the derivative may use,
        and whether velocities are kept for it or recovered.

    Attributes
    ----------
    receivers : numpy.ndarray of int64
        The receivers whose traces this rank returns: those nearest to its patch's nodes.
    shots, steps : int
    spacing : tuple of float
    dt : float

    Raises
    ------
    ValueError
        On all ranks: bad arguments, a source or receiver off the grid or in a layer, a modulus or
        density that is not positive and finite, or for which ``dt`` is unstable.
    TypeError
        A dtype that is neither, or a call without wavelets where the constructor has none.

    Warns
    -----
    UserWarning
        Once, where the shortest S wavelength, at the frequency above which the wavelets have less
        than 5 % of their greatest amplitude, has fewer than 5 nodes.

    Notes
    -----
    Inputs of a call: ``lam``, ``mu`` in Pa and ``rho`` in kg/m³ [*grid.patch_shape], and, in place
    of those of the constructor, ``wavelets`` [shot, source, time] and ``mechanisms``
    [shot, source, 5]. These are the same on all ranks, and each rank's cotangent is that of its own
    copy. Outputs are one array [shot, receiver, time] for each field of ``record``, for the
    receivers of this rank, in m/s and Pa. Sample ``n`` is velocity at ``(n + ½) dt`` and stress at
    ``(n + 1) dt``; wavelets' sample ``n`` is force at ``n dt`` and moment rate at ``(n + ½) dt``.
    All is at rest before.

    Velocities and stresses are staggered in space and time, with differences of fourth order: with
    ``b = Δt/ρ`` (arithmetic mean of two nodes' densities), and ``C`` the moduli times ``Δt`` (µ of
    shear: harmonic mean of four nodes),

        v ← v + b (D σ + F),   σ ← σ − C Dᵀ v − Δt Ṁ.

    With cotangents scaled to ``T = C σ̄`` and ``V = −b v̄`` the transpose is the same pair of steps,

        V ← V + b D T,   T ← T − C Dᵀ V,

    and with the rates of strain ``ε = −Dᵀ v`` of the forward run the gradients are sums over time
    of ``σ̄ ∂C ε`` and, for the density, of ``V (vⁿ⁺½ − vⁿ⁻½) / (2 Δt)`` at each of two nodes, summed
    by parts. So velocities are all that is kept of a step; or they are not kept, and the forward
    steps are taken back along with their transposes (``backwards``). In a layer
    (:class:`~adjoint.solvers.pml.Layers`) a difference ``d`` becomes ``d + ψ`` with
    ``ψ ← b ψ + a d``; the transpose replaces the field ``T`` or ``V`` whose difference is taken by
    ``T + a μ`` with ``μ ← b μ + T``.

    On a free surface, which lies on the first row of nodes, shear and vertical stress are
    continued oddly and velocities evenly, and ``σ₁₁`` there follows from ``σ₀₀ = 0``. With half
    weights for cells of that row this is symmetric too.

    The step is stable for ``dt v_P √(h₀⁻² + h₁⁻²) ≤ 6/7``.

    References
    ----------
    Virieux (1986). P-SV wave propagation in heterogeneous media. DOI 10.1190/1.1442147
    Levander (1988). Fourth-order finite-difference P-SV seismograms. DOI 10.1190/1.1442422
    Komatitsch, Martin (2007). An unsplit convolutional perfectly matched layer improved at grazing
    incidence for the seismic wave equation. DOI 10.1190/1.2757586
    """

    def __init__(
        self,
        grid: CartesianGrid,
        spacing: float | Sequence[float],
        dt: float,
        steps: int,
        sources: Any,
        receivers: Any,
        wavelets: Any = None,
        mechanisms: Any = (0.0, 0.0, 1.0, 1.0, 0.0),
        *,
        record: Sequence[str] = ("v0", "v1"),
        pml_width: int = 20,
        pml_sides: str | Sequence[str] | None = None,
        pml_velocity: float | None = None,
        pml_frequency: float | None = None,
        free_surface: bool | str | Sequence[str] = False,
        dtype: DTypeLike = np.float64,
        **loop: Any,
    ) -> None:
        with agreed(grid.comm):
            self.dtype = np.dtype(dtype)
            self.spacing = spacings(self.name, grid, spacing, dt, steps, self.dtype)
            fields = (record,) if isinstance(record, str) else tuple(record)
            if not fields or len({*fields}) < len(fields) or {*fields} - {*SHIFTS}:
                raise ValueError(
                    f"{self.name}: record is {record!r}, expected some of {', '.join(SHIFTS)}"
                )
            surfaces = free_sides(self.name, grid, free_surface)
            widths = layer_widths(self.name, grid, pml_width, pml_sides, surfaces)
            places = np.asarray(sources, np.float64)
            self.shots = places.shape[0] if places.ndim == 3 else 1
            self.dt, self.steps, self.grid = float(dt), int(steps), grid
            self._sampling = Sampling(
                self.name, grid, self.spacing, self.dt, 6 / 7, 5, "P velocity"
            )
            layers = absorbing_layers(
                self.name, grid, self.spacing, self.dt, widths, pml_velocity, pml_frequency,
                self._sampling.fastest,
            )  # fmt: skip
            points = [
                {
                    name: Points(f"{self.name}: {what}", grid, self.spacing, positions, self.shots,
                                 2, widths, shift, self.dtype)
                    for name, shift in SHIFTS.items()
                }
                for what, positions in (("sources", sources), ("receivers", receivers))
            ]  # fmt: skip
            self._sources = points[0]["v0"].count
            self.receivers = points[1]["v0"].owned
            self.mechanisms = self._per_source("mechanisms", mechanisms, 5)
            self.wavelets = None
            if wavelets is not None:
                self.wavelets = self._per_source("wavelets", wavelets, self.steps)
        propagator = ElasticPropagator(
            grid, self.spacing, self.dt, self.steps, (layers[0], layers[1]), points[0], points[1],
            fields, surfaces[0][0], self.dtype,
        )  # fmt: skip
        super().__init__(propagator, **loop)

    def __call__(
        self, lam: Any, mu: Any, rho: Any, wavelets: Any = None, mechanisms: Any = None
    ) -> Any:
        """Return the traces; see the class."""
        if wavelets is None:
            if self.wavelets is None:
                raise TypeError(f"{self.name}: no wavelets, here or in the constructor")
            wavelets = self.wavelets
        if mechanisms is None:
            mechanisms = self.mechanisms
        return super().__call__(lam, mu, rho, mechanisms, wavelets)

    def check(self, *inputs: Any) -> None:
        field, each = self.grid.patch_shape, (self.shots, self._sources)
        shapes = {
            "lam": field, "mu": field, "rho": field,
            "mechanisms": (*each, 5), "wavelets": (*each, self.steps),
        }  # fmt: skip
        with agreed(self.grid.comm):
            require_inputs(self.name, self.dtype, shapes, inputs, ("lam", "mu", "rho"))
        lam, mu, rho, _, wavelets = inputs
        p_wave, s_wave = ((lam + 2 * mu) / rho).max(), (mu / rho).min()
        self._sampling.require(math.sqrt(p_wave), math.sqrt(s_wave), wavelets)

    def _per_source(self, argument: str, values: Any, length: int) -> Array:
        shape = self.shots, self._sources, length
        return per_source(self.name, argument, values, shape, self.dtype)


class Lame(Operator):
    """``(v_P, v_S, ρ) ↦ (λ, µ)``: Lamé's parameters from velocities and density.

    Notes
    -----
    Arrays of one shape, in m/s and kg/m³; results in Pa. ``µ = ρ v_S²``, ``λ = ρ v_P² − 2 µ``.

    Examples
    --------
    >>> lam, mu = Lame()(np.array([3000.0]), np.array([1500.0]), np.array([2000.0]))
    >>> float(lam[0]), float(mu[0])
    (9000000000.0, 4500000000.0)
    """

    needs_outputs = ()

    def check(self, vp: Any, vs: Any, rho: Any) -> None:
        for argument, values in (("vs", vs), ("rho", rho)):
            self.require(argument, np.shape(values), np.shape(vp))

    def forward(self, vp: Any, vs: Any, rho: Any) -> Any:
        mu = rho * vs**2
        return rho * vp**2 - 2 * mu, mu

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        (dvp, dvs, drho), (vp, vs, rho) = tangents, inputs
        dmu = drho * vs**2 + 2 * rho * vs * dvs
        return drho * vp**2 + 2 * rho * vp * dvp - 2 * dmu, dmu

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        (lam, mu), (vp, vs, rho) = cotangents, inputs
        total = mu - 2 * lam
        return 2 * rho * vp * lam, 2 * rho * vs * total, vp**2 * lam + vs**2 * total
