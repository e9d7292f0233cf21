"""One fully connected layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..operator import Operator


class Dense(Operator):
    """``Y = X W + b`` for a stack of row vectors.

    Notes
    -----
    Inputs: ``X`` of shape (n, p), ``W`` of shape (p, q), ``b`` of shape (q,); output (n, q).
    ``X̄ = Ȳ Wᵀ``, ``W̄ = Xᵀ Ȳ``, ``b̄ = Σᵢ Ȳᵢ``.

    Examples
    --------
    >>> Dense()(np.ones((3, 2)), np.ones((2, 1)), np.zeros(1)).ravel()
    array([2., 2., 2.])
    """

    needs_inputs = (0, 1)
    needs_outputs = ()

    def check(self, x: Any, w: Any, b: Any) -> None:
        if x.ndim != 2:
            raise ValueError(f"{self.name}: X has shape {x.shape}, expected (points, features)")
        self.require("W", w.shape, (x.shape[1], b.size))
        self.require("b", b.shape, (w.shape[1],))

    def forward(self, x: Any, w: Any, b: Any) -> Any:
        return np.matmul(x, w) + b

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        (tx, tw, tb), (x, w, _) = tangents, inputs
        return np.matmul(tx, w) + np.matmul(x, tw) + tb

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        (d,), (x, w, _) = cotangents, inputs
        return lambda: np.matmul(d, w.T), lambda: np.matmul(x.T, d), lambda: d.sum(axis=0)
