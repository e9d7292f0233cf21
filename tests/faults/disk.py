"""A place on a disk that is full soon, or that may not be written to."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest


class SmallDisk:
    """A small file system in memory, mounted for a while on a folder.

    Where it may not be mounted, a limit on the size of files does in its place for a full disk, and
    permissions for one that may not be written to (which bind all users but root).

    Parameters
    ----------
    place : path
        An empty folder.
    size : int
        Bytes that fit; a run with a state file and its successor beside it needs twice their size.
    """

    def __init__(self, place: Path, size: int) -> None:
        self.place = place
        self.mounted = not os.geteuid() and _quiet(
            "mount", "-t", "tmpfs", "-o", f"size={size}", "none", place
        )
        #: Options of the program, and what it says when the disk is full.
        self.options: list[Any] = [] if self.mounted else ["--file-size", size // 2]
        self.message = "No space left on device" if self.mounted else "File too large"

    def __enter__(self) -> SmallDisk:
        return self

    def __exit__(self, *error: Any) -> None:
        if self.mounted:
            _quiet("umount", "-l", self.place)
        else:
            self.place.chmod(0o700)

    def enlarge(self) -> None:
        """Make room for all that a run writes."""
        if self.mounted:
            assert _quiet("mount", "-o", "remount,size=64m", self.place)

    def protect(self, on: bool) -> None:
        """Forbid or allow writing."""
        if self.mounted:
            how = "ro" if on else "rw"
            # Open for writing at this very moment: the file system is busy for a while.
            done = any(_quiet("mount", "-o", f"remount,{how}", self.place) for _ in range(200))
            assert done, "the file system could not be remounted"
        elif os.geteuid():
            self.place.chmod(0o500 if on else 0o700)
        else:
            pytest.skip("root may write anywhere, and may not mount a file system here")


def _quiet(*command: Any) -> bool:
    """Run a command and return whether it succeeded."""
    try:
        found = subprocess.run([*map(str, command)], capture_output=True, timeout=20)
    except FileNotFoundError:
        return False
    return found.returncode == 0
