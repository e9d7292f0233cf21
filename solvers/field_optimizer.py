"""Minimisation over a field that is distributed over the ranks, each with its own part of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np

from ..comm import CartesianGrid
from ..comm.grid import same_on_all_ranks
from ..optimize import Result
from ..optimize.progress import open_progress
from ..optimize.rejection import Rejecting, rejecting
from ..variable import Array, Variable, value_of
from ..world import agreed
from .field_run import Callback, FieldRun, Settings
from .field_state import FieldState, checksum
from .inner_product import InnerProduct
from .petsc import petsc, started_for

Limits = tuple[Array, Array]


def minimize_field(
    misfit: Callable[[Variable], Variable],
    theta0: Any,
    grid: CartesianGrid,
    *,
    bounds: tuple[Any, Any] | None = None,
    inner: InnerProduct | None = None,
    options: dict[str, Any] | None = None,
    reject: type[Exception] | Rejecting = (),
    callback: Callback | None = None,
    state: str | os.PathLike[str] | None = None,
    every: int = 10,
    resume: bool = False,
    metadata: dict[str, Any] | None = None,
    progress: bool = True,
) -> Result:
    """Minimise a misfit over a field, of which each rank holds its own patch and nothing more.

    L-BFGS with bounds, through PETSc's TAO (``blmvm``). All vectors are distributed as the field
    is, and all inner products are sums over ranks: a rank's memory does not depend on how many
    there are. For few parameters that all ranks share there is
    :func:`adjoint.optimize.minimize`.

    Parameters
    ----------
    misfit : callable
        Takes this rank's part of the field, a Variable, and returns a scalar Variable on every
        rank, whose value on rank 0 counts. It must be a function of the field alone, if runs are
        to be continued.
    theta0 : array_like of float64, shape (..., *grid.patch_shape)
        The start. Axes before those of the grid are several fields.
    grid : CartesianGrid
    bounds : tuple of (lower, upper), optional
        Numbers, or arrays that broadcast to theta0's shape; ±inf where there are none.
    inner : InnerProduct, optional
        In which the misfit's derivative is made a direction; the Euclidean one by default, which on
        a regular grid is as good as that of L². With a length, iterations do not grow with the grid
        where the misfit has a penalty on gradients. Of a penalty ``½ ∫ (α|∇m|² + β m²)`` the
        length is ``√(α/β)``, with ``β`` the size of all other curvature.
    options : dict, optional
        ``maxiter`` 1000; ``memory`` 10, the pairs of vectors that L-BFGS keeps; ``gtol`` 0.0, the
        norm of the projected gradient, relative to that at the start, at which the run ends.
    reject : exception class or tuple of them, optional
        What the misfit raises on all ranks, or its gradient, where a point that the search tries is
        not admissible: a ``ConvergenceError`` of a solve, the ``FloatingPointError`` below. A
        nearer one is then tried.
    callback : callable, optional
        Called on all ranks after each iteration and at the start with an :class:`Iteration` and a
        copy of this rank's part, unless an earlier run did so. ``StopIteration`` on any rank ends
        the run; another exception is raised on all ranks. Where it communicates, it must fail on
        all ranks or none.
    state : path, optional
        File to continue from. It is written every ``every`` iterations, at the end, and when an
        exception, SIGTERM (exit code 143, on all ranks) or an interrupt (130) ends the run, and is
        never seen half-written. Signals to any rank take effect when the evaluation under way has
        ended.
    every : int
        Iterations between two writes.
    resume : bool
        Continue the run of the state file, on any number of ranks. Where there is no file yet, the
        run starts; otherwise options (but ``maxiter``), bounds, inner product, theta0 and metadata
        must be those of the file. With ``resume=False`` an existing file is replaced.
    metadata : dict, optional
        Whatever else makes two runs the same, of numbers, strings, lists and dictionaries.
    progress : bool
        Print a line an iteration on rank 0, or show a bar if this is a terminal and rich is
        installed.

    Returns
    -------
    Result
        ``theta`` is this rank's part, everything else the same on all ranks. Gradient norms are
        Euclidean ones of the projected gradient.

    Raises
    ------
    FloatingPointError
        On all ranks, where the misfit or its gradient is not finite on any.
    ValueError, TypeError
        On all ranks, for unfit arguments on any, and a ``theta0`` that is rejected.
    StateError
        A ``ValueError``, on all ranks, for a state that is damaged or of another run; it is left as
        it is.
    OSError
        On all ranks, where the state cannot be written. The former one is intact.
    RuntimeError
        If PETSc is not running and the grid has a part of the ranks: all start PETSc together.
    Exception
        What the misfit raises on all ranks, what the callback raises; the state was saved before.

    Notes
    -----
    Each rank differentiates with respect to its own part; nothing is broadcast or summed but
    numbers.

    An exception that the misfit raises on one rank alone must not be caught: run the program with
    ``python -m mpi4py``, which then ends all ranks.

    TAO makes one iteration at a time: it projects the direction on the bounds and searches along
    it. The pairs of L-BFGS lie here (:class:`~adjoint.solvers.quasi_newton.LimitedMemory`) and in
    the state, whose size does not grow with the iterations: ``2 memory + 2`` fields. So a run that
    is continued makes the iterates that it would have made uninterrupted, bit for bit, on the same
    number of ranks and with the same libraries; on another number, up to rounding.

    A rank allocates about ``2 memory + 20`` vectors of its part, those of a simple misfit and of
    writing the state among them, and PETSc about a dozen. Options in PETSc's database have the
    prefix ``minimize_field_``.

    References
    ----------
    S. J. Benson and J. J. Moré, A limited memory variable metric method in subspaces and bound
    constrained optimization problems, 2001, doi:10.2172/822565.

    Examples
    --------
    >>> from adjoint.comm import Allreduce, CartesianGrid
    >>> grid = CartesianGrid((3, 2))
    >>> def misfit(m):
    ...     return Allreduce()(((m - 3.0) ** 2).sum())
    >>> start = np.zeros(grid.patch_shape)
    >>> result = minimize_field(misfit, start, grid, bounds=(0, 2), progress=False)
    >>> result.theta
    array([[2., 2.],
           [2., 2.],
           [2., 2.]])
    """
    comm = grid.comm
    started_for(comm)
    with agreed(comm):
        if not callable(misfit):
            raise TypeError(
                f"minimize_field: misfit is a {type(misfit).__name__}, expected a function"
            )
        refusals = rejecting(reject, "minimize_field")
        theta = _checked(theta0, grid)
        limits = _limits(bounds, theta.shape)
        settings = _settings(options)
        if every < 1:
            raise ValueError(f"minimize_field: every is {every}, expected at least 1")
        if resume and state is None:
            raise ValueError("minimize_field: resume=True without a state file")
        if inner is not None and inner.grid is not grid:
            raise ValueError("minimize_field: inner is of another grid")
    components = theta.shape[: -grid.ndim]
    same_on_all_ranks(
        comm, "minimize_field", components=components, options=settings, every=every, resume=resume,
        state=state is not None, bounds=limits is not None, callback=callback is not None,
        reject=bool(refusals), inner=None if inner is None else inner.name,
    )  # fmt: skip
    file = None
    if state is not None:
        configuration = _configuration(grid, theta, limits, inner, settings, metadata)
        file = FieldState(state, grid, components, configuration, theta)
    riesz = None if inner is None else inner.riesz
    run = FieldRun(misfit, theta, grid, limits, riesz, settings, file, every, callback, refusals)
    with closing(open_progress(progress and comm.rank == 0, settings.maxiter)) as shown:
        return run.minimise(shown, resume)


def _checked(theta0: Any, grid: CartesianGrid) -> Array:
    theta = np.asarray(value_of(theta0))
    if theta.dtype != np.float64:
        raise TypeError(f"minimize_field: theta0 has dtype {theta.dtype}, expected float64")
    if theta.shape[-grid.ndim :] != grid.patch_shape or theta.size == 0:
        raise ValueError(
            f"minimize_field: theta0 has shape {theta.shape}, expected {grid.patch_shape}, "
            "or more axes before these"
        )
    if not np.isfinite(theta).all():
        raise ValueError("minimize_field: theta0 has entries that are not finite")
    return theta


def _limits(bounds: tuple[Any, Any] | None, shape: tuple[int, ...]) -> Limits | None:
    if bounds is None:
        return None
    try:
        lower, upper = (np.array(np.broadcast_to(b, shape), np.float64) for b in bounds)
    except (TypeError, ValueError):
        raise ValueError(
            f"minimize_field: bounds are not two numbers or arrays of shape {shape}"
        ) from None
    if not (lower <= upper).all():
        where = tuple(int(i) for i in np.argwhere(~(lower <= upper))[0])
        raise ValueError(
            f"minimize_field: bounds of entry {where} are ({lower[where]}, {upper[where]})"
        )
    return lower, upper


def _settings(options: dict[str, Any] | None) -> Settings:
    unknown = sorted({*(options or {})} - {*Settings._fields})
    if unknown:
        raise ValueError(
            f"minimize_field: no option {', '.join(unknown)}; there are "
            f"{', '.join(Settings._fields)}"
        )
    settings = Settings(**(options or {}))
    if settings.memory < 1:
        raise ValueError(f"minimize_field: memory is {settings.memory}, expected at least 1")
    return settings


def _configuration(
    grid: CartesianGrid,
    theta: Array,
    limits: Limits | None,
    inner: InnerProduct | None,
    settings: Settings,
    metadata: dict[str, Any] | None,
) -> dict[str, Any]:
    """Return what makes two runs the same; collective."""
    version = ".".join(map(str, petsc().Sys.getVersion()))
    return {
        "method": "blmvm",
        "options": {"memory": settings.memory, "gtol": settings.gtol},
        "bounds": None if limits is None else f"{checksum(grid, limits):016x}",
        "inner": None if inner is None else inner.name,
        "shape": [*theta.shape[: -grid.ndim], *grid.shape],
        "metadata": metadata or {},
        "_versions": f"NumPy {np.__version__} and PETSc {version}",
    }
