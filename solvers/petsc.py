"""The door to PETSc: imported when first needed, its objects destroyed by all ranks together."""

from __future__ import annotations

import atexit
import ctypes
import sys
import weakref
from collections.abc import Callable, Sequence
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..world import before_freeing, communicator

if TYPE_CHECKING:
    from mpi4py import MPI


@cache
def petsc() -> Any:
    """Return the module ``petsc4py.PETSc``.

    PETSc reads no command line here: a program that wants ``-options`` of its own to count calls
    ``petsc4py.init(sys.argv)`` first.

    Raises
    ------
    ImportError
        If petsc4py is missing, or made for complex numbers.
    """
    try:
        from mpi4py import MPI  # must be running before PETSc starts
        from petsc4py import PETSc
    except ImportError as error:
        raise ImportError(
            "adjoint.solvers needs petsc4py: install it with `apt install python3-petsc4py "
            "libpetsc-real-dev`, `conda install -c conda-forge petsc4py`, or `pip install petsc "
            f"petsc4py` ({error})"
        ) from error
    if np.dtype(PETSc.ScalarType) != np.float64:
        raise ImportError(
            "adjoint.solvers needs a PETSc of real numbers in double precision, this one has "
            f"{PETSc.ScalarType.__name__}: set PETSC_DIR and PETSC_ARCH to another"
        )
    _abort_before_finalising(MPI)
    return PETSc


def started_for(comm: MPI.Comm) -> None:
    """Start PETSc, which all ranks of ``COMM_WORLD`` do together.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
        The library's duplicate of the communicator that will be solved on.

    Raises
    ------
    RuntimeError
        If PETSc is not running and the communicator is a part of the world: the others might never
        come, and PETSc would wait for them. ``COMM_SELF`` is taken for a solver on every rank.
    """
    from mpi4py import MPI

    size = MPI.COMM_WORLD.size
    running = "petsc4py.PETSc" in sys.modules
    if not running and comm.size < size and comm != communicator(MPI.COMM_SELF):
        raise RuntimeError(
            f"PETSc starts on all {size} ranks together, and this solver has {comm.size}: let all "
            "ranks import petsc4py.PETSc before"
        )
    petsc()


def _abort_before_finalising(MPI: Any) -> None:
    """Let ``python -m mpi4py`` end the job of a rank that has failed, before PETSc is finalised.

    It does so at the very end of the process. But what was started last ends first, and PETSc
    ends by waiting for all ranks: those that have not failed would never come, and the job would
    hang.
    """
    told = getattr(MPI, "_set_abort_status", None)
    if told is None:  # another way to end a job, in another mpi4py
        return
    statuses: list[int] = []

    def note(status: int) -> None:
        statuses.append(status)
        told(status)

    def end() -> None:
        if statuses and statuses[-1]:
            sys.stdout.flush()
            sys.stderr.flush()
            MPI.COMM_WORLD.Abort(statuses[-1])

    MPI._set_abort_status = note
    atexit.register(end)


def require_hypre() -> None:
    """Raise unless PETSc was built with hypre, the default preconditioner.

    Raises
    ------
    ImportError
    """
    if not petsc().Sys.hasExternalPackage("hypre"):
        raise ImportError(
            "this PETSc was built without hypre: install one with it (Debian's and conda-forge's "
            'have it), or choose another preconditioner, options={"pc_type": "gamg"}'
        )


def hypre_version() -> str:
    """Return hypre's version, by the library that petsc4py has loaded."""
    major, minor, patch, single = (ctypes.c_int() for _ in range(4))
    try:
        ask = ctypes.CDLL(petsc().__file__).HYPRE_VersionNumber
    except (OSError, AttributeError):  # hypre before 2.23, or linked statically
        return "of unknown version"
    ask(*map(ctypes.byref, (major, minor, patch, single)))
    return f"{major.value}.{minor.value}.{patch.value}"


@cache
def update_values() -> Callable[[Any, Any], None]:
    """Return what overwrites the values of a matrix from ``createAIJWithArrays`` on several ranks.

    petsc4py has no name for ``MatUpdateMPIAIJWithArray``, which is twenty times as fast as
    inserting row by row; it is looked up in the library that petsc4py has loaded.
    """
    PETSc = petsc()
    try:
        update = ctypes.CDLL(PETSc.__file__).MatUpdateMPIAIJWithArray
    except (OSError, AttributeError):  # PETSc before 3.17, or linked statically
        return _insert_values
    update.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    update.restype = ctypes.c_int

    def overwrite(matrix: Any, csr: tuple[Any, Any, Any]) -> None:
        code = update(matrix.handle, csr[2].ctypes.data)
        if code:
            raise PETSc.Error(code)

    return overwrite


def _insert_values(matrix: Any, csr: tuple[Any, Any, Any]) -> None:
    matrix.setValuesCSR(*csr)
    matrix.assemble()


class Owned:
    """PETSc objects that are destroyed together, in the same order on all ranks.

    Python's garbage collector runs at a different moment on every rank, but PETSc's objects must be
    destroyed collectively. Those whose owner was collected are kept, and destroyed when all ranks
    have let go of them and the next ``Owned`` of their communicator is made, or it is freed.

    Parameters
    ----------
    owner : object
        Whose life ends the use of the objects.
    comm : mpi4py.MPI.Comm
    objects : sequence
        Of things with a ``destroy`` method.
    """

    def __init__(self, owner: Any, comm: MPI.Comm, objects: Sequence[Any]) -> None:
        self._shelf = shelf_of(comm)
        self._shelf.clear(comm)
        self._key = self._shelf.put(objects)
        self._finalizer = weakref.finalize(owner, self._shelf.abandoned.add, self._key)

    def close(self) -> None:
        """Destroy the objects now; collective."""
        if self._finalizer.detach() is not None:
            self._shelf.destroy(self._key)


_Closing = TypeVar("_Closing", bound="Closing")


class Closing:
    """What owns objects of PETSc and is closed at the end of a ``with`` block, by all ranks."""

    def close(self) -> None:
        """Destroy PETSc's objects; collective."""
        raise NotImplementedError(f"{type(self).__name__}: close is not defined")

    def __enter__(self: _Closing) -> _Closing:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:  # otherwise ranks may not be here together
            self.close()


class _Shelf:
    """The PETSc objects that live on one communicator, the same on all its ranks.

    PETSc works on a duplicate of its own, which it makes with a communicator's first object and
    frees with the last one. A rank whose garbage still refers to one would keep that duplicate when
    the others make another, for which they would wait for ever. So there is an object that stays as
    long as the communicator.
    """

    def __init__(self, comm: MPI.Comm) -> None:
        self._anchor = petsc().Viewer().create(comm)
        self.abandoned: set[int] = set()
        self._objects: dict[int, Sequence[Any]] = {}
        self._count = 0

    def put(self, objects: Sequence[Any]) -> int:
        """Keep objects and return their number, the same on all ranks."""
        self._count += 1
        self._objects[self._count] = objects
        return self._count

    def destroy(self, key: int) -> None:
        for item in self._objects.pop(key, ()):  # or they ended with the communicator
            item.destroy()

    def clear(self, comm: MPI.Comm) -> None:
        """Destroy what all ranks have abandoned; collective."""
        everyones = comm.allgather(self.abandoned)
        for key in sorted(set.intersection(*everyones)):
            self.abandoned.discard(key)
            self.destroy(key)

    def empty(self) -> None:
        """Destroy everything; collective."""
        if not petsc().Sys.isFinalized():
            for key in list(self._objects):
                self.destroy(key)
            self._anchor.destroy()


def shelf_of(comm: MPI.Comm) -> _Shelf:
    """Return what keeps the PETSc objects of the library's communicator, and goes with it."""
    found: Any = comm.Get_attr(_shelf_key())
    if found is None:
        comm.Set_attr(_shelf_key(), found := _Shelf(comm))
        before_freeing(comm, found.empty)
    shelf: _Shelf = found
    return shelf


@cache
def _shelf_key() -> int:
    """Attribute under which the library's communicator carries its shelf."""
    from mpi4py import MPI

    return MPI.Comm.Create_keyval()
