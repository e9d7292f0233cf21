"""Communication operators, domain decomposition and halo exchange."""

from .allgather import Allgather
from .allreduce import Allreduce
from .alltoall import Alltoall
from .barrier import Barrier
from .bcast import Bcast
from .blocks import Blocks
from .communication import Communication, CommunicationError, Message
from .edges import ContinueEdges
from .environment import finalize, finalized, init, initialized, rank, size, sync
from .field import GatherField, ScatterField
from .field_file import read_field, write_field
from .gather import Gather
from .grid import CartesianGrid
from .halo import HaloExchange, HaloFinish, HaloStart
from .nonblocking import Irecv, Isend, Request, Wait
from .records import check_records
from .redistribute import Redistribute
from .reduce import Reduce
from .reduce_scatter import ReduceScatter
from .scatter import Scatter
from .send_recv import Recv, Send, SendRecv
from .thumbnails import thumbnail

__all__ = [
    "Allgather", "Allreduce", "Alltoall", "Barrier", "Bcast", "Blocks", "CartesianGrid",
    "Communication", "CommunicationError", "ContinueEdges", "Gather", "GatherField", "HaloExchange",
    "HaloFinish", "HaloStart", "Irecv", "Isend", "Message", "Recv", "Redistribute", "Reduce",
    "ReduceScatter", "Request", "Scatter", "ScatterField", "Send", "SendRecv", "Wait",
    "check_records", "finalize", "finalized", "init", "initialized", "rank", "read_field", "size",
    "sync", "thumbnail", "write_field",
]  # fmt: skip
