"""Find Lamé's first parameter from elastic waves.

    mpiexec -n 2 python -m mpi4py examples/elastic_inversion.py

Explosions near the surface are recorded by receivers for both components of velocity; L-BFGS
changes λ, with µ and ρ known, until the elastic wave gives the same traces. λ is unknown at every
node, or a neural network. The options are those of acoustic_inversion.py. This is section 4.4 of
Xu, Zhu and Darve, https://doi.org/10.48550/arXiv.2011.01349.

Where a model has water, its S velocity is taken for a fifth of the P velocity.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from seismic import Model
from waveform import Inversion, invert

from adjoint.solvers import ElasticWave, Lame


def with_lame(model: Model) -> Model:
    """Return a model with λ and µ in GPa."""

    def moduli(fields: dict[str, Any]) -> dict[str, Any]:
        vs = np.maximum(fields["vs"], fields["vp"] / 5)
        lam, mu = Lame()(fields["vp"], vs, fields["rho"])
        return {**fields, "lam": lam / 1e9, "mu": mu / 1e9}

    return replace(model, true=moduli(model.true), start=moduli(model.start))


class ElasticInversion(Inversion):
    """λ from traces of the elastic wave."""

    name = "lam"
    label = "λ (GPa)"
    unit = 0.2
    kinds = ("vz", "vx")
    drawn = 0
    signal = "vertical velocity (m/s)"

    def __init__(self, model: Model, *arguments: Any, **keywords: Any) -> None:
        super().__init__(with_lame(model), *arguments, **keywords)

    def make_wave(self, **survey: Any) -> Any:
        self.mu, self.rho = (self.model.true[name][self.lines] for name in ("mu", "rho"))
        return ElasticWave(**survey)

    def traces(self, field: Any, series: Any) -> tuple[Any, ...]:
        traces: tuple[Any, ...] = self.wave(field * 1e9, self.mu * 1e9, self.rho, series)
        return traces


if __name__ == "__main__":
    invert(ElasticInversion, __doc__, "results/elastic", ("vp", "vs", "rho"), memory="1GB")
