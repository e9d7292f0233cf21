"""The acoustic wave in two and three dimensions with perfectly matched layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..checkpoint import TimeLoop
from ..comm import CartesianGrid
from ..world import agreed
from .acoustic_propagator import DIFFERENCES, AcousticPropagator
from .acoustic_stepper import STEPPERS
from .acquisition import Points
from .waves import (
    Sampling,
    absorbing_layers,
    free_sides,
    layer_widths,
    per_source,
    require_inputs,
    spacings,
)


class AcousticWave(TimeLoop):
    """``(c, wavelets) ↦ traces`` with ``∂²u/∂t² = ∇·(c²∇u) + f``.

    Parameters
    ----------
    grid : CartesianGrid
        Of two axes, depth ``z``, downwards, and ``x``; or of three, ``z``, ``y`` and ``x``. None is
        periodic. The absorbing layers are part of it.
    spacing : float or sequence of float
        Distance of nodes along all axes, or each, in metres.
    dt : float
        Time step, in seconds.
    steps : int
        Number of steps, and of samples in a trace: sample ``n`` is ``u`` at ``n dt``.
    sources : array_like, shape (sources, axes) or (shots, sources, axes)
        Positions ``(z, x)`` or ``(z, y, x)`` in metres; a source is ``f = w(t) δ(x − x_s)``. The
        first form is one shot.
    receivers : array_like, shape (receivers, axes) or (shots, receivers, axes)
        Positions as those of sources.
    wavelets : array_like, shape (steps,), (sources, steps) or (shots, sources, steps), optional
        Source time functions of calls that give none.
    pml_width : int
        Nodes in an absorbing layer.
    pml_sides : str or sequence of str, optional
        Those of ``"top"`` and ``"bottom"`` (of axis ``z``), ``"front"`` and ``"back"`` (of ``y``,
        if there is one), ``"left"`` and ``"right"`` (of ``x``) that absorb, by default all;
        ``u = 0`` beyond the others.
    pml_velocity, pml_frequency : float, optional
        About those of the waves to be absorbed, in m/s and Hz; by default half of the greatest
        velocity for which ``dt`` is stable, and the frequency for which that is 20 nodes a
        wavelength.
    free_surface : bool, str or sequence of str
        Sides where, in place of an absorbing layer, ``u = 0`` on the last nodes, beyond which ``u``
        is continued oddly: ``True`` for ``"top"``, the only one that may be free in two dimensions.
    order : int
        Of differences in space, 2 or 4.
    dtype : dtype_like
        Of velocities, wavelets and traces: float64 (default) or float32.
    **loop
        What :class:`~adjoint.checkpoint.TimeLoop` takes: how much memory the derivative may use.

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
        On all ranks: bad arguments, a source or receiver off the grid or in a layer, a velocity
        that is not positive and finite or for which ``dt`` is unstable.
    TypeError
        A dtype that is neither, or a call without wavelets where the constructor has none.

    Warns
    -----
    UserWarning
        Once, where the shortest wavelength, at the frequency above which the wavelets have less
        than 5 % of their greatest amplitude, has fewer than 5 nodes (``order=4``) or 10
        (``order=2``).

    Notes
    -----
    Inputs of a call: ``velocity`` [*grid.patch_shape] in m/s, ``wavelets`` [shot, source, time] in
    place of those of the constructor, and optionally ``initial`` and ``previous``
    [*grid.patch_shape], the field at times 0 and −dt of all shots. The output is
    [shot, receiver, time] with the receivers of this rank. Wavelets are the same on all ranks, and
    each rank's cotangent is that of its own copy.

    ``u`` is the pressure in a medium whose bulk modulus is constant, ``c² = κ/ρ``, or, in two
    dimensions, the displacement across the plane (SH) in one whose density is, ``c² = µ/ρ``; a
    pressure in a medium of constant density has ``c²∇²u`` instead, which differs where ``c`` does.
    With ``D`` for differences to the points between nodes, ``C`` the mean of the two nodes' ``c²``,
    and ``P`` the interpolation to receivers,

        uⁿ⁺¹ = 2uⁿ − uⁿ⁻¹ + Δt² (L uⁿ + fⁿ),   L = −Σ Dᵀ C D,   dⁿ = P uⁿ.

    ``L`` is symmetric, so the adjoint field ``λ`` takes the same steps backwards in time,

        λⁿ = 2λⁿ⁺¹ − λⁿ⁺² + Δt² L λⁿ⁺¹ + Pᵀ d̄ⁿ,
        C̄ = −Δt² Σₙ (D λⁿ⁺¹)(D uⁿ),   w̄ⁿ = Δt² λⁿ⁺¹(x_s).

    In the layers at the ends of an axis (see :class:`~adjoint.solvers.pml.Layers`), that axis has
    ``−Dᵀp + φ`` with ``p = C (D u + ψ)`` in place of ``−Dᵀ C D u``, where ``ψ`` and ``φ`` follow
    ``ψ ← b ψ + a D u`` and ``φ ← b φ − a Dᵀ p``. Their transpose: with ``φ̄ ← b φ̄ + λ``,
    ``r = λ + a φ̄``, ``μ ← b μ + C D r``,

        Lᵀλ = −Dᵀ (C D r + a μ),   C̄ = −Δt² Σₙ (D r)(D uⁿ + ψⁿ).

    Both fields' ghosts are exchanged in the same direction, and what depends on them is computed on
    both sides of a boundary between patches, so a derivative needs no further messages.

    The step is stable for ``dt c √(Σ hᵢ⁻²) ≤ 1`` (second order) or 6/7 (fourth), with the spacings
    ``hᵢ`` of all axes.

    References
    ----------
    Levander (1988). Fourth-order finite-difference P-SV seismograms. DOI 10.1190/1.1442422
    Pasalic, McGarry (2010). Convolutional perfectly matched layer for isotropic and anisotropic
    acoustic wave equations. DOI 10.1190/1.3513453

    Examples
    --------
    >>> from adjoint.solvers import ricker
    >>> grid = CartesianGrid((70, 80))
    >>> wave = AcousticWave(
    ...     grid, 10.0, 2e-3, 100, sources=[[300.0, 400.0]], receivers=[[300.0, 500.0]],
    ...     wavelets=ricker(2e-3 * np.arange(100), 12.0))
    >>> traces = wave(np.full(grid.patch_shape, 2000.0))
    >>> traces.shape == (1, len(wave.receivers), 100)
    True
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
        *,
        pml_width: int = 20,
        pml_sides: str | Sequence[str] | None = None,
        pml_velocity: float | None = None,
        pml_frequency: float | None = None,
        free_surface: bool | str | Sequence[str] = False,
        order: int = 4,
        dtype: DTypeLike = np.float64,
        **loop: Any,
    ) -> None:
        with agreed(grid.comm):
            self.dtype = np.dtype(dtype)
            self.spacing = spacings(
                self.name, grid, spacing, dt, steps, self.dtype, tuple(STEPPERS)
            )
            if order not in DIFFERENCES:
                raise ValueError(f"{self.name}: order is {order}, expected 2 or 4")
            surfaces = free_sides(self.name, grid, free_surface)
            widths = layer_widths(self.name, grid, pml_width, pml_sides, surfaces)
            places = np.asarray(sources, np.float64)
            self.shots = places.shape[0] if places.ndim == 3 else 1
            self.grid, self.dt, self.steps, self.order = grid, float(dt), int(steps), order
            limit, nodes = (1.0, 10) if order == 2 else (6 / 7, 5)
            self._sampling = Sampling(
                self.name, grid, self.spacing, self.dt, limit, nodes, "velocity"
            )
            layers = absorbing_layers(
                self.name, grid, self.spacing, self.dt, widths, pml_velocity, pml_frequency,
                self._sampling.fastest,
            )  # fmt: skip
            points = [
                Points(f"{self.name}: {what}", grid, self.spacing, positions, self.shots, 3, widths,
                       dtype=self.dtype)
                for what, positions in (("sources", sources), ("receivers", receivers))
            ]  # fmt: skip
            self.receivers = points[1].owned
            self._series_shape = self.shots, points[0].count, self.steps
            self.wavelets = None
            if wavelets is not None:
                self.wavelets = per_source(
                    self.name, "wavelets", wavelets, self._series_shape, self.dtype
                )
        propagator = AcousticPropagator(
            grid, self.spacing, self.dt, self.steps, layers, points[0], points[1], order, surfaces,
            self.dtype,
        )  # fmt: skip
        super().__init__(propagator, **loop)

    def __call__(
        self, velocity: Any, wavelets: Any = None, initial: Any = None, previous: Any = None
    ) -> Any:
        """Return the traces; see the class."""
        if wavelets is None:
            if self.wavelets is None:
                raise TypeError(f"{self.name}: no wavelets, here or in the constructor")
            wavelets = self.wavelets
        if initial is None and previous is None:
            return super().__call__(velocity, wavelets)
        rest = np.zeros(self.grid.patch_shape, self.dtype)
        return super().__call__(
            velocity,
            wavelets,
            rest if initial is None else initial,
            rest if previous is None else previous,
        )

    def check(self, *inputs: Any) -> None:
        field = self.grid.patch_shape
        shapes = {
            "velocity": field, "wavelets": self._series_shape, "initial": field, "previous": field
        }  # fmt: skip
        with agreed(self.grid.comm):
            require_inputs(self.name, self.dtype, shapes, inputs, ("velocity",))
        velocity, wavelets = inputs[:2]
        self._sampling.require(velocity.max(), velocity.min(), wavelets)
