# Every target prepares what it needs by itself; ARGS goes to the command: make demo ARGS=--help
MAKEFLAGS += --no-print-directory
SUITES = $(wildcard tests/unit tests/contract tests/golden tests/integration tests/e2e tests/faults)
# A file stays with one process, so that what it starts is started once.
SIDE_BY_SIDE = --numprocesses auto --maxprocesses 4 --dist loadfile

.PHONY: help setup dev demo up test unit contracts integration e2e faults faults-selftest faults-long bench lint types lock clean
help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /  make \1	/p' Makefile

setup: ## prepare this checkout for running
	@deploy/setup run

dev: ## prepare this checkout for working on it
	@deploy/setup dev

demo: setup ## show it on a made-up host
	@.venv/bin/backup-manager demo $(ARGS)

up: setup ## run everything, with the settings of .env
	@.venv/bin/backup-manager up $(ARGS)

test: dev ## all tests
	@.venv/bin/pytest -q $(SIDE_BY_SIDE) -m "not campaign" $(SUITES) $(ARGS)

unit: dev ## tests of pure functions, in seconds
	@.venv/bin/pytest -q tests/unit $(ARGS)

contracts: dev ## tests of what others rely on: formats, schemas, samples
	@.venv/bin/pytest -q tests/contract $(ARGS)

integration: dev ## tests with real servers, processes and disks
	@.venv/bin/pytest -q tests/integration $(ARGS)

e2e: dev ## whole stories through the command line
	@COMPOSE_SECONDS=$${COMPOSE_SECONDS:-120} .venv/bin/pytest -q tests/e2e $(ARGS)

faults: dev ## kill -9, full disks, cut networks, power cuts: all that is tried against the promises
	@.venv/bin/pytest -q $(SIDE_BY_SIDE) tests/faults $(ARGS)

faults-selftest: dev ## bugs that were planted on purpose: the suite has to find each
	@.venv/bin/pytest -q $(SIDE_BY_SIDE) tests/faults/test_planted.py tests/faults/test_seeded_bugs_*.py $(ARGS)

LONG = FAULTS_CUTS=200 FAULTS_STATES=6000 FAULTS_DRIVES=100 FAULTS_SECONDS=7200
faults-long: dev ## the same, ten times as often: some hours
	@$(LONG) .venv/bin/pytest -q --timeout 7500 -m campaign tests/faults $(ARGS)

bench: dev ## measure, and compare
	@.venv/bin/python -m tests.bench $(ARGS)

lint: dev ## style, and the direction of imports
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check
	@.venv/bin/lint-imports

types: dev ## mypy, strict
	@.venv/bin/mypy $(ARGS)

LOCK = .venv/bin/uv pip compile pyproject.toml --extra embedded --extra build --universal --python-version 3.11 \
	--generate-hashes --no-header --no-emit-index-url --no-emit-find-links -q
lock: dev ## make both lock files again; UPGRADE=--upgrade takes newer versions
	@.venv/bin/pip install -q --disable-pip-version-check uv
	$(LOCK) $(UPGRADE) -o requirements.lock
	$(LOCK) $(UPGRADE) --extra dev -o requirements-dev.lock

clean: ## remove what was made here (never the backups)
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .grimp_cache build dist
	@find services shared tests -name __pycache__ -prune -exec rm -rf {} +
