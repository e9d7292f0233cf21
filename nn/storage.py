"""Networks on disk: an ``.npz`` file with settings and parameters, never pickled."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np

from ..files import written_whole
from ..variable import Array

FORMAT = "adjoint.nn network 1"


def save_network(path: str | os.PathLike[str], settings: dict[str, Any], theta: Array) -> None:
    """Write settings and parameters, whole or not at all."""
    text = json.dumps({"format": FORMAT, **settings}).encode()
    with written_whole(path) as file:
        np.savez(file, settings=np.frombuffer(text, np.uint8), theta=theta)


def load_network(path: str | os.PathLike[str]) -> tuple[dict[str, Any], Array]:
    """Return settings and parameters.

    Raises
    ------
    ValueError
        Where the file is damaged or holds something else.
    OSError
        Where it cannot be opened.
    """
    with open(path, "rb") as file:
        try:
            with np.load(file, allow_pickle=False) as archive:
                settings = json.loads(archive["settings"].tobytes())
                theta = archive["theta"]
            known = isinstance(settings, dict) and settings.pop("format", None) == FORMAT
        except Exception as error:  # whatever a damaged archive makes the readers raise
            raise ValueError(
                f"MLP: file {path} is damaged or not a network ({type(error).__name__}: {error})"
            ) from error
    if not known:
        raise ValueError(f"MLP: file {path} is not of the {FORMAT!r} format")
    return settings, theta
