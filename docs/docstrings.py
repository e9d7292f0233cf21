"""What the site makes of docstrings beyond what napoleon does."""

from __future__ import annotations

import re
from typing import Any

#: How a reference ends.
_DOI = re.compile(r"10\.\d{4,}/\S+$")

#: What is indented in Notes and is no equation: examples, directives, lists.
_OTHER = re.compile(r"\s*(>>>|\.\. |[-*] |\d+\. )")

#: A shape that has another in it, ``(shots, *grid.patch_shape)``.
_SHAPE = re.compile(r"([\[(]|, )\*(?=\w)")


def refine(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Keep equations as they are written, references apart, and asterisks of shapes as they are.

    Equations are the indented paragraphs of Notes. References follow each other line by line. The
    asterisk of a shape would begin an emphasis that never ends.
    """
    text: list[str] = []
    section, equation = "", False
    for before, line, after in zip(["", *lines], lines, [*lines[1:], ""]):
        if line and after and set(after) == {"-"}:
            section = line
        indented = line.startswith("    ")
        if section == "Notes" and indented and not (equation or before or _OTHER.match(line)):
            text += ["::", ""]
            equation = True
        equation = equation and (indented or not line)
        if section == "References" and line and _DOI.search(before):
            text.append("")
        text.append(line if equation else _without_emphasis(line))
    lines[:] = text


def _without_emphasis(line: str) -> str:
    """Escape the asterisks of shapes outside of code."""
    parts = line.split("``")
    return "``".join(part if i % 2 else _SHAPE.sub(r"\1\\*", part) for i, part in enumerate(parts))


def skip_fields(app: Any, what: str, name: str, thing: Any, skip: bool, options: Any) -> Any:
    """Leave the fields of named tuples to the docstrings of their classes."""
    return True if str(thing.__doc__).startswith("Alias for field number") else None


def setup(app: Any) -> None:
    # Before napoleon, which hears of it at priority 500 and makes other things of sections.
    app.connect("autodoc-process-docstring", refine, priority=400)
    app.connect("autodoc-skip-member", skip_fields)
