# Each target creates .venv and installs what it needs on first use. PYTHON selects the interpreter
# (3.11 or newer), and VENV another directory for the environment.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install --constraint constraints.txt
# Two workers more than cores, because many tests wait. Each further worker has to import everything.
WORKERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2) + 2)
# Tests sync thousands of files. Their files are kept in memory if /dev/shm has 8 GB free.
ROOMY := [ "$$(df --output=avail -k /dev/shm 2>/dev/null | tail -1)" -gt 8000000 ]
TESTS_TMPDIR ?= $(or $(TMPDIR),$(shell $(ROOMY) 2>/dev/null && echo /dev/shm || echo /tmp))
# In the longer tests, several processes work for minutes.
LONGER := --timeout 600 --override-ini faulthandler_timeout=900
# For tests that run more repetitions than their time limit allows.
UNLIMITED := --timeout 0 --override-ini faulthandler_timeout=0
# pyright finds libraries through the interpreter in PATH.
PYRIGHT := PATH="$(abspath $(BIN)):$$PATH" PYTHONPATH=. pyright
# How often `make nightly` repeats random tests.
NIGHTLY := COLLECTOR_EXAMPLES=100 COLLECTOR_FRESH=1 COLLECTOR_KILLS=1000 COLLECTOR_FAULTS=200 \
	COLLECTOR_MUTATIONS=1000000 COLLECTOR_SHARE_KILLS=50 COLLECTOR_SHARE_RECORDS=100000 \
	COLLECTOR_PIPELINES=1000 COLLECTOR_REVIEWS=5000 COLLECTOR_SPELLING=100000 COLLECTOR_RELOADS=60 \
	COLLECTOR_ERASURES=20 COLLECTOR_ERASED=600 COLLECTOR_BROKER_KILLS=200 COLLECTOR_AWAY=600 \
	COLLECTOR_GRANT_STEPS=100000 COLLECTOR_HISTORY_STEPS=100000 COLLECTOR_SPARK_EVENTS=20000 COLLECTOR_SDK_EVENTS=20000 COLLECTOR_FUZZED=10
# In these rooms every mutant is either found by a test or listed with a reason.
MUTANTS := grant consent policy flow rules limits plan
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

servers: $(VENV)/.dev .venv-schemathesis/.made ## Test with other servers (PostgreSQL, NATS, an object store), and while they are down.
	$(BIN)/python -m pytest -n $(WORKERS) -m servers $(UNLIMITED) $(PYTEST)
	$(BIN)/python -m pytest -n 3 -s -m outages $(UNLIMITED) $(PYTEST)

forget: $(VENV)/.dev ## Erase people from every kind of sink while processes are killed (two minutes).
	$(BIN)/python -m pytest -s -m outages tests/sidecar/test_forgotten.py $(UNLIMITED) $(PYTEST)
	$(BIN)/python -m pytest -n $(WORKERS) -m long tests/subject/test_killed.py $(UNLIMITED) $(PYTEST)

recordings: $(VENV)/.meeting ## Test grants and killed recorders, record a meeting of WebRTC peers, and test with servers.
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

faults: $(VENV)/.dev ## Apply each patch of tests/faults to a copy of the tree: the tests must fail. FAULTS selects some.
	$(BIN)/python -m tests.faults $(FAULTS)

mutants: $(VENV)/.mutants ## Make small faults in the rooms that keep the promises: the tests must find each. SAMPLE limits their number.
	$(BIN)/python -m tests.mutants $(ROOMS) $(if $(SAMPLE),--sample $(SAMPLE)) --seed $(or $(SEED),0)

nightly: $(VENV)/.bench $(VENV)/.meeting $(VENV)/.mutants $(VENV)/.spark .venv-fideslang/.made .venv-deploy/.made .venv-docs/.made .venv-schemathesis/.made ## Repeat all random tests many times, and run all benchmarks (hours).
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

figures: $(VENV)/.bench ## Measure all figures of docs/ and README.md, and write them there (ten minutes).
	$(BIN)/python -m benchmarks --docs $(BENCH)

docs: .venv-docs/.made tables ## Build docs/ as a site in site/, with a search and the Python API.
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet
	@echo "open site/index.html by a server: $(BIN)/python -m http.server --directory site"

image: $(VENV)/.dev ## Run the steps of the Dockerfile in fresh root directories (as root, without Docker), and test the result.
	COLLECTOR_FRESH=1 $(BIN)/python -m pytest -m long tests/test_image.py $(UNLIMITED) $(PYTEST)

dist: $(VENV)/.dev ## Build wheel, sdist and bill of materials of the last commit, reproducibly.
	VENV=$(VENV) .ci/release

candidate: $(VENV)/.dev ## Build a release candidate: everything of `dist`, and an OCI image layout (as root, on Linux).
	IMAGE=1 VENV=$(VENV) .ci/release

coverage: $(VENV)/.dev ## Run the tests and show which lines they do not reach.
	$(BIN)/python -m pytest -n $(WORKERS) --cov --cov-report=term-missing:skip-covered $(PYTEST)

clean: ## Remove everything that these targets created.
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage* collector-demo site

$(VENV)/.made:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer with venv is needed (Debian: apt install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/.made
	$(PIP) --editable '.[cli,sidecar,grpc,signing]'
	@touch $@

# fideslang pins an old pydantic, so it has its own environment. schemas/taxonomy.json names its version.
.venv-fideslang/.made: schemas/taxonomy.json
	$(PYTHON) -m venv .venv-fideslang
	.venv-fideslang/bin/python -m pip --disable-pip-version-check --quiet install \
		"fideslang==$$(sed -n 's/.*fideslang \([0-9.]*\) .*/\1/p' $<)"
	@touch $@

# The schemas of these packages are larger than everything else that the tests need.
.venv-deploy/.made: constraints.txt
	$(PYTHON) -m venv .venv-deploy
	.venv-deploy/bin/python -m pip --disable-pip-version-check --quiet install --constraint constraints.txt \
		check-jsonschema kubernetes-validate
	@touch $@

# Only the site needs these packages.
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
