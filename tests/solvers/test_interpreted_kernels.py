"""What only loops that are run as Python can be asked: in which order they go, what they touch."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from adjoint.solvers import acoustic_kernels, acoustic_kernels_3d, elastic_kernels
from adjoint.solvers.disjoint import disjoint, get, put
from adjoint.solvers.unsigned import interpreted
from tests import small_acoustic, small_elastic
from tests.aliases import watch
from tests.jobs import ROOT, environment
from tests.shares import alone
from tests.small_acoustic import same

pytestmark = [
    pytest.mark.filterwarnings("ignore:(Acoustic|Elastic)Wave. .* nodes for the shortest"),
    pytest.mark.timeout(300),
]
only_interpreted = pytest.mark.skipif(not interpreted, reason="loops are compiled")


@pytest.mark.skipif(interpreted, reason="this is the run with interpreted kernels")
def test_with_interpreted_kernels() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__],
        cwd=ROOT, env={**environment(), "NUMBA_DISABLE_JIT": "1"}, capture_output=True, text=True,
        timeout=240,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout
    assert " passed, 1 skipped" in found.stdout


@only_interpreted
@pytest.mark.parametrize("name", small_acoustic.SHARED)
def test_shares_of_rows_may_be_taken_in_any_order(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepared(stepper: Any) -> None:
        monkeypatch.setattr(acoustic_kernels, "prange", alone(stepper.work))

    settings = small_acoustic.SHARED[name]
    expected = small_acoustic.outcome(1, 1, **settings)
    same(small_acoustic.outcome(3, 4, prepared, **settings), expected)


@only_interpreted
def test_shares_of_blocks_may_be_taken_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = small_acoustic.values_of(*small_acoustic.wave_of(**small_acoustic.SPACE))
    wave, inputs = small_acoustic.wave_of(**small_acoustic.SPACE)
    stepper = wave.propagator._stepper
    stepper.share(3, 1)
    work = stepper._work.reshape(3, -1, stepper.padding.pitch)
    monkeypatch.setattr(acoustic_kernels_3d, "prange", alone(work))
    same(small_acoustic.values_of(wave, inputs), expected)


@only_interpreted
@pytest.mark.parametrize("name", small_elastic.SETTINGS)
def test_shares_of_elastic_rows_may_be_taken_in_any_order(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = small_elastic.SETTINGS[name]
    expected = small_elastic.results_of(*small_elastic.wave_of(7, (36, 9), **settings))
    monkeypatch.setattr("numba.get_num_threads", lambda: 4)
    wave, inputs = small_elastic.wave_of(7, (36, 9), **settings)
    rows = wave.propagator._rows
    # Beside the layers' columns it stays zero.
    work = alone(rows.reshape(-1, 2, rows.shape[1]), blank=0.0)
    monkeypatch.setattr(elastic_kernels, "prange", work)
    same(small_elastic.results_of(wave, inputs), expected)


@only_interpreted
def test_single_precision_in_space() -> None:
    exact = small_acoustic.wave_of(**small_acoustic.SPACE)
    wave, _ = small_acoustic.wave_of(dtype=np.float32, **small_acoustic.SPACE)
    inputs = [value.astype(np.float32) for value in exact[1]]
    values = small_acoustic.values_of
    for found, expected in zip(values(wave, inputs), values(*exact)):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@only_interpreted
@pytest.mark.parametrize("name", small_acoustic.SETTINGS)
def test_acoustic_loops_are_told_the_truth(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wave, inputs = small_acoustic.wave_of(**small_acoustic.SETTINGS[name])
    kernels = acoustic_kernels if wave.grid.ndim == 2 else acoustic_kernels_3d
    loops = watch(monkeypatch, kernels)
    small_acoustic.values_of(wave, inputs)
    assert loops.stores > 0


@only_interpreted
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("name", small_elastic.SETTINGS)
def test_elastic_loops_are_told_the_truth(
    name: str, backwards: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = small_elastic.SETTINGS[name]
    wave, inputs = small_elastic.wave_of(backwards=backwards, **settings)
    loops = watch(monkeypatch, elastic_kernels)
    small_elastic.results_of(wave, inputs)
    assert loops.stores > 0


def stores_what_it_loads(u: Any, row: int) -> None:
    disjoint()
    put(u, row, 0, get(u, 1, 0), 1)


@only_interpreted
def test_rows_that_overlap_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    watch(monkeypatch, sys.modules[__name__])
    u = np.zeros((3, 4))
    stores_what_it_loads(u, 0)
    stores_what_it_loads(u, 2)  # in a call, two rows; a call later, others
    with pytest.raises(AssertionError, match=r"entry \(1, 0\) is of row 0, and of row 1"):
        stores_what_it_loads(u, 1)
    with pytest.raises(AssertionError, match=r"indices are \(-1, 0\)"):
        stores_what_it_loads(u, -1)
