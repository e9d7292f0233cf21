"""JAX's gradient of Σ y of a tanh network with respect to its parameters, compiled.

XLA takes a thread for each core that it may use, so it is given as many as threads.
"""

import os

os.sched_setaffinity(0, range(int(os.environ["OMP_NUM_THREADS"])))

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402


def cases(file, widths):
    jax.config.update("jax_enable_x64", True)
    data = np.load(file)
    x = jnp.asarray(data["points"])
    theta = {name: jnp.asarray(data[name]) for name in data.files if name != "points"}

    def total(theta):
        y, last = x, len(widths) - 2
        for i in range(last + 1):
            y = y @ theta[f"W{i}"] + theta[f"b{i}"]
            y = jnp.tanh(y) if i < last else y
        return y.sum()

    compiled = jax.jit(jax.grad(total))

    def gradient():
        return jax.block_until_ready(compiled(theta))

    def check():
        np.savez(file + ".gradient.npz", **{n: np.asarray(v) for n, v in gradient().items()})

    return {"gradient": gradient, "check": check}
