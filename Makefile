PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LITGPT := .venv-litgpt
# What `make bench` learns: a text of yours, or the bundled dialogues.
TEXT ?= bundled
# Another build of torch: make install TORCH="torch==2.13.0 --index-url …" (see README).
TORCH ?= torch==2.13.0

.PHONY: install run test check slow peers litgpt self-test bench snapshots format lab lock \
	fuzz fuzz-app

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

litgpt: $(LITGPT)/bin/litgpt

$(LITGPT)/bin/litgpt: requirements-litgpt.lock
	test -x $(LITGPT)/bin/python || $(PYTHON) -m venv $(LITGPT)
	$(LITGPT)/bin/python -m pip install --quiet --require-hashes --no-deps -r requirements-litgpt.lock
	$(LITGPT)/bin/python -m pip install --quiet $(TORCH)
	touch $@

# All figures of docs/performance.md, in an hour; leave the machine alone meanwhile.
bench: $(STAMP) peers litgpt
	$(BIN)/tui-lab bench all --text $(TEXT) --write docs/performance.md

self-test: peers
	$(BIN)/tui-lab doctor --self-test

# Odd configs and command lines (docs/reliability-input.md); make fuzz TIMES=5000 SEED=0
TIMES ?= 5000
EVENTS ?= 10000
SEED ?= 0

fuzz: $(STAMP)
	$(BIN)/python -m tests.torture.configs --times $(TIMES) --seed $(SEED)
	$(BIN)/python -m tests.torture.commands --times $(TIMES) --seed $(SEED)

# Keys, mouse, pastes and resizes at random while a model trains.
fuzz-app: $(STAMP)
	$(BIN)/python -m tests.torture.app --events $(EVENTS) --seed $(SEED)

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
	$(COMPILE) --extra litgpt --output-file requirements-litgpt.lock pyproject.toml
