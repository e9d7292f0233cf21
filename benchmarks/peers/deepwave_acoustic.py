"""Deepwave's scalar wave: accuracy 4, its layers around the model within the same nodes."""

import os

import deepwave
import torch


def cases(nodes, steps, shots, spacing, dt, velocity, receivers, layer):
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    inner = nodes - 2 * layer
    v = torch.full((inner, inner), velocity, dtype=torch.float64)
    sources = torch.full((shots, 1, 2), inner // 2, dtype=torch.long)
    columns = torch.linspace(0.1 * inner, 0.9 * inner, receivers).long()
    places = torch.stack([torch.full_like(columns, 5), columns], -1).repeat(shots, 1, 1)
    amplitudes = torch.ones(shots, 1, steps, dtype=torch.float64)

    def run(v):
        return deepwave.scalar(
            v, spacing, dt, source_amplitudes=amplitudes, source_locations=sources,
            receiver_locations=places, accuracy=4, pml_width=layer, pml_freq=10.0,
        )[-1]  # fmt: skip

    def forward():
        with torch.no_grad():
            run(v)

    def gradient():
        watched = v.clone().requires_grad_()
        run(watched).sum().backward()

    return {"forward": forward, "gradient": gradient}
