"""Halo exchange: patches with the nodes of their neighbours around them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from math import prod
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import DTypeLike

from ..operator import Operator, require_float
from ..tape import Tape, active_tape
from ..variable import Array
from ..world import agreed
from .blocks import PerAxis
from .channel import new_channel
from .communication import Message
from .grid import CartesianGrid, same_on_all_ranks
from .halo_buffers import HaloBuffers, HaloGeometry


class HaloExchange(Operator):
    """Patches in, padded patches out: ghosts are copies of the neighbours' nodes.

    Parameters
    ----------
    grid : CartesianGrid
    width : int or sequence of int
        Ghost layers on either side, for all axes or each; at most the nodes of the shortest patch.
    corners : bool
        Also fill the ghosts that lie off the patch along more than one axis; zero otherwise. They
        come straight from their owners (up to 3^d − 1 neighbours), so one exchange remains one
        phase, which can be overlapped with work.

    Attributes
    ----------
    grid : CartesianGrid
    width : tuple of int
    corners : bool
    start, finish : Operator
        The two halves: ``pending = halo.start(u, v)``, work that does not need ghosts, and
        ``u, v = halo.finish(pending)``. In the reverse sweep ``finish`` starts the reversed
        exchange and ``start`` completes it, so what overlapped forwards overlaps backwards.

    Raises
    ------
    ValueError
        On all ranks: bad or different arguments.

    Notes
    -----
    Collective to make and to call. Inputs are any number of fields of shape ``grid.patch_shape``,
    float32 or float64 but all alike; outputs are new arrays of shape ``grid.padded_shape(width)``.
    All fields travel in one message to each neighbour.

    Ghosts outside the domain are zero. So with the owned nodes at ``P`` of the padded patch and the
    ghosts at ``G``, and ``E`` the matrix of zeros and ones that copies all ranks' nodes to all
    ranks' ghosts, the map is linear,

        y = P u + G E u,        ū = Pᵀ ȳ + Eᵀ Gᵀ ȳ:

    the cotangents of ghosts are sent back and added to their owner.

    Several exchanges of one object may be under way at once, and be finished in another order than
    they were started in, but in the same order on all ranks.

    Examples
    --------
    >>> grid = CartesianGrid((6, 4), periodic=True)
    >>> u = np.ones(grid.patch_shape)
    >>> padded = HaloExchange(grid, width=1)(u)
    >>> padded.shape == grid.padded_shape(1)
    True
    """

    needs_inputs = ()
    needs_outputs = ()
    communicates = True

    def __init__(self, grid: CartesianGrid, width: PerAxis = 1, corners: bool = False) -> None:
        with agreed(grid.comm):
            self.width = _checked_width(self.name, grid, width)
            self.corners = bool(corners)
        same_on_all_ranks(grid.comm, self.name, width=self.width, corners=self.corners)
        self.grid = grid
        self._exchanges = _Exchanges(grid, self.width, self.corners)
        self.start = HaloStart(self._exchanges)
        self.finish = HaloFinish(self._exchanges)

    def check(self, *fields: Any) -> None:
        self._exchanges.check(self.name, fields)

    def forward(self, *fields: Any) -> Any:
        return _one_or_all(self._exchanges.finish(self._exchanges.start(fields)))

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        return self.forward(*tangents)

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        return self._exchanges.finish_adjoint(self._exchanges.start_adjoint(cotangents))

    def message(self, inputs: Any, outputs: Any) -> Message:
        return self._exchanges.message(f"{self.name} of {_count(inputs)}")

    def neighbours(self, inputs: Any, outputs: Any) -> dict[int, int]:
        """Return the bytes that a recorded call sends to each neighbour."""
        return self._exchanges.sends(inputs)

    def buffers(self, fields: int, dtype: DTypeLike = np.float64) -> HaloBuffers:
        """Return the means to exchange padded arrays in place, over and over; collective.

        Parameters
        ----------
        fields : int
            How many arrays will be exchanged together.
        dtype : dtype_like
            ``float32`` or ``float64``.
        """
        kind = np.dtype(dtype)
        with agreed(self.grid.comm):
            if fields < 1:
                raise ValueError(f"{self.name}: got {fields} fields, expected at least 1")
            require_float(self.name, "fields", np.empty(0, kind))
        same_on_all_ranks(self.grid.comm, self.name, fields=fields, dtype=kind.name)
        return self._exchanges.new_buffers(fields, kind)


class HaloStart(Operator):
    """First half of a halo exchange: fields in, a pending exchange out. See ``HaloExchange``.

    Notes
    -----
    The cotangent of a pending exchange is the reversed exchange, pending: ``vjp`` completes it and
    adds the ghosts' cotangents to their owners'.
    """

    needs_inputs = ()
    needs_outputs = ()
    communicates = True

    def __init__(self, exchanges: _Exchanges) -> None:
        self._exchanges = exchanges

    def check(self, *fields: Any) -> None:
        self._exchanges.check(self.name, fields)

    def forward(self, *fields: Any) -> Any:
        pending = self._exchanges.start(fields)
        tape = active_tape()
        if tape is not None:
            tape.begin(id(pending), f"halo exchange of {len(fields)} fields")
            pending.tape = tape
        return pending

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        return self._exchanges.start(tangents)

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        if not isinstance(cotangents[0], PendingHalo):
            raise RuntimeError("HaloStart.vjp: this exchange was not finished on the tape")
        return self._exchanges.finish_adjoint(cotangents[0])

    def message(self, inputs: Any, outputs: Any) -> Message:
        return self._exchanges.message(f"{self.name} of {_count(inputs)}", outputs[0].number)

    def neighbours(self, inputs: Any, outputs: Any) -> dict[int, int]:
        """Return the bytes that a recorded call sends to each neighbour."""
        return self._exchanges.sends(inputs)


class HaloFinish(Operator):
    """Second half of a halo exchange: a pending exchange in, padded fields out.

    Notes
    -----
    ``vjp`` sends the ghosts' cotangents towards their owners and returns the reversed exchange,
    pending, as the cotangent of its input.
    """

    needs_inputs = ()
    needs_outputs = ()
    communicates = True

    def __init__(self, exchanges: _Exchanges) -> None:
        self._exchanges = exchanges

    def check(self, pending: Any) -> None:
        if not isinstance(pending, PendingHalo) or pending.exchanges is not self._exchanges:
            raise ValueError(
                f"{self.name}: pending is {pending!r}, expected what start of the same "
                "HaloExchange returned"
            )
        if pending.buffers is None:
            raise RuntimeError(f"{self.name}: this exchange is finished already")
        if pending.tape is not None and pending.tape is not active_tape():
            raise RuntimeError(f"{self.name}: this exchange was started on another tape")

    def forward(self, pending: Any) -> Any:
        if pending.tape is not None:
            pending.tape.end(id(pending))
            pending.tape = None
        return _one_or_all(self._exchanges.finish(pending))

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        if not isinstance(tangents[0], PendingHalo):  # started before the tape: a constant
            return tuple(y.zeros() for y in outputs)
        return self._exchanges.finish(tangents[0])

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        # Not called for an exchange that was started before the tape, which is a constant.
        return (lambda: self._exchanges.start_adjoint(cotangents),)

    def message(self, inputs: Any, outputs: Any) -> Message:
        return self._exchanges.message(f"{self.name} of {_count(outputs)}", inputs[0].number)

    def neighbours(self, inputs: Any, outputs: Any) -> dict[int, int]:
        """Return that nothing is sent, for the start has done that."""
        return {}


class PendingHalo:
    """An exchange under way, forward or reversed.

    Attributes
    ----------
    exchanges : object
        Whose it is.
    buffers : HaloBuffers or None
        Where the messages lie; ``None`` once it is finished.
    arrays : sequence of numpy.ndarray
        What is to be completed: padded fields, or owned cotangents if it is reversed.
    number : int
        How many exchanges of that object were started before it.
    tape : Tape or None
        That waits for it.
    """

    __slots__ = ("arrays", "buffers", "exchanges", "number", "tape")

    def __init__(
        self, exchanges: _Exchanges, buffers: HaloBuffers, arrays: tuple[Array, ...]
    ) -> None:
        self.exchanges = exchanges
        self.buffers: HaloBuffers | None = buffers
        self.arrays = arrays
        self.number = next(exchanges.numbers)
        self.tape: Tape | None = None

    def __repr__(self) -> str:
        return "PendingHalo(finished)" if self.buffers is None else "PendingHalo(under way)"


class _Exchanges:
    """What ``HaloExchange`` and its halves share: the geometry, and buffers not in use."""

    def __init__(self, grid: CartesianGrid, widths: tuple[int, ...], corners: bool) -> None:
        self.world = grid.comm
        self.geometry = HaloGeometry(grid, grid.rank, widths, corners)
        self.channel: tuple[MPI.Comm, int] = new_channel(grid.comm)
        self._idle: dict[tuple[int, np.dtype[Any]], list[HaloBuffers]] = {}
        self._agreed = False
        self.numbers = count()

    def message(self, text: str, number: int | None = None) -> Message:
        """Describe a recorded call: all ranks make the same ones in the same order."""
        tag = self.channel[1]
        which = "" if number is None else f" (exchange {number} of its object)"
        return Message("collective", text + which, self.world, None, tag, (text, tag, number))

    def sends(self, fields: Sequence[Any]) -> dict[int, int]:
        """Return the bytes that go to each neighbour."""
        each = len(fields) * fields[0].dtype.itemsize
        return {
            rank: each * sum(prod(face.shape) for face in slabs)
            for rank, (slabs, _) in self.geometry.neighbours.items()
        }

    def new_buffers(self, fields: int, dtype: np.dtype[Any]) -> HaloBuffers:
        return HaloBuffers(self.geometry, fields, dtype, *self.channel)

    def start(self, fields: Sequence[Array]) -> PendingHalo:
        buffers = self._take(fields)
        buffers.send_slabs(fields, padded=False)
        padded = tuple(np.zeros(self.geometry.padded_shape, u.dtype) for u in fields)
        for y, u in zip(padded, fields):
            y[self.geometry.interior] = u
        buffers.wrap(fields, padded, padded=False)
        return PendingHalo(self, buffers, padded)

    def finish(self, pending: PendingHalo) -> tuple[Array, ...]:
        buffers, padded = self._spend(pending)
        buffers.receive_ghosts(padded)
        self._give_back(buffers)
        return padded

    def start_adjoint(self, cotangents: Sequence[Array]) -> PendingHalo:
        buffers = self._take(cotangents)
        buffers.send_ghosts(cotangents)
        patches = tuple(w[self.geometry.interior].copy() for w in cotangents)
        buffers.wrap_adjoint(patches, cotangents, padded=False)
        return PendingHalo(self, buffers, patches)

    def finish_adjoint(self, pending: PendingHalo) -> tuple[Array, ...]:
        buffers, patches = self._spend(pending)
        buffers.add_slabs(patches, padded=False)
        self._give_back(buffers)
        return patches

    def check(self, name: str, fields: Sequence[Any]) -> None:
        """Check fields; the first time with all ranks, so that none waits in vain for another."""
        if self._agreed:
            self._check_here(name, fields)
            return
        with agreed(self.world):
            self._check_here(name, fields)
        dtype = fields[0].dtype.name
        same_on_all_ranks(self.world, name, **{"number of fields": len(fields), "dtype": dtype})
        self._agreed = True

    def _check_here(self, name: str, fields: Sequence[Any]) -> None:
        if not fields:
            raise ValueError(f"{name}: got 0 fields, expected at least 1")
        expected = self.geometry.patch_shape
        for i, u in enumerate(fields):
            if not isinstance(u, np.ndarray):
                raise TypeError(f"{name}: field {i} is a {type(u).__name__}, expected an array")
            if u.shape != expected:
                raise ValueError(f"{name}: field {i} has shape {u.shape}, expected {expected}")
            if u.dtype != fields[0].dtype:
                raise ValueError(
                    f"{name}: field {i} has dtype {u.dtype}, expected {fields[0].dtype} as field 0"
                )
        require_float(name, "field 0", fields[0])

    def _take(self, arrays: Sequence[Array]) -> HaloBuffers:
        idle = self._idle.get((len(arrays), arrays[0].dtype))
        return idle.pop() if idle else self.new_buffers(len(arrays), arrays[0].dtype)

    def _give_back(self, buffers: HaloBuffers) -> None:
        self._idle.setdefault((buffers.fields, buffers.dtype), []).append(buffers)

    @staticmethod
    def _spend(pending: PendingHalo) -> tuple[HaloBuffers, tuple[Array, ...]]:
        buffers, arrays = pending.buffers, pending.arrays
        if buffers is None:
            raise RuntimeError("HaloExchange: this exchange is finished already")
        pending.buffers, pending.arrays = None, ()
        return buffers, arrays


def _count(fields: Sequence[Any]) -> str:
    return f"{len(fields)} {fields[0].dtype} field{'s' if len(fields) > 1 else ''}"


def _one_or_all(arrays: tuple[Array, ...]) -> Any:
    return arrays[0] if len(arrays) == 1 else arrays


def _checked_width(name: str, grid: CartesianGrid, width: PerAxis) -> tuple[int, ...]:
    widths = grid.widths(width, name)
    shortest = grid.smallest_patch
    if any(w > n for w, n in zip(widths, shortest)):
        raise ValueError(
            f"{name}: width is {widths}, expected at most {shortest}, the nodes of the shortest "
            f"patch of {grid!r}"
        )
    return widths
