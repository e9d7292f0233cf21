"""The bridges where a framework is missing."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from adjoint.bridges import as_jax, as_torch


@pytest.mark.parametrize(
    ("bridge", "arguments", "name", "package"),
    [(as_torch, (abs,), "PyTorch", "torch"), (as_jax, (abs, 0.0), "JAX", "jax")],
)
def test_one_sentence_says_how_to_install_it(
    bridge: Any, arguments: Any, name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    message = rf"{bridge.__name__} needs {name}: pip install {package} \(.*\)"
    with pytest.raises(ImportError, match=message):
        bridge(*arguments)
