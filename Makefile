# A bare machine needs Python 3.11, pip and make. `make demo` and `make test` install what they need.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
COMPILED := $(VENV)/.compiled
STANDIN := benchmarks/out/libnvidia-ml.so.1
PYTEST := $(BIN)/python -m pytest
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup demo serve test lint format bench soak lock clean

help:            ## This list.
	@awk -F ':.*## ' '/^[a-z%-]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) $(COMPILED)  ## Create .venv, install everything, torch included, and compile.

$(STAMP): pyproject.toml requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $(STAMP)

# A minute, so that no plan waits for it. numba recompiles a function when its own file has changed, but not when
# a file has that it takes code from: so what was compiled goes when any of them changes.
$(COMPILED): $(STAMP) $(wildcard solver/compiled/*.py)
	rm -f solver/compiled/__pycache__/*.nb[ci]
	$(BIN)/python -m solver.compiled
	touch $(COMPILED)

demo: setup      ## The main job: a service, two agents, real torch tasks; ends by itself without a terminal.
	$(BIN)/stowplan demo

serve: setup     ## The service on 127.0.0.1:8470, with SQLite.
	$(BIN)/stowplan serve

test: setup      ## All tests, on SQLite and a real PostgreSQL, with coverage.
	$(BIN)/python -m coverage erase
	$(PYTEST) --numprocesses $(WORKERS) --cov --cov-report=term $(ARGS)

lint: $(STAMP)   ## Style, types, import rules, file sizes.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	$(BIN)/python tests/file_sizes.py

format: $(STAMP) ## Let ruff rewrite the files.
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

# What plays GPUs for the agent whose cost is measured; without a C compiler that case is left out.
$(STANDIN): $(STAMP) $(wildcard tests/nvml/*)
	mkdir -p $(@D)
	! command -v cc >/dev/null || $(BIN)/python -c "from pathlib import Path; \
	  from tests.nvml.build import build; build(Path('$(@D)'))"

bench bench-telemetry: export BENCH_NVML_LIBRARY := $(CURDIR)/$(STANDIN)
bench bench-telemetry: $(STANDIN)

bench: setup     ## Timings and solution quality; writes benchmarks/out/.
	$(BIN)/python -m benchmarks

bench-%: setup   ## One suite, such as bench-solver; an unknown name is answered with those there are.
	$(BIN)/python -m benchmarks $*

soak: setup      ## Chaos over real processes, long fuzz runs, what stopping costs; SOAK_SCHEDULES=N (1000).
	$(BIN)/python -m benchmarks soak

lock: $(STAMP)   ## Pin what is installed, naming no registry.
	$(BIN)/python -m piptools compile --quiet --strip-extras --extra server --extra torch --extra dev \
	  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-header --no-annotate \
	  --output-file requirements.lock pyproject.toml
	sed -i 's/^\(torch==[0-9.]*\)+.*/\1/' requirements.lock  # the CPU build's local label is no release

clean:           ## Remove what was built here.
	rm -f solver/compiled/__pycache__/*.nb[ci]
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis benchmarks/out
