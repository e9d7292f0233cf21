"""Communication operators, domain decomposition and halo exchange."""

from .field import GatherField, ScatterField
from .grid import Blocks, CartesianGrid
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
