"""Run the tests on a stack that has no PETSc: `pytest -p tests.without_petsc`.

Those that need it are left out, and counted in the summary. Without this plugin a missing petsc4py
fails them; where petsc4py can be imported, the plugin refuses to hide them.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util

import pytest

from tests.stack import version

#: Whole files, and functions of others; with a parameter where the others of it need no PETSc.
NEED_PETSC = (
    "tests/mpi/test_linear_solve.py",
    "tests/mpi/test_nonlinear_diffusion.py",
    "tests/mpi/test_nonlinear_inversion.py",
    "tests/mpi/test_nonlinear_solve.py",
    "tests/mpi/test_poisson.py",
    "tests/mpi/test_advection.py",
    "tests/mpi/test_advection_diffusion.py",
    "tests/mpi/test_evolution.py",
    "tests/mpi/test_warm_solve.py",
    "tests/mpi/test_inner_product.py",
    "tests/mpi/test_minimize_field.py",
    "tests/mpi/test_rejected_trials.py",
    "tests/mpi/test_parameter_shares.py",
    "tests/mpi/test_field_inversion.py",
    "tests/solvers/test_field_jobs.py",
    "tests/mpi/test_programs.py::test_random_programs",
    "tests/mpi/test_programs.py::test_the_programs_have_all_operators",
    "tests/mpi/test_endurance.py",
    "tests/comm/test_faulty_jobs.py::test_a_faulty_job_ends_with_one_message"
    "[an exception on one rank that has used PETSc]",
    "tests/comm/test_faulty_jobs.py::test_a_rank_that_exits_with_a_code_ends_the_job_with_it"
    "[with PETSc]",
    "tests/comm/test_faulty_jobs.py::test_a_job_that_has_used_petsc_ends_well",
    "tests/mpi/test_examples.py::test_misfit_and_gradient_do_not_depend_on_the_ranks",
    "tests/mpi/test_examples.py::test_something_of_each_patch_is_observed",
    "tests/mpi/test_examples.py::test_the_gradient_of_the_misfit",
    "tests/mpi/test_examples.py::test_what_is_observed",
    "tests/mpi/test_examples.py::test_the_quadratic_source_belongs_to_its_solution",
    "tests/mpi/test_examples.py::test_the_inversion_finds_the_field",
    "tests/commands/test_doctor.py::test_a_wrong_solution_is_a_fault",
    "tests/mpi/test_examples.py::test_a_source_and_its_gradient_do_not_depend_on_the_ranks",
    "tests/mpi/test_examples.py::test_the_gradient_of_a_source",
    "tests/mpi/test_examples.py::test_the_inversion_finds_the_source",
    "tests/mpi/test_examples.py::test_gauss_newton_takes_a_third_of_the_solves",
    "tests/mpi/test_examples.py::test_what_noisy_data_leave_uncertain",
    "tests/solvers/test_petsc.py::test_complex_petsc_is_refused",
    "tests/test_packaging.py::test_the_installed_library_works[True]",
    "tests/test_documentation.py::test_the_code_for_a_framework_runs[torch]",
    "tests/test_documentation.py::test_the_code_for_a_framework_runs[jax]",
    "tests/mpi/test_documentation.py::test_the_code_of_a_page_runs[coming_from]",
    "tests/mpi/test_documentation.py::test_the_code_of_a_page_runs[poisson]",
    "tests/test_documentation.py::test_the_code_of_a_page_runs[README.md]",
    "tests/test_documentation.py::test_the_code_of_a_page_runs[coming_from.md]",
    "tests/test_documentation.py::test_the_code_of_a_page_runs[index.md]",
    "tests/test_documentation.py::test_the_code_of_a_page_runs[poisson.md]",
    "tests/test_documentation.py::test_a_tutorial_runs_and_draws[network.py]",
    "tests/test_documentation.py::test_the_code_of_a_page_runs[advection.md]",
    "tests/test_documentation.py::test_the_examples_of_docstrings[adjoint.solvers.advection_diffusion]",
    "tests/test_documentation.py::test_the_examples_of_docstrings[adjoint.solvers.evolution]",
    "tests/test_documentation.py::test_the_code_of_a_page_runs[fields.md]",
    "tests/test_documentation.py::test_the_examples_of_docstrings[adjoint.solvers.field_optimizer]",
    "tests/test_documentation.py::test_the_code_of_a_page_runs[gauss_newton.md]",
    "tests/test_documentation.py::test_the_examples_of_docstrings[adjoint.solvers.linear_solve]",
    "tests/test_documentation.py::test_the_code_of_a_page_runs[nonlinear.md]",
    "tests/test_documentation.py::test_the_examples_of_docstrings"
    "[adjoint.solvers.nonlinear_diffusion]",
    "tests/test_documentation.py::test_the_examples_of_docstrings[adjoint.solvers.nonlinear_solve]",
    "tests/test_documentation.py::test_the_examples_of_docstrings[adjoint.solvers.poisson]",
    "tests/test_examples_jobs.py::test_an_inversion_leaves_its_files_and_continues_bit_for_bit",
    "tests/test_examples_jobs.py::test_a_learned_law_leaves_its_files_and_continues",
    "tests/test_examples_jobs.py::test_a_field_leaves_its_files_and_continues_on_fewer_ranks",
    "tests/test_examples_jobs.py::test_a_source_inversion_leaves_its_files_and_continues",
    "tests/test_examples_jobs.py::test_the_uncertainty_leaves_its_figure_and_gauss_newton_continues",
    "tests/test_examples_jobs.py::test_an_inversion_that_is_ended_leaves_a_report_and_goes_on",
    "tests/test_examples_jobs.py::test_a_bad_state_ends_all_ranks_with_one_message",
    "tests/test_examples_jobs.py::test_a_folder_in_the_way_of_the_state",
)


#: What the summary names of the stack, besides MPI.
PACKAGES = ("mpi4py", "numpy", "scipy", "numba")

_LEFT_OUT = pytest.StashKey[int]()


def needs_petsc(test: str) -> bool:
    """Whether a test, named as pytest names it, needs petsc4py."""
    return any(test.startswith((f"{name}::", f"{name}[")) or test == name for name in NEED_PETSC)


def pytest_configure(config: pytest.Config) -> None:
    if importlib.util.find_spec("petsc4py"):
        raise pytest.UsageError("petsc4py is here: run its tests, too, without this plugin")


@pytest.hookimpl(trylast=True)  # after the choice by markers: what is counted would have run
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [item for item in items if needs_petsc(item.nodeid)]
    items[:] = [item for item in items if not needs_petsc(item.nodeid)]
    config.hook.pytest_deselected(items=left_out)
    config.stash[_LEFT_OUT] = len(left_out)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    stack = [version(), *(f"{n} {importlib.metadata.version(n)}" for n in PACKAGES)]
    terminalreporter.write_line(
        f"tests left out, for they need PETSc: {terminalreporter.config.stash.get(_LEFT_OUT, 0)}; "
        f"the others ran on {', '.join(stack)}"
    )
