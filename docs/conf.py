"""Configuration of the documentation's site, which `make docs` builds into docs/_build/html."""

from __future__ import annotations

import logging
import pkgutil
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util.logging import getLogger

sys.path.insert(0, str(Path(__file__).parent))

import adjoint

project = "adjoint"
version = release = adjoint.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "docstrings",
    "tutorial_pages",
]
exclude_patterns = ["_build", "*.py"]  # and the scripts below are tutorials

# Pages that are listed with an asterisk may be absent. (Sphinx gives this warning no type by which
# suppress_warnings would know it.)
logging.getLogger("sphinx.sphinx.directives.other").addFilter(
    lambda record: getattr(record, "subtype", None) != "empty_glob"
)

# Links inside of the project must lead somewhere; other projects' names are text, for nothing is
# fetched from the network.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!adjoint\.).*")]
myst_heading_anchors = 3

# Docstrings say of what types, shapes and units arguments are; signatures need not repeat it.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = [("Attributes", "params_style")]
viewcode_line_numbers = True

# A light theme with the system's fonts; pages load nothing from elsewhere.
html_theme = "furo"
html_title = f"adjoint {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False
pygments_style = "friendly"


def refuse_mathjax(app: Any, doctree: Any) -> None:
    """Warn of formulas in TeX, which a page would load MathJax for from the network."""
    for kind in nodes.math, nodes.math_block:
        for formula in doctree.findall(kind):
            getLogger(__name__).warning("write formulas in Unicode", location=formula)


def let_be(app: Any, environment: Any, reference: Any, text: Any) -> Any:
    """Show the names of what exists and is not public as text; others get Sphinx's warning."""
    module, _, name = str(reference.get("reftarget")).rpartition(".")
    if module.startswith("adjoint"):
        with suppress(ImportError):
            return text if hasattr(import_module(module), name) else None
    return None


def miss_no_public_name(app: Any, environment: Any) -> None:
    """Warn of names in a package's ``__all__`` that the reference does not have."""
    documented = environment.get_domain("py").objects
    below = pkgutil.walk_packages(adjoint.__path__, "adjoint.")
    for package in ("adjoint", *(module.name for module in below if module.ispkg)):
        if package.startswith("adjoint.commands"):  # for the command line
            continue
        for name in getattr(import_module(package), "__all__", ()):
            if f"{package}.{name}" not in documented:
                getLogger(__name__).warning("the reference lacks %s.%s", package, name)


def setup(app: Any) -> None:
    app.connect("doctree-read", refuse_mathjax)
    app.connect("missing-reference", let_be)
    app.connect("env-check-consistency", miss_no_public_name)
