# make accept   environment, then the acceptance gate on real sequences with tiny models (CPU)
# make real     environment, then the deployment gate on a real pretrained model (CPU, network)
# make test     environment, then the test suite
# make selftest the gate on planted faults: each must be noticed
# make samples  the sample reports in docs/samples/, made anew
# make check    everything that a pull request must pass
# make clean    remove what these left behind

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: accept real test selftest samples check clean
.DELETE_ON_ERROR:

accept: $(INSTALLED)
	$(BIN)/pytest acceptance/

real: $(INSTALLED)
	$(BIN)/python tools/real_weights.py

# Two processes of one thread each: threads of both would wait for each other. One that has nothing
# left to do takes over tests of the other, since some take seconds.
test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

selftest: $(INSTALLED)
	$(BIN)/harness selftest

# The reports under docs/samples/, from three runs of the gate.
samples: $(INSTALLED)
	$(BIN)/python docs/samples/make.py

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal -m "not gpu" --cov --cov-report=term:skip-covered

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one: make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv work reports .benchmarks .coverage* htmlcov .hypothesis
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache *.egg-info
