"""Devito's acoustic wave with a damping layer, space order 4, second order in time."""

import numpy as np
from devito import Eq, Function, Grid, Operator, SparseTimeFunction, TimeFunction, solve


def cases(nodes, steps, shots, spacing, dt, velocity, receivers, layer):
    extent = ((nodes - 1) * spacing,) * 2
    grid = Grid(shape=(nodes, nodes), extent=extent, dtype=np.float64)
    u = TimeFunction(name="u", grid=grid, time_order=2, space_order=4)
    m = Function(name="m", grid=grid, space_order=4)
    damp = Function(name="damp", grid=grid, space_order=4)
    m.data[:] = velocity**-2
    index = np.arange(nodes)
    depth = np.maximum(layer - np.minimum(index, nodes - 1 - index), 0) / layer
    damp.data[:] = 0.05 * np.maximum(depth[:, None], depth) ** 2
    source = SparseTimeFunction(name="s", grid=grid, npoint=1, nt=steps + 2)
    source.coordinates.data[:] = (nodes * spacing / 2,) * 2
    source.data[:] = 1.0
    traces = SparseTimeFunction(name="r", grid=grid, npoint=receivers, nt=steps + 2)
    traces.coordinates.data[:, 0] = 25.5 * spacing
    traces.coordinates.data[:, 1] = np.linspace(0.25, 0.75, receivers) * extent[1]
    step = grid.stepping_dim.spacing
    equation = m * u.dt2 - u.laplace + damp * u.dt
    operator = Operator(
        [
            Eq(u.forward, solve(equation, u.forward)),
            source.inject(field=u.forward, expr=source * step**2 / m),
            traces.interpolate(expr=u),
        ]
    )

    def forward():
        for _ in range(shots):
            u.data[:] = 0
            operator.apply(time_m=1, time_M=steps, dt=dt)

    return {"forward": forward}
