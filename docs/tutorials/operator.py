# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # An operator and its proof
#
# This tutorial writes an operator whose forward rule iterates, derives its two derivatives by hand,
# proves them, catches two mistakes on purpose, and finds an orbit with it. It runs as a script, as
# a notebook (`jupytext --to ipynb operator.py`), and on several processes:
#
#     python operator.py
#     mpiexec -n 2 python -m mpi4py operator.py

# %%
from importlib.util import find_spec

import numpy as np

from adjoint import Operator, Tape
from adjoint.comm import Allreduce, rank
from adjoint.optimize import minimize
from adjoint.testing import check_jvp, check_vjp, dot_test, taylor_to_dict

# %% [markdown]
# ## The equation
#
# A planet's eccentric anomaly `E` at the mean anomaly `M`, which grows in proportion to time,
# solves Kepler's equation
#
#     E − e sin E = M,
#
# with one eccentricity `e` for the whole orbit. The forward rule solves it by Newton's method. Its
# derivatives need nothing of the iteration: differentiate the equation, not the algorithm. With
# tangents `Ṁ` and `ė`,
#
#     Ė − e cos E Ė − ė sin E = Ṁ,    so    Ė = (Ṁ + ė sin E) / (1 − e cos E).
#
# This is the rule for `jvp`. For `vjp`, take `⟨w, Ė⟩` and collect what stands beside each tangent:
#
#     ⟨w, Ė⟩ = Σ w/(1 − e cos E) Ṁ + (Σ w sin E/(1 − e cos E)) ė,
#
# so that `M̄ = w/(1 − e cos E)`, entry by entry, and `ē = Σ w sin E/(1 − e cos E)`. The sum is
# there because one number `e` was used for all entries: what was copied forwards is summed in
# reverse.


# %%
class Kepler(Operator):
    """``(M, e) ↦ E`` with ``E − e sin E = M``, for a vector ``M`` and a number ``e`` below 1.

    Notes
    -----
    ``Ė = (Ṁ + ė sin E)/(1 − e cos E)``; ``M̄ = w/(1 − e cos E)`` and ``ē = Σ M̄ sin E``.
    """

    needs_inputs = (1,)  # e; the tape need not keep M
    needs_outputs = (0,)

    def forward(self, m, e):
        anomaly = m + e * np.sin(m)
        while True:
            step = (anomaly - e * np.sin(anomaly) - m) / (1 - e * np.cos(anomaly))
            anomaly = anomaly - step
            if np.abs(step).max(initial=0) < 1e-14 * (1 + np.abs(anomaly).max(initial=0)):
                return anomaly

    def jvp(self, tangents, inputs, outputs):
        (dm, de), (_, e), (anomaly,) = tangents, inputs, outputs
        return (dm + de * np.sin(anomaly)) / (1 - e * np.cos(anomaly))

    def vjp(self, cotangents, inputs, outputs):
        (w,), (_, e), (anomaly,) = cotangents, inputs, outputs
        m_bar = w / (1 - e * np.cos(anomaly))
        return m_bar, lambda: (m_bar * np.sin(anomaly)).sum()


# %% [markdown]
# A function of no arguments in place of `ē` is called only if `e` is a variable.
#
# ## The proof
#
# Three checks, which draw random tangents `v` and cotangents `w`:

# %%
times = np.linspace(0, 6, 25)
for check in dot_test, check_jvp, check_vjp:
    found = check(Kepler(), times, np.array(0.6))
    if rank() == 0:
        print(f"{check.__name__}: {found.found:.12f} and {found.expected:.12f}")


# %% [markdown]
# `dot_test` compares `⟨Jv, w⟩` with `⟨v, Jᵀw⟩`: are the two rules each other's transpose?
# `check_jvp` and `check_vjp` compare with central differences: are they the derivative? One needs
# both questions. Forget the sum, or rather take the last entry for it, and `dot_test` objects.
# Forget `ė` in both rules, and they are still each other's transpose; only the differences see it.


# %%
class WithoutSum(Kepler):
    def vjp(self, cotangents, inputs, outputs):
        (w,), (_, e), (anomaly,) = cotangents, inputs, outputs
        m_bar = w / (1 - e * np.cos(anomaly))
        return m_bar, (m_bar * np.sin(anomaly))[-1]


class WithoutEccentricity(Kepler):
    def jvp(self, tangents, inputs, outputs):
        (dm, _), (_, e), (anomaly,) = tangents, inputs, outputs
        return dm / (1 - e * np.cos(anomaly))

    def vjp(self, cotangents, inputs, outputs):
        (w,), (_, e), (anomaly,) = cotangents, inputs, outputs
        return w / (1 - e * np.cos(anomaly)), None


dot_test(WithoutEccentricity(), times, np.array(0.6))  # passes, although both rules are wrong
for check, wrong in (dot_test, WithoutSum()), (check_vjp, WithoutEccentricity()):
    try:
        check(wrong, times, np.array(0.6))
    except AssertionError as error:
        message = str(error)
    else:
        raise RuntimeError(f"{check.__name__} has not noticed {wrong.name}")
    if rank() == 0:
        print(message)

# %% [markdown]
# ## On the tape
#
# Positions on the orbit, in units of its semi-major axis and with the Sun in the origin, are
# `(cos E − e, √(1 − e²) sin E)`. The unknowns are `e` and the phase `M₀` at time 0. Each process
# has observations of its own; what `minimize` passes to `misfit` is the same on all of them.

# %%
random = np.random.default_rng([0, rank()])
observed_at = random.uniform(0, 6, 30)


def position(theta):
    e, phase = theta[0], theta[1]
    anomaly = Kepler()(observed_at + phase, e)
    return np.cos(anomaly) - e, np.sqrt(1 - e**2) * np.sin(anomaly)


exact = np.array([0.6, 0.4])
data = [x + 0.01 * random.standard_normal(30) for x in position(exact)]


def misfit(theta):
    x, y = position(theta)
    return Allreduce()(((x - data[0]) ** 2 + (y - data[1]) ** 2).sum())


start = np.array([0.2, 0.0])
with Tape() as tape:
    theta = tape.watch(start)
    loss = misfit(theta)
(gradient,) = tape.gradient(loss, [theta])  # this process's part; minimize sums them
result = minimize(misfit, start, bounds=[(0, 0.9), (-3, 3)], progress=False)
if rank() == 0:
    e, phase = result.theta
    print(f"e = {e:.4f} and M₀ = {phase:.4f} after {result.iterations} iterations")
assert np.abs(result.theta - exact).max() < 0.02

# %% [markdown]
# ## The Taylor test
#
# Whatever a misfit is made of, one test covers it: along a random direction `δ`, the remainder
# `|f(θ + hδ) − f(θ)|` falls as `h`, and less `h ⟨∇f, δ⟩` it falls as `h²`, if the gradient is
# right.

# %%
taylor = taylor_to_dict(misfit, start, levels=6)
assert min(taylor["R1"]["Rate"]) > 1.9
if rank() == 0 and find_spec("matplotlib"):
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    left.loglog(taylor["eps"], taylor["R0"]["Residual"], "o-", label="without gradient: order 1")
    left.loglog(taylor["eps"], taylor["R1"]["Residual"], "s-", label="with gradient: order 2")
    left.set(xlabel="step h", ylabel="remainder", title="Taylor test")
    left.grid(alpha=0.3)
    left.legend()
    circle = np.linspace(0, 2 * np.pi, 200)
    for (e, _), label, style in (start, "start", ":"), (result.theta, "found", "-"):
        right.plot(np.cos(circle) - e, np.sqrt(1 - e**2) * np.sin(circle), style, label=label)
    right.plot(*data, "k.", markersize=4, label="observed")
    right.plot(0, 0, "*", color="orange", markersize=12)
    right.set(
        xlabel="x / semi-major axis", ylabel="y / semi-major axis", title="Orbit", aspect="equal"
    )
    right.legend(loc="center")
    figure.savefig("operator.png", dpi=110)

# %% [markdown]
# ![Remainders of orders 1 and 2; an ellipse through the observations](../images/operator.png)
#
# Next: [a network in a Poisson problem](network.py), or all of the contract in [writing an
# operator](../writing_an_operator.md).
