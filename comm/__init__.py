"""Communication operators, domain decomposition and halo exchange."""

from .grid import Blocks, CartesianGrid
from .halo import HaloExchange, HaloFinish, HaloStart

__all__ = ["Blocks", "CartesianGrid", "HaloExchange", "HaloFinish", "HaloStart"]
