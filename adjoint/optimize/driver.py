"""The optimiser on rank 0, and what ends it."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from ..variable import Array, Variable, value_of
from ..world import agreed, communicator
from .composite import Composite
from .method import Bounds, Method
from .methods import make_bounds, make_method
from .progress import open_progress
from .ranks import Ranks
from .rejection import Rejecting, rejecting
from .residuals import Residuals
from .result import Result
from .run import Callback, Run
from .signals import flush_printed, handled
from .state import StateFile

if TYPE_CHECKING:
    from mpi4py import MPI

#: Options that say only when to stop: a run may be continued with others.
_STOPPING = ("maxiter", "maxfun", "disp")


def minimize(
    misfit: Callable[[Variable], Variable],
    theta0: Any,
    method: str = "L-BFGS-B",
    *,
    comm: MPI.Comm | None = None,
    bounds: Any = None,
    options: dict[str, Any] | None = None,
    reject: type[Exception] | Rejecting = (),
    callback: Callback | None = None,
    state: str | os.PathLike[str] | None = None,
    every: int = 10,
    resume: bool = False,
    metadata: dict[str, Any] | None = None,
    progress: bool = True,
) -> Result:
    """Minimise a misfit that all ranks compute together.

    The method runs on rank 0; the other ranks serve it, evaluating the misfit when they are told
    to. Value and gradient come from one run of the misfit. All ranks call this function; of all
    arguments but ``misfit``, ``comm`` and ``reject``, those of rank 0 count. Rank 0 needs memory
    for all parameters: for one at each node of a large grid there is
    ``adjoint.solvers.minimize_field``.

    Parameters
    ----------
    misfit : callable
        Takes theta, a Variable of theta0's shape and dtype with the same value on all ranks, and
        returns a scalar Variable on every rank, whose value on rank 0 counts (so ``Reduce`` to 0
        and ``Allreduce`` both do). Theta needs no ``Bcast``, and bears one. It must be a function
        of theta alone, if runs are to be continued. For Gauss-Newton it returns this rank's part
        of a residual instead, of any shape, and the misfit is the sum of its squares over all
        ranks; it may be a :class:`Composite`.
    theta0 : array_like of float32 or float64
        The start. The methods compute in float64.
    method : str
        ``"L-BFGS-B"``, ``"CG"``, ``"BFGS"``, ``"Newton-CG"``, ``"TNC"``, ``"SLSQP"`` and
        ``"trust-constr"`` are SciPy's; ``"Adam"`` and ``"Gauss-Newton"`` are ours.
    comm : mpi4py.MPI.Comm, optional
        The ranks that take part; ``COMM_WORLD`` by default.
    bounds : scipy.optimize.Bounds or sequence of (lower, upper), optional
        For L-BFGS-B, TNC, SLSQP, trust-constr and Adam (projected).
    options : dict, optional
        Of the method; SciPy's are passed on. The defaults are SciPy's but for L-BFGS-B (``maxcor``
        50, ``ftol`` 0, ``gtol`` 0, ``maxiter`` 1000, ``maxfun`` 100000) and for CG and BFGS
        (``gtol`` 0): it runs until ``maxiter``, or until no lower value can be found. Adam has
        ``learning_rate`` 1e-3, ``beta1`` 0.9, ``beta2`` 0.999, ``epsilon`` 1e-8, ``maxiter`` 1000
        and ``gtol`` 0. Gauss-Newton has ``damping`` 1e-3 (at the start, relative to the curvature
        along the gradient), ``ridge`` 0 (the weight of ``|θ − theta0|²`` in the misfit),
        ``forcing`` 0.5 and ``maxcg`` 50 (the largest tolerance and the most iterations of conjugate
        gradients), ``memory`` 40 (the rank of what is learned of a Composite), ``maxiter`` 1000 and
        ``gtol`` 0.
    reject : exception class or tuple of them, optional
        What the misfit raises on all ranks, or its gradient, where a point that the method tries is
        not admissible: a ``ConvergenceError`` of a solve, the ``FloatingPointError`` below. The
        method then tries a nearer one. Not for Adam, which takes every step.
    callback : callable, optional
        Called on rank 0 after each iteration and at the start with an :class:`Iteration` and a copy
        of theta, unless an earlier run did so. ``StopIteration`` ends the run; another exception is
        raised on all ranks.
    state : path, optional
        File to continue from. It is written by rank 0 every ``every`` iterations, at the end, and
        when an exception, SIGTERM (exit code 143, on all ranks) or an interrupt (130) ends the
        run, and is never seen half-written.
    every : int
        Iterations between two writes.
    resume : bool
        Continue the run of the state file. Where there is no file yet, the run starts; otherwise
        method, options (but ``maxiter``, ``maxfun`` and ``disp``), bounds, theta0 and metadata must
        be those of the file. With ``resume=False`` an existing file is replaced.
    metadata : dict, optional
        Whatever else makes two runs the same (a seed, a grid, a frequency band), of numbers,
        strings, lists and dictionaries. Keys that start with an underscore are written to the state
        file as well, but may differ.
    progress : bool
        Print a line an iteration on rank 0, or show a bar if this is a terminal and rich is
        installed.

    Returns
    -------
    Result
        On all ranks the same.

    Raises
    ------
    FloatingPointError
        Where the misfit or its gradient is not finite, naming evaluation and iteration.
    ValueError, TypeError
        For unfit arguments, and a ``theta0`` that is rejected.
    StateError
        A ``ValueError``, for a state file that is damaged or of another run; it is left as it is.
    OSError
        Where the state cannot be written. The former file is intact.
    RuntimeError
        Where a continued run asks for other evaluations than were recorded (another SciPy version).
    Exception
        What the misfit raises on all ranks, what the callback raises; the state was saved before.

    Notes
    -----
    Each rank differentiates with respect to its own copy of theta and the sum of these partial
    gradients is taken on rank 0, which is the transpose of broadcasting theta.

    An exception that the misfit raises on one rank alone must not be caught: run the program with
    ``python -m mpi4py``, which then ends all ranks.

    A run continued from its state file makes the iterates that it would have made uninterrupted,
    bit for bit, on the same number of ranks and with the same libraries. For SciPy's methods the
    file holds all evaluations, which are replayed to the method without calling the misfit: 8 bytes
    for each parameter and evaluation, in memory as well, and written anew every ``every``
    iterations. Adam's file holds iterate, gradient and two moments, however many iterations were
    made.

    References
    ----------
    Byrd, Lu, Nocedal, Zhu (1995). A limited memory algorithm for bound constrained optimization.
    DOI 10.1137/0916069

    Examples
    --------
    >>> import numpy as np
    >>> result = minimize(lambda theta: ((theta - 3.0) ** 2).sum(), np.zeros(2), progress=False)
    >>> result.theta
    array([3., 3.])
    """
    world = communicator(comm)
    run: Run | None = None
    with agreed(world):
        if not callable(misfit):
            raise TypeError(f"minimize: misfit is a {type(misfit).__name__}, expected a function")
        refusals = rejecting(reject, "minimize")
        if world.rank == 0:
            theta = _checked(theta0)
            limits = make_bounds(bounds, theta.shape)
            chosen = make_method(method, options, limits)
            if refusals and chosen.name == "Adam":
                raise ValueError("minimize: Adam takes every step, and rejects none")
            start = theta.ravel().astype(np.float64)
            file = None
            if state is not None:
                configuration = _configuration(chosen, limits, theta, metadata)
                if chosen.squares:
                    configuration["composite"] = isinstance(misfit, Composite)
                file = StateFile(state, configuration, start)
            elif resume:
                raise ValueError("minimize: resume=True without a state file")
            if every < 1:
                raise ValueError(f"minimize: every is {every}, expected at least 1")
            run = Run(chosen, start, theta.shape, theta.dtype, file, every, resume, callback)
    told = None
    if run is not None:
        settings = run.method.options if run.method.squares else None
        told = run.shape, run.dtype, settings, bool(refusals)
    shape, dtype, settings, rejects = world.bcast(told, 0)
    with agreed(world):
        if bool(refusals) != rejects:
            raise ValueError("minimize: reject is given on some ranks only")
    ranks = Ranks(misfit, shape, dtype, world, refusals)
    if settings is not None:
        begin = None if run is None else run.start
        memory, ridge = settings["memory"], settings["ridge"]
        ranks = Residuals(misfit, shape, dtype, world, refusals, memory, ridge, begin)
    if run is None:
        with _ended_by_interrupts():
            return ranks.serve()
    return _lead(run, ranks, progress)


def _lead(run: Run, ranks: Ranks, progress: bool) -> Result:
    """Run the method on rank 0, and release the other ranks whatever ends it."""
    try:
        with (
            closing(open_progress(progress, run.method.options.get("maxiter"))) as shown,
            _saving_on_signals(run, ranks.world),
        ):
            outcome = run.minimise(ranks, shown)
            result = Result(
                theta=run.reshaped(outcome.theta),
                value=outcome.value,
                gradient_norm=run.norm_at(outcome),
                iterations=len(run.history) - 1,
                evaluations=run.evaluations,
                success=outcome.success,
                message=outcome.message,
                history=tuple(run.history),
            )
    except BaseException as error:
        _save_anyway(run)
        if not ranks.running:
            ranks.release(error)
        raise
    ranks.release(result)
    return result


@contextmanager
def _saving_on_signals(run: Run, world: MPI.Comm) -> Iterator[None]:
    """Save the state when the process is asked to end, then end all ranks.

    Notes
    -----
    Python runs the handler when the call into C that the signal met returns. A batch system that
    kills sooner costs the evaluations since the last write.

    An interrupt is left alone on one rank: the exception that Python makes of it saves the state as
    every other does. On several ranks that exception would leave the misfit on this rank only.
    """

    def stop(signum: int, frame: Any, handler: Any) -> None:
        if run.saving:
            run.after_saving = lambda: stop(signum, frame, handler)
            return
        _save_anyway(run)
        if callable(handler) and handler is not signal.default_int_handler:
            handler(signum, frame)
            return
        if world.size > 1:  # the others may be anywhere in the misfit
            flush_printed()
            world.Abort(128 + signum)
        raise SystemExit(128 + signum)

    wanted = [signal.SIGTERM] if run.state is not None else []
    if world.size > 1:
        wanted.append(signal.SIGINT)
    with handled(stop, wanted):
        yield


@contextmanager
def _ended_by_interrupts() -> Iterator[None]:
    """Let an interrupt end this process at once, as SIGTERM does, while it serves rank 0.

    The exception that Python makes of it would leave the misfit on this rank only, and what ended
    the job could not be told from its exit code.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _save_anyway(run: Run) -> None:
    """Save the state where something else has gone wrong already, which matters more."""
    try:
        run.save()
    except OSError as error:
        print(error, file=sys.stderr, flush=True)


def _checked(theta0: Any) -> Array:
    theta = np.asarray(value_of(theta0))
    if theta.dtype not in (np.float32, np.float64):
        raise TypeError(f"minimize: theta0 has dtype {theta.dtype}, expected float32 or float64")
    if theta.size == 0:
        raise ValueError(f"minimize: theta0 has shape {theta.shape}, expected an entry at least")
    if not np.isfinite(theta).all():
        raise ValueError("minimize: theta0 has entries that are not finite")
    return theta


def _configuration(
    method: Method, bounds: Bounds | None, theta: Array, metadata: dict[str, Any] | None
) -> dict[str, Any]:
    """Return what makes two runs the same."""
    import scipy

    digest = None if bounds is None else hashlib.sha256(np.stack(bounds).tobytes()).hexdigest()
    return {
        "method": method.name,
        "options": {key: x for key, x in method.options.items() if key not in _STOPPING},
        "bounds": digest,
        "shape": list(theta.shape),
        "dtype": theta.dtype.name,
        "metadata": metadata or {},
        "_versions": f"NumPy {np.__version__} and SciPy {scipy.__version__}",
    }
