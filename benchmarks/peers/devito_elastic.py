"""Devito's elastic wave on a staggered grid, space order 4, without absorbing layers."""

import numpy as np
from devito import Eq, Function, Grid, Operator, SparseTimeFunction, diag, div, grad
from devito import TensorTimeFunction as Tensor
from devito import VectorTimeFunction as Vector


def cases(nodes, steps, shots, spacing, dt, vp, vs, rho, receivers, layer):
    extent = ((nodes - 1) * spacing,) * 2
    grid = Grid(shape=(nodes, nodes), extent=extent, dtype=np.float64)
    v = Vector(name="v", grid=grid, space_order=4, time_order=1)
    tau = Tensor(name="t", grid=grid, space_order=4, time_order=1)
    lam, mu, b = (Function(name=name, grid=grid, space_order=4) for name in ("l", "mu", "b"))
    lam.data[:], mu.data[:], b.data[:] = rho * (vp**2 - 2 * vs**2), rho * vs**2, 1 / rho
    source = SparseTimeFunction(name="s", grid=grid, npoint=1, nt=steps + 2)
    source.coordinates.data[:] = (nodes * spacing / 2,) * 2
    source.data[:] = 1.0
    traces = SparseTimeFunction(name="r", grid=grid, npoint=receivers, nt=steps + 2)
    traces.coordinates.data[:, 0] = 25.5 * spacing
    traces.coordinates.data[:, 1] = np.linspace(0.25, 0.75, receivers) * extent[1]
    s = grid.stepping_dim.spacing
    new = v.forward
    operator = Operator(
        [
            Eq(v.forward, v + s * b * div(tau)),
            Eq(tau.forward, tau + s * (lam * diag(div(new)) + mu * (grad(new) + grad(new).T))),
            source.inject(field=tau[0, 0].forward, expr=source * s),
            source.inject(field=tau[1, 1].forward, expr=source * s),
            traces.interpolate(expr=v[0]),
        ]
    )

    def forward():
        for _ in range(shots):
            for field in (*v, tau[0, 0], tau[0, 1], tau[1, 1]):
                field.data[:] = 0
            operator.apply(time_m=0, time_M=steps - 1, dt=dt)

    return {"forward": forward}
