"""Files of strangers: loading one executes nothing, whatever it holds."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adjoint.files import read_npz
from adjoint.nn import MLP
from adjoint.optimize import minimize
from adjoint.solvers import read_model, read_traces


class Trap:
    """Creates a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def resume(path: Path) -> Any:
    return minimize(lambda x: (x * x).sum(), np.ones(3), state=path, resume=True, progress=False)


READERS: dict[str, Callable[[Path], Any]] = {
    "state": resume,
    "numbers": read_npz,
    "network": MLP.load,
    "model": read_model,
    "traces": read_traces,
}


def ours(reader: str, path: Path) -> dict[str, Any]:
    """Return the arrays of a file that the reader takes, so that nothing but the trap is wrong."""
    if reader == "state":
        resume(path)
    elif reader == "network":
        network = MLP((2, 3, 1))
        network.save(path, network.initial(0))
    else:
        np.savez(path, vp=np.ones((3, 4)), spacing=1.0)
    with np.load(path) as archive:
        return dict(archive)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("form", ["an entry of objects", "all entries of objects", "a pickle"])
def test_a_trap_is_not_sprung(form: str, reader: str, tmp_path: Path) -> None:
    sprung, path = tmp_path / "sprung", tmp_path / "file.npz"
    objects = np.array([Trap(sprung), None], dtype=object)
    arrays = ours(reader, path)
    if form == "a pickle":
        path.write_bytes(pickle.dumps(Trap(sprung)))
    else:
        replaced = [*arrays] if form == "all entries of objects" else [next(iter(arrays))]
        np.savez(path, **{**arrays, **dict.fromkeys(replaced, objects)})
    content = path.read_bytes()
    with pytest.raises(ValueError, match=r"pickle|not .*file|damaged"):
        READERS[reader](path)
    assert not sprung.exists()
    assert path.read_bytes() == content


def test_the_trap_works(tmp_path: Path) -> None:
    """What would happen in a reader that trusts its files."""
    np.savez(tmp_path / "file.npz", a=np.array([Trap(tmp_path / "sprung"), None], dtype=object))
    with np.load(tmp_path / "file.npz", allow_pickle=True) as archive:
        archive["a"]
    assert (tmp_path / "sprung").exists()
