"""Communication operators, domain decomposition and halo exchange."""

from .blocks import Blocks
from .field import GatherField, ScatterField
from .grid import CartesianGrid
from .halo import HaloExchange, HaloFinish, HaloStart

__all__ = [
    "Blocks",
    "CartesianGrid",
    "GatherField",
    "HaloExchange",
    "HaloFinish",
    "HaloStart",
    "ScatterField",
]
