"""Find a velocity from the waves that it scatters: full-waveform inversion.

    mpiexec -n 2 python -m mpi4py examples/acoustic_inversion.py

Several shots at the surface are recorded by receivers there; L-BFGS changes the velocity until the
wave equation gives the same traces. The velocity is unknown at every node, or a neural network. The
ranks decompose the domain, and with --shot-groups G they form G groups that share the shots. All
ranks have all values, or, with --unknown field, each those of its own patch of the model. With
--bands the traces are fitted up to one frequency after the other, for low ones lead past local
minima. With --dimensions 3 the same is done in space, which takes about 2 GB a process, or what
--memory allows. This is section 4.3 of Xu, Zhu and Darve, https://doi.org/10.48550/arXiv.2011.01349.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from layered_space import layered_space
from seismic import Model, layered
from waveform import Inversion, invert

from adjoint.solvers import AcousticWave


class AcousticInversion(Inversion):
    """The velocity from traces of the acoustic wave."""

    name = "vp"
    layered: ClassVar[dict[int, Callable[[], Model]]] = {2: layered, 3: layered_space}
    label = "velocity (m/s)"
    unit = 50.0
    kinds = ("u",)
    drawn = 1
    signal = "u (arbitrary units)"

    def make_wave(self, **survey: Any) -> Any:
        return AcousticWave(**survey)

    def traces(self, field: Any, series: Any) -> tuple[Any, ...]:
        return (self.wave(field, series),)


if __name__ == "__main__":
    invert(AcousticInversion, __doc__, "results/acoustic", ("vp",))
