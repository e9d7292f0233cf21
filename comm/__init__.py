"""Communication operators, domain decomposition and halo exchange."""

from .grid import Blocks, CartesianGrid

__all__ = ["Blocks", "CartesianGrid"]
