"""Tutorials, which are scripts in jupytext's percent format, as pages and as notebooks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jupytext
from docutils import nodes
from myst_parser.parsers.sphinx_ import MystParser
from sphinx import addnodes


class Tutorial(MystParser):
    """Reads a script as the page that its notebook would be."""

    supported = ("tutorial",)

    def parse(self, inputstring: str, document: Any) -> None:
        notebook = jupytext.reads(inputstring, fmt="py:percent")
        notebook.metadata.clear()
        text = jupytext.writes(notebook, fmt="md").split("---\n", 2)[-1]  # after its own header
        name = Path(document["source"]).stem
        link = f'<a href="{name}.ipynb" download>This page as a notebook</a>'
        super().parse(re.sub(r"^# .*$", rf"\g<0>\n\n{link}", text, count=1, flags=re.M), document)


def sources_as_files(app: Any, page: str, text: list[str]) -> None:
    """Let links to other scripts lead to files, although some scripts are pages."""
    text[0] = re.sub(r"\]\(((?:\.\./)+[\w/]+\.py)\)", r"](path:\1)", text[0])


def files_as_listings(app: Any, doctree: Any, page: str) -> None:
    """Let links to modules that viewcode lists lead to the listings."""
    listed = getattr(app.env, "_viewcode_modules", {})
    for link in list(doctree.findall(addnodes.download_reference)):
        name = str(link["reftarget"]).lstrip("./").removesuffix(".py").replace("/", ".")
        for module in name, f"adjoint.{name}":
            if listed.get(module) and app.builder.format == "html":
                target = f"_modules/{module.replace('.', '/')}"
                uri = app.builder.get_relative_uri(page, target)
                link.replace_self(nodes.reference("", "", *link.children, refuri=uri))


def write_notebooks(app: Any, error: Exception | None) -> None:
    """Put the notebooks beside the pages, with links to what will lie beside them.

    That is the figure, once the notebook has run, and the other notebooks.
    """
    if error is None and app.builder.format == "html":
        for script in (Path(app.srcdir) / "tutorials").glob("*.py"):
            text = script.read_text(encoding="utf-8").replace("](../images/", "](")
            text = re.sub(r"\]\((\w+)\.py\)", r"](\1.ipynb)", text)
            notebook = jupytext.reads(text, fmt="py:percent")
            jupytext.write(notebook, Path(app.outdir) / "tutorials" / f"{script.stem}.ipynb")


def setup(app: Any) -> None:
    app.add_source_suffix(".py", "tutorial")
    app.add_source_parser(Tutorial)
    app.connect("source-read", sources_as_files)
    app.connect("doctree-resolved", files_as_listings)
    app.connect("build-finished", write_notebooks)
