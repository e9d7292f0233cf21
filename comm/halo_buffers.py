"""Buffers and persistent requests that fill ghost layers, and take their cotangents back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import count, product
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import finalize

import numpy as np
from numpy.typing import DTypeLike

from ..variable import Array
from .blocks import Blocks

if TYPE_CHECKING:
    from mpi4py import MPI

    Requests = list[MPI.Prequest]

Offset = tuple[int, ...]
Region = tuple[slice, ...]


class Face(NamedTuple):
    """Where a patch meets a neighbour: a ghost region, and the owned region that faces it.

    Attributes
    ----------
    slab : tuple of slice
        Owned nodes within the patch; they are the neighbour's ghosts.
    ghost : tuple of slice
        Ghosts within the padded patch; they are the neighbour's nodes.
    shape : tuple of int
        Of either.
    """

    slab: Region
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
    neighbours : dict
        From each neighbouring rank to ``(slabs, ghosts)``: the regions that travel to it and those
        that come from it, each in the order in which they lie in the one message.
    wraps : list of (ghost, slab)
        Ghosts whose owner is this rank itself, and the slab that they copy.
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
        self.widths = widths
        self.patch_shape = lengths
        self.padded_shape = tuple(n + 2 * w for n, w in zip(lengths, widths))
        self.interior = tuple(slice(w, w + n) for n, w in zip(lengths, widths))
        self.ghosts = [face.ghost for face in faces.values()]
        self.wraps = [(faces[o].ghost, faces[_opposite(o)].slab) for o in owners.pop(rank, [])]
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
    return Face(tuple(slab), tuple(ghost), tuple(s.stop - s.start for s in slab))


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
        from mpi4py import MPI

        self.fields = fields
        self.dtype = np.dtype(dtype)
        self.padded_shape = geometry.padded_shape
        self._geometry = geometry
        self._mpi = MPI
        self._slabs: list[tuple[Array, int, Region]] = []
        self._ghosts: list[tuple[Array, int, Region]] = []
        self._forward: Requests = []
        self._adjoint: Requests = []
        self._expected: list[tuple[MPI.Status, int, int]] = []
        sends: tuple[Requests, Requests] = ([], [])
        for owner, (slabs, ghosts) in geometry.neighbours.items():
            length = fields * sum(prod(face.shape) for face in slabs)
            near, far = np.empty(length, self.dtype), np.empty(length, self.dtype)
            self._slabs += _views(near, fields, [(face.slab, face.shape) for face in slabs])
            self._ghosts += _views(far, fields, [(face.ghost, face.shape) for face in ghosts])
            self._forward.append(comm.Recv_init(far, owner, tag))
            self._adjoint.append(comm.Recv_init(near, owner, tag))
            sends[0].append(comm.Send_init(near, owner, tag))
            sends[1].append(comm.Send_init(far, owner, tag))
            self._expected.append((MPI.Status(), owner, far.nbytes))
        self._forward += sends[0]
        self._adjoint += sends[1]
        self._statuses = [e[0] for e in self._expected] + [MPI.Status() for _ in sends[0]]
        self._pending: tuple[Any, Any, bool] | None = None
        memory = [view for view, _, _ in self._slabs + self._ghosts]
        finalize(self, _release, self._forward + self._adjoint, memory)

    def forward(self, arrays: Sequence[Array]) -> None:
        """Fill the ghosts of padded arrays, in place.

        Parameters
        ----------
        arrays : sequence of numpy.ndarray
            One for each field, of shape ``padded_shape``.
        """
        self.start_forward(arrays)
        self.finish_forward()

    def adjoint(self, arrays: Sequence[Array]) -> None:
        """Add the cotangents in ghosts to their owners and zero the ghosts, in place.

        Parameters
        ----------
        arrays : sequence of numpy.ndarray
            One for each field, of shape ``padded_shape``.
        """
        self.start_adjoint(arrays)
        self.finish_adjoint()

    def start_forward(self, arrays: Sequence[Array]) -> None:
        """Send what the neighbours' ghosts copy; the owned nodes may then be overwritten."""
        patches = self._begin(arrays, False)
        self.send_slabs(patches)
        self.wrap(patches, arrays)

    def finish_forward(self) -> None:
        """Wait for the ghosts of the arrays that were started with, and fill them."""
        _, arrays = self._end(False)
        self.receive_ghosts(arrays)

    def start_adjoint(self, arrays: Sequence[Array]) -> None:
        """Send the ghosts' cotangents and zero the ghosts; the arrays may then be added to."""
        patches = self._begin(arrays, True)
        self.send_ghosts(arrays)
        self.wrap_adjoint(patches, arrays)
        for ghost in self._geometry.ghosts:
            for array in arrays:
                array[ghost] = 0

    def finish_adjoint(self) -> None:
        """Wait for the cotangents of the neighbours' ghosts, and add them to their owners."""
        patches, _ = self._end(True)
        self.add_slabs(patches)

    def send_slabs(self, patches: Sequence[Array]) -> None:
        """Send the owned nodes of patches without ghosts."""
        for view, field, slab in self._slabs:
            view[...] = patches[field][slab]
        if self._forward:
            self._mpi.Prequest.Startall(self._forward)

    def receive_ghosts(self, arrays: Sequence[Array]) -> None:
        """Complete :meth:`send_slabs`: fill the ghosts of padded arrays."""
        self._wait(self._forward)
        for view, field, ghost in self._ghosts:
            arrays[field][ghost] = view

    def send_ghosts(self, arrays: Sequence[Array]) -> None:
        """Send the ghosts of padded arrays to their owners."""
        for view, field, ghost in self._ghosts:
            view[...] = arrays[field][ghost]
        if self._adjoint:
            self._mpi.Prequest.Startall(self._adjoint)

    def add_slabs(self, patches: Sequence[Array]) -> None:
        """Complete :meth:`send_ghosts`: add what came to the owned nodes of patches.

        The order of the additions does not depend on that of the messages, so results repeat.
        """
        self._wait(self._adjoint)
        for view, field, slab in self._slabs:
            target = patches[field][slab]
            np.add(target, view, target)

    def wrap(self, patches: Sequence[Array], arrays: Sequence[Array]) -> None:
        """Fill the ghosts that copy this rank's own nodes."""
        for ghost, slab in self._geometry.wraps:
            for patch, array in zip(patches, arrays):
                array[ghost] = patch[slab]

    def wrap_adjoint(self, patches: Sequence[Array], arrays: Sequence[Array]) -> None:
        """Add the ghosts that copy this rank's own nodes to these."""
        for ghost, slab in self._geometry.wraps:
            for patch, array in zip(patches, arrays):
                patch[slab] += array[ghost]

    def _begin(self, arrays: Sequence[Array], reverse: bool) -> list[Array]:
        if self._pending is not None:
            raise RuntimeError("HaloBuffers: an exchange is under way; finish it first")
        if len(arrays) != self.fields:
            raise ValueError(f"HaloBuffers: got {len(arrays)} fields, expected {self.fields}")
        for i, array in enumerate(arrays):
            if array.shape != self.padded_shape:
                raise ValueError(
                    f"HaloBuffers: field {i} has shape {array.shape}, expected {self.padded_shape}"
                )
            if array.dtype != self.dtype:
                raise ValueError(
                    f"HaloBuffers: field {i} has dtype {array.dtype}, expected {self.dtype}"
                )
        interior = self._geometry.interior
        patches = [array[interior] for array in arrays]
        self._pending = patches, arrays, reverse
        return patches

    def _end(self, reverse: bool) -> tuple[Sequence[Array], Sequence[Array]]:
        if self._pending is None or self._pending[2] is not reverse:
            way = "adjoint" if reverse else "forward"
            raise RuntimeError(f"HaloBuffers: finish_{way} without start_{way}")
        patches, arrays, _ = self._pending
        self._pending = None
        return patches, arrays

    def _wait(self, requests: Requests) -> None:
        if not requests:
            return
        try:
            self._mpi.Request.Waitall(requests, self._statuses)
        except self._mpi.Exception as error:  # a message that was longer than its buffer
            raise ValueError(f"HaloExchange: {error.Get_error_string()}; {_UNEQUAL}") from error
        for status, owner, expected in self._expected:
            found = status.Get_count(self._mpi.BYTE)
            if found != expected:
                raise ValueError(
                    f"HaloExchange: message of rank {owner} has {found} bytes, "
                    f"expected {expected}; {_UNEQUAL}"
                )


_UNEQUAL = "all ranks must exchange the same number of fields of the same dtype"


def _views(
    memory: Array, fields: int, regions: list[tuple[Region, tuple[int, ...]]]
) -> list[tuple[Array, int, Region]]:
    """Cut a message into one view for each region and field."""
    result, end = [], 0
    for region, shape in regions:
        for field in range(fields):
            begin, end = end, end + prod(shape)
            result.append((memory[begin:end].reshape(shape), field, region))
    return result


#: Requests that nobody waited for, with their memory, into which a message may still be written.
_abandoned: list[Any] = []


def _release(requests: Requests, memory: list[Array]) -> None:
    from mpi4py import MPI

    if MPI.Is_finalized():
        return
    for request in requests:
        if not request.Test():
            _abandoned.append((request, memory))
        elif request:  # not one that failed, which MPI has freed
            request.Free()


class _Channel:
    """A communicator for halo exchanges alone, and the tags not yet taken there."""

    def __init__(self, comm: MPI.Comm) -> None:
        from mpi4py import MPI

        self.comm = comm.Dup()
        self.tags = count()
        highest: Any = MPI.COMM_WORLD.Get_attr(MPI.TAG_UB)
        self.limit = int(highest) + 1


@cache
def _channel_key() -> int:
    """Attribute under which the library's communicator carries its channel."""
    from mpi4py import MPI

    def release(comm: MPI.Comm, keyval: int, channel: _Channel) -> None:
        channel.comm.Free()

    return MPI.Comm.Create_keyval(delete_fn=release)


def new_channel(comm: MPI.Comm) -> tuple[MPI.Comm, int]:
    """Return the communicator on which halos are exchanged and a tag of one's own; collective.

    Exchanges that are under way together never take each other's messages for their own, and
    those of ``Send`` and ``Recv`` are apart from all of them.
    """
    channel: Any = comm.Get_attr(_channel_key())
    if channel is None:
        channel = _Channel(comm)
        comm.Set_attr(_channel_key(), channel)
    return channel.comm, next(channel.tags) % channel.limit
