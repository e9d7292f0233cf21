"""The doctor's diagnoses, on hosts and installations that are ill in one way each."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

from adjoint.commands.doctor import launch, packages, resources, run, self_test
from adjoint.commands.doctor.cores import Place, enough_cores, spread, threads
from adjoint.commands.doctor.finding import Finding, Verdict, fault, note, worst
from adjoint.commands.doctor.launch import Launch
from tests.jobs import ROOT, environment

GB = 1e9

#: What takes long to import, and is not needed here.
QUICK = "for name in 'numba', 'matplotlib': sys.modules[name] = None"


def doctor(
    code: str = "", folder: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the doctor in a process of its own, after some code, with modules of a folder first."""
    lines = f"import sys\n{code}\nfrom adjoint.commands import main; sys.exit(main(['doctor']))"
    path = os.pathsep.join([*([str(folder)] if folder else []), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-c", lines], cwd=ROOT, capture_output=True, text=True, timeout=50,
        env={**environment(), "NUMBA_NUM_THREADS": "1", "PYTHONPATH": path, **variables},
        check=False,
    )  # fmt: skip


def test_without_petsc_there_is_a_note_and_no_fault() -> None:
    found = doctor(f"{QUICK}\nsys.modules['petsc4py'] = None")
    assert found.returncode == 0, found.stdout + found.stderr
    assert "note    PETSc\n        petsc4py is not installed" in found.stdout
    assert "mend: conda install -c conda-forge petsc4py" in found.stdout
    assert "hypre solve" not in found.stdout
    assert "ok      network gradient" in found.stdout
    assert found.stdout.endswith("3 notes\n")


def test_a_package_for_another_numpy(tmp_path: Path) -> None:
    (tmp_path / "petsc4py").mkdir()
    (tmp_path / "petsc4py/__init__.py").write_text("__version__ = '3.18'")
    (tmp_path / "petsc4py/PETSc.py").write_text(
        "raise ImportError('numpy.core.multiarray failed to import')"
    )
    found = doctor(QUICK, folder=tmp_path)
    assert found.returncode == 1, found.stderr
    assert f"petsc4py is compiled for another NumPy than {np.__version__}" in found.stdout
    assert "pip install 'numpy<2' if petsc4py was built before NumPy 2" in found.stdout
    assert "\n1 fault, " in found.stdout


def test_a_broken_optional_package_is_a_fault_and_a_missing_one_a_note(tmp_path: Path) -> None:
    (tmp_path / "segyio.py").write_text("raise OSError('libsegyio.so: cannot open')")
    found = doctor(f"{QUICK}\nsys.modules['rich'] = sys.modules['petsc4py'] = None", tmp_path)
    assert found.returncode == 1, found.stderr
    assert (
        "FAULT   segyio\n        segyio is installed and cannot be imported (libs" in found.stdout
    )
    assert "mend: pip install --force-reinstall segyio" in found.stdout
    assert "note    rich\n" in found.stdout
    assert "ok      network gradient" in found.stdout  # the rest is examined all the same
    assert "mend: pip install rich\n" in found.stdout


def test_numba_without_a_folder_for_its_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise RuntimeError("cannot cache function 'step': no locator available for file 'x.py'")

    monkeypatch.setattr(packages.importlib, "import_module", refuse)
    found = packages._cached(Finding("numba", "0.60"))
    assert found.verdict == Verdict.FAULT
    assert "NUMBA_CACHE_DIR" in found.mend


@pytest.mark.parametrize("rank", [0, 1])
def test_an_mpiexec_of_another_mpi(rank: int) -> None:
    """Its processes are told of each other by variables that this MPI does not know."""
    other = "OMPI_COMM_WORLD" if MPI.Get_library_version().startswith("MPICH") else "PMI"
    variables = {f"{other}_SIZE": "2", f"{other}_RANK": str(rank)}
    found = doctor(QUICK, **variables)
    assert found.returncode == 1
    if rank:
        assert found.stdout == ""
        return
    assert "because mpiexec belongs to another MPI" in found.stdout
    assert "--no-binary mpi4py mpi4py" in found.stdout


def test_launchers_are_known_by_their_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for pair in launch._VARIABLES:
        for name in pair:
            monkeypatch.delenv(name, raising=False)
    assert launch.launched() == Launch(1, 0, None)
    monkeypatch.setenv("PMI_SIZE", "4")
    assert launch.launched() == Launch(1, 0, None)  # half of what a launcher says
    monkeypatch.setenv("PMI_RANK", "3")
    assert launch.launched() == Launch(4, 3, "")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "1")
    assert launch.launched() == Launch(2, 1, "Open MPI")


@pytest.mark.parametrize(
    ("says", "library", "verdict"),
    [
        ("HYDRA build details:\n    Version: 4.0.2", "Open MPI v4.1.4", Verdict.FAULT),
        ("mpiexec (OpenRTE) 4.1.4", "MPICH Version: 4.0.2", Verdict.FAULT),
        ("Intel(R) MPI Library for Linux* OS, Version 2021", "MPICH Version: 4.0", Verdict.OK),
        ("mpiexec (OpenRTE) 4.1.4", "Open MPI v4.1.4", Verdict.OK),
        ("a launcher of our own", "Open MPI v4.1.4", Verdict.OK),
    ],
)
def test_the_mpiexec_on_the_path(
    says: str, library: str, verdict: Verdict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "mpiexec"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{says}\nEND\n")
    program.chmod(0o755)
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(MPI, "Get_library_version", lambda: library)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin/python"))
    found = launch.launcher(Launch(1, 0, None))
    assert found.verdict == verdict, found
    assert found.path == str(program) or "believe to be alone" in found.wrong
    if verdict == Verdict.FAULT:
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin/mpiexec").touch()  # the right one is there, and not first on the path
        found = launch.launcher(Launch(1, 0, None))
        assert found.verdict == Verdict.WARNING
        assert found.mend == f"start programs with {tmp_path / 'bin/mpiexec'}"


def test_root_and_open_mpi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "mpiexec"
    program.write_text("#!/bin/sh\necho 'mpiexec (OpenRTE) 4.1.4'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(MPI, "Get_library_version", lambda: "Open MPI v4.1.4")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("OMPI_ALLOW_RUN_AS_ROOT", "1")
    monkeypatch.delenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", raising=False)
    found = launch.launcher(Launch(1, 0, None))
    assert found.verdict == Verdict.FAULT
    assert "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1" in found.mend
    assert launch.launcher(Launch(1, 0, "")).verdict == Verdict.OK  # it has started


def test_no_mpiexec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert launch.launcher(Launch(1, 0, None)).verdict == Verdict.NOTE


def test_two_mpis_in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert launch.libraries().verdict == Verdict.OK
    paths = ["/a/libmpi.so.40", "/b/libmpi.so.12", "/b/libmpi_mpifh.so.40", "/c/libmpich.so"]
    monkeypatch.setattr(launch, "mapped", lambda: paths)
    found = launch.libraries()
    assert found.verdict == Verdict.FAULT
    assert found.wrong.startswith("/a/libmpi.so.40 and /b/libmpi.so.12 and /c/libmpich.so are in")


def places(*bound: set[int], of: int = 4, threads: int = 1, share: float = math.inf) -> list[Place]:
    """Return places of ranks on one host of so many cores."""
    everywhere = frozenset(range(of))
    return [Place("node", frozenset(b), everywhere, threads, share) for b in bound]


ALL = {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("where", "verdict", "words"),
    [
        (places(ALL, ALL), Verdict.OK, "4 on node for 2 x 1 thread, not bound"),
        (places({0}, {1}, {2}), Verdict.OK, "bound: rank 0 to 0; rank 1 to 1; rank 2 to 2"),
        (places({0, 1}, {2, 3}, threads=2), Verdict.OK, "bound: rank 0 to 0,1; rank 1 to 2,3"),
        (places(ALL, threads=4), Verdict.OK, "4 on node for 1 x 4 threads, not bound"),
        (places({0}, {0}), Verdict.FAULT, "ranks 0, 1 are bound to 1 core of the 4 on node"),
        (places({0}, {1, 2}, {0}), Verdict.FAULT, "ranks 0, 2 are bound to 1 core of the 4"),
        (places({1}, threads=2), Verdict.FAULT, "rank 0 starts 2 threads on 1 core of node"),
        (places({0, 1}, {0, 1}, threads=2), Verdict.FAULT, "ranks 0, 1 start 4 threads on 2 cores"),
        (places(ALL, ALL, threads=4), Verdict.FAULT, "ranks 0, 1 start 8 threads on 4 cores"),
        (places(ALL, ALL, share=1.5), Verdict.WARNING, "2 ranks share 1.5 cores on node"),
        (places(*[ALL] * 5), Verdict.WARNING, "5 ranks share 4 cores on node"),
        (places(*[ALL] * 5, threads=2), Verdict.FAULT, "0, 1, 2, 3 and 1 more start 10 threads"),
    ],
)
def test_cores(where: list[Place], verdict: Verdict, words: str) -> None:
    found = enough_cores(where)
    assert found.verdict == verdict, found
    assert words in (found.wrong or found.figure)


def test_each_host_is_judged_by_itself() -> None:
    two = [*places({0}, {1}), *(p._replace(host="other") for p in places({0}, {0}))]
    assert enough_cores(two[:3]).verdict == Verdict.OK
    found = enough_cores(two)
    assert found.verdict == Verdict.FAULT
    assert found.wrong.startswith("ranks 2, 3 are bound to 1 core of the 4 on other")
    assert spread(two).figure == "4 on 2 hosts: 2 on node, 2 on other"


def test_the_threads_are_those_that_blas_and_numba_use(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import numpy; from adjoint.commands.doctor.cores import threads; print(threads({0, 1}))"
    for wanted in ("1", "2"):
        found = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=50,
            env={**environment(), "OPENBLAS_NUM_THREADS": wanted, "OMP_NUM_THREADS": wanted},
            check=True,
        )  # fmt: skip
        assert int(found.stdout) == min(int(wanted), len(os.sched_getaffinity(0)))

    class Numba:
        class config:
            NUMBA_NUM_THREADS = 64

    monkeypatch.setitem(sys.modules, "numba", Numba())  # type: ignore[arg-type]
    assert threads(frozenset({0})) == 64


def test_little_memory() -> None:
    where = places(ALL, ALL)
    assert resources.enough_memory([8 * GB, 8 * GB], where).figure == "4.0 GB available for a rank"
    found = resources.enough_memory([0.8 * GB, 0.9 * GB], where)
    assert (found.verdict, found.figure) == (Verdict.WARNING, "0.4 GB available for a rank")
    assert resources.memory() > 0


def test_a_slow_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    class Comm:
        size = 3

        def Barrier(self) -> None: ...

        def allgather(self, own: tuple[float, float]) -> list[tuple[float, float]]:
            return [own, own, (own[0] / 4, own[1])]

    monkeypatch.setattr(resources, "MOST", 2**23)
    found = resources.bandwidth(Comm(), places(ALL, ALL, ALL))  # type: ignore[arg-type]
    assert found.verdict == Verdict.WARNING
    assert found.wrong.startswith("rank 2 on node")


def test_folders_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resources.writable().verdict == Verdict.OK
    monkeypatch.setattr(resources.tempfile, "tempdir", str(tmp_path / "missing"))
    found = resources.writable()
    assert found.verdict == Verdict.FAULT
    assert "TMPDIR" in found.mend
    monkeypatch.chdir(tmp_path)
    assert resources.results() == Finding("results", path=str(tmp_path))
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert resources.results().verdict == Verdict.WARNING


def test_the_worst_of_all_ranks() -> None:
    good, bad = Finding("MPI", "4.1", same=True), fault("MPI", "it is broken", "mend it")
    assert worst([good, good]) == good
    assert worst([good, bad, note("MPI", "", ""), bad]).wrong == "ranks 1, 3: it is broken"
    assert worst([bad, bad]) == bad
    missing = note("numba", "numba is missing", "install it")
    assert worst([missing, missing]) == missing
    found = worst([Finding("numba"), missing])
    assert (found.verdict, found.wrong) == (Verdict.FAULT, "rank 1: numba is missing")
    found = worst([good, good, Finding("MPI", "5.0", same=True)])
    assert (found.verdict, found.wrong) == (Verdict.FAULT, "rank 2: MPI is 5.0, and 4.1 on rank 0")
    assert worst([Finding("cores", "1"), Finding("cores", "2")]).verdict == Verdict.OK


def test_a_self_test_that_does_not_end_ends_the_job() -> None:
    found = subprocess.run(
        [sys.executable, "-c",
         "import time; from adjoint.commands.doctor import run; run.PATIENCE = 0.2\n"
         "with run.patience('halo'): time.sleep(30)"],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert found.returncode == 1
    assert found.stderr.startswith("FAULT: halo has not ended in 0 s: a message does not arrive")


@pytest.mark.parametrize("kind", ["forward", "adjoint"])
def test_a_wrong_solution_is_a_fault(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:

    def solve() -> str:
        return self_test.solve(MPI.COMM_WORLD, kind)

    assert run.tried(kind, solve).verdict == Verdict.OK
    right = self_test.LinearSolve._solve

    def wrong(self: Any, solver: Any, b: Any, *arguments: Any) -> Any:
        if kind == "forward":
            return right(self, solver, b, *arguments) * (1 + 1e-6)
        return right(self, self._direct, b, *arguments)  # A in place of Aᵀ

    monkeypatch.setattr(self_test.LinearSolve, "_solve", wrong)
    found = run.tried(kind, solve)
    assert found.verdict == Verdict.FAULT
    assert "from SciPy's solution, expected 1e-07" in found.wrong
