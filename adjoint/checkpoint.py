"""Time loops on a tape."""

from __future__ import annotations

from typing import Any

from .operator import Operator
from .propagator import Propagator


class TimeLoop(Operator):
    """All steps of all runs of a propagator, as one operator.

    Parameters
    ----------
    propagator : Propagator
    """

    needs_outputs = ()
    auxiliary = 1
    communicates = True

    def __init__(self, propagator: Propagator) -> None:
        self.propagator = propagator

    def forward(self, *inputs: Any) -> Any:
        loop = self.propagator
        loop.prepare(*inputs)
        kept = [loop.new_kept(loop.steps) for _ in range(loop.runs)]
        for run in range(loop.runs):
            loop.begin(run)
            loop.advance(0, loop.steps, kept[run])
        return (*loop.results(), kept)

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        loop = self.propagator
        loop.prepare(*inputs)
        loop.prepare_tangent(tangents)
        for run in range(loop.runs):
            loop.begin(run)
            loop.begin_tangent(run)
            loop.advance_tangent(0, loop.steps)
        return loop.result_tangents()

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        loop = self.propagator
        loop.prepare(*inputs)
        loop.prepare_reverse(cotangents)
        for run in range(loop.runs):
            loop.begin_reverse(run)
            loop.reverse(loop.steps, 0, outputs[-1][run])
            loop.finish_reverse(run)
        return loop.gradients()
