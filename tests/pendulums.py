"""A propagator small enough to be read at a glance: coupled pendulums in a chain of ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mpi4py import MPI

from adjoint.propagator import Propagator

DT = 0.1


class Pendulums(Propagator):
    """``u⁺ = 2u − u⁻ − Δt² m sin(u + 0.1 S) + Δt² qₙ``, ``S`` the sum of ``u`` over all ranks.

    Inputs: ``m`` and ``q`` of shape (steps, n); output: ``u[0]²`` of all steps, (runs, steps).
    Run ``r`` starts from ``u = 1 + r``. ``taken`` counts the steps that were taken.
    """

    def __init__(self, comm: MPI.Comm, n: int, steps: int, runs: int = 1) -> None:
        self.comm, self.steps, self.runs, self.n = comm, steps, runs, n
        self.fields = np.zeros((2, n))
        self.taken = self.allocated = 0

    @property
    def state(self) -> Sequence[Any]:
        return [self.fields[0], self.fields[1]]

    def new_kept(self, steps: int) -> Sequence[Any]:
        self.allocated += 1
        return [np.zeros((steps, self.n)), np.zeros(steps)]

    def kept_bytes(self, steps: int) -> int:
        return 8 * steps * (self.n + 1)

    def prepare(self, *inputs: Any) -> None:
        self.m, self.q = inputs
        self.d = np.zeros((self.runs, self.steps))

    def begin(self, run: int) -> None:
        self.run = run
        self.fields[:] = 1.0 + run

    def advance(self, first: int, last: int, kept: Any = None) -> None:
        old, u = self.fields
        for n in range(first, last):
            total = self.comm.allreduce(u.sum())
            if kept is not None:
                kept[0][n - first], kept[1][n - first] = u, total
            self.d[self.run, n] = u[0] ** 2
            new = 2 * u - old - DT**2 * (self.m * np.sin(u + 0.1 * total) - self.q[n])
            old[:], u[:] = u.copy(), new
            self.taken += 1

    def results(self) -> tuple[Any, ...]:
        return (self.d.copy(),)

    def prepare_tangent(self, tangents: Sequence[Any]) -> None:
        self.dm, self.dq = tangents
        self.dd = np.zeros_like(self.d)

    def begin_tangent(self, run: int) -> None:
        self.tangent = np.zeros_like(self.fields)

    def advance_tangent(self, first: int, last: int) -> None:
        dold, du = self.tangent
        for n in range(first, last):
            u = self.fields[1].copy()
            total, dtotal = self.comm.allreduce(u.sum()), self.comm.allreduce(du.sum())
            self.dd[self.run, n] = 2 * u[0] * du[0]
            force = self.dm * np.sin(u + 0.1 * total) - self.dq[n]
            force += self.m * np.cos(u + 0.1 * total) * (du + 0.1 * dtotal)
            new = 2 * du - dold - DT**2 * force
            dold[:], du[:] = du.copy(), new
            self.advance(n, n + 1)

    def result_tangents(self) -> tuple[Any, ...]:
        return (self.dd,)

    def prepare_reverse(self, cotangents: Sequence[Any]) -> None:
        (self.dbar,) = cotangents
        self.mbar, self.qbar = np.zeros_like(self.m), np.zeros_like(self.q)

    def begin_reverse(self, run: int) -> None:
        self.bar = np.zeros_like(self.fields)

    def reverse(self, last: int, first: int, kept: Any) -> None:
        for n in reversed(range(first, last)):
            u, total = kept[0][n - first], kept[1][n - first]
            old, now = self.bar.copy()  # of u at n and at n + 1
            angle = u + 0.1 * total
            pull = -(DT**2) * now * self.m * np.cos(angle)
            self.mbar -= DT**2 * now * np.sin(angle)
            self.qbar[n] += DT**2 * now
            here = 2 * now + old + pull + 0.1 * self.comm.allreduce(pull.sum())
            here[0] += 2 * u[0] * self.dbar[self.run, n]
            self.bar[0], self.bar[1] = -now, here

    def finish_reverse(self, run: int) -> None:
        pass

    def gradients(self) -> tuple[Any, ...]:
        return self.mbar.copy(), self.qbar.copy()


class ReversiblePendulums(Pendulums):
    """The same, whose steps can be taken back: then a block keeps its last state alone."""

    backward_cost = 0.5

    def new_kept(self, steps: int) -> Sequence[Any]:
        if not self.backwards:
            return super().new_kept(steps)
        self.allocated += 1
        return [np.zeros((2, self.n))]

    def kept_bytes(self, steps: int) -> int:
        return self.fields.nbytes if self.backwards else super().kept_bytes(steps)

    def advance(self, first: int, last: int, kept: Any = None) -> None:
        super().advance(first, last, None if self.backwards else kept)
        if self.backwards and kept is not None:
            kept[0][:] = self.fields

    def reverse(self, last: int, first: int, kept: Any) -> None:
        if not self.backwards:
            return super().reverse(last, first, kept)
        self.fields[:] = kept[0]
        old, u = self.fields
        for n in reversed(range(first, last)):
            total = self.comm.allreduce(old.sum())
            before = 2 * old - u - DT**2 * (self.m * np.sin(old + 0.1 * total) - self.q[n])
            old[:], u[:] = before, old.copy()
            super().reverse(n + 1, n, [u[None], [total]])
