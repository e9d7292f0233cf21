"""Which functions the rules of operators call, by name."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

from .mutations import functions

#: Where values and derivatives are computed: rules, applications, the phases of a time loop.
RULES = {"forward", "jvp", "vjp", "__call__", "cotangent"}
PHASES = {
    "prepare", "begin", "advance", "results", "new_kept", "prepare_tangent", "begin_tangent",
    "advance_tangent", "result_tangents", "prepare_reverse", "begin_reverse", "reverse",
    "finish_reverse", "gradients",
}  # fmt: skip
#: What tells people, checks and loads early, but computes nothing.
SILENT = {
    "check", "message", "close", "name", "partners", "hold", "require", "positive", "flags",
    "_prefetch_rows",
}  # fmt: skip


def reached(paths: Iterable[Path]) -> dict[Path, set[str]]:
    """Return for each file the functions that some rule may call, methods as ``Class.method``.

    A function counts as called where its name, or that of its class if it is ``__init__``, occurs
    in a function that counts; of other classes' methods of the same name all count.
    """
    bodies: dict[str, list[tuple[Path, str, ast.FunctionDef]]] = {}
    todo: list[str] = sorted(RULES | PHASES)
    for path in paths:
        for full, node in functions(ast.parse(path.read_bytes())):
            owner, _, name = full.rpartition(".")
            key = owner if name == "__init__" else name
            bodies.setdefault(key, []).append((path, full, node))
            if owner and name in RULES:
                todo.append(owner)
    found: dict[Path, set[str]] = {}
    seen: set[str] = set()
    while todo:
        name = todo.pop()
        if name in seen or name in SILENT or "require" in name or name.startswith("_check"):
            continue
        seen.add(name)
        for path, full, body in bodies.get(name, []):
            found.setdefault(path, set()).add(full)
            for inner in ast.walk(body):
                if isinstance(inner, ast.Name):
                    todo.append(inner.id)
                elif isinstance(inner, ast.Attribute):
                    todo.append(inner.attr)
    return found
