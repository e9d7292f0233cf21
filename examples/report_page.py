"""One page about a run that needs no other file: figures, numbers, settings and the profile."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from plotting import save, subplots

from adjoint.optimize import Iteration

STYLE = """
body { font: 1rem/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff;
       max-width: 64rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; line-height: 1.25; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; border-bottom: 1px solid #ccc; }
p.about { color: #444; }
p.status { font-weight: 600; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { text-align: left; vertical-align: top; padding: .2rem 1rem .2rem 0;
         border-bottom: 1px solid #e4e4e4; overflow-wrap: anywhere; }
table.numbers th, table.numbers td { white-space: nowrap; }
table.numbers th + th, table.numbers td + td { text-align: right;
         font-variant-numeric: tabular-nums; }
td.part { padding-left: 1rem; color: #555; }
.wide { overflow-x: auto; }
figure { margin: 1rem 0; }
figure img { max-width: 100%; max-height: 60rem; height: auto; }
figcaption { color: #444; font-size: .9rem; }
code { overflow-wrap: anywhere; }
"""

KINDS = {".png": "image/png", ".svg": "image/svg+xml"}


class Page(NamedTuple):
    """What the page tells.

    Attributes
    ----------
    about : str
        Title, and below it what the program does.
    status : str
        ``"finished"``, or how far it is and why.
    configuration : dict
    figures : dict
        Names of files, with captions.
    numbers : dict
    table : Table
        The profile.
    last : Iteration or None
    """

    about: str
    status: str
    configuration: dict[str, Any]
    figures: Mapping[str, str]
    numbers: Mapping[str, Any]
    table: Any
    last: Iteration | None

    def text(self, folder: Path) -> str:
        """Return the page, with the figures of a folder in it."""
        run = self.configuration
        title, *paragraphs = self.about.strip().split("\n\n")
        # The command in a docstring is an example; that of this run is below.
        paragraphs = [p for p in paragraphs if not p.startswith("    ")]
        threads = f"{run['threads']} thread{'s' if run['threads'] != 1 else ''}"
        ranks = f"{run['ranks']} rank{'s' if run['ranks'] != 1 else ''}"
        results = dict(self.numbers)
        if self.last is not None:
            results = {
                "iterations": self.last.iteration,
                "misfit": f"{self.last.loss:.6g}",
                "gradient norm": f"{self.last.gradient_norm:.3g}",
                "time": f"{self.last.seconds:.1f} s",
                "memory": f"{self.last.memory / 1e6:.0f} MB of the largest rank",
                **results,
            }
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        machine = {
            "started": run["started"], "written": now, "ranks × threads": f"{ranks} × {threads}",
            "host": run["host"], **run["versions"],
        }  # fmt: skip
        profile = self.table.cells()
        whose = "" if self.status == "finished" else " Of rank 0 alone."
        return "\n".join(
            [
                "<!DOCTYPE html>",
                '<html lang="en"><head><meta charset="utf-8">',
                '<meta name="viewport" content="width=device-width, initial-scale=1">',
                f"<title>{escape(run['program'])}: {escape(self.status)}</title>",
                f"<style>{STYLE}</style></head><body>",
                f"<h1>{escape(title)}</h1>",
                *(f'<p class="about">{escape(p)}</p>' for p in paragraphs),
                f'<p class="status">{escape(self.status)}, {escape(ranks)} × {escape(threads)}</p>',
                f"<p><code>{escape(run['command'])}</code></p>",
                "<h2>Results</h2>", _pairs(results),
                "<h2>Figures</h2>", *_figures(folder, self.figures),
                "<h2>Settings</h2>", _pairs(run["settings"]),
                "<h2>Profile</h2>", f"<p>{escape(self.table.caption)}.{whose}</p>", _rows(profile),
                "<h2>Machine</h2>", _pairs(machine),
                "</body></html>\n",
            ]
        )  # fmt: skip


def _pairs(values: Mapping[str, Any]) -> str:
    rows = "\n".join(
        f"<tr><th>{escape(str(name).replace('_', ' '))}</th><td>{escape(_said(value))}</td></tr>"
        for name, value in values.items()
    )
    return f'<div class="wide"><table>\n{rows}\n</table></div>'


def _said(value: Any) -> str:
    if value is None or value == []:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _rows(cells: Sequence[Sequence[str]]) -> str:
    header, *rows = cells
    lines = ["<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in header) + "</tr>"]
    for name, *rest in rows:
        part = ' class="part"' if name.startswith(" ") else ""
        first = f"<td{part}>{escape(name.strip())}</td>"
        lines.append(f"<tr>{first}{''.join(f'<td>{escape(cell)}</td>' for cell in rest)}</tr>")
    body = "\n".join(lines)
    return f'<div class="wide"><table class="numbers">\n{body}\n</table></div>'


def _figures(folder: Path, figures: Mapping[str, str]) -> Iterable[str]:
    for name, caption in figures.items():
        path = folder / name
        if path.suffix not in KINDS or not path.exists():  # a graph without Graphviz
            continue
        data = base64.b64encode(path.read_bytes()).decode()
        yield (
            f'<figure><img alt="{escape(caption)}" src="data:{KINDS[path.suffix]};base64,{data}">'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )


def draw_loss(path: Path, stages: Sequence[tuple[str, Sequence[Iteration]]]) -> None:
    """Draw the misfit and its gradient over the iterations of one stage after the other."""
    figure, axes = subplots(2, 1, figsize=(6.5, 4.6), sharex=True, height_ratios=(2, 1))
    first = 0
    for name, rows in stages:
        numbers = [first + row.iteration for row in rows]
        axes[0].semilogy(numbers, [row.loss for row in rows], label=name)
        axes[1].semilogy(numbers, [row.gradient_norm for row in rows])
        first = numbers[-1]
    axes[0].set_ylabel("misfit")
    axes[1].set(xlabel="iteration", ylabel="|gradient|")
    axes[1].xaxis.get_major_locator().set_params(integer=True)
    for axis in axes:
        axis.grid(alpha=0.3)
    if len(stages) > 1:
        axes[0].legend()
    save(figure, path, dpi=110)
