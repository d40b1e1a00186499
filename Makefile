# Each target makes .venv and installs what it needs on first use, and is fast when nothing changed.
# PYTHON chooses the interpreter (3.11 or newer); VENV another place for the environment.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install --constraint constraints.txt
# Many tests only wait.
WORKERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2) + 3)
# Some of those that take longer have several processes work for minutes.
LONGER := --timeout 600 --override-ini faulthandler_timeout=900
# For tests that are repeated more often than their limit of time allows for.
UNLIMITED := --timeout 0 --override-ini faulthandler_timeout=0
# It looks for libraries by the interpreter in PATH.
PYRIGHT := PATH="$(abspath $(BIN)):$$PATH" PYTHONPATH=. pyright
SCHEMAS := $(filter-out claims,$(basename $(notdir $(wildcard schemas/*.yaml))))

.DEFAULT_GOAL := help
.PHONY: help demo test long house names reviews pipelines taxonomy deployment openapi dist image lint bench soak charts reloads leaks package laws fuzz kill faults erasures bombs mutations recordings servers brokers spark outages coverage clean

help: ## Show the targets.
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: $(VENV)/.demo ## Run synthetic meetings through the filter into a store, and search it.
	@$(BIN)/collector demo

test: $(VENV)/.dev ## Run the tests.
	$(BIN)/python -m pytest -n $(WORKERS) $(PYTEST)

long: $(VENV)/.dev ## Run the tests that take longer: attacks beside senders, fresh environments, whole benchmarks.
	$(BIN)/python -m pytest -n $(WORKERS) -m "long and not recordings" $(LONGER) $(PYTEST)

house: $(VENV)/.dev ## Print the figures of the structure (import graph, names, the walk of a request).
	$(BIN)/python -m tests.house

names: $(VENV)/.dev ## Try 100,000 schemas for patterns that say words, and print how names are judged.
	COLLECTOR_SPELLING=100000 $(BIN)/python -m pytest tests/names $(UNLIMITED) $(PYTEST)
	$(BIN)/python -m tests.names

reviews: $(VENV)/.dev ## Try 5,000 random schemas (REVIEWS) for a claim that holds without an approval of each field.
	COLLECTOR_REVIEWS=$(or $(REVIEWS),5000) $(BIN)/python -m pytest tests/schema/test_review.py $(UNLIMITED) $(PYTEST)

pipelines: $(VENV)/.dev ## Try 1,000 random pipelines (PIPELINES) for a claim that holds where a file denies it.
	COLLECTOR_PIPELINES=$(or $(PIPELINES),1000) $(BIN)/python -m pytest -m long tests/claims/test_random_pipelines.py $(UNLIMITED) $(PYTEST)

taxonomy: $(VENV)/.dev .venv-fideslang/.made ## Compare the shipped taxonomy with the package that it is from.
	$(BIN)/python -m pytest tests/schema/test_taxonomy.py $(PYTEST)

deployment: $(VENV)/.dev .venv-deploy/.made ## Validate what deploy/ has by the schemas of Kubernetes and Compose.
	$(BIN)/python -m pytest tests/test_deployment.py $(PYTEST)

openapi: $(VENV)/.dev .venv-schemathesis/.made ## Let schemathesis ask a sidecar for all that its documents of OpenAPI have (some minutes).
	$(BIN)/python -m pytest -m long tests/sidecar/test_openapi.py $(UNLIMITED) $(PYTEST)

dist: $(VENV)/.dev ## Build wheel, sdist and bill of materials of the last commit, the same bytes each time.
	VENV=$(VENV) .ci/release

image: $(VENV)/.dev ## Carry out the steps of the Dockerfile in fresh roots, as root and without Docker, and run what they make.
	COLLECTOR_FRESH=1 $(BIN)/python -m pytest -m long tests/test_image.py $(UNLIMITED) $(PYTEST)

bombs: $(VENV)/.dev ## Attack a sidecar longer and by more senders; all limits of time are absolute.
	COLLECTOR_BOMBS=full $(BIN)/python -m pytest -s -m timed $(UNLIMITED) $(PYTEST)

coverage: $(VENV)/.dev ## Run these tests and show which lines they do not reach.
	$(BIN)/python -m pytest -n $(WORKERS) -m 'not recordings' --cov --cov-report=term-missing:skip-covered $(PYTEST)

lint: $(VENV)/.dev ## Check types, style, layers, structure and schemas.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(PYRIGHT)
	@found=$$($(PYRIGHT) --verifytypes collector --ignoreexternal) \
		|| { echo "$$found"; exit 1; }; echo "$$found" | grep score
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -m long tests/test_house.py tests/test_architecture.py
	$(BIN)/collector schema check --strict $(SCHEMAS)
	$(BIN)/collector schema catalogue check
	$(BIN)/collector schema test $(SCHEMAS)

bench: $(VENV)/.bench ## Measure the filter against others (a few minutes).
	$(BIN)/python -m benchmarks $(BENCH)

charts: $(VENV)/.bench ## Measure everything, and write the tables and charts of docs/ anew.
	$(BIN)/python -m benchmarks --growth --check \
		--markdown docs/benchmarks.md --markdown docs/benchmarks/README.md --charts docs/benchmarks $(BENCH)
	$(BIN)/python -m benchmarks sidecar --check --markdown docs/benchmarks.md
	$(BIN)/python -m benchmarks sdk --install --check --markdown docs/benchmarks.md
	$(BIN)/python -m benchmarks sinks --check --markdown docs/benchmarks.md

leaks: $(VENV)/.bench ## Install what people use instead, each by itself, and measure what gets through (an hour).
	$(BIN)/python -m benchmarks leaks --build --check --markdown docs/leaks.md --chart docs/benchmarks/leaks.svg $(LEAKS)

soak: $(VENV)/.bench ## Load a sidecar for twenty minutes; over the last ten its memory must not grow.
	$(BIN)/python -m benchmarks soak --minutes $(or $(MINUTES),10)

kill: $(VENV)/.dev ## Kill a sidecar under load a thousand times; nothing acknowledged may be lost.
	COLLECTOR_KILLS=$(or $(KILLS),1000) $(BIN)/python -m pytest -n $(WORKERS) -s -m "not recordings" tests/sidecar/test_kill.py tests/sidecar/test_workers.py tests/spool/test_rotation.py tests/sinks/test_parquet.py $(UNLIMITED) $(PYTEST)

erasures: $(VENV)/.dev ## Erase people out of twenty full data directories, and 600 out of sidecars under load, one with servers; search every byte.
	COLLECTOR_ERASURES=$(or $(RUNS),20) $(BIN)/python -m pytest -n $(WORKERS) tests/subject/test_rights.py $(UNLIMITED) $(PYTEST)
	COLLECTOR_ERASED=600 $(BIN)/python -m pytest -m long tests/sidecar/test_control.py -k under_load $(UNLIMITED) $(PYTEST)
	COLLECTOR_ERASED=600 $(BIN)/python -m pytest -s -m servers tests/sidecar/test_erasures.py $(UNLIMITED) $(PYTEST)

reloads: $(VENV)/.dev ## Reload a sidecar under full load each second for a minute (of SECONDS), and kill it in the midst of reloads.
	COLLECTOR_RELOADS=$(or $(SECONDS),60) $(BIN)/python -m pytest -s -m long tests/sidecar/test_reload.py $(UNLIMITED) $(PYTEST)

faults: $(VENV)/.dev ## Let writes and syncs of a sidecar fail at random, and kill it in between (200 lives).
	COLLECTOR_FAULTS=$(or $(LIVES),200) $(BIN)/python -m pytest -s -m long tests/sidecar/test_faults.py -k killed $(UNLIMITED) $(PYTEST)

mutations: $(VENV)/.dev ## Send a million mutated requests to every endpoint of a sidecar, with kills in between (half an hour).
	COLLECTOR_MUTATIONS=$(or $(REQUESTS),1000000) $(BIN)/python -m pytest -s -m long tests/sidecar/test_mutations.py $(UNLIMITED) $(PYTEST)

recordings: $(VENV)/.meeting ## Try grants, and recorders that are killed (HISTORIES), in 100,000 steps each; record a meeting of WebRTC peers; test with servers.
	COLLECTOR_GRANT_STEPS=$(or $(STEPS),100000) COLLECTOR_HISTORY_STEPS=$(or $(HISTORIES),100000) $(BIN)/python -m pytest -n $(WORKERS) -s \
		tests/recording/test_grant_steps.py tests/recording/test_recorder_histories.py $(UNLIMITED) $(PYTEST)
	$(BIN)/python -m pytest -n $(WORKERS) -m recordings $(UNLIMITED) $(PYTEST)

servers: $(VENV)/.dev ## Test the sinks that need a server of another program: PostgreSQL, an object store.
	$(BIN)/python -m pytest -n $(WORKERS) -m servers $(UNLIMITED) $(PYTEST)

spark: $(VENV)/.spark ## Minimise an archive (EVENTS lines) on a Spark of two executors, which needs Java.
	COLLECTOR_SPARK_EVENTS=$(or $(EVENTS),20000) $(BIN)/python -m pytest -m spark $(UNLIMITED) $(PYTEST)

brokers: $(VENV)/.dev ## Kill sidecars, drains, brokers and PostgreSQL at random (KILLS), under load; nothing may be lost or repeated.
	COLLECTOR_BROKER_KILLS=$(or $(KILLS),200) $(BIN)/python -m pytest -m servers tests/sidecar/test_drain.py tests/sidecar/test_drain_kafka.py -s $(UNLIMITED) $(PYTEST)

outages: $(VENV)/.dev ## Let the servers of sinks be away for ten minutes (SECONDS), fail and be hostile, under load; nothing may be lost or said.
	COLLECTOR_AWAY=$(or $(SECONDS),600) $(BIN)/python -m pytest -n 3 -s -m outages $(UNLIMITED) $(PYTEST)

package: $(VENV)/.dev ## Install Collector into fresh environments, and try the snippets of the documents and the sink of examples/.
	COLLECTOR_FRESH=1 $(BIN)/python -m pytest -m long tests/sinks/test_packages.py tests/test_fresh.py $(UNLIMITED) $(PYTEST)

laws: $(VENV)/.dev ## Run the laws of the filter over random schemas, 100,000 examples in all.
	$(BIN)/python -m tests.laws $(or $(EXAMPLES),100000)

fuzz: $(VENV)/.dev ## Run the property tests with many more examples.
	COLLECTOR_EXAMPLES=$(or $(EXAMPLES),5000) $(BIN)/python -m pytest -n $(WORKERS) tests/filter tests/schema tests/ledger $(UNLIMITED) $(PYTEST)

clean: ## Remove everything that was made.
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage* collector-demo

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

$(VENV)/.spark: pyproject.toml constraints.txt | $(VENV)/.made
	$(PIP) --editable '.[dev,spark]'
	@touch $@ $(VENV)/.dev $(VENV)/.demo

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/.made
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.demo
