"""The figures of the benchmarks, drawn from the files that they left."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import paper

Result = dict[str, Any]
Axes = Any
FORWARD, GRADIENT, OTHER = "#1f6fb4", "#c8442b", "#555555"
LIGHT = "#9db8d0"
DPI = 130


def plots(*shape: int, size: tuple[float, float], **more: Any) -> tuple[Any, Any]:
    """Return a new figure and its axes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"font.size": 10, "axes.titlesize": 10, "legend.fontsize": 8.5})
    return plt.subplots(*shape, figsize=size, layout="constrained", **more)


def save(figure: Any, file: Path) -> Path:
    """Write a figure and forget it."""
    import matplotlib.pyplot as plt

    figure.savefig(file, dpi=DPI)
    plt.close(figure)
    return file


def bars(ax: Axes, values: Mapping[str, float], colours: Sequence[str] | str, label: str) -> None:
    """Draw horizontal bars with their values."""
    drawn = ax.barh(list(values), list(values.values()), color=colours)
    ax.bar_label(drawn, fmt="%.4g", padding=3)
    ax.invert_yaxis()
    ax.set_xlabel(label)
    ax.set_xlim(0, 1.35 * max(values.values()))


def limit(ax: Axes, value: float, text: str) -> None:
    """Mark a target."""
    ax.axvline(value, color=OTHER, ls="--", label=text)
    ax.set_xlim(0, max(ax.get_xlim()[1], 1.1 * value))
    ax.legend(loc="lower right")


def draw(result: Result, folder: Path) -> Path | None:
    """Draw the figure of one benchmark into a folder, if it has one."""
    drawing = DRAWINGS.get(result["benchmark"])
    return None if drawing is None else drawing(result, folder / f"{result['benchmark']}.png")


def tape(result: Result, file: Path) -> Path:
    """Draw what recording adds to each small operator."""
    calls = result["parameters"]["calls"]
    medians = result["medians"]
    added = {
        name.removesuffix(" recorded"):
            1e6 * (seconds - medians[name.replace(" recorded", " plain")]) / calls
        for name, seconds in medians.items() if name.endswith(" recorded")
    }  # fmt: skip
    figure, ax = plots(size=(6, 3.4))
    bars(ax, added, FORWARD, "recording adds [µs]")
    return save(figure, file)


def mlp(result: Result, file: Path) -> Path:
    """Draw the time of a network's value and gradient by library."""
    figure, ax = plots(size=(6, 2.2))
    colours = [FORWARD if name == "ours" else LIGHT for name in result["medians"]]
    points = f"{result['parameters']['points']:,} points"
    bars(ax, result["medians"], colours, f"value and gradient at {points} [s]")
    return save(figure, file)


def halo(result: Result, file: Path) -> Path:
    """Draw each exchange, ours and written by hand."""
    pairs = _pairs(result["medians"], ", ours", ", by hand")
    return _twins(pairs, file, "the library", "mpi4py by hand")


def transpose(result: Result, file: Path) -> Path:
    """Draw each transposition, ours and PETSc's."""
    medians = result["medians"]
    pairs = {
        name: (seconds, medians[name.split(": ")[0] + ": PETSc"])
        for name, seconds in medians.items() if not name.endswith("PETSc")
    }  # fmt: skip
    return _twins(pairs, file, "the library", "PETSc's MatTranspose")


def _pairs(medians: Mapping[str, float], ours: str, theirs: str) -> dict[str, tuple[float, float]]:
    return {
        name.removesuffix(ours): (seconds, medians[name.removesuffix(ours) + theirs])
        for name, seconds in medians.items() if name.endswith(ours)
    }  # fmt: skip


def _twins(pairs: Mapping[str, tuple[float, float]], file: Path, ours: str, theirs: str) -> Path:
    import numpy as np

    figure, ax = plots(size=(7, 1.2 + 0.42 * len(pairs)))
    y = np.arange(len(pairs))
    for offset, column, colour, label in ((-0.2, 0, FORWARD, ours), (0.2, 1, LIGHT, theirs)):
        seconds = [1e3 * pair[column] for pair in pairs.values()]
        ax.barh(y + offset, seconds, 0.38, color=colour, label=label)
    ax.set_yticks(y, list(pairs))
    ax.invert_yaxis()
    least = min(min(pair) for pair in pairs.values())
    ax.set(xlabel="time [ms]", xscale="log", xlim=(1e3 * least / 3, None))
    ax.xaxis.set_major_formatter("{x:g}")
    figure.legend(loc="outside lower center", ncols=2)
    return save(figure, file)


def poisson(result: Result, file: Path) -> Path:
    """Draw the ratios that have targets, each in shares of its target."""
    claims = result["parameters"]["claims"]
    figure, ax = plots(size=(7, 3))
    names = {f"{name}: {found:.2g} (≤ {most:g})": found / most
             for name, (found, most) in claims.items()}  # fmt: skip
    bars(ax, names, FORWARD, "share of what it may be")
    limit(ax, 1.0, "target")
    return save(figure, file)


def ranks(result: Result, file: Path) -> Path:
    """Draw the waves on ranks and on threads."""
    figure, ax = plots(size=(6.5, 2.8))
    count = result["ranks"]
    words = {"ranks": f"{count} ranks", "without exchange": f"{count} ranks without exchange",
             "threads": f"1 rank, {count} threads"}  # fmt: skip
    seconds = {}
    for name, median in result["medians"].items():
        physics, case = name.split(" ", 1)
        seconds[f"{physics}, {words[case]}"] = 1e3 * median
    colours = [FORWARD if name.endswith("ranks") else LIGHT for name in seconds]
    bars(ax, seconds, colours, "forward run [ms]")
    return save(figure, file)


def waves(result: Result, file: Path) -> Path:
    """Draw the speed of each library, by problem."""
    tables = [table for table in result["tables"] if "Mcells/s" in table["header"]]
    figure, axes = plots(1, len(tables), size=(3.6 * len(tables), 3), squeeze=False)
    for ax, table in zip(axes[0], tables):
        names = [row[0] for row in table["rows"]]
        colours = [GRADIENT if "gradient" in n else FORWARD for n in names]
        speeds = dict(zip(names, (float(row[1]) for row in table["rows"])))
        bars(ax, speeds, colours, "million cells a second")
        title = table["title"].split(", ")
        ax.set_title(", ".join(title[1:3]) + "\n" + ", ".join(title[3:]))
    return save(figure, file)


def checkpoint(result: Result, file: Path) -> Path:
    """Draw the time of a gradient against the memory that it may use, and which runs go back."""
    figure, axes = plots(1, 2, size=(9, 3.4))
    for ax, (physics, case) in zip(axes, result["parameters"].items()):
        plans = sorted(case["plans"], key=lambda plan: plan[1])
        inside = [(plan[1], plan[6]) for plan in plans if "disk" not in plan[0]]
        ax.plot(*zip(*inside), "-", color=GRADIENT)
        for disk, back, marker, label in (
            (False, 0, "o", "memory"), (False, 1, "s", "memory, taken back"),
            (True, 0, "D", "and disk"), (True, 1, "P", "and disk, taken back"),
        ):  # fmt: skip
            points = [(p[1], p[6]) for p in plans if ("disk" in p[0]) is disk and p[5] == back]
            if points:
                ax.plot(*zip(*points), marker, color=FORWARD if disk else GRADIENT, label=label)
        ax.set(xscale="log", xlabel="memory of a process for the loop [MB]",
               ylabel="gradient / forward run", ylim=(0, None))  # fmt: skip
        ax.set_title(f"{physics}, {case['nodes']}×{case['nodes']} nodes, {case['steps']} steps")
        ax.xaxis.set_major_formatter("{x:g}")
        ax.grid(alpha=0.3)
        ax.legend(fontsize="small")
    return save(figure, file)


def elastic_memory(result: Result, file: Path) -> Path:
    """Draw each run, and the memory of all."""
    figure, ax = plots(size=(6, 2))
    p = result["parameters"]
    bars(ax, result["medians"], [FORWARD, GRADIENT], "time [s]")
    ax.set_title(f"{p['nodes']}×{p['nodes']} nodes, {p['steps']} steps: "
                 f"peak memory {p['peak'] / 1e9:.2f} GB")  # fmt: skip
    return save(figure, file)


def oversubscribed(result: Result, file: Path) -> Path:
    """Draw messages and bytes to a neighbour, and of the busiest rank, by the ranks."""
    figure, axes = plots(1, 2, size=(9, 3.8))
    for physics, by_ranks in result["parameters"]["found"].items():
        counts = [int(n) for n in by_ranks]
        colour = {"acoustic": FORWARD, "elastic": GRADIENT}.get(physics, OTHER)
        for i, ax in enumerate(axes):
            ax.plot(counts, [r["most"][i] or None for r in by_ranks.values()], "s--", color=colour,
                    label=f"{physics}: busiest rank, all messages")  # fmt: skip
            if all(r["link"] for r in by_ranks.values()):
                ax.plot(counts, [r["link"][0][i] for r in by_ranks.values()], "o-", color=colour,
                        label=f"{physics}: to a neighbour")  # fmt: skip
    for ax, label in zip(axes, ("messages", "bytes")):
        _ranks_axis(ax)
        ax.set(ylabel=label, yscale="log")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return save(figure, file)


def scaling_model(result: Result, file: Path) -> Path:
    """Draw predicted against measured times, and the predictions for thousands of ranks."""
    p = result["parameters"]
    figure, axes = plots(1, 3, size=(12, 3.8))
    colours = {"acoustic": FORWARD, "elastic": GRADIENT, "poisson": OTHER}
    ax = axes[0]
    markers = dict(zip(dict.fromkeys(row[1] for row in p["validation"]), "osD^v"))
    for name, link, _, measured, expected in p["validation"]:
        ax.plot(measured, expected, markers[link], color=colours[name.split(", ")[0]], ms=5,
                mfc="none" if "gradient" in name else None)  # fmt: skip
    ends = [0.7 * min(row[3] for row in p["validation"]), 1.4 * max(r[3] for r in p["validation"])]
    ax.plot(ends, ends, color="0.6", lw=1)
    off = p["tolerance"]
    ax.fill_between(ends, [e * (1 - off) for e in ends], [e * (1 + off) for e in ends],
                    color="0.9", label=f"± {off:.0%}")  # fmt: skip
    for link, marker in markers.items():
        ax.plot([], [], marker, color=OTHER, label=link)
    ax.set(xscale="log", yscale="log", xlabel="measured [s]", ylabel="predicted [s]",
           title="runs on shaped links (open: gradients)")  # fmt: skip
    ax.legend(fontsize=7.5)
    for ax, mode in zip(axes[1:], ("strong", "weak")):
        for name, times in p["predictions"].items():
            physics, case, which = name.split(", ")
            if which == mode:
                ax.plot(p["ranks"], times, "-" if case == "forward" else "--",
                        color=colours[physics], label=f"{physics}, {case}")  # fmt: skip
        _ranks_axis(ax)
        ax.set(yscale="log", ylabel="predicted [s]", title=f"{mode} scaling, stated network")
    axes[1].legend(fontsize=7.5)
    return save(figure, file)


def gauss_newton(result: Result, file: Path) -> Path:
    """Draw the misfit over the solves, of both methods."""
    figure, ax = plots(size=(6, 3.8))
    colours = (FORWARD, GRADIENT, OTHER, "#3c8d5a")
    for (name, courses), colour in zip(result["parameters"]["courses"].items(), colours):
        for method, style in (("L-BFGS", ":"), ("Gauss-Newton", "-")):
            solves, misfits = zip(*courses[method])
            label = name if method == "Gauss-Newton" else None
            ax.semilogy(solves, misfits, style, color=colour, label=label)
    ax.plot([], [], ":", color=OTHER, label="dotted: L-BFGS")
    ax.set(xlabel="PDE solves", ylabel="relative misfit", title="Gauss-Newton and L-BFGS")
    ax.grid(alpha=0.3)
    ax.legend()
    return save(figure, file)


def _ranks_axis(ax: Axes) -> None:
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_xlabel("ranks")
    ax.grid(alpha=0.3)


def fields(result: Result, file: Path) -> Path:
    """Draw iterations by grid, and the misfit of the million unknowns."""
    p = result["parameters"]
    figure, axes = plots(1, 2, size=(8.4, 3.2))
    for name, counts in p["counts"].items():
        colour = LIGHT if name.startswith("Euclidean") else FORWARD
        style = "o--" if name.endswith("bounds") else "o-"
        axes[0].plot(p["refined"], counts, style, color=colour, label=name)
    most = max(map(max, p["counts"].values()))
    axes[0].set(xlabel="nodes along an axis", ylabel="iterations to a millionth",
                xticks=p["refined"], ylim=(0, 1.7 * most))  # fmt: skip
    axes[0].legend(title="inner product", loc="upper left")
    axes[1].semilogy(p["losses"], "o-", color=FORWARD)
    axes[1].set(xlabel="iteration", ylabel="misfit and penalty",
                title=f"{p['nodes'] ** 2:,} unknowns on {result['ranks']} ranks")  # fmt: skip
    return save(figure, file)


DRAWINGS: dict[str, Callable[[Result, Path], Path]] = {
    "tape": tape, "mlp": mlp, "halo": halo, "transpose": transpose, "poisson": poisson,
    "acoustic": waves, "elastic": waves, "ranks": ranks, "checkpoint": checkpoint,
    "elastic_memory": elastic_memory, "oversubscribed": oversubscribed,
    "scaling_model": scaling_model, "fields": fields, "gauss_newton": gauss_newton,
}  # fmt: skip


def scaling(found: Sequence[Result], folder: Path) -> dict[str, Path]:
    """Draw strong and weak scaling of each problem; return the files by problem and mode."""
    series: dict[tuple[str, str], dict[int, dict[int, Result]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for result in found:
        p = result["parameters"]
        series[p["physics"], p["mode"]][result["threads"]][result["ranks"]] = result
    return {
        f"{physics}, {mode}": _scaling(physics, mode, by_threads, folder)
        for (physics, mode), by_threads in sorted(series.items())
    }


def _scaling(
    physics: str, mode: str, by_threads: Mapping[int, Mapping[int, Result]], folder: Path
) -> Path:
    figure, (left, right) = plots(1, 2, size=(9.5, 4.2))
    least = min(by_threads)
    cores = by_threads[least][min(by_threads[least])]["machine"]["cores"]
    widest = max(2, *(n for by_ranks in by_threads.values() for n in by_ranks))
    for threads, by_ranks in sorted(by_threads.items()):
        ranks = sorted(by_ranks)
        medians = [by_ranks[n]["medians"] for n in ranks]
        extra = f", {threads} threads a rank" if threads > least else ""
        style = "o-" if threads == least else "^:"
        names = [n for n in medians[0] if "overhead" not in n]
        for name, colour in zip(names, (FORWARD, GRADIENT, OTHER)):
            times = [m[name] for m in medians]
            left.plot(ranks, times, style, color=colour, label=name + extra)
            right.plot(ranks, efficiency(mode, ranks, times), style, color=colour)
            over = [m.get(f"{name}, overhead") for m in medians]
            if all(over) and not extra:
                left.plot(ranks, over, "s--", color=colour, label=f"{name}: besides PETSc, hypre")
    steps = next(iter(by_threads[least].values()))["parameters"]["steps"]
    if (physics, mode) in paper.SECONDS and steps == paper.STEPS[mode]:
        widest = max(widest, *paper.RANKS[mode])
        for seconds, colour, name in zip(
            paper.SECONDS[physics, mode], (FORWARD, GRADIENT), ("forward", "gradient")
        ):
            left.plot(paper.RANKS[mode], seconds, ".:", color=colour, alpha=0.6,
                      label=f"{name}, the paper's:\nother hardware, 32 cores a rank")  # fmt: skip
            right.plot(paper.RANKS[mode], efficiency(mode, paper.RANKS[mode], seconds), ".:",
                       color=colour, alpha=0.6)  # fmt: skip
    crowded = widest > cores
    for ax in (left, right):
        _ranks_axis(ax)
        if crowded:
            ax.axvspan(cores * 1.05, widest * 1.05, color="0.93", lw=0, zorder=0)
    left.set(ylabel="time [s]", yscale="log", title=f"{physics}, {mode} scaling")
    title = f"grey: more ranks than the {cores} cores" if crowded else f"{physics}, {mode} scaling"
    right.set(ylabel="efficiency", ylim=(0, None), title=title)
    figure.legend(loc="outside lower center", ncols=3)
    return save(figure, folder / f"scaling-{physics}-{mode}.png")


def efficiency(mode: str, ranks: Sequence[int], times: Sequence[float]) -> list[float]:
    """Return the ideal time by the measured one; the first run is the measure."""
    ideal = [times[0] * (ranks[0] / n if mode == "strong" else 1.0) for n in ranks]
    return [i / t for i, t in zip(ideal, times)]
