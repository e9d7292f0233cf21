"""Buffers and persistent requests that fill ghost layers, and take their cotangents back."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import NamedTuple
from weakref import finalize

import numpy as np
from mpi4py import MPI
from numpy.typing import DTypeLike

from .. import spans
from ..variable import Array
from .blocks import Blocks
from .keeping import keep_until_complete

Requests = list[MPI.Prequest]
Offset = tuple[int, ...]
Region = tuple[slice, ...]
Part = tuple[Array, Region]


class Face(NamedTuple):
    """Where a patch meets a neighbour: a ghost region, and the owned region that faces it.

    Attributes
    ----------
    slab : tuple of slice
        Owned nodes within the patch; they are the neighbour's ghosts.
    slab_padded : tuple of slice
        The same within the padded patch.
    ghost : tuple of slice
        Ghosts within the padded patch; they are the neighbour's nodes.
    shape : tuple of int
        Of any of these.
    """

    slab: Region
    slab_padded: Region
    ghost: Region
    shape: tuple[int, ...]


class HaloGeometry:
    """Which nodes of a patch are whose ghosts, without any communication.

    Parameters
    ----------
    blocks : Blocks
    rank : int
    widths : tuple of int
        Ghost layers along each axis; no more than the shortest patch has nodes.
    corners : bool
        Whether ghosts that lie off the patch along more than one axis take part.

    Attributes
    ----------
    patch_shape, padded_shape : tuple of int
    interior : tuple of slice
        The owned nodes within the padded patch.
    neighbours : dict
        From each neighbouring rank to the faces in the order in which their slabs lie in the
        message to it, and in that in which their ghosts lie in the message from it.
    wraps : list of (Face, Face)
        Where this rank is its own neighbour: the face whose ghosts copy the slab of the other.
    ghosts : list of tuple of slice
        All ghost regions that have an owner.
    """

    def __init__(self, blocks: Blocks, rank: int, widths: tuple[int, ...], corners: bool) -> None:
        coords = blocks.coords_of(rank)
        lengths = tuple(b - a for a, b in zip(*blocks.patch(rank)))
        faces: dict[Offset, Face] = {}
        owners: dict[int, list[Offset]] = {}
        for offset in product((-1, 0, 1), repeat=blocks.ndim):
            moved = sum(map(abs, offset))
            useful = all(w > 0 for o, w in zip(offset, widths) if o)
            owner = blocks.rank_at([c + o for c, o in zip(coords, offset)])
            if owner is None or not useful or moved == 0 or (moved > 1 and not corners):
                continue
            faces[offset] = _face(offset, lengths, widths)
            owners.setdefault(owner, []).append(offset)
        self.patch_shape = lengths
        self.padded_shape = tuple(n + 2 * w for n, w in zip(lengths, widths))
        self.interior = tuple(slice(w, w + n) for n, w in zip(lengths, widths))
        self.ghosts = [face.ghost for face in faces.values()]
        self.wraps = [(faces[o], faces[_opposite(o)]) for o in owners.pop(rank, [])]
        # The sender orders a message by offset. What a rank receives at an offset was sent to the
        # opposite one, so the receiver orders by that.
        self.neighbours = {
            owner: (
                [faces[o] for o in sorted(offsets)],
                [faces[o] for o in sorted(offsets, key=_opposite)],
            )
            for owner, offsets in sorted(owners.items())
        }


def _opposite(offset: Offset) -> Offset:
    return tuple(-o for o in offset)


def _face(offset: Offset, lengths: tuple[int, ...], widths: tuple[int, ...]) -> Face:
    slab, ghost = [], []
    for o, n, w in zip(offset, lengths, widths):
        slab.append(slice(0, w) if o < 0 else slice(n - w, n) if o else slice(0, n))
        ghost.append(slice(0, w) if o < 0 else slice(n + w, n + 2 * w) if o else slice(w, n + w))
    moved = tuple(slice(s.start + w, s.stop + w) for s, w in zip(slab, widths))
    shape = tuple(s.stop - s.start for s in slab)
    return Face(tuple(slab), moved, tuple(ghost), shape)


class HaloBuffers:
    """Ghost layers filled in place, for a fixed number of fields: the tool of time loops.

    Made by :meth:`HaloExchange.buffers`. All fields travel in one message to each neighbour, by
    persistent requests; only the ghosts that belong to a neighbour are touched. One exchange at a
    time may be under way; use several objects for more.

    Attributes
    ----------
    fields : int
    dtype : numpy.dtype
    padded_shape : tuple of int
        Shape that each array must have.

    Notes
    -----
    With ``x`` split into owned nodes ``o`` and ghosts ``g`` that copy neighbours' nodes by ``E``,

        forward:  o ← o,          g ← E o
        adjoint:  o ← o + Eᵀ g,   g ← 0

    The second is the transpose of the first. Ghosts without an owner (outside the domain) are left
    alone by both.
    """

    def __init__(
        self, geometry: HaloGeometry, fields: int, dtype: DTypeLike, comm: MPI.Comm, tag: int
    ) -> None:
        self.fields = fields
        self.dtype = np.dtype(dtype)
        self.padded_shape = geometry.padded_shape
        self._wraps = geometry.wraps
        self._filled = geometry.ghosts
        # Parts of messages with the region that each belongs to, all fields in one; those of slabs
        # for arrays without ghosts and with them.
        self._slabs: tuple[list[Part], list[Part]] = ([], [])
        self._ghosts: list[Part] = []
        self._forward: Requests = []
        self._adjoint: Requests = []
        self._expected: list[tuple[MPI.Status, int, int]] = []
        # Of the requests the receives come first, in the order of the neighbours.
        sends: tuple[Requests, Requests] = ([], [])
        for owner, (slabs, ghosts) in geometry.neighbours.items():
            length = fields * sum(prod(face.shape) for face in slabs)
            near, far = np.empty(length, self.dtype), np.empty(length, self.dtype)
            parts = _parts(near, fields, [face.shape for face in slabs])
            self._slabs[False].extend(zip(parts, [face.slab for face in slabs]))
            self._slabs[True].extend(zip(parts, [face.slab_padded for face in slabs]))
            parts = _parts(far, fields, [face.shape for face in ghosts])
            self._ghosts.extend(zip(parts, [face.ghost for face in ghosts]))
            self._forward.append(comm.Recv_init(far, owner, tag))
            self._adjoint.append(comm.Recv_init(near, owner, tag))
            sends[0].append(comm.Send_init(near, owner, tag))
            sends[1].append(comm.Send_init(far, owner, tag))
            self._expected.append((MPI.Status(), owner, far.nbytes))
        self._forward += sends[0]
        self._adjoint += sends[1]
        self._sent = sum(length for _, _, length in self._expected)  # as much as is received
        self._pending: tuple[Sequence[Array], bool] | None = None
        memory = [part for part, _ in self._slabs[False] + self._ghosts]
        finalize(self, _release, self._forward + self._adjoint, memory)

    def forward(self, arrays: Sequence[Array]) -> None:
        """Fill the ghosts of padded arrays, in place.

        Parameters
        ----------
        arrays : sequence of numpy.ndarray
            One for each field, of shape ``padded_shape``.
        """
        if spans.active is None:  # asked here, for this is done in every step of a time loop
            self.start_forward(arrays)
            self.finish_forward()
        else:
            with spans.span("halo exchange"):
                self.start_forward(arrays)
                self.finish_forward()

    def adjoint(self, arrays: Sequence[Array]) -> None:
        """Add the cotangents in ghosts to their owners and zero the ghosts, in place.

        Parameters
        ----------
        arrays : sequence of numpy.ndarray
            One for each field, of shape ``padded_shape``.
        """
        if spans.active is None:
            self.start_adjoint(arrays)
            self.finish_adjoint()
        else:
            with spans.span("halo exchange"):
                self.start_adjoint(arrays)
                self.finish_adjoint()

    def start_forward(self, arrays: Sequence[Array]) -> None:
        """Send what the neighbours' ghosts copy; the owned nodes may then be overwritten."""
        self._begin(arrays, False)
        self.send_slabs(arrays, True)
        if self._wraps:
            self.wrap(arrays, arrays, True)

    def finish_forward(self) -> None:
        """Wait for the ghosts of the arrays that were started with, and fill them."""
        self.receive_ghosts(self._end(False))

    def start_adjoint(self, arrays: Sequence[Array]) -> None:
        """Send the ghosts' cotangents and zero the ghosts; the arrays may then be added to."""
        self._begin(arrays, True)
        self.send_ghosts(arrays)
        if self._wraps:
            self.wrap_adjoint(arrays, arrays, True)
        for ghost in self._filled:
            for array in arrays:
                array[ghost] = 0

    def finish_adjoint(self) -> None:
        """Wait for the cotangents of the neighbours' ghosts, and add them to their owners."""
        self.add_slabs(self._end(True), True)

    # The steps of the above, for arrays with ghosts and for owned nodes that may lie in arrays of
    # their own (``padded`` is false) or in arrays with ghosts (it is true).

    def send_slabs(self, owned: Sequence[Array], padded: bool) -> None:
        """Send the owned nodes that neighbours have as ghosts."""
        for part, slab in self._slabs[padded]:
            for i, array in enumerate(owned):
                part[i] = array[slab]
        if self._forward:
            if spans.active is not None:
                spans.sent(self._sent)
            MPI.Prequest.Startall(self._forward)

    def receive_ghosts(self, arrays: Sequence[Array]) -> None:
        """Complete :meth:`send_slabs`: fill the ghosts."""
        self._wait(self._forward)
        for part, ghost in self._ghosts:
            for i, array in enumerate(arrays):
                array[ghost] = part[i]

    def send_ghosts(self, arrays: Sequence[Array]) -> None:
        """Send the ghosts to their owners."""
        for part, ghost in self._ghosts:
            for i, array in enumerate(arrays):
                part[i] = array[ghost]
        if self._adjoint:
            if spans.active is not None:
                spans.sent(self._sent)
            MPI.Prequest.Startall(self._adjoint)

    def add_slabs(self, owned: Sequence[Array], padded: bool) -> None:
        """Complete :meth:`send_ghosts`: add what came to the owned nodes.

        The order of the additions does not depend on that of the messages, so results repeat.
        """
        self._wait(self._adjoint)
        for part, slab in self._slabs[padded]:
            for i, array in enumerate(owned):
                array[slab] += part[i]

    def wrap(self, owned: Sequence[Array], arrays: Sequence[Array], padded: bool) -> None:
        """Fill the ghosts that copy this rank's own nodes."""
        for near, far in self._wraps:
            slab = far.slab_padded if padded else far.slab
            for nodes, array in zip(owned, arrays):
                array[near.ghost] = nodes[slab]

    def wrap_adjoint(self, owned: Sequence[Array], arrays: Sequence[Array], padded: bool) -> None:
        """Add the ghosts that copy this rank's own nodes to these."""
        for near, far in self._wraps:
            slab = far.slab_padded if padded else far.slab
            for nodes, array in zip(owned, arrays):
                nodes[slab] += array[near.ghost]

    def _begin(self, arrays: Sequence[Array], reverse: bool) -> None:
        if self._pending is not None:
            raise RuntimeError("HaloBuffers: an exchange is under way; finish it first")
        shape, dtype = self.padded_shape, self.dtype
        if len(arrays) != self.fields:
            raise ValueError(f"HaloBuffers: got {len(arrays)} fields, expected {self.fields}")
        for i, array in enumerate(arrays):
            if array.shape != shape:
                raise ValueError(
                    f"HaloBuffers: field {i} has shape {array.shape}, expected {shape}"
                )
            if array.dtype is not dtype and array.dtype != dtype:  # the first is much cheaper
                raise ValueError(
                    f"HaloBuffers: field {i} has dtype {array.dtype}, expected {dtype}"
                )
        self._pending = tuple(arrays), reverse

    def _end(self, reverse: bool) -> Sequence[Array]:
        if self._pending is None or self._pending[1] is not reverse:
            way = "adjoint" if reverse else "forward"
            raise RuntimeError(f"HaloBuffers: finish_{way} without start_{way}")
        arrays, _ = self._pending
        self._pending = None
        return arrays

    def _wait(self, requests: Requests) -> None:
        if not requests:
            return
        try:
            if spans.active is None:
                self._complete(requests)
            else:
                with spans.span("wait"):
                    self._complete(requests)
        except MPI.Exception as error:  # a message that was longer than its buffer
            raise ValueError(f"HaloExchange: {error.Get_error_string()}; {_UNEQUAL}") from error
        for status, owner, expected in self._expected:
            found = status.Get_count(MPI.BYTE)
            if found != expected:
                raise ValueError(
                    f"HaloExchange: message of rank {owner} has {found} bytes, "
                    f"expected {expected}; {_UNEQUAL}"
                )

    def _complete(self, requests: Requests) -> None:
        """Wait for the receives one by one.

        ``Waitall`` of Open MPI 4.1 never returns where a message that came before was too long.
        """
        for request, (status, _, _) in zip(requests, self._expected):
            request.Wait(status)
        MPI.Request.Waitall(requests[len(self._expected) :])


_UNEQUAL = "all ranks must exchange the same number of fields of the same dtype"


def _parts(message: Array, fields: int, shapes: list[tuple[int, ...]]) -> list[Array]:
    """Cut a message into arrays of shape ``(fields, *shape)``, one for each region."""
    ends = np.cumsum([fields * prod(shape) for shape in shapes])
    pieces = np.split(message, ends[:-1])
    return [piece.reshape(fields, *shape) for piece, shape in zip(pieces, shapes)]


def _release(requests: Requests, memory: list[Array]) -> None:
    if MPI.Is_finalized():
        return
    for request in requests:
        if not request.Test():  # nobody waited: a message may still be written into the memory
            keep_until_complete(request, memory)
        elif request:  # not one that failed, which MPI has freed
            request.Free()
