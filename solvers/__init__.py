"""Distributed sparse matrices, linear solves and PDEs.

What needs PETSc or Numba is imported when it is first used, so that each works without the other.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .acoustic import AcousticWave
    from .acquisition import ricker
    from .advection import AdvectionDiffusionMatrix, InflowLoad
    from .advection_diffusion import AdvectionDiffusion
    from .diffusion import DiffusionMatrix, DirichletLoad
    from .elastic import ElasticWave, Lame
    from .errors import ConvergenceError
    from .evolution import Evolution
    from .field_optimizer import minimize_field
    from .filters import Butterworth
    from .inner_product import InnerProduct
    from .krylov import Solved
    from .linear_solve import LinearSolve
    from .matvec import MatVec
    from .misfit import Envelope, LeastSquares, NormalizedCrossCorrelation
    from .nonlinear_diffusion import NonlinearDiffusion
    from .nonlinear_solve import NonlinearSolve
    from .pattern import Pattern
    from .poisson import Poisson
    from .seismic_files import read_model, read_traces, write_model, write_traces
    from .tikhonov import Tikhonov
    from .total_variation import TotalVariation
    from .transpose import Transpose

_MODULES = {
    "AcousticWave": "acoustic",
    "AdvectionDiffusion": "advection_diffusion",
    "AdvectionDiffusionMatrix": "advection",
    "Butterworth": "filters",
    "ConvergenceError": "errors",
    "DiffusionMatrix": "diffusion",
    "DirichletLoad": "diffusion",
    "ElasticWave": "elastic",
    "Envelope": "misfit",
    "Evolution": "evolution",
    "InflowLoad": "advection",
    "InnerProduct": "inner_product",
    "Lame": "elastic",
    "LeastSquares": "misfit",
    "LinearSolve": "linear_solve",
    "MatVec": "matvec",
    "NonlinearDiffusion": "nonlinear_diffusion",
    "NonlinearSolve": "nonlinear_solve",
    "NormalizedCrossCorrelation": "misfit",
    "Pattern": "pattern",
    "Poisson": "poisson",
    "Solved": "krylov",
    "Tikhonov": "tikhonov",
    "TotalVariation": "total_variation",
    "Transpose": "transpose",
    "minimize_field": "field_optimizer",
    "read_model": "seismic_files",
    "read_traces": "seismic_files",
    "ricker": "acquisition",
    "write_model": "seismic_files",
    "write_traces": "seismic_files",
}

__all__ = [
    "AcousticWave", "AdvectionDiffusion", "AdvectionDiffusionMatrix", "Butterworth",
    "ConvergenceError", "DiffusionMatrix", "DirichletLoad", "ElasticWave", "Envelope", "Evolution",
    "InflowLoad", "InnerProduct", "Lame", "LeastSquares", "LinearSolve", "MatVec",
    "NonlinearDiffusion", "NonlinearSolve", "NormalizedCrossCorrelation", "Pattern", "Poisson",
    "Solved", "Tikhonov", "TotalVariation", "Transpose", "minimize_field", "read_model",
    "read_traces", "ricker", "write_model", "write_traces",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
