# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Communication as an operator
#
# What processes send each other is part of a program, so it is part of the program's derivative.
# Here each way of communicating is an operator with a transpose, and a gradient across processes
# needs no more thought than one within. Run this with several processes; on one it computes the
# same, which is the point:
#
#     mpiexec -n 4 python -m mpi4py parallel.py
#
# In a notebook it runs on one process, or on the engines of ipyparallel.

# %%
from importlib.util import find_spec

import numpy as np
from scipy.optimize import Bounds

from adjoint import Tape
from adjoint.comm import (
    Allreduce,
    Bcast,
    CartesianGrid,
    GatherField,
    HaloExchange,
    Reduce,
    ScatterField,
    rank,
    size,
)
from adjoint.optimize import minimize
from adjoint.testing import check_vjp, dot_test

SHAPE = (31, 23)  # nodes, which no number of processes divides evenly
STEPS = 20


def show(*values):
    """Print on process 0."""
    if rank() == 0:
        print(*values)


# %% [markdown]
# ## One function of all processes
#
# Process 0 has `θ`. `Bcast` copies it to all; process `r` computes `θʳ`; `Reduce` adds these on
# process 0. In reverse, the sum's cotangent is broadcast, each process multiplies by the slope of
# its own term, and the transpose of copying is summing. The gradient arrives where `θ` is.

# %%
with Tape() as tape:
    theta0 = tape.watch(np.array(1.5))
    theta = Bcast(root=0)(theta0)
    loss = Reduce(root=0)(theta ** rank())
(gradient,) = tape.gradient(loss, [theta0])
expected = sum(r * 1.5 ** (r - 1) for r in range(size())) if rank() == 0 else 0.0
assert np.isclose(gradient, expected)
show(f"{size()} processes: Σ θʳ = {float(loss):g}, derivative {float(gradient):g}")

# %% [markdown]
# ## Counting once
#
# With `Allreduce` every process has the sum. `tape.gradient` differentiates one copy of the loss,
# that of process 0, so the gradient is the same as with `Reduce`. With `tape.vjp` one says what is
# differentiated: a 1 on every process stands for the sum of all copies, which is as many times as
# much.

# %%
with Tape(persistent=True) as tape:
    theta0 = tape.watch(np.array(1.5))
    loss = Allreduce()(Bcast(root=0)(theta0) ** rank())
(once,) = tape.gradient(loss, [theta0])
(all_copies,) = tape.vjp([loss], [np.ones(())], [theta0])
assert np.isclose(once, expected)
assert np.isclose(all_copies, size() * expected)
show(f"one copy: {float(once):g}, all {size()} copies: {float(all_copies):g}")

# %% [markdown]
# ## Neighbours
#
# Now a field, in patches: heat that spreads, `uⁿ⁺¹ = uⁿ + ν Δuⁿ` with `u = 0` around. The Laplacian
# of a node at the rim of a patch needs its neighbour's node. `HaloExchange` returns the patch with
# a ring of ghosts around it; its transpose sends the ghosts' cotangents back and adds them to the
# nodes that they are copies of. The rest is NumPy.

# %%
grid = CartesianGrid(SHAPE)
halo = HaloExchange(grid, width=1)


def spread(u, steps=STEPS, nu=0.2):
    for _ in range(steps):
        p = halo(u)
        u = u + nu * (p[2:, 1:-1] + p[:-2, 1:-1] + p[1:-1, 2:] + p[1:-1, :-2] - 4 * u)
    return u


# %% [markdown]
# The same checks as for any operator prove it, on all processes together: the inner products run
# over all of them, and all end with the same verdict.

# %%
random = np.random.default_rng([0, rank()])
for check in dot_test, check_vjp:
    found = check(lambda u: spread(u, steps=3), random.standard_normal(grid.patch_shape))
    show(f"{check.__name__}: {found.found:.10f} and {found.expected:.10f}")

# %% [markdown]
# ## The heat of before
#
# From the temperature after all steps, find that at the start. The unknown is a whole field on
# process 0; `ScatterField` cuts it into patches, and its transpose puts the patches' cotangents
# together. Nothing in `misfit` depends on the number of processes.

# %%
rows, columns = np.indices(SHAPE)
hot = np.exp(-((rows - 9) ** 2 + (columns - 7) ** 2) / 8.0)
hot += 0.7 * np.exp(-((rows - 21) ** 2 + (columns - 15) ** 2) / 12.0)
whole = hot if rank() == 0 else None
scatter, gather, total = ScatterField(grid), GatherField(grid), Allreduce()
data = spread(scatter(whole))


def misfit(theta):
    return total(((spread(scatter(theta)) - data) ** 2).sum())


at_least = Bounds(0.0, np.inf)
result = minimize(misfit, np.zeros(SHAPE), bounds=at_least, options={"maxiter": 60}, progress=False)
error = np.linalg.norm(result.theta - hot) / np.linalg.norm(hot)
show(f"misfit {result.history[0].loss:.3f} → {result.value:.1e}, error of the start {error:.1%}")
assert result.value < 1e-6 * result.history[0].loss
assert error < 0.2

# %% [markdown]
# On any number of processes the misfit is the same, apart from rounding: sums are taken in another
# order.
#
# ## What does not match
#
# All processes record collectives in the same order. Where a program does not, the reverse sweep
# would hang. So the first one compares what all tapes have recorded, `tape.check_communication()`
# does so whenever you like, and all processes raise the same error. Of a `Bcast` from roots that
# differ, the forward call already says so.

# %%
if size() > 1:
    try:
        Bcast(root=rank() % 2)(np.zeros(3))
    except RuntimeError as error:
        show(f"{type(error).__name__}: {error}")

# %%
later = gather(spread(scatter(whole)))
if rank() == 0 and find_spec("matplotlib"):
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
    panels = ("at the start", hot), (f"after {STEPS} steps", later), ("found", result.theta)
    for axis, (title, field) in zip(axes, panels):
        image = axis.imshow(
            field, cmap="inferno", vmin=0, vmax=hot.max() if field is not later else None
        )
        figure.colorbar(image, ax=axis, shrink=0.85)
        axis.set(title=title, xlabel="column", ylabel="row")
        for patch in range(grid.size):
            (top, left), (bottom, right) = grid.patch(patch)
            axis.plot(
                np.array([left, right, right, left, left]) - 0.5,
                np.array([top, top, bottom, bottom, top]) - 0.5,
                "w--", linewidth=0.8,
            )  # fmt: skip
    figure.savefig("parallel.png", dpi=110)

# %% [markdown]
# ![Two hot spots, what is left of them, and what was found](../images/parallel.png)
#
# *On four processes, whose patches are dashed.*
#
# [What a derivative means here](../conventions.md) says the rules,
# [communication](../communication.md) lists every operator with its transpose, and [on
# clusters](../clusters.md) how to start many processes.
