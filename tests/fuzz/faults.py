"""Operators that are wrong on purpose, to see whether they are found.

They are what comes first to mind when an adjoint is written down, and the mistakes that users of
other libraries report most often.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from adjoint.comm import Allreduce, Gather, HaloExchange, Wait


class IdentityAllreduce(Allreduce):
    """Each rank takes its own cotangent for that of the sum."""

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        return (cotangents[0],)


class CroppedHalo(HaloExchange):
    """The cotangents of ghosts are thrown away."""

    @property
    def name(self) -> str:
        return "HaloExchange"

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        interior = self.grid.interior(self.width)
        return tuple(w[interior] for w in cotangents)


class OneSidedGather(Gather):
    """The root keeps its part of the cotangent and gives the others nothing: they wait."""

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        if self.comm.rank == self.root:
            ((w,), (x,), (_, counts)) = cotangents, inputs, outputs
            start = sum(counts[: self.root])
            return (w[start : start + counts[self.root]].reshape(x.shape),)
        return super().vjp(cotangents, inputs, outputs)


class ForgetfulWait(Wait):
    """The cotangent of a message is sent as zeros."""

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        return super().vjp(tuple(0 * w for w in cotangents), inputs, outputs)


#: What each takes the place of, by name.
FAULTS: dict[str, tuple[str, Callable[..., Any]]] = {
    "identity": ("Allreduce", IdentityAllreduce),
    "cropped": ("HaloExchange", CroppedHalo),
    "one-sided": ("Gather", OneSidedGather),
    "forgetful": ("Wait", ForgetfulWait),
}
