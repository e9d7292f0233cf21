# make help lists the targets.
PYTHON ?=
VENV ?= .venv
RANKS ?= 2
FILES ?=
MINUTES ?= 30
KILLS ?= 100
ARGS ?= --size 100
PY = $(VENV)/bin/python

# Ranks beyond the cores and root in a container are usual on a laptop and in CI. Open MPI has to be
# told so, MPICH has not. Ranks × threads is the user's choice, and one thread a rank the default.
export OMPI_ALLOW_RUN_AS_ROOT ?= 1
export OMPI_ALLOW_RUN_AS_ROOT_CONFIRM ?= 1
export OMPI_MCA_rmaps_base_oversubscribe ?= 1
export OMPI_MCA_mpi_yield_when_idle ?= 1
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
export NUMBA_NUM_THREADS ?= 1

# Every test run leaves a note here of the operators whose gradients it has checked.
CHECKS = .pytest_cache/gradient_checks
export GRADIENT_CHECKS ?= $(CURDIR)/$(CHECKS)

MPIEXEC = mpiexec
SERIAL_TEST = timeout 900 $(PY) -m pytest -q --color=no
MPI_TEST = timeout 420 $(MPIEXEC) -n $(1) $(PY) -m mpi4py -m pytest -q --color=no $(LEFT_OUT) \
	-m "parallel[$(1)]" tests/mpi

# What takes one rank runs in two processes at a time: tests that start jobs of their own, and all
# others. These begin with what compiles the kernels of waves, and the jobs end with what needs them.
JOBS = tests/comm/test_faulty_jobs.py tests/adjoint/test_optimize_jobs.py \
	tests/solvers/test_field_jobs.py tests/test_examples_jobs.py tests/fuzz \
	tests/adjoint/test_checkpoint_jobs.py tests/faults tests/test_waveform_jobs.py
TESTS = tests/solvers tests/mpi $(patsubst %/,%,$(wildcard tests/[!_]*/)) $(wildcard tests/test_*.py)
SERIAL_TESTS = +$(MAKE) -j 2 --output-sync --no-print-directory jobs others \
	PY=$(PY) LEFT_OUT="$(LEFT_OUT)"

# The other stack, and the serial tests that are run on it. Both stacks share Numba's cache, which
# tells its versions apart.
MPICH = .venv-mpich
MPICH_TESTS = tests/solvers tests/mpi tests/adjoint tests/bridges tests/commands tests/comm tests/nn \
	tests/test_documentation.py::test_the_code_for_a_framework_runs

# A third environment, with PyTorch and JAX, which are large. PyPI's PyTorch is for GPUs and larger.
FRAMEWORKS = .venv-frameworks
INSTALL_TORCH = $(1)/bin/python -m pip install -q --retries 0 torch \
	--index-url https://download.pytorch.org/whl/cpu || true

.PHONY: help setup peers invert docs tutorials test lint test-serial jobs others test-mpi test-mpich test-frameworks fuzz mutants faults bench bench-quick clean
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.complete ## install MPI, PETSc and the library into .venv

$(VENV)/.complete: pyproject.toml constraints.txt .ci/setup
	@.ci/setup $(VENV) $(PYTHON)

peers: ## install what the benchmarks are measured against into .venv-peers
	python3 -m venv .venv-peers
	$(call INSTALL_TORCH,.venv-peers)
	.venv-peers/bin/python -m pip install -q -r benchmarks/peers/requirements.txt

invert: setup ## learn a diffusivity field on RANKS=2 processes; ARGS="--help" lists options
	@mpiexec -n $(RANKS) $(PY) -m mpi4py examples/poisson_inversion.py --out results/poisson $(ARGS)

docs: $(VENV)/.docs ## build the documentation's site into docs/_build/html, warnings as errors
	$(PY) -m sphinx -b html -W --keep-going -q docs docs/_build/html
	@echo "docs/_build/html/index.html"

$(VENV)/.docs: $(VENV)/.complete
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

tutorials: setup ## run the tutorials, which takes a minute, and renew their figures in docs/images
	cd docs/images && for name in operator network waves; do $(abspath $(PY)) ../tutorials/$$name.py || exit; done
	cd docs/images && mpiexec -n 4 $(abspath $(PY)) -m mpi4py ../tutorials/parallel.py

test: lint test-serial test-mpi ## lint, types, and tests on 1, 2, 3, 4, 6 and 9 ranks
	$(PY) -m tests.registry $(CHECKS)

lint: setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m mypy examples/*.py
	$(PY) -m mypy benchmarks/*.py

test-serial: setup
	rm -rf $(CHECKS)
	$(SERIAL_TESTS)

# Jobs have to end within some seconds: what runs beside them lets them go first. Without a path
# pytest would run everything.
jobs: PATHS = $(filter $(TESTS) $(TESTS:%=%/%),$(JOBS))
jobs:
	$(if $(PATHS),$(SERIAL_TEST) $(LEFT_OUT) $(PATHS),@echo "No test in $(TESTS) starts jobs.")

others: PATHS = $(filter-out $(JOBS),$(TESTS))
others:
	$(if $(PATHS),nice $(SERIAL_TEST) $(LEFT_OUT) -m "parallel[1]" $(JOBS:%=--ignore=%) \
		$(PATHS),@echo "All tests in $(TESTS) start jobs.")

test-mpi: setup
	$(call MPI_TEST,2)
	$(call MPI_TEST,3)
	$(call MPI_TEST,4)
	$(call MPI_TEST,6)
	$(call MPI_TEST,9)

$(MPICH)/.complete: pyproject.toml .ci/setup-mpich
	@.ci/setup-mpich $(MPICH) $(PYTHON)

test-mpich: PY = $(MPICH)/bin/python
test-mpich: MPIEXEC = $(MPICH)/bin/mpiexec
test-mpich: LEFT_OUT = -p tests.without_petsc
test-mpich: export GRADIENT_CHECKS =
test-mpich: $(MPICH)/.complete ## test what needs no PETSc on MPICH and newest packages, 1 to 3 ranks
	$(SERIAL_TESTS) TESTS="$(MPICH_TESTS)"
	$(call MPI_TEST,2)
	$(call MPI_TEST,3)

$(FRAMEWORKS)/.complete: pyproject.toml constraints.txt .ci/setup
	@.ci/setup $(FRAMEWORKS) $(PYTHON)
	@rm $@
	$(call INSTALL_TORCH,$(FRAMEWORKS))
	$(FRAMEWORKS)/bin/python -m pip install -q -c constraints.txt -e '.[torch,jax,pylops]'
	@touch $@

test-frameworks: PY = $(FRAMEWORKS)/bin/python
test-frameworks: export GRADIENT_CHECKS =
test-frameworks: $(FRAMEWORKS)/.complete ## test the bridges to PyTorch and JAX (2 GB in .venv-frameworks)
	$(SERIAL_TEST) tests/bridges tests/test_documentation.py::test_the_code_for_a_framework_runs
	$(foreach n,1 2 3,mpiexec -n $(n) $(PY) -m mpi4py -m pytest -q --color=no -m "parallel[$(n)]" \
		tests/mpi/test_bridges.py &&) true

bench: setup ## run all benchmarks (25 minutes) and write benchmarks/README.md
	$(PY) benchmarks/run.py

bench-quick: setup ## the same with smaller sizes (3 minutes), written to results/benchmarks
	$(PY) benchmarks/run.py --quick --json results/benchmarks/quick --out results/benchmarks

fuzz: setup ## check random programs on 1 to 7 ranks for MINUTES=30 and print the smallest that fails
	$(PY) -m tests.fuzz --minutes $(MINUTES)

mutants: setup ## put faults into FILES="comm/*.py" for MINUTES=30 and list those no test notices
	$(PY) -m tests.mutation $(if $(FILES),--files $(foreach f,$(FILES),'$(f)')) --minutes $(MINUTES)

faults: setup ## kill running inversions at KILLS=100 random moments a case, fill disks, spoil files
	$(PY) -m tests.faults --kills $(KILLS)
	EVALUATIONS=1000 mpiexec -n 1 $(PY) -m mpi4py -m pytest -qs -m "parallel[1]" tests/mpi/test_endurance.py
	EVALUATIONS=1000 mpiexec -n 2 $(PY) -m mpi4py -m pytest -qs -m "parallel[2]" tests/mpi/test_endurance.py

clean: ## remove the environment, caches and results
	rm -rf $(VENV) $(MPICH) $(FRAMEWORKS) .venv-peers docs/_build build dist *.egg-info results .pytest_cache .mypy_cache .ruff_cache .hypothesis
