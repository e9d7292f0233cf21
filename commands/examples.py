"""The example programs, which are installed with the library: a list, and copies to work on."""

from __future__ import annotations

import ast
from pathlib import Path

from .doctor.packages import installed

FOLDER = Path(__file__).parent.parent / "examples"


def examples(folder: Path = FOLDER) -> dict[str, str]:
    """Return the names of the programs in a folder, each with the first line of its docstring."""
    found = {}
    for path in sorted(folder.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(map(_is_entry, tree.body)):
            found[path.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def listed() -> str:
    """Return the list as text."""
    programs = examples()
    width = max(map(len, programs))
    lines = [f"  {name:{width}}  {line}" for name, line in programs.items()]
    return "\n".join(
        ["Examples; `python -m adjoint examples NAME --to FOLDER` copies one out:", "", *lines]
    )


def needed(name: str, folder: Path = FOLDER) -> list[Path]:
    """Return the file of a program, and those of the modules beside it that it imports.

    Raises
    ------
    LookupError
        If there is no such program.
    """
    programs = examples(folder)
    name = name.removesuffix(".py")
    if name not in programs:
        raise LookupError(f"there is no example {name!r}; there are {', '.join(programs)}")
    found, waiting = [], [folder / f"{name}.py"]
    while waiting:
        path = waiting.pop()
        found.append(path)
        beside = [folder / f"{module}.py" for module in _imports(path)]
        waiting += [p for p in beside if p.exists() and p not in (*found, *waiting)]
    return found


def copy_example(name: str, to: Path, folder: Path = FOLDER) -> str:
    """Copy a program, with the modules it needs, and return how to run it, and what is missing.

    Raises
    ------
    LookupError
        If there is no such program.
    FileExistsError
        If another file is in the way; nothing is copied then.
    """
    files = needed(name, folder)
    copies = {to / path.name: path.read_bytes() for path in files}
    for path, content in copies.items():
        if path.exists() and (path.is_dir() or path.read_bytes() != content):
            raise FileExistsError(f"{path} is there and differs; copy to another folder with --to")
    to.mkdir(parents=True, exist_ok=True)
    for path, content in copies.items():
        path.write_bytes(content)
    program, *modules = map(str, copies)
    beside = f", and beside it what it imports:\n  {', '.join(modules)}" if modules else ""
    used = {module.partition(".")[0] for path in files for module in _imports(path)}
    used -= {path.stem for path in files}
    missing = sorted(package for package in used if not installed(package))
    first = f"\nFirst: pip install {' '.join(missing)}" if missing else ""
    return f"{program}{beside}{first}\nRun it: mpiexec -n 2 python -m mpi4py {program} --help"


def _is_entry(node: ast.stmt) -> bool:
    """Whether this is ``if __name__ == "__main__":``."""
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"


def _imports(path: Path) -> set[str]:
    """Return the names of all modules that a file imports absolutely."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module)
    return found
