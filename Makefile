# What one does with a checkout; `make help` lists the targets.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: help accept real test selftest samples check lint docs suite coverage clean
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

help: ## what can be made
	@sed -n 's/^\([a-z]*\):.* ## \(.*\)/make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 16

accept: $(INSTALLED) ## environment, then the acceptance gate on real sequences with tiny models (CPU)
	$(BIN)/pytest acceptance/

real: $(INSTALLED) ## environment, then the deployment gate on a real pretrained model (CPU, network)
	$(BIN)/python tools/real_weights.py

# Two processes of one thread each: threads of both would wait for each other. One that has nothing
# left to do takes over tests of the other, since some take seconds.
test: $(INSTALLED) ## environment, then the test suite
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

selftest: $(INSTALLED) ## the gate on planted faults: each must be noticed
	$(BIN)/harness selftest

# The reports under docs/samples/, from three runs of the gate.
samples: $(INSTALLED) ## the sample reports in docs/samples/, made anew
	$(BIN)/python docs/samples/make.py

# The files first, then the whole suite with what is slow, then the gate itself.
check: lint docs suite accept real selftest ## everything that a pull request must pass; CI runs just this

lint: $(INSTALLED) ## format, lint, types, import contracts, dependencies
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .

docs: $(INSTALLED) ## the pages of docs/ as a site, in docs/_build; a warning is an error
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --builder html docs docs/_build

suite: $(INSTALLED) ## the suite with its slow tests
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal -m "not gpu"

coverage: $(INSTALLED) ## the same, and what it covers
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal -m "not gpu" --cov --cov-report=term:skip-covered

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one: make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean: ## remove what these left behind
	rm -rf .venv work reports docs/_build .benchmarks .coverage* htmlcov .hypothesis
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache *.egg-info
