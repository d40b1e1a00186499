# Each target makes .venv and installs what it needs on first use, and is fast when nothing changed.
# PYTHON chooses the interpreter (3.11 or newer); VENV another place for the environment.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install --constraint constraints.txt
# Many tests only wait; but each worker loads all that is tested.
WORKERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2) + 2)
# Tests wait for the disk a thousand times: their files are in memory, where it has 8 GB for files.
ROOMY := [ "$$(df --output=avail -k /dev/shm 2>/dev/null | tail -1)" -gt 8000000 ]
TESTS_TMPDIR ?= $(or $(TMPDIR),$(shell $(ROOMY) 2>/dev/null && echo /dev/shm || echo /tmp))
# Some of those that take longer have several processes work for minutes.
LONGER := --timeout 600 --override-ini faulthandler_timeout=900
# For tests that are repeated more often than their limit of time allows for.
UNLIMITED := --timeout 0 --override-ini faulthandler_timeout=0
# It looks for libraries by the interpreter in PATH.
PYRIGHT := PATH="$(abspath $(BIN)):$$PATH" PYTHONPATH=. pyright
# How often `make nightly` repeats what is random.
NIGHTLY := COLLECTOR_EXAMPLES=100 COLLECTOR_FRESH=1 COLLECTOR_KILLS=1000 COLLECTOR_FAULTS=200 \
	COLLECTOR_MUTATIONS=1000000 COLLECTOR_SHARE_KILLS=50 COLLECTOR_SHARE_RECORDS=100000 \
	COLLECTOR_PIPELINES=1000 COLLECTOR_REVIEWS=5000 COLLECTOR_SPELLING=100000 COLLECTOR_RELOADS=60 \
	COLLECTOR_ERASURES=20 COLLECTOR_ERASED=600 COLLECTOR_BROKER_KILLS=200 COLLECTOR_AWAY=600 \
	COLLECTOR_GRANT_STEPS=100000 COLLECTOR_HISTORY_STEPS=100000 COLLECTOR_SPARK_EVENTS=20000 COLLECTOR_SDK_EVENTS=20000 COLLECTOR_FUZZED=10
# Rooms whose mutants are all found, or listed.
MUTANTS := grant consent policy flow rules limits
SCHEMAS := $(filter-out claims,$(basename $(notdir $(wildcard schemas/*.yaml))))

.DEFAULT_GOAL := help
.PHONY: help demo test tables long servers forget recordings lint nightly faults mutants bench figures docs image dist candidate coverage clean

help: ## Show the targets.
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/.demo ## Run synthetic meetings through the filter into a store, and search it.
	@$(BIN)/collector demo

test: $(VENV)/.dev ## Run the tests.
	TMPDIR="$(TESTS_TMPDIR)" $(BIN)/python -m pytest -n $(WORKERS) $(PYTEST)

tables: $(VENV)/.dev ## Write the tables of docs/ that come from code.
	$(BIN)/python -m tests.tables

long: $(VENV)/.dev ## Run the slower tests: attacks beside senders, kills, failing disks, snippets in fresh environments.
	$(BIN)/python -m pytest -n $(WORKERS) -m "long and not recordings" $(LONGER) $(PYTEST)

servers: $(VENV)/.dev .venv-schemathesis/.made ## Test with servers of other programs (PostgreSQL, NATS, an object store), and while they are away.
	$(BIN)/python -m pytest -n $(WORKERS) -m servers $(UNLIMITED) $(PYTEST)
	$(BIN)/python -m pytest -n 3 -s -m outages $(UNLIMITED) $(PYTEST)

forget: $(VENV)/.dev ## Erase people out of every kind of sink while everything is killed (two minutes).
	$(BIN)/python -m pytest -s -m outages tests/sidecar/test_forgotten.py $(UNLIMITED) $(PYTEST)
	$(BIN)/python -m pytest -n $(WORKERS) -m long tests/subject/test_killed.py $(UNLIMITED) $(PYTEST)

recordings: $(VENV)/.meeting ## Try grants, and recorders that are killed; record a meeting of WebRTC peers; test with servers.
	$(BIN)/python -m pytest -n $(WORKERS) -s \
		tests/recording/test_grant_steps.py tests/recording/test_recorder_histories.py $(UNLIMITED) $(PYTEST)
	$(BIN)/python -m pytest -n $(WORKERS) -m recordings $(UNLIMITED) $(PYTEST)

lint: $(VENV)/.dev ## Check types, style, layers and schemas.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(PYRIGHT)
	@found=$$($(PYRIGHT) --verifytypes collector --ignoreexternal) \
		|| { echo "$$found"; exit 1; }; echo "$$found" | grep score
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -m long tests/test_architecture.py
	$(BIN)/collector schema check --strict $(SCHEMAS)
	$(BIN)/collector schema catalogue check
	$(BIN)/collector schema test $(SCHEMAS)

faults: $(VENV)/.dev ## Put each kept fault into a copy of the tree: the tests must find it. FAULTS names some.
	$(BIN)/python -m tests.faults $(FAULTS)

mutants: $(VENV)/.mutants ## Put small faults into the rooms that keep the promises: the tests must find each. SAMPLE takes so many of a room.
	$(BIN)/python -m tests.mutants $(ROOMS) $(if $(SAMPLE),--sample $(SAMPLE)) --seed $(or $(SEED),0)

nightly: $(VENV)/.bench $(VENV)/.meeting $(VENV)/.mutants $(VENV)/.spark .venv-fideslang/.made .venv-deploy/.made .venv-docs/.made .venv-schemathesis/.made ## Repeat everything that is random, and measure everything (hours).
	$(NIGHTLY) $(BIN)/python -m pytest -n $(WORKERS) -m "not outages and not timed" $(UNLIMITED) $(PYTEST)
	$(NIGHTLY) COLLECTOR_BOMBS=full $(BIN)/python -m pytest -s -m outages $(UNLIMITED) $(PYTEST)
	COLLECTOR_BOMBS=full $(BIN)/python -m pytest -s -m timed $(UNLIMITED) $(PYTEST)
	COLLECTOR_EXAMPLES=5000 $(BIN)/python -m pytest -n $(WORKERS) tests/filter tests/schema tests/ledger $(UNLIMITED) $(PYTEST)
	$(BIN)/python -m tests.laws 100000
	$(BIN)/python -m tests.faults
	$(BIN)/python -m tests.mutants $(MUTANTS)
	$(BIN)/python -m benchmarks --check
	for each in sidecar "sdk --install" consent recording sinks "leaks --build --attacks 1000000"; do $(BIN)/python -m benchmarks $$each --check || exit 1; done
	$(BIN)/python -m benchmarks soak --minutes 10

bench: $(VENV)/.bench ## Measure the filter against others (a few minutes).
	$(BIN)/python -m benchmarks $(BENCH)

figures: $(VENV)/.bench ## Measure everything that docs/ shows, and write the marked parts of it and of README.md anew (ten minutes).
	$(BIN)/python -m benchmarks --docs $(BENCH)

docs: .venv-docs/.made tables ## Build the documents as a site into site/, with a search and the Python API.
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet
	@echo "open site/index.html by a server: $(BIN)/python -m http.server --directory site"

image: $(VENV)/.dev ## Carry out the steps of the Dockerfile in fresh roots, as root and without Docker, and run what they make.
	COLLECTOR_FRESH=1 $(BIN)/python -m pytest -m long tests/test_image.py $(UNLIMITED) $(PYTEST)

dist: $(VENV)/.dev ## Build wheel, sdist and bill of materials of the last commit, the same bytes each time.
	VENV=$(VENV) .ci/release

candidate: $(VENV)/.dev ## Build a release candidate: all that `dist` does, and an OCI image layout (as root, on Linux).
	IMAGE=1 VENV=$(VENV) .ci/release

coverage: $(VENV)/.dev ## Run the tests and show which lines they do not reach.
	$(BIN)/python -m pytest -n $(WORKERS) --cov --cov-report=term-missing:skip-covered $(PYTEST)

clean: ## Remove everything that was made.
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage* collector-demo site

$(VENV)/.made:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer with venv is needed (Debian: apt install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/.made
	$(PIP) --editable '.[cli,sidecar,grpc,signing]'
	@touch $@

# The package pins an old pydantic, so it lives alone. Its version is the one that the file names.
.venv-fideslang/.made: schemas/taxonomy.json
	$(PYTHON) -m venv .venv-fideslang
	.venv-fideslang/bin/python -m pip --disable-pip-version-check --quiet install \
		"fideslang==$$(sed -n 's/.*fideslang \([0-9.]*\) .*/\1/p' $<)"
	@touch $@

# Their schemas take more than all that the tests need.
.venv-deploy/.made: constraints.txt
	$(PYTHON) -m venv .venv-deploy
	.venv-deploy/bin/python -m pip --disable-pip-version-check --quiet install --constraint constraints.txt \
		check-jsonschema kubernetes-validate
	@touch $@

# What builds the site is of no use to the package.
.venv-docs/.made: constraints.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip --disable-pip-version-check --quiet install --constraint constraints.txt \
		mkdocs-material 'mkdocstrings[python]'
	@touch $@

.venv-schemathesis/.made: constraints.txt
	$(PYTHON) -m venv .venv-schemathesis
	.venv-schemathesis/bin/python -m pip --disable-pip-version-check --quiet install --constraint constraints.txt schemathesis
	@touch $@

$(VENV)/.bench: pyproject.toml constraints.txt | $(VENV)/.made
	$(PIP) --editable '.[dev,bench]'
	@touch $@ $(VENV)/.dev $(VENV)/.demo

$(VENV)/.meeting: pyproject.toml constraints.txt | $(VENV)/.made
	$(PIP) --editable '.[meeting]'
	@touch $@ $(VENV)/.dev $(VENV)/.demo

$(VENV)/.mutants: pyproject.toml constraints.txt | $(VENV)/.made
	$(PIP) --editable '.[mutants]'
	@touch $@ $(VENV)/.dev $(VENV)/.demo

$(VENV)/.spark: pyproject.toml constraints.txt | $(VENV)/.made
	$(PIP) --editable '.[dev,spark]'
	@touch $@ $(VENV)/.dev $(VENV)/.demo

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/.made
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.demo
