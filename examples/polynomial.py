"""Differentiate 1 + θ + θ² + θ³, each term computed by a rank of its own.

    mpiexec -n 4 python -m mpi4py examples/polynomial.py --theta 1.5

θ lives on rank 0 and is broadcast; rank r computes θʳ; the terms are summed on rank 0. The gradient
comes back along the same way: the sum's adjoint is a broadcast, the broadcast's adjoint is a sum.
This is equation (5) of Xu, Zhu and Darve, https://doi.org/10.48550/arXiv.2011.01349.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from command_line import one_message, parsed

from adjoint import Tape
from adjoint.comm import Bcast, Reduce, rank, size


def polynomial(theta: float, picture: Path | None = None) -> tuple[float, float]:
    """Return 1 + θ + … + θ^(N−1) on N ranks, and its derivative, both on rank 0.

    Where a file is given, the computational graph is drawn into it.
    """
    with Tape() as tape:
        theta0 = tape.watch(np.array(theta))
        shared = Bcast(root=0)(theta0)
        loss = Reduce(root=0)(shared ** rank())
    if picture is not None:
        tape.draw(picture)
    (gradient,) = tape.gradient(loss, [theta0])
    return float(loss), float(gradient)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--theta", type=float, default=1.5, help="where to evaluate (default 1.5)")
    parser.add_argument("--draw", type=Path, metavar="FILE", help="draw the computational graph "
                        "(.svg, .pdf, .png, .dot)")  # fmt: skip
    with one_message(ValueError, OSError):
        options = parsed(parser)
        theta = options.theta
        value, derivative = polynomial(theta, options.draw)
    if rank() == 0:
        terms = " + ".join(["1", "θ", *(f"θ^{k}" for k in range(2, size()))][: size()])
        print(f"f(θ) = {terms}")
        print(f"f({theta:g}) = {value:.12g}   f'({theta:g}) = {derivative:.12g}")


if __name__ == "__main__":
    main()
