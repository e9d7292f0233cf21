"""Python and its packages: which are there, and whether they can be imported."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import platform
import re
import sys
from pathlib import Path
from types import ModuleType

from .finding import Finding, fault, note

#: What nothing works without.
REQUIRED = ("adjoint", "numpy", "scipy")

#: What can be left out, and what it is for.
OPTIONAL = {
    "numba": "the acoustic and the elastic wave",
    "checkpoint_schedules": "time loops in bounded memory",
    "matplotlib": "the examples' figures",
    "rich": "the progress bar",
    "segyio": "SEG-Y files",
}

#: What a module says that was compiled for another NumPy.
_OTHER_NUMPY = re.compile(r"numpy[._](core|dtype|ufunc)|_ARRAY_API|multiarray|compiled using NumPy")


def packages() -> list[Finding]:
    """Return what this process can import; starts no MPI and no PETSc."""
    return [
        Finding("Python", platform.python_version(), same=True, path=sys.executable),
        *map(imported, REQUIRED),
        *(_optional(name, purpose) for name, purpose in OPTIONAL.items()),
    ]


def installed(name: str) -> bool:
    """Whether there is a package of this name, broken or not."""
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):  # hidden by None in sys.modules
        return False


def broken(name: str, error: BaseException, again: str) -> Finding:
    """Return the fault of a package that is there and cannot be imported.

    Parameters
    ----------
    name : str
        Of the package.
    error : BaseException
        What its import has raised.
    again : str
        The command that installs it.
    """
    said = " ".join(str(error).split()) or type(error).__name__
    if _OTHER_NUMPY.search(said):
        numpy = sys.modules["numpy"].__version__
        return fault(
            name,
            f"{name} is compiled for another NumPy than {numpy}, which is here ({said[:160]})",
            f"pip install 'numpy<2' if {name} was built before NumPy 2; otherwise {again}",
        )
    return fault(name, f"{name} is installed and cannot be imported ({said[:240]})", again)


def imported(name: str) -> Finding:
    """Import a package that is installed, and return its version or what is wrong with it."""
    try:
        module = importlib.import_module(name)
    except Exception as error:
        return broken(name, error, f"pip install --force-reinstall {name}")
    return Finding(name, version(name), same=True, path=folder(module))


def version(name: str) -> str:
    """Return the version of an imported package."""
    own = getattr(sys.modules[name], "__version__", None)
    if own is not None:
        return str(own)
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"


def folder(module: ModuleType) -> str:
    """Return where a module has been imported from."""
    return str(Path(module.__file__).parent) if module.__file__ else ""


def _optional(name: str, purpose: str) -> Finding:
    if not installed(name):
        return note(name, f"{name} is not installed; it serves {purpose}", f"pip install {name}")
    finding = imported(name)
    return _cached(finding) if name == "numba" and not finding.wrong else finding


def _cached(finding: Finding) -> Finding:
    """Return the finding on Numba, or the fault that it cannot keep what it compiles."""
    try:
        importlib.import_module("adjoint.solvers.acoustic_kernels")
    except Exception as error:
        if "cache" not in str(error):
            return broken("numba", error, "pip install --force-reinstall numba")
        return fault(
            "numba",
            "Numba finds no folder that it may write compiled kernels to",
            "export NUMBA_CACHE_DIR=FOLDER, a folder on all nodes that you may write in",
            finding.figure,
        )
    return finding
