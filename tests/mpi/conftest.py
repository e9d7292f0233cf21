"""What tests on several ranks share."""

from __future__ import annotations

from pathlib import Path

import pytest
from mpi4py import MPI


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """One directory for all ranks (each has a ``tmp_path`` of its own)."""
    found: Path = MPI.COMM_WORLD.bcast(tmp_path, 0)
    return found
