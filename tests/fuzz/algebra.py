"""Steps with sparse matrices in stripes: products, transposes, solves. The oracle is dense."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from .collectives import splits
from .program import Grouped, Here, Settings, fit

#: So tight that derivatives can be compared as those of operators that solve nothing.
TIGHT = 1e-14

SOLVERS: dict[str, dict[str, Any]] = {
    "BoomerAMG": {},
    "Jacobi": {"pc_type": "jacobi"},
    "block Jacobi": {"pc_type": "bjacobi", "sub_pc_type": "lu"},
    "LU": {"ksp_type": "preonly", "pc_type": "lu", "pc_factor_mat_solver_type": "mumps"},
}


class Sparse(Grouped):
    """What steps with a matrix share: rows and columns of each rank, any of which may be none."""

    arity = 2

    def settings(self, draw: Any, ranks: int) -> Settings:
        counts = st.lists(st.integers(0, 3), min_size=ranks, max_size=ranks)
        return {
            "split": draw(splits(ranks)),
            "rows": tuple(draw(counts)),
            "columns": tuple(draw(counts)),
            "density": draw(st.sampled_from([0.0, 0.3, 1.0])),
            "seed": draw(st.integers(0, 999)),
        }

    def counts(self, s: Settings, members: list[int]) -> tuple[list[int], list[int]]:
        return [s["rows"][r] for r in members], [s["columns"][r] for r in members]

    def present(self, s: Settings, members: list[int]) -> Any:
        """Return where the whole matrix has entries."""
        rows, columns = self.counts(s, members)
        generator = np.random.default_rng(s["seed"])
        return generator.random((sum(rows), sum(columns))) < s["density"]

    def pattern(self, here: Here, s: Settings, members: list[int]) -> Any:
        def make() -> Any:
            me, (rows, columns) = members.index(here.rank), self.counts(s, members)
            mine = np.split(self.present(s, members), np.cumsum(rows)[:-1])[me]
            indptr = np.concatenate([[0], np.cumsum(mine.sum(axis=1))]).astype(int)
            return here.library["Pattern"](
                indptr, np.nonzero(mine)[1], columns[me], here.comm(s["split"])
            )

        return here.once(f"Pattern {type(self)} {s}", make)

    def entries(self, s: Settings, members: list[int], values: list[Any]) -> Any:
        """Return all members' entries, row after row."""
        rows, _ = self.counts(s, members)
        parts = np.split(self.present(s, members), np.cumsum(rows)[:-1])
        return np.concatenate([fit(v, (int(p.sum()),)) for v, p in zip(values, parts)])

    def dense(self, s: Settings, members: list[int], values: list[Any]) -> Any:
        present, entries = self.present(s, members), self.entries(s, members, values)
        matrix = np.zeros(present.shape, entries.dtype)
        matrix[present] = entries
        return matrix


class Product(Sparse):
    """A matrix with entries of one value, times a vector of another."""

    def here(self, here: Here, s: Settings, members: list[int], *args: Any) -> list[Any]:
        pattern = self.pattern(here, s, members)
        product = here.once(f"MatVec {s}", lambda: here.library["MatVec"](pattern))
        x = fit(args[1], (pattern.local_shape[1],))
        return [product(fit(args[0], (pattern.nnz,)), x) / max(pattern.shape[1], 1)]

    def all(self, s: Settings, members: list[int], *args: list[Any]) -> list[list[Any]]:
        rows, columns = self.counts(s, members)
        x = np.concatenate([fit(v, (n,)) for v, n in zip(args[1], columns)])
        y = self.dense(s, members, args[0]) @ x / max(sum(columns), 1)
        return [np.split(y, np.cumsum(rows)[:-1])]


class Transposed(Sparse):
    """The entries of the transposed matrix, and its product with a vector."""

    def count(self, s: Settings) -> int:
        return 2

    def here(self, here: Here, s: Settings, members: list[int], *args: Any) -> list[Any]:
        pattern = self.pattern(here, s, members)
        transpose = here.once(f"Transpose {s}", lambda: here.library["Transpose"](pattern))
        turned = transpose.transposed
        product = here.once(f"MatVec of Transpose {s}", lambda: here.library["MatVec"](turned))
        values = transpose(fit(args[0], (pattern.nnz,)))
        x = fit(args[1], (turned.local_shape[1],))
        return [values, product(values, x) / max(turned.shape[1], 1)]

    def all(self, s: Settings, members: list[int], *args: list[Any]) -> list[list[Any]]:
        rows, columns = self.counts(s, members)
        matrix, present = self.dense(s, members, args[0]).T, self.present(s, members).T
        x = np.concatenate([fit(v, (n,)) for v, n in zip(args[1], rows)])
        stripes = np.cumsum(columns)[:-1]
        values = [m[p] for m, p in zip(np.split(matrix, stripes), np.split(present, stripes))]
        return [values, np.split(matrix @ x / max(sum(rows), 1), stripes)]


class Solved(Sparse):
    """A system with a dominant diagonal, whose solution is at most twice its right-hand side.

    A symmetric one is a constant matrix times a number, on which all ranks agree.
    """

    def settings(self, draw: Any, ranks: int) -> Settings:
        found = super().settings(draw, ranks)
        del found["columns"]
        return {
            **found,
            "symmetric": draw(st.booleans()),
            "solver": draw(st.sampled_from(list(SOLVERS))),
        }

    def counts(self, s: Settings, members: list[int]) -> tuple[list[int], list[int]]:
        rows = [s["rows"][r] for r in members]
        rows[-1] += sum(rows) == 0  # an empty system is none
        return rows, rows

    def present(self, s: Settings, members: list[int]) -> Any:
        present = super().present(s, members)
        if s["symmetric"]:
            present = present | present.T
        return present | np.eye(len(present), dtype=bool)

    def constant(self, s: Settings, n: int) -> Any:
        """Return a symmetric matrix with a dominant diagonal."""
        entries = np.random.default_rng(s["seed"]).uniform(-1, 1, (n, n)) / n
        return (entries + entries.T) / 2 + 2 * np.eye(n)

    def here(self, here: Here, s: Settings, members: list[int], *args: Any) -> list[Any]:
        pattern = self.pattern(here, s, members)
        solve = here.once(
            f"LinearSolve {s}",
            lambda: here.library["LinearSolve"](
                pattern, symmetric=s["symmetric"], rtol=TIGHT, options=SOLVERS[s["solver"]]
            ),
        )
        rows = np.repeat(np.arange(*pattern.row_range), np.diff(pattern.indptr))
        n = pattern.shape[0]
        if s["symmetric"]:
            number = np.tanh(fit(args[0], ())) / len(members)
            mean = here.operator("Allreduce", split=s["split"])(number)
            values = self.constant(s, n)[rows, pattern.indices] * (1 + 0.3 * mean)
        else:
            small = np.tanh(fit(args[0], (pattern.nnz,)))
            values = np.where(rows == pattern.indices, 2 + 0.5 * small, small / n)
        return [solve(values, fit(args[1], pattern.local_shape[:1])) / 2]

    def all(self, s: Settings, members: list[int], *args: list[Any]) -> list[list[Any]]:
        rows, _ = self.counts(s, members)
        present = self.present(s, members)
        n = len(present)
        if s["symmetric"]:
            mean = sum(np.tanh(fit(v, ())) for v in args[0]) / len(members)
            matrix = self.constant(s, n) * present * (1 + 0.3 * mean)
        else:
            small = np.tanh(self.dense(s, members, args[0]))
            matrix = np.where(np.eye(n, dtype=bool), 2 + 0.5 * small, small / n)
        b = np.concatenate([fit(v, (k,)) for v, k in zip(args[1], rows)])
        return [np.split(np.linalg.solve(matrix, b) / 2, np.cumsum(rows)[:-1])]


class Rooted(Solved):
    """A dominant system with a sine of each unknown added, solved by Newton's method."""

    def settings(self, draw: Any, ranks: int) -> Settings:
        return {**super().settings(draw, ranks), "symmetric": False}

    def here(self, here: Here, s: Settings, members: list[int], *args: Any) -> list[Any]:
        pattern = self.pattern(here, s, members)
        rows = np.repeat(np.arange(*pattern.row_range), np.diff(pattern.indptr))
        diagonal, n = rows == pattern.indices, pattern.shape[0]
        product = here.once(f"MatVec in {s}", lambda: here.library["MatVec"](pattern))

        def values(small: Any) -> Any:
            return np.where(diagonal, 2 + 0.5 * np.tanh(small), np.tanh(small) / n)

        def residual(u: Any, small: Any, b: Any) -> Any:
            return product(values(small), u) + np.sin(u) / 2 - b

        def jacobian(u: Any, small: Any, b: Any) -> Any:
            slopes = np.zeros(pattern.nnz)
            slopes[diagonal] = np.cos(u) / 2
            return values(small) + slopes

        solve = here.once(
            f"NonlinearSolve {s}",
            lambda: here.library["NonlinearSolve"](
                pattern, residual, jacobian, rtol=TIGHT, linear_rtol=TIGHT,
                options=SOLVERS[s["solver"]],
            ),
        )  # fmt: skip
        b = fit(args[1], pattern.local_shape[:1])
        return [solve(np.zeros(len(b)), fit(args[0], (pattern.nnz,)), b) / 2]

    def all(self, s: Settings, members: list[int], *args: list[Any]) -> list[list[Any]]:
        rows, _ = self.counts(s, members)
        small = np.tanh(self.dense(s, members, args[0]))
        diagonal = np.eye(len(small))
        matrix = np.where(diagonal > 0, 2 + 0.5 * small, small / len(small))
        b = np.concatenate([fit(v, (k,)) for v, k in zip(args[1], rows)])
        u = np.zeros_like(matrix @ b)
        for _ in range(30):  # also of complex numbers, whose imaginary parts follow the real ones
            jacobian = matrix + diagonal * np.cos(u) / 2
            u = u - np.linalg.solve(jacobian, matrix @ u + np.sin(u) / 2 - b)
        return [np.split(u / 2, np.cumsum(rows)[:-1])]


KINDS = {"MatVec": Product(), "Transpose": Transposed(), "LinearSolve": Solved(),
         "NonlinearSolve": Rooted()}  # fmt: skip
