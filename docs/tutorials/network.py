# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A network in a Poisson problem
#
# A field `u` on the unit square solves `−∇·(κ∇u) = f` with `u = 0` around. We observe `u` with some
# noise and look for the diffusivity `κ(x, y)`. A small network stands for `κ`, and its parameters
# are trained through the solve. The same script runs on one process or many; the grid is split over
# those there are:
#
#     python network.py
#     mpiexec -n 4 python -m mpi4py network.py

# %%
from importlib.util import find_spec

import numpy as np

from adjoint.comm import Allreduce, CartesianGrid, GatherField, rank
from adjoint.nn import MLP
from adjoint.optimize import minimize
from adjoint.solvers import Poisson
from adjoint.testing import taylor_test

NODES = 32  # inside of the square along each axis
ITERATIONS = 300

# %% [markdown]
# ## The grid and the solver
#
# `CartesianGrid` gives each process a patch of nodes. `Poisson` takes `κ` at the nodes of the patch
# and one ring around it, which are nodes of neighbours or the boundary: a matrix row couples a node
# with the next ones.

# %%
grid = CartesianGrid((NODES, NODES))
poisson = Poisson(grid)
h = 1 / (NODES + 1)
x, y = grid.coordinates(h, h, width=1)
f = np.ones(grid.patch_shape)

exact = 1.5 + 0.5 * np.sin(2 * np.pi * x) * np.sin(np.pi * y)
u = poisson(exact, f)
noise = np.random.default_rng([0, rank()]).standard_normal(u.shape)
total = Allreduce()
size = float(np.sqrt(total((u**2).sum()) / NODES**2))
data = u + 0.002 * size * noise  # 0.2 % of the root mean square

# %% [markdown]
# ## The unknown
#
# A network with two inputs, two hidden layers of 16 units and one output, which `lower` and `upper`
# keep between what is known of `κ` beforehand: a matrix with a negative `κ` would have no meaning.
# All parameters are one vector. The network knows nothing of processes: each evaluates it at its
# own points, those on the ring included, so that `κ` there is what the neighbour has, without a
# message.

# %%
network = MLP((2, 16, 16, 1), domain=((0, 1), (0, 1)), lower=0.5, upper=4.0)
points = np.stack([x.ravel(), y.ravel()], axis=1)


def kappa(theta):
    return network(theta, points).reshape(grid.padded_shape(1))


# %% [markdown]
# ## The misfit
#
# `Allreduce` adds the parts of all processes. It is an operator as the network and the solve are.
# In the reverse sweep its adjoint takes the derivative of the sum to every process, the adjoint
# solve `Aᵀλ = ū` runs on all of them together, and each process gets the gradient with respect to
# its own copy of `θ`. `minimize` broadcasts `θ` and adds these up.


# %%
def misfit(theta):
    residual = poisson(kappa(theta), f) - data
    return total((residual**2).sum()) / (NODES * size) ** 2


theta0 = network.initial(seed=0)
rates = taylor_test(misfit, theta0, h=1e-2, levels=4)
assert rates.min() > 1.9
if rank() == 0:
    print(f"{network.n_parameters} parameters; rates of the Taylor test: {rates.round(3)}")

# %% [markdown]
# The rates are 2 where the gradient is right. Now train. L-BFGS runs on process 0; the others
# evaluate when they are told to.

# %%
result = minimize(misfit, theta0, options={"maxiter": ITERATIONS}, progress=False)
found = kappa(result.theta)
inner = grid.interior(1)
error, norm = (float(total(((a - b)[inner] ** 2).sum())) for a, b in ((found, exact), (exact, 0)))
if rank() == 0:
    print(f"misfit {result.history[0].loss:.2e} → {result.value:.2e}, the noise has {0.002**2:.0e}")
    print(f"relative error of κ: {np.sqrt(error / norm):.1%}")
assert result.value < 2 * 0.002**2
assert error < 0.05**2 * norm

# %% [markdown]
# Every solve counted: the preconditioner is set up once for each `κ`, and the adjoint solve uses it
# again.

# %%
if rank() == 0:
    print(f"{poisson.solve.solves} solves with {poisson.solve.setups} setups")
gather = GatherField(grid)
fields = [gather(field[inner]) for field in (exact, found, found - exact)]
if rank() == 0 and find_spec("matplotlib"):
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    low, high = float(fields[0].min()), float(fields[0].max())
    far = float(np.abs(fields[2]).max())
    panels = [("exact κ", low, high, "viridis"), ("network κ", low, high, "viridis")]
    panels.append(("network − exact", -far, far, "RdBu_r"))
    for axis, field, (title, least, most, colours) in zip(axes, fields, panels):
        image = axis.imshow(
            field.T, origin="lower", extent=(0, 1, 0, 1), cmap=colours, vmin=least, vmax=most
        )
        figure.colorbar(image, ax=axis, shrink=0.85)
        axis.set(title=title, xlabel="x", ylabel="y")
    figure.savefig("network.png", dpi=110)

# %% [markdown]
# ![The exact diffusivity, the one found, and their difference](../images/network.png)
#
# The error is greatest where `∇u` is small: there `u` says little about `κ`. With `u = 0` around
# and `f = 1` this is the centre, and the corners.
#
# [The Poisson equation](../poisson.md) derives the solve's adjoint, [the network](../network.md)
# that of the network. The example [poisson_inversion.py](../../examples/poisson_inversion.py) is
# this inversion with a command line, restarts and figures. Next: [waves, and gradients in bounded
# memory](waves.py).
