"""What the project set out to reach, beside what the benchmarks measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import harness
import paper

Result = dict[str, Any]
HEADER = ["target", "", "measured", "verdict", "script"]


class Target(NamedTuple):
    """A claim of a benchmark: what is at most, or at least, so much.

    Attributes
    ----------
    script, claim : str
    sign : str
        ≤ or ≥.
    bound : float
    measure : callable
        Returns the value from a result, ``None`` where the run was too small to say.
    limit : callable, optional
        Says what in the same result keeps it from being reached.
    """

    script: str
    claim: str
    sign: str
    bound: float
    measure: Callable[[Result], float | None]
    limit: Callable[[Result], str] | None = None

    def reached(self, value: float) -> bool:
        """Return whether a value is on the right side, to the digits that are shown."""
        shown = float(f"{value:.3g}")
        return shown <= self.bound if self.sign == "≤" else shown >= self.bound


def ratio(result: Result, numerator: str, denominator: str) -> float | None:
    """Return the ratio of two cases of a result, ``None`` where one was not measured."""
    seconds: Mapping[str, Sequence[float]] = result["seconds"]
    if numerator not in seconds or denominator not in seconds:
        return None
    return harness.ratio(seconds[numerator], seconds[denominator])


def worst(ratios: Sequence[float | None]) -> float | None:
    return max((r for r in ratios if r is not None), default=None)


def per_record(result: Result) -> float:
    """Return the most that recording adds to a small operator, in seconds."""
    medians, calls = result["medians"], result["parameters"]["calls"]
    most: float = max(
        (seconds - medians[name.replace(" recorded", " plain")]) / calls
        for name, seconds in medians.items() if name.endswith(" recorded")
    )  # fmt: skip
    return most


def pairs(result: Result, ours: str, theirs: str) -> float | None:
    """Return the worst of all cases against their counterparts."""
    names = [n.removesuffix(ours) for n in result["seconds"] if n.endswith(ours)]
    return worst([ratio(result, n + ours, n + theirs) for n in names])


def claim(name: str) -> Callable[[Result], float]:
    """Return what the Poisson benchmark found."""
    return lambda result: float(result["parameters"]["claims"][name][0])


def large(result: Result) -> str:
    """Return how the cases on the large grid are called, with as many shots as threads."""
    nodes, _, shots, _ = max(result["parameters"]["sizes"], key=lambda size: (size[0], size[2]))
    return f"{nodes}, {shots} shots: "


def beside(peer: str) -> Callable[[Result], float | None]:
    """Return a peer's time of the forward run over ours."""
    return lambda r: ratio(r, f"{large(r)}{peer} forward", f"{large(r)}adjoint forward")


def gradient(result: Result) -> float | None:
    at = large(result)
    return ratio(result, f"{at}adjoint gradient", f"{at}adjoint forward")


def a_step(result: Result) -> float:
    """Return the microseconds of a step besides its arithmetic."""
    nodes, steps = result["parameters"]["tiny"]
    return float(1e6 * result["medians"][f"{nodes}, without layers: forward"] / steps)


def against_paper(case: int) -> Callable[[Result], float | None]:
    """Return our time on one core over the paper's on 32, for 100×100 nodes and 2000 steps."""

    def measure(result: Result) -> float | None:
        nodes, steps = min(result["parameters"]["sizes"])[:2]
        if (nodes, steps) != (100, paper.STEPS["weak"]):
            return None
        theirs = paper.SECONDS[result["benchmark"], "weak"][case][0]
        name = ("forward", "gradient")[case]
        return float(result["medians"][f"{nodes}, 1 shots: adjoint {name}"] / theirs)

    return measure


def bandwidth(result: Result) -> str:
    """Return the roofline: what of the memory's bandwidth a forward step reaches."""
    _, rate, memory, fraction, *_ = result["parameters"]["roofline"]
    return f"{fraction:.0%} of the memory's {memory:.3g} GB/s are used ({rate:.3g} GB/s)"


def traffic(result: Result) -> str:
    """Return what memory and sums allow a gradient, and what it costs the peer."""
    least = result["parameters"]["roofline"][-1]
    said = f"at the triad's speed its traffic alone takes {least:.2f} forward runs"
    nodes = min(result["parameters"]["sizes"])[0]
    of_sums = ratio(result, *(f"{nodes}, 1 shots: adjoint {x}" for x in ("gradient", "forward")))
    if of_sums is not None:
        said += f", and {nodes}×{nodes} nodes, which stay in a cache, {of_sums:.2f} of theirs"
    at = large(result)
    own = ratio(result, f"{at}Deepwave gradient", f"{at}Deepwave forward")
    ours = ratio(result, f"{at}Deepwave gradient", f"{at}adjoint gradient")
    if own is None or ours is None:
        return said
    return f"{said}; Deepwave's takes {own:.2f} of its own, and {ours:.2f} times as long as ours"


def in_full(result: Result) -> bool:
    """Return whether the elastic gradient is the one for which 193 GB were counted."""
    p = result["parameters"]
    return bool(p["nodes"] == 1000 and p["steps"] == 2000)


def check(result: Result) -> str:
    """Return what the first check takes."""
    first, sweep = (
        1e3 * result["medians"][f"example, {name}"] for name in ("first check", "reverse")
    )
    return f"the check takes {first:.2g} ms, the sweep of the example {sweep:.3g} ms"


def furthest(result: Result) -> str:
    """Return the run that the model misses most."""
    rows = result["parameters"]["validation"]
    name, link, ranks, *_ = max(rows, key=lambda row: abs(row[4] / row[3] - 1))
    return f"{name} on {ranks} ranks, {link}"


def ranks_and_threads(physics: str) -> Callable[[Result], float | None]:
    return lambda r: ratio(r, f"{physics} threads", f"{physics} ranks")


def without_exchange(physics: str) -> Callable[[Result], str]:
    def limit(result: Result) -> str:
        share = ratio(result, f"{physics} without exchange", f"{physics} ranks")
        return f"without any exchange it takes {share:.2f} of that time"

    return limit


def _wave(physics: str, devito: float, deepwave: float) -> list[Target]:
    return [
        Target(physics, f"{physics}, forward: Devito's time / ours", "≥", devito,
               beside("Devito"), bandwidth),
        Target(physics, f"{physics}, forward: Deepwave's time / ours", "≥", deepwave,
               beside("Deepwave"), bandwidth),
        Target(physics, f"{physics}: gradient / forward run", "≤", 2.5, gradient,
               traffic),
        Target(physics, f"{physics}: a step besides its arithmetic, µs", "≤", 15, a_step),
        Target(physics, f"{physics}, forward, 100×100: 1 core / the paper's 32", "≤", 0.1,
               against_paper(0), bandwidth),
        Target(physics, f"{physics}, gradient, 100×100: 1 core / the paper's 32", "≤", 0.1,
               against_paper(1), bandwidth),
    ]  # fmt: skip


def refined(case: str) -> Callable[[Result], float]:
    """Return a measure of the iterations on the finest grid relative to the coarsest."""

    def measure(result: Result) -> float:
        counts = result["parameters"]["counts"][case]
        return float(counts[-1] / counts[0])

    return measure


def in_shares(result: Result) -> dict[str, Any]:
    """Return what was found where the most ranks had shares of a network's parameters."""
    by_ranks = result["parameters"]["found"]["in shares"]
    found: dict[str, Any] = by_ranks[max(by_ranks, key=int)]
    return found


def beside_rank_0(result: Result) -> float:
    """Return the most that a rank with a share allocates, relative to rank 0 with all of them."""
    by_ranks = result["parameters"]["found"]["on rank 0"]
    whole = by_ranks[max(by_ranks, key=int)]["allocated"][0]
    return float(max(in_shares(result)["allocated"]) / whole)


def sent_for_each(result: Result) -> float | None:
    """Return the most bytes that a rank sends for each parameter in an evaluation, if counted."""
    found = in_shares(result)
    if not found["sent"]:
        return None
    return float(max(found["sent"]) / found["evaluations"] / found["parameters"])


def of_ranks(result: Result) -> float | None:
    """Return what a rank allocates among all ranks, relative to what it does alone."""
    vectors = {int(ranks): found for ranks, found in result["parameters"]["vectors"].items()}
    return float(vectors[max(vectors)] / vectors[1]) if len(vectors) > 1 else None


def besides_solves(result: Result) -> str:
    """Return what set-ups are left, for they are what warm solves save most of."""
    setups = result["parameters"]["setups"]
    return f"{setups['warm']} set-ups are left of {setups['cold']}"


TARGETS = [
    Target("tape", "recording a small operator, µs", "≤", 10, lambda r: 1e6 * per_record(r)),
    Target("mlp", "network, value and gradient: ours / PyTorch", "≤", 0.5,
           lambda r: ratio(r, "ours", "PyTorch")),
    Target("halo", "halo exchange: ours / mpi4py by hand, worst case", "≤", 1.2,
           lambda r: pairs(r, ", ours", ", by hand")),
    Target("transpose", "transposition: library / PETSc, worst case", "≤", 1.0,
           lambda r: worst([pairs(r, ": library", ": PETSc"),
                            pairs(r, ": its adjoint", ": PETSc")])),
    Target("poisson", "Poisson: library / petsc4py driven directly", "≤", 1.1,
           claim("library / direct")),
    Target("poisson", "Poisson: share beyond PETSc and hypre", "≤", 0.1,
           claim("beyond PETSc, share of library")),
    Target("poisson", "Poisson: reverse / forward, symmetric", "≤", 0.6,
           claim("reverse / forward, symmetric")),
    Target("poisson", "Poisson: reverse / forward, nonsymmetric", "≤", 1.3,
           claim("reverse / forward, nonsymmetric")),
    Target("poisson", "first check of records / reverse sweep", "≤", 0.01,
           claim("check / reverse, first sweep of the example"), check),
    Target("poisson", "later checks of records / reverse sweep", "≤", 1e-4,
           claim("check / reverse, later sweeps")),
    Target("warm_solves", "Poisson inversion 600×600: seconds a gradient, cold / warm", "≥", 1.5,
           lambda r: ratio(r, "cold", "warm") if r["parameters"]["nodes"] == 600 else None,
           besides_solves),
    Target("warm_solves", "the same: difference of κ after a short run", "≤", 1e-6,
           lambda r: r["parameters"]["difference"]),
    Target("gauss_newton", "Gauss-Newton / L-BFGS, PDE solves for its last misfit, worst case", "≤",
           1 / 3, lambda r: worst([c["share"] for c in r["parameters"]["courses"].values()])
           if r["parameters"]["levels"][-1] == 400 else None),
    *_wave("acoustic", 1.0, 1.5),
    *_wave("elastic", 1.2, 2.0),
    Target("elastic_memory", "elastic gradient, 1000×1000, 2000 steps: peak GB", "≤", 6,
           lambda r: r["parameters"]["peak"] / 1e9 if in_full(r) else None),
    Target("elastic_memory", "the same: gradient / forward run", "≤", 4,
           lambda r: ratio(r, "gradient", "forward") if in_full(r) else None,
           lambda r: f"{r['parameters']['recomputed']} steps are recomputed in "
                     f"{r['parameters']['budget']}"),
    Target("ranks", "acoustic: 2 threads / 2 ranks, time", "≥", 0.9,
           ranks_and_threads("acoustic"), without_exchange("acoustic")),
    Target("ranks", "elastic: 2 threads / 2 ranks, time", "≥", 0.9,
           ranks_and_threads("elastic"), without_exchange("elastic")),
    Target("fields", "a parameter at each node: memory a rank, all ranks / 1 rank", "≤", 1.05,
           of_ranks),
    Target("fields", "the same: iterations on the finest grid / the coarsest", "≤", 1.2,
           refined("smooth over 0.05")),
    Target("fields", "the same, with bounds", "≤", 2, refined("smooth over 0.05, with bounds")),
    Target("shares", "10⁷ parameters in shares: memory of a rank of 4 / rank 0 in minimize", "≤",
           0.25, lambda r: beside_rank_0(r) if in_shares(r)["parameters"] > 9e6 else None),
    Target("shares", "a network's parameters in shares: bytes a rank sends for each", "≤", 16,
           sent_for_each),
    Target("scaling_model", "performance model: largest error of a run on slow links", "≤",
           0.25, lambda r: r["parameters"]["worst"], furthest),
]  # fmt: skip


def rows(found: Sequence[Result]) -> list[list[str]]:
    """Return the table: target, bound, measured value, and whether it is reached.

    Where it is not, the measured limit is said.
    """
    by_script = {result["benchmark"]: result for result in found}
    table = []
    for target in TARGETS:
        result = by_script.get(target.script)
        value = target.measure(result) if result else None
        if result is None or value is None:
            shown, verdict = "", "not measured in this run"
        else:
            shown = f"{value:.3g}"
            verdict = "reached" if target.reached(value) else "missed"
            if verdict == "missed" and target.limit is not None:
                verdict += f": {target.limit(result)}"
        bound = f"{target.sign} {target.bound:g}"
        table.append([target.claim, bound, shown, verdict, f"{target.script}.py"])
    return table
