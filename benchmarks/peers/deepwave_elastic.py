"""Deepwave's elastic wave: accuracy 4, its layers around the model within the same nodes."""

import os

import deepwave
import torch


def cases(nodes, steps, shots, spacing, dt, vp, vs, rho, receivers, layer):
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    inner = nodes - 2 * layer
    values = rho * (vp**2 - 2 * vs**2), rho * vs**2, 1 / rho
    fields = [torch.full((inner, inner), value, dtype=torch.float64) for value in values]
    sources = torch.full((shots, 1, 2), inner // 2, dtype=torch.long)
    columns = torch.linspace(0.1 * inner, 0.9 * inner, receivers).long()
    places = torch.stack([torch.full_like(columns, 5), columns], -1).repeat(shots, 1, 1)
    amplitudes = torch.ones(shots, 1, steps, dtype=torch.float64)

    def run(lamb, mu, buoyancy):
        return deepwave.elastic(
            lamb, mu, buoyancy, spacing, dt, source_amplitudes_y=amplitudes,
            source_locations_y=sources, receiver_locations_y=places, accuracy=4,
            pml_width=layer, pml_freq=10.0,
        )  # fmt: skip

    def traces(outputs):
        return next(o for o in reversed(outputs) if o.shape == (shots, receivers, steps))

    def forward():
        with torch.no_grad():
            run(*fields)

    def gradient():
        watched = [field.clone().requires_grad_() for field in fields]
        traces(run(*watched)).sum().backward()

    return {"forward": forward, "gradient": gradient}
