PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Another build of torch: make install TORCH="torch==2.13.0 --index-url …" (see README).
TORCH ?= torch==2.13.0

.PHONY: install run test check slow peers self-test snapshots format lab lock

install: $(STAMP)

$(STAMP): pyproject.toml requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

run: $(STAMP)
	$(BIN)/tui-lab run reverse --require "exact_match>=1.0"

test: $(STAMP)
	$(BIN)/python -m pytest -q -n auto

slow: $(STAMP) peers
	$(BIN)/python -m pytest -q -m slow

peers: $(STAMP)
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps -r requirements-peers.lock

self-test: peers
	$(BIN)/tui-lab doctor --self-test

snapshots: $(STAMP)
	$(BIN)/python -m pytest -q tests/app/test_snapshots.py --snapshot-update

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q -n auto

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lab: $(STAMP)
	$(BIN)/tui-lab

COMPILE = $(BIN)/pip-compile --quiet --unsafe-package torch --generate-hashes --strip-extras --no-emit-index-url \
	--no-emit-find-links

lock:
	$(COMPILE) --extra dev --output-file requirements.lock pyproject.toml
	$(COMPILE) --extra dev --extra peers --output-file requirements-peers.lock pyproject.toml
