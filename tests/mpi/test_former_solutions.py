"""Where solves start, against least squares on the whole problem."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adjoint import communicator
from adjoint.solvers.former_solutions import REMEMBERED, FormerSolutions

Array = np.ndarray[Any, Any]
everywhere = pytest.mark.parallel([1, 2, 3, 4])
N = 24


class Dense:
    """A dense symmetric matrix of which this rank has some rows, the last of several ranks none."""

    def __init__(self, change: float = 0.0) -> None:
        generator = np.random.default_rng(3)
        some, more = generator.standard_normal((2, N, N))
        scale = np.diag(np.exp(change * generator.standard_normal(N)))
        self.matrix = scale @ (some @ some.T + N * np.eye(N) + change * (more + more.T)) @ scale
        self.whole_root = np.sqrt(self.matrix.diagonal())
        self.comm = communicator()
        parts = max(self.comm.size - 1, 1)
        rank = self.comm.rank
        sizes = [N - 3 * (parts - 1), *[3] * (parts - 1), 0]
        self.rows = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
        self.root = self.whole_root[self.rows]

    def product(self, x: Array) -> Array:
        return np.asarray(self.matrix[self.rows] @ np.concatenate(self.comm.allgather(x)))

    def solution(self, b: Array) -> Array:
        return np.linalg.solve(self.matrix, b)

    @property
    def former(self) -> FormerSolutions:
        return FormerSolutions(self.comm, len(self.root))


def start(former: FormerSolutions, dense: Dense, b: Array) -> Array:
    found = former.start(b[dense.rows], dense.root, dense.product)
    assert found is not None
    copy = found.copy()
    found[...] = np.nan  # it is the caller's
    return copy


def remember(former: FormerSolutions, dense: Dense, x: Array) -> None:
    own = x[dense.rows].copy()
    former.remember(own, dense.root, dense.product)
    own[...] = np.nan  # it is the caller's


@everywhere
def test_a_combination_of_former_solutions_is_found() -> None:
    dense = Dense()
    former = dense.former
    assert former.start(np.ones(len(dense.root)), dense.root, dense.product) is None
    right = np.random.default_rng(4).standard_normal((5, N))
    for b in right:
        remember(former, dense, dense.solution(b))
    weights = np.array([2.0, -1.0, 0.5, 3.0, -3.5])  # 1 in all, as of the last and differences
    expected = dense.solution(weights @ right)[dense.rows]
    np.testing.assert_allclose(start(former, dense, weights @ right), expected, atol=1e-5)


@everywhere
@pytest.mark.parametrize("count", [2, 3, REMEMBERED + 4])
def test_residuals_are_least_in_the_variables_of_diagonal_one(count: int) -> None:
    matrices = [Dense(0.05 * k) for k in range(count)]
    former = matrices[0].former
    solutions = np.random.default_rng(5).standard_normal((len(matrices), N))
    for dense, x in zip(matrices, solutions):
        remember(former, dense, x)
    w = np.array([dense.whole_root * x for dense, x in zip(matrices, solutions)])
    differences, images = [], []
    for dense, d in zip(matrices[1:][-REMEMBERED:], np.diff(w, axis=0)[-REMEMBERED:]):
        differences.append(d)
        images.append(dense.matrix @ (d / dense.whole_root) / dense.whole_root)
    last = Dense(0.7)
    b = np.random.default_rng(6).standard_normal(N)
    residual = (b - last.matrix @ (w[-1] / last.whole_root)) / last.whole_root
    c, *_ = np.linalg.lstsq(np.transpose(images), residual, rcond=None)
    expected = (w[-1] + c @ np.array(differences)) / last.whole_root
    np.testing.assert_allclose(start(former, last, b), expected[last.rows], atol=1e-4)


@everywhere
def test_the_same_solution_again_tells_nothing_new() -> None:
    dense = Dense()
    former = dense.former
    first, second = np.random.default_rng(7).standard_normal((2, N))
    b = dense.matrix @ first
    for _ in range(3):
        remember(former, dense, first)
        np.testing.assert_array_equal(start(former, dense, b), first[dense.rows])
    remember(former, dense, second)
    for _ in range(REMEMBERED + 1):
        remember(former, dense, second)
    np.testing.assert_allclose(start(former, dense, b), first[dense.rows], atol=1e-5)
    np.testing.assert_allclose(start(former, dense, b), first[dense.rows], atol=1e-5)
