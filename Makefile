# One command each: `make demo` shows it, `make test` proves it, `make check` judges the code, `make bench` measures it.
# Needs Python 3.11 or newer and make; everything else is set up in .venv/ from requirements.lock.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
READY := .venv/.project-installed
# Arguments for pytest, for example: make test ARGS='tests/store -x'
ARGS ?=
# Test files that run side by side: most of their time they wait for processes. 0: one after the other, in this process.
JOBS ?= 2
# Sagas of the benchmark; empty: its own default.
N ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test fast test-failover-long golden docs check format bench lock clean

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/make \1\t\2/p' Makefile | expand -t 28

setup: $(READY)  ## set up .venv/ from the lock file

.venv/.locked-installed: requirements.lock
	@test -n "$(PYTHON)" || { echo 'Escrow needs Python 3.11 or newer: install it, or name it: make PYTHON=/path/to/python3' >&2; exit 1; }
	@$(PYTHON) -m venv .venv || { echo 'Could not make .venv: on Debian and Ubuntu install the package python3-venv.' >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	@touch $@

$(READY): .venv/.locked-installed pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(READY)  ## play the outage story (no services, no configuration; under 60 s)
	$(BIN)/escrow demo

test: $(READY)  ## run every test, against a real PostgreSQL and a real RabbitMQ; JOBS files side by side
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile $(ARGS)

fast: $(READY)  ## run the quick tests, offline
	$(BIN)/python -m pytest -m 'not real and not slow' $(ARGS)

test-failover-long: $(READY)  ## kill primaries and broker nodes, and destroy databases, under load, twenty times each (about half an hour)
	ESCROW_TEST_TRIALS=20 ESCROW_TEST_DRILLS=20 $(BIN)/python -m pytest \
		tests/chaos/test_database_failover.py tests/chaos/test_broker_cluster.py tests/chaos/test_lost_database.py $(ARGS)

golden: $(READY)  ## see that recorded orders fold and decide as they did (part of make test)
	$(BIN)/python -m pytest tests/golden $(ARGS)

docs: $(READY)  ## write the reference of the definition language anew from the code
	$(BIN)/python -m tests.reference.generate

check: $(READY)  ## lint, format, types, import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)  ## put the code into the house format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(READY)  ## measure sagas/s through RabbitMQ and PostgreSQL (N= sets how many)
	$(BIN)/python -m bench $(if $(N),--sagas $(N))

lock:  ## write requirements.lock anew from pyproject.toml (needs uv)
	@printf '%s\n' '# Every version the project runs and is tested with, hashed; `make lock` writes it from pyproject.toml. Names no index address.' > requirements.lock.new
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --no-annotate --quiet >> requirements.lock.new
	@mv requirements.lock.new requirements.lock

clean:  ## remove .venv/ and everything that was made
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
