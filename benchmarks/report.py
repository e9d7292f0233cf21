"""Draw the figures and write the README of benchmarks from the files that they left.

    python benchmarks/report.py DIRECTORY [--out benchmarks]

Takes every .json of the directory, from this machine or from a cluster.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import figures
import targets

Result = dict[str, Any]

#: Figures of the paper whose problem a scaling run repeats.
PAPER = {
    "transpose, strong": "9, left", "transpose, weak": "9, right",
    "poisson, weak": "11 and 12", "poisson, strong": "13 and 14",
    "acoustic, strong": "20", "acoustic, weak": "21",
    "elastic, strong": "23", "elastic, weak": "24",
}  # fmt: skip

#: Start their jobs themselves, on several numbers of ranks.
OF_MANY_JOBS = ("oversubscribed", "scaling_model", "shares")


def results(directory: Path) -> list[Result]:
    """Return what the benchmarks have left, in the order of their names."""
    files = sorted(directory.glob("*.json"))
    if not files:
        raise SystemExit(f"{directory} has no .json files; run the benchmarks with --json first")
    return [json.loads(file.read_text()) for file in files]


def lines(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table."""
    return ["| " + " | ".join(header) + " |", "|" + " --- |" + " ---: |" * (len(header) - 1),
            *("| " + " | ".join(row) + " |" for row in rows)]  # fmt: skip


def markdown(result: Result) -> list[str]:
    """Return a result's tables."""
    text = []
    for table in result["tables"]:
        text += ["", table["title"], "", *lines(table["header"], table["rows"])]
    return text


def scaling_table(group: Sequence[Result]) -> list[str]:
    """Return all runs of the scaling problems, with what each gains over the fewest ranks."""
    first: dict[Any, tuple[int, float]] = {}
    rows = []
    for result in sorted(group, key=lambda r: (r["parameters"]["physics"], r["parameters"]["mode"],
                                               r["threads"], r["ranks"])):  # fmt: skip
        p, ranks = result["parameters"], result["ranks"]
        for case, repetitions in result["seconds"].items():
            seconds = statistics.median(repetitions)
            key = p["physics"], p["mode"], result["threads"], case
            fewest, base = first.setdefault(key, (ranks, seconds))
            work = 1.0 if p["mode"] == "strong" else ranks / fewest
            gain = work * base / seconds
            rows.append([f"{p['physics']}, {p['mode']}", "×".join(map(str, p["shape"])),
                         f"{ranks} × {result['threads']}", case, f"{seconds:.4g}", f"{gain:.2f}",
                         f"{gain * fewest / ranks:.2f}"])  # fmt: skip
    header = ["problem", "nodes", "ranks × threads", "case", "seconds", "speed-up", "efficiency"]
    return lines(header, rows)


def readme(found: Sequence[Result], drawn: dict[str, list[tuple[str, str]]]) -> str:
    """Return the page: targets, and for each benchmark what it is, its tables and its figures.

    ``drawn`` has caption and file of each figure, by benchmark.
    """
    machine, versions = found[0]["machine"], found[0]["versions"]
    page = [
        "# Benchmarks",
        "",
        "Written by `make bench` (`make bench-quick` for smaller sizes). Times are medians of "
        "interleaved repetitions; comparisons are ratios within one run. `make peers` installs "
        "what the library is compared with; `cluster/` has the jobs for Slurm and PBS.",
        "",
        f"Machine: {machine['processor']}, {machine['cores']} cores, {machine['system']}. "
        + ", ".join(f"{k} {v}" for k, v in versions.items())
        + ".",
        "",
        "## Targets",
        "",
        *lines(targets.HEADER, targets.rows(found)),
    ]
    by_name: dict[str, list[Result]] = defaultdict(list)
    for result in found:
        by_name[result["benchmark"]].append(result)
    for name, group in by_name.items():
        page += ["", f"## {name}.py", "", group[0]["about"]]
        if name == "scaling":
            page += ["", *scaling_table(group)]
        else:
            for result in group:
                if name not in OF_MANY_JOBS:
                    page += ["", f"{result['ranks']} ranks × {result['threads']} threads."]
                page += markdown(result)
        for caption, file in drawn.get(name, []):
            page += ["", f"![{caption}](figures/{file})", "", f"*{caption}*"]
    return "\n".join(page) + "\n"


def draw(found: Sequence[Result], folder: Path) -> dict[str, list[tuple[str, str]]]:
    """Draw all figures; return caption and file of each, by benchmark."""
    drawn: dict[str, list[tuple[str, str]]] = {}
    for result in found:
        file = figures.draw(result, folder)
        if file is not None:
            drawn[result["benchmark"]] = [(result["about"], file.name)]
    curves = figures.scaling([r for r in found if r["benchmark"] == "scaling"], folder)
    drawn["scaling"] = [
        (f"{problem} scaling (figure {PAPER[problem]} of the paper)", file.name)
        for problem, file in curves.items()
    ]
    return drawn


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    options.add_argument("directory", type=Path)
    options.add_argument("--out", type=Path, default=Path(__file__).parent, metavar="FOLDER")
    chosen = options.parse_args()
    found = results(chosen.directory)
    folder = chosen.out / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    drawn = draw(found, folder)
    (chosen.out / "README.md").write_text(readme(found, drawn))
    print(f"{chosen.out / 'README.md'} and {sum(map(len, drawn.values()))} figures written")


if __name__ == "__main__":
    main()
