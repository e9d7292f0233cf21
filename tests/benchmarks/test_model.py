"""The performance model: what it finds in made-up measurements, and what it predicts by hand."""

from __future__ import annotations

import numpy as np
import pytest
from model import (
    Computing,
    Growth,
    Network,
    Solve,
    Wave,
    fit_growth,
    fit_network,
    patches,
    sides,
)  # fmt: skip

from adjoint.comm import Blocks, CartesianGrid

SLOW = Network(latency=2e-3, overhead=3e-5, per_byte=1e-8)


def test_the_fit_finds_the_network_that_made_the_times() -> None:
    shapes = [(1, 1, 8), (1, 1, 40_000), (1, 2, 8_000), (1, 4, 1_000), (10, 10, 400_000)]
    found = fit_network([(*shape, SLOW.seconds(*shape)) for shape in shapes])
    assert found.latency == pytest.approx(SLOW.latency, rel=1e-6)
    assert found.overhead == pytest.approx(SLOW.overhead, rel=1e-6)
    assert found.per_byte == pytest.approx(SLOW.per_byte, rel=1e-6)


def test_the_fit_of_noisy_times_has_no_negative_cost() -> None:
    noise = np.random.default_rng(0)
    free = Network(1e-3, 0.0, 1e-9)
    shapes = [(1, k, size) for k in (1, 2, 4) for size in (8, 1000, 30_000)]
    samples = [(*s, free.seconds(*s) * noise.uniform(0.95, 1.05)) for s in shapes]
    found = fit_network(samples)
    assert min(found.latency, found.overhead, found.per_byte) >= 0
    assert found.latency == pytest.approx(free.latency, rel=0.1)


def test_growth_is_what_was_measured_and_a_fit_beyond() -> None:
    found = fit_growth({16: 13.0, 2: 7.0, 4: 9.0})
    assert found.at(4) == pytest.approx(9.0)
    assert found.at(8) == pytest.approx(11.0)
    assert found.at(4096) == pytest.approx(29.0)
    assert found.at(1) == 7.0
    assert fit_growth({8: 3.0}).at(4096) == 3.0
    assert fit_growth({2: 9.0, 4: 7.0}).at(4096) == 7.0


def test_computing_follows_powers_between_sizes_and_never_costs_less_than_the_smallest() -> None:
    curve = Computing(nodes=(100.0, 10_000.0), seconds=(1e-5, 1e-3), layer=1e-7)
    assert curve.at(1000) == pytest.approx(1e-4)
    assert curve.at(1_000_000) == pytest.approx(1e-1)
    assert curve.at(25) == pytest.approx(1e-5)
    assert curve.at(1000, in_layers=50) == pytest.approx(1e-4 + 5e-6)


@pytest.mark.parametrize("dims", [(1, 1), (2, 1), (3, 2), (4, 4)])
def test_the_patches_are_those_of_the_grid(dims: tuple[int, int]) -> None:
    layer = 5
    blocks = Blocks((60, 48), dims)
    expected = set()
    for rank in range(blocks.size):
        mask = np.ones(blocks.shape, bool)
        mask[layer:-layer, layer:-layer] = False
        part = mask[blocks.patch_slices(rank)]
        expected.add((part.shape, part.size, int(part.sum())))
    assert set(patches(blocks, layer)) == expected


def test_the_faces_of_an_inner_patch() -> None:
    grid = CartesianGrid((12, 9))
    ring = np.zeros(grid.padded_shape(1)).size - 12 * 9 - 4
    assert sum(sides((12, 9), Blocks((36, 27), (3, 3)))) == ring
    assert sides((12, 10), Blocks((12, 20), (1, 2))) == [12]
    assert sides((12, 10), Blocks((12, 10), (1, 1))) == []


def test_a_wave_by_hand() -> None:
    wave = Wave(Computing((100.0, 10_000.0), (1e-4, 1e-2)), exchanges=2, lines=10,
                once=Growth((1.0,), (10.0,), 1.0))  # fmt: skip
    alone = wave.seconds(Blocks((10, 10), (1, 1)), 7, 0, SLOW)
    assert alone == pytest.approx(7 * 1e-4)
    two = wave.seconds(Blocks((10, 20), (1, 2)), 7, 0, SLOW, crowding=3.0)
    message = 8 * 10 * 10
    step = 3 * 1e-4 + 2 * SLOW.latency + 2 * SLOW.overhead + message * SLOW.per_byte
    assert two == pytest.approx(7 * step + 11 * (SLOW.latency + SLOW.overhead))


def test_a_solve_by_hand() -> None:
    curve = Computing((100.0, 10_000.0), (1e-4, 1e-2))
    by_doubling = [Growth((1.0,), (first,), slope)
                   for first, slope in ((0.0, 1.0), (0.0, 10.0), (50.0, 0.0))]  # fmt: skip
    solve = Solve(curve, *by_doubling)  # iterations, rounds, bytes
    assert solve.seconds(Blocks((16, 16), (1, 1)), SLOW) == pytest.approx(2.56e-4)
    found = solve.seconds(Blocks((32, 32), (2, 2)), SLOW)
    rounds, sent = 5 * 20, 5 * 50 * 16  # of 5 levels
    waiting = rounds * (SLOW.latency + SLOW.overhead) + sent * SLOW.per_byte
    expected = 10 / 8 * 2.56e-4 + waiting
    assert found == pytest.approx(expected)
