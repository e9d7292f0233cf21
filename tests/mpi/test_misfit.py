"""Misfits of traces spread over ranks: one value and gradient, with silent and dead traces too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

from adjoint import Tape
from adjoint.comm import Allreduce
from adjoint.solvers import Envelope, LeastSquares, NormalizedCrossCorrelation
from adjoint.solvers.misfit import Misfit
from adjoint.testing import check_jvp, check_vjp, dot_test, taylor_test

DT, SHOTS, RECEIVERS, SAMPLES = 2e-3, 2, 7, 45

MISFITS: dict[str, Callable[..., Misfit]] = {
    "least squares": lambda **kw: LeastSquares(DT, **kw),
    "cross-correlation": NormalizedCrossCorrelation,
    "envelope": lambda **kw: Envelope(DT, **kw),
    "squared envelope": lambda **kw: Envelope(DT, power=2, **kw),
}


def whole(seed: int) -> Any:
    """Return oscillations of varying strength, whose envelope is nowhere near zero."""
    random = np.random.default_rng(seed)
    phase = 0.9 * np.arange(SAMPLES) + random.random((SHOTS, RECEIVERS, 1)) * 2 * np.pi
    return np.sin(phase) * (1 + random.random(phase.shape))


def mine(comm: MPI.Comm) -> slice:
    """Return the receivers of this rank: uneven numbers, and none on the last of several."""
    if comm.size == 1:
        return slice(None)
    edges = [*(RECEIVERS * r // (comm.size - 1) for r in range(comm.size)), RECEIVERS]
    return slice(edges[comm.rank], edges[comm.rank + 1])


def total(misfit: Misfit, comm: MPI.Comm) -> Callable[..., Any]:
    return lambda d, o: Allreduce(comm)(misfit(d, o))


def value_and_gradients(misfit: Misfit, comm: MPI.Comm, d: Any, o: Any) -> tuple[float, list[Any]]:
    with Tape(comm=comm) as tape:
        inputs = [tape.watch(d), tape.watch(o)]
        loss = total(misfit, comm)(*inputs)
    return float(loss), tape.gradient(loss, inputs)


@pytest.mark.parallel([1, 2, 3, 4, 6])
@pytest.mark.parametrize("name", MISFITS)
@pytest.mark.parametrize("weighted", [False, True])
def test_derivatives_and_one_result_for_all_ranks(name: str, weighted: bool) -> None:
    comm, d, o = MPI.COMM_WORLD, whole(1), whole(2)
    part = mine(comm)
    weights = np.random.default_rng(3).random((SHOTS, RECEIVERS)) if weighted else np.ones((2, 7))
    alone = MISFITS[name](weights=weights)
    misfit = MISFITS[name](weights=weights[:, part])
    own = d[:, part].copy(), o[:, part].copy()
    dot_test(total(misfit, comm), *own, rtol=1e-12)
    check_jvp(total(misfit, comm), *own)
    check_vjp(total(misfit, comm), *own)
    random = np.random.default_rng([4, comm.rank])
    for number in (0, 1):
        change = random.standard_normal(own[number].shape)
        rates = taylor_test(
            lambda x, n=number: total(misfit, comm)(*(x if k == n else own[k] for k in (0, 1))),
            own[number], change, levels=3,
        )  # fmt: skip
        assert min(rates) >= 1.95
    value, expected = value_and_gradients(alone, MPI.COMM_SELF, d, o)
    found, slopes = value_and_gradients(misfit, comm, *own)
    assert found == pytest.approx(value, rel=1e-12)
    assert value > 0
    for slope, known in zip(slopes, expected):
        np.testing.assert_allclose(slope, known[:, part], rtol=0, atol=1e-12 * np.abs(known).max())


#: What a silent predicted, a silent observed and two silent traces count.
SILENT: dict[str, Callable[[Any, Any], tuple[float, float, float]]] = {
    "least squares": lambda d, o: (DT / 2 * np.sum(o**2), DT / 2 * np.sum(d**2), 0.0),
    "cross-correlation": lambda d, o: (1.0, 0.0, 0.0),
}


@pytest.mark.parallel([1, 2, 3])
@pytest.mark.parametrize("name", MISFITS)
def test_silent_and_dead_traces(name: str) -> None:
    comm, d, o = MPI.COMM_WORLD, whole(1), whole(2)
    part = mine(comm)
    d[0, 1] = d[0, 2] = o[0, 2] = o[1, 5] = 0  # silent
    o[1, 0] = np.nan  # a dead receiver, of which something is in the file all the same
    o[0, 6, 3] = np.inf
    weights = np.ones((SHOTS, RECEIVERS))
    weights[1, 0] = weights[0, 6] = 0
    misfit = MISFITS[name](weights=weights[:, part])
    value, (slope, _) = value_and_gradients(misfit, comm, d[:, part].copy(), o[:, part].copy())
    single = MISFITS[name]()
    parts = [
        float(single(d[s : s + 1, r : r + 1], o[s : s + 1, r : r + 1]))
        for s, r in np.argwhere(weights > 0)
    ]
    assert value == pytest.approx(sum(parts), rel=1e-12)
    gradient = np.zeros_like(d)
    gradient[:, part] = slope
    comm.Allreduce(MPI.IN_PLACE, gradient)
    assert np.isfinite(gradient).all()
    assert not gradient[1, 0].any()
    assert not gradient[0, 6].any()
    assert gradient[0, 0].any()
    assert not gradient[0, 2].any()  # nothing was seen, and nothing is predicted
    if name in SILENT:
        for (s, r), expected in zip(((0, 1), (1, 5), (0, 2)), SILENT[name](d[1, 5], o[0, 1])):
            found = single(d[s : s + 1, r : r + 1], o[s : s + 1, r : r + 1])
            assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("name", MISFITS)
def test_traces_of_a_dead_receiver_are_refused_without_a_weight(name: str) -> None:
    d, o = whole(1), whole(2)
    o[1, 3, 7] = np.nan
    with pytest.raises(ValueError, match=r"observed trace \(1, 3\) has values that are not finite"):
        MISFITS[name]()(d, o)
