# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Waves, and a gradient in bounded memory
#
# The velocity of a medium determines what receivers record of a wave. The gradient of a misfit of
# those traces with respect to the velocity, at every node, costs a few runs of the wave, whatever
# the number of nodes; but it needs something of every time step, in reverse order. This tutorial
# computes one gradient twice: with all of it kept, and within a budget.
#
#     python waves.py
#     mpiexec -n 2 python -m mpi4py waves.py
#
# It needs `pip install numba checkpoint_schedules`. The first run on a machine compiles the wave's
# loops, which takes half a minute.

# %%
from importlib.util import find_spec

import numpy as np

from adjoint import Tape
from adjoint.comm import Allreduce, CartesianGrid, GatherField, rank
from adjoint.solvers import AcousticWave, ricker
from adjoint.testing import taylor_test

SHAPE = (110, 150)  # nodes in depth and along x
STEPS = 450

# %% [markdown]
# ## Medium, shots and receivers
#
# Depth is axis 0 and points downwards. The absorbing layers, 20 nodes wide, are part of the grid.
# Each of the three shots has one source; all are recorded by a line of receivers below. Positions
# are in metres and need not be on nodes.

# %%
spacing, dt = 10.0, 1.5e-3  # m, s
grid = CartesianGrid(SHAPE)
depth, x = grid.coordinates(spacing)
background = 2000 + 0.5 * depth  # m/s
lens = 250 * np.exp(-(((depth - 600) / 100) ** 2) - ((x - 750) / 120) ** 2)

sources = [[[230.0, 350.0]], [[230.0, 750.0]], [[230.0, 1150.0]]]  # [shot, source, (z, x)]
line = np.stack([np.full(50, 870.0), np.linspace(250.0, 1250.0, 50)], axis=1)
wavelet = 1e6 * ricker(dt * np.arange(STEPS), 10.0)


def make_wave(**memory):
    return AcousticWave(
        grid, spacing, dt, STEPS, sources, [line] * 3, np.array([[wavelet]] * 3), **memory
    )


# %% [markdown]
# ## Traces, misfit, gradient
#
# On several processes each has a patch of the medium, and returns the traces of the receivers in
# it. So the velocity is not broadcast: every process watches its own patch and gets the gradient of
# its own patch. What the wave exchanges between patches, the wave exchanges in reverse too.

# %%
wave = make_wave()
data = wave(background + lens)
total = Allreduce()


def misfit(velocity, wave=wave):
    return total(0.5 * ((wave(velocity) - data) ** 2).sum())


def gradient_with(wave):
    with Tape() as tape:
        velocity = tape.watch(background)
        loss = misfit(velocity, wave)
    return float(loss), tape.gradient(loss, [velocity])[0]


loss, gradient = gradient_with(wave)
direction = lens / 250  # m/s; what is random at each node, waves do not see
rates = taylor_test(misfit, background, direction, h=4.0, levels=4)
assert rates.min() > 1.9
if rank() == 0:
    print(f"misfit {loss:.4g}; rates of the Taylor test: {rates.round(3)}")
    print(f"without a budget: {wave.plan}")

# %% [markdown]
# ## The same within a budget
#
# `memory` is what each process may use for snapshots and for what steps keep. The wave plans which
# states to store and which steps to take again, such that it recomputes least, and says so.

# %%
bounded = make_wave(memory="20MB")
loss_again, gradient_again = gradient_with(bounded)
difference = float(np.abs(gradient_again - gradient).max())
assert loss_again == loss
assert difference <= 1e-12 * np.abs(gradient).max()
if rank() == 0:
    saved, again = wave.plan.bytes / bounded.plan.bytes, bounded.plan.recomputed
    print(f"{saved:.0f} times less memory; for {3 * STEPS} steps, {again} are taken again")
    print(f"greatest difference of the gradients: {difference:.1e}")

# %% [markdown]
# A step taken again gives the same numbers, so the gradient is the same. Snapshots may also go to
# disk (`storage="disk"`, or `"both"`), and any schedule of the package checkpoint_schedules will do
# in place of a budget: [derivatives in bounded memory](../checkpointing.md).
#
# ## What it looks like

# %%
gather = GatherField(grid)
whole, whole_gradient = gather(background + lens), gather(gradient)
traces = wave(background)  # of this process's receivers
if rank() == 0 and find_spec("matplotlib"):
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.5), layout="constrained")
    extent = (0, SHAPE[1] * spacing, SHAPE[0] * spacing, 0)
    image = left.imshow(whole, extent=extent, cmap="viridis")
    figure.colorbar(image, ax=left, label="m/s", shrink=0.8)
    left.plot(*np.reshape(sources, (3, 2)).T[::-1], "r*")
    left.plot(line[::5, 1], line[::5, 0], "wv", markersize=4)
    left.set(title="velocity, sources ★, receivers ▼", xlabel="x / m", ylabel="depth / m")
    far = np.abs(data - traces).max()
    times = (line[wave.receivers[0], 1], line[wave.receivers[-1], 1], STEPS * dt, 0)
    image = middle.imshow(
        (data - traces)[0].T, extent=times, aspect="auto", cmap="RdBu_r", vmin=-far, vmax=far
    )
    figure.colorbar(image, ax=middle, shrink=0.8)
    middle.set(title="data − traces, first shot", xlabel="x of receiver / m", ylabel="time / s")
    far = 0.3 * np.abs(whole_gradient).max()
    image = right.imshow(-whole_gradient, extent=extent, cmap="RdBu_r", vmin=-far, vmax=far)
    figure.colorbar(image, ax=right, shrink=0.8)
    right.set(title="minus the gradient", xlabel="x / m", ylabel="depth / m")
    figure.savefig("waves.png", dpi=110)

# %% [markdown]
# ![A lens in the velocity, what it does to the traces, and the gradient](../images/waves.png)
#
# A step down the gradient raises the velocity along the paths from the sources to the receivers
# that pass the lens, and most where the paths cross: in the lens. What it does close to sources is
# no information, and is usually muted.
# [acoustic_inversion.py](../../examples/acoustic_inversion.py) goes on from here: many shots,
# frequency bands, networks as unknowns. [The acoustic wave](../acoustic.md) derives the transpose
# of every step. Next: [communication as an operator](parallel.py).
