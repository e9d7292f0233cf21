"""PyTorch's gradient of Σ y of a tanh network with respect to its parameters."""

import os

import numpy as np
import torch


def cases(file, widths):
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    data = np.load(file)
    layers = []
    for i, (p, q) in enumerate(zip(widths, widths[1:])):
        layer = torch.nn.Linear(p, q, dtype=torch.float64)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(data[f"W{i}"].T.copy()))
            layer.bias.copy_(torch.from_numpy(data[f"b{i}"]))
        layers += [layer, torch.nn.Tanh()]
    model = torch.nn.Sequential(*layers[:-1])
    x = torch.from_numpy(data["points"])

    def gradient():
        model.zero_grad()
        model(x).sum().backward()

    def check():
        gradient()
        found = {}
        for i, layer in enumerate(layers[::2]):
            found[f"W{i}"], found[f"b{i}"] = layer.weight.grad.numpy().T, layer.bias.grad.numpy()
        np.savez(file + ".gradient.npz", **found)

    return {"gradient": gradient, "check": check}
