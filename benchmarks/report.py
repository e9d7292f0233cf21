"""Draw the figures and write the README of benchmarks from the files that they left.

    python benchmarks/report.py DIRECTORY [--out benchmarks]

Takes every .json of the directory, from this machine or from a cluster.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

import paper

Result = dict[str, Any]
FORWARD, GRADIENT, OTHER = "#1f6fb4", "#c8442b", "#555555"


def results(directory: Path) -> list[Result]:
    """Return what the benchmarks have left, in the order of their names."""
    files = sorted(directory.glob("*.json"))
    if not files:
        raise SystemExit(f"{directory} has no .json files; run the benchmarks with --json first")
    return [json.loads(file.read_text()) for file in files]


def scaling(found: list[Result], figures: Path) -> dict[str, list[str]]:
    """Draw strong and weak scaling; return the figures' names by physics."""
    import matplotlib.pyplot as plt

    series: dict[tuple[str, str], dict[int, dict[str, float]]] = defaultdict(dict)
    steps = {}
    for result in found:
        if result["benchmark"] == "scaling":
            key = result["parameters"]["physics"], result["parameters"]["mode"]
            series[key][result["ranks"]] = result["medians"]
            steps[key] = result["parameters"]["steps"]
    drawn: dict[str, list[str]] = defaultdict(list)
    for (physics, mode), by_ranks in sorted(series.items()):
        ranks = sorted(by_ranks)
        figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
        names = [n for n in by_ranks[ranks[0]] if "overhead" not in n]
        colours = dict(zip(names, (FORWARD, GRADIENT, OTHER)))
        for name, colour in colours.items():
            times = [by_ranks[r][name] for r in ranks]
            left.plot(ranks, times, "o-", color=colour, label=name)
            ideal = [times[0] / r * ranks[0] if mode == "strong" else times[0] for r in ranks]
            efficiency = [i / t for i, t in zip(ideal, times)]
            right.plot(ranks, efficiency, "o-", color=colour, label=name)
            over = [by_ranks[r].get(f"{name}, overhead") for r in ranks]
            if all(over):
                left.plot(ranks, over, "s--", color=colour, label=f"{name}: besides PETSc, hypre")
        if steps[physics, mode] == paper.STEPS[mode] and (physics, mode) in paper.SECONDS:
            for times, colour, name in zip(
                paper.SECONDS[physics, mode], (FORWARD, GRADIENT), ("forward", "gradient")
            ):
                left.plot(paper.RANKS[mode], times, ":", color=colour,
                          label=f"{name}, the paper's (other hardware)")  # fmt: skip
        cores = next(r["machine"]["cores"] for r in found)
        for axes in (left, right):
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter("{x:g}")
            axes.set_xlabel("ranks")
            axes.grid(alpha=0.3)
            if max(ranks) > cores:
                axes.axvspan(cores * 1.05, max(*ranks, 2), color="0.92", lw=0,
                             label="more ranks than cores")  # fmt: skip
        left.set(ylabel="time [s]", yscale="log", title=f"{physics}, {mode} scaling")
        right.set(ylabel=f"{mode} efficiency", ylim=(0, None), title="efficiency")
        left.legend(fontsize=7)
        name = f"scaling-{physics}-{mode}.png"
        figure.savefig(figures / name, dpi=130)
        plt.close(figure)
        drawn[physics].append(name)
    return drawn


def peers(result: Result, figures: Path) -> str | None:
    """Draw the speed of each library, by problem."""
    import matplotlib.pyplot as plt

    tables = [table for table in result["tables"] if "Mcells/s" in table["header"]]
    if not tables:
        return None
    figure, axes = plt.subplots(
        1, len(tables), figsize=(3.4 * len(tables), 3.2), layout="constrained", squeeze=False
    )
    for ax, table in zip(axes[0], tables):
        names = [row[0] for row in table["rows"]]
        speeds = [float(row[1]) for row in table["rows"]]
        colours = [GRADIENT if "gradient" in n else FORWARD for n in names]
        bars = ax.barh(names, speeds, color=colours)
        ax.bar_label(bars, fmt="%.0f", fontsize=7, padding=2)
        ax.invert_yaxis()
        ax.set_xlabel("million cells a second")
        ax.set_xlim(0, 1.15 * max(speeds))
        title = table["title"].split(", ")
        ax.set_title(", ".join(title[:3]) + "\n" + ", ".join(title[3:]), fontsize=8)
        ax.tick_params(labelsize=7)
    name = f"{result['benchmark']}.png"
    figure.savefig(figures / name, dpi=130)
    plt.close(figure)
    return name


def checkpoint(result: Result, figures: Path) -> str:
    """Draw the time of a gradient against the memory that it may use."""
    import matplotlib.pyplot as plt

    plans = result["parameters"]["plans"]
    figure, ax = plt.subplots(figsize=(5, 3.4), layout="constrained")
    for disk, marker, label in ((False, "o-", "memory"), (True, "D", "memory and disk")):
        points = sorted((p[1], p[5]) for p in plans if ("disk" in p[0]) is disk)
        if points:
            ax.plot(*zip(*points), marker, color=GRADIENT if disk else FORWARD, label=label)
    ax.set(xscale="log", xlabel="memory of a process for the loop [MB]",
           ylabel="gradient / forward run", ylim=(0, None))  # fmt: skip
    ax.grid(alpha=0.3)
    ax.legend()
    name = "checkpoint.png"
    figure.savefig(figures / name, dpi=130)
    plt.close(figure)
    return name


def markdown(result: Result) -> str:
    """Return a result's tables."""
    lines = []
    for table in result["tables"]:
        header = table["header"]
        lines += [f"\n{table['title']}\n", "| " + " | ".join(header) + " |",
                  "|" + " --- |" + " ---: |" * (len(header) - 1)]  # fmt: skip
        lines += ["| " + " | ".join(row) + " |" for row in table["rows"]]
    return "\n".join(lines)


def readme(found: list[Result], figures: dict[str, list[str]]) -> str:
    """Return the page: per benchmark what it is, its tables and its figures."""
    first = found[0]
    machine, versions = first["machine"], first["versions"]
    text = [
        "# Benchmarks",
        "",
        "Written by `make bench` (`make bench-quick` for smaller sizes). Times are medians of "
        "interleaved repetitions; comparisons are ratios within one run.",
        "",
        f"Machine: {machine['processor']}, {machine['cores']} cores, {machine['system']}. "
        + ", ".join(f"{k} {v}" for k, v in versions.items())
        + ".",
    ]
    by_name: dict[str, list[Result]] = defaultdict(list)
    for result in found:
        by_name[result["benchmark"]].append(result)
    for name, group in by_name.items():
        text += ["", f"## {name}.py", "", group[0]["about"]]
        if name == "scaling":
            text += ["", _scaling_table(group)]
            text += [f"\n![{f}](figures/{f})" for f in figures["scaling"]]
            continue
        for result in group:
            text.append(f"\n{result['ranks']} ranks × {result['threads']} threads.")
            text.append(markdown(result))
        text += [f"\n![{name}](figures/{f})" for f in figures.get(name, [])]
    return "\n".join(text) + "\n"


def _scaling_table(group: list[Result]) -> str:
    lines = ["| problem | nodes | ranks | case | seconds |", "| --- | --- | ---: | --- | ---: |"]
    for result in sorted(
        group, key=lambda r: (r["parameters"]["physics"], r["parameters"]["mode"], r["ranks"])
    ):
        p = result["parameters"]
        for case, seconds in result["seconds"].items():
            lines.append(
                f"| {p['physics']}, {p['mode']} | {'×'.join(map(str, p['shape']))} "
                f"| {result['ranks']} | {case} | {statistics.median(seconds):.4g} |"
            )
    return "\n".join(lines)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    options.add_argument("directory", type=Path)
    options.add_argument("--out", type=Path, default=Path(__file__).parent, metavar="FOLDER")
    chosen = options.parse_args()
    import matplotlib

    matplotlib.use("Agg")
    found = results(chosen.directory)
    folder = chosen.out / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    figures: dict[str, list[str]] = {
        "scaling": [n for names in scaling(found, folder).values() for n in names]
    }
    for result in found:
        if result["benchmark"] in ("acoustic", "elastic"):
            drawn = peers(result, folder)
            if drawn:
                figures[result["benchmark"]] = [drawn]
        elif result["benchmark"] == "checkpoint":
            figures["checkpoint"] = [checkpoint(result, folder)]
    (chosen.out / "README.md").write_text(readme(found, figures))
    print(f"{chosen.out / 'README.md'} and {len(list(folder.glob('*.png')))} figures written")


if __name__ == "__main__":
    main()
