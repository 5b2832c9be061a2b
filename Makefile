PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Installed with what a user needs, without what tests, linters and extras need.
RUNS := $(VENV)/.runs
LITGPT := .venv-litgpt
AUDIT := .venv-audit
LOWEST := .venv-lowest
DOCS := .venv-docs
# Compiled modules are kept, also where the environment says not to write them: tests start hundreds of processes.
export PYTHONDONTWRITEBYTECODE =
# The text that `make bench` trains on: a file, or the bundled dialogues.
TEXT ?= bundled
# For another build of torch: make install TORCH="torch==2.13.0 --index-url …" (docs/guide/install.md).
TORCH ?= torch==2.13.0

.PHONY: install run test check types device-dry-run slow peers litgpt self-test bench torture damage fuzz fuzz-app audit \
	flakes coverage mutants snapshots pictures docs docs-serve format lab lock lowest device device-wheels dist sbom

install: $(STAMP)

# Modules are compiled when they are first imported: all of torch would take half a minute.
$(RUNS): pyproject.toml requirements-run.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --require-hashes --no-deps -r requirements-run.lock
	$(BIN)/python -m pip install --quiet --no-compile $(TORCH)
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

# Two fifths of all libraries, which no test or a single one imports: they are not compiled ahead.
RARELY_IMPORTED := /(tests|testing|_inductor|mypy|mypyc|networkx|pip|setuptools|alembic|dialects|fontTools|grpc$\
	|lexers|pytorch_lightning|torchgen|torchmetrics|werkzeug)/

$(STAMP): $(RUNS) requirements.lock
	$(BIN)/python -m pip install --quiet --no-compile --require-hashes --no-deps -r requirements.lock
	$(BIN)/python -m compileall -qq -j 0 -x '$(RARELY_IMPORTED)' $(VENV)/lib || true  # torch has a file for Python 3.12.
	touch $@

run: $(RUNS)
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

# Known vulnerabilities of the locked packages, from a public service: ADVISORIES=osv or pypi. Fails if one is unknown to it.
ADVISORIES ?= pypi
PIP_AUDIT = $(AUDIT)/bin/pip-audit --disable-pip --strict --progress-spinner off --vulnerability-service $(ADVISORIES)

audit: $(AUDIT)/.installed
	failed=0; for lock in requirements*.lock; do \
	    echo "$$lock"; $(PIP_AUDIT) --require-hashes -r $$lock || failed=1; \
	done; \
	echo "$(firstword $(TORCH))" | $(PIP_AUDIT) --no-deps -r /dev/stdin && exit $$failed

$(AUDIT)/.installed: requirements-audit.lock
	test -x $(AUDIT)/bin/python || $(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install --quiet --require-hashes --no-deps -r requirements-audit.lock
	touch $@

# The tests TIMES times in random orders. Prints the seed and the failures of each; PARTS="tests/core tests/data" for some.
TIMES ?= 20
PARTS ?= tests
flakes: $(STAMP)
	$(BIN)/python -m tools.torture.flakes --times $(TIMES) $(PARTS)

# The tests with the lowest versions of direct dependencies that pyproject.toml allows. PARTS="tests/report" for some.
# pip installs torch, because uv would look for its build elsewhere.
lowest:
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet "uv>=0.9,<1"
	$(LOWEST)/bin/python -m pip install --quiet --no-deps $(TORCH)
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct -e ".[all,lightning,dev]"
	$(LOWEST)/bin/python -m pytest -q -n auto $(PARTS)

# Lines and branches that the tests run, including the processes they start.
coverage: $(STAMP)
	$(BIN)/python -m pytest -q -n auto --cov --cov-report=term

# Mutation testing of the files in [tool.mutmut]: the changed lines that no test notices.
mutants: $(AUDIT)/.torch
	OMP_NUM_THREADS=1 $(AUDIT)/bin/mutmut run --max-children 2
	$(AUDIT)/bin/mutmut results

$(AUDIT)/.torch: $(AUDIT)/.installed
	$(AUDIT)/bin/python -m pip install --quiet $(TORCH)
	touch $@

# Build the wheel and the sdist and check them; install the wheel in a fresh environment, and use it (docs/platforms.md).
# EXTRAS= for an installation without extras.
EXTRAS ?= all
dist: $(AUDIT)/.installed
	$(AUDIT)/bin/python -m tools.distribution --torch "$(TORCH)" --extras "$(EXTRAS)"

# What the wheel installs, as a CycloneDX bill of materials: of the environment that `make dist` has left.
sbom: $(AUDIT)/.installed
	test -x build/fresh/environment/bin/python || $(MAKE) dist
	$(AUDIT)/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
	    --output-file build/sbom.cdx.json build/fresh/environment/bin/python

# All figures of docs/performance.md. Takes an hour; do not use the machine meanwhile.
bench: $(STAMP) peers litgpt
	$(BIN)/tui-lab bench all --text $(TEXT) --write docs/performance.md

# Correctness and speed on a GPU in six minutes (docs/guide/speed.md). Needs torch with CUDA in $(PYTHON), no network.
WHEELS := build/device-wheels
device:
	$(PYTHON) -m tools.device $(if $(wildcard $(WHEELS)/*.whl),--wheels $(WHEELS)) --json build/device.json

# What a machine with only torch, transformers and numpy lacks. For another Python: make device-wheels DEVICE_PYTHON=3.13
DEVICE_PYTHON ?= 3.12
device-wheels: $(STAMP)
	$(BIN)/python -m pip download --quiet --only-binary=:all: --python-version $(DEVICE_PYTHON) --implementation cp \
	    --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
	    --no-deps --dest $(WHEELS) \
	    $$($(BIN)/python -m pip freeze | grep -E '^(annotated-types|platformdirs|pydantic|pydantic_core|tomli_w|typing-inspection)==')

self-test: peers
	$(BIN)/tui-lab doctor --self-test

# Kill runs a hundred times and damage a thousand run folders (docs/reliability.md). Takes half an hour.
TORTURE ?= --times 100 --seed 0

torture: $(STAMP) damage
	$(BIN)/python -m tools.torture.kill $(TORTURE)

DAMAGE ?= --times 1000 --seed 0
damage: $(STAMP)
	$(BIN)/python -m tools.torture.mutate $(DAMAGE)

# Fuzz configs and command lines (docs/reliability-input.md).
INPUTS ?= 5000
EVENTS ?= 10000
SEED ?= 0

fuzz: $(STAMP)
	$(BIN)/python -m tools.torture.configs --times $(INPUTS) --seed $(SEED)
	$(BIN)/python -m tools.torture.commands --times $(INPUTS) --seed $(SEED)

# Random keys, mouse events, pastes and resizes while a model trains.
fuzz-app: $(STAMP)
	$(BIN)/python -m tools.torture.app --events $(EVENTS) --seed $(SEED)

# All pictures and animations of README.md and docs/, from the real app. Takes about ten minutes.
NANOGPT ?= build/nanoGPT
pictures: $(STAMP) $(NANOGPT)
	$(BIN)/python -m tools.pictures $(NANOGPT) $(MAKERS)

build/nanoGPT:
	git clone --quiet --depth 1 https://github.com/karpathy/nanoGPT $@

snapshots: $(STAMP)
	$(BIN)/python -m pytest -q tests/app/test_snapshots.py --snapshot-update

# The variable silences a notice of Material for MkDocs about its successor.
MKDOCS = NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/python -m mkdocs

# The documentation as a site, which needs no server and no network: build/site/index.html.
docs: build/pages $(DOCS)/.installed
	$(MKDOCS) --quiet build --strict
	$(BIN)/python -m tools.site.check build/site
	@echo 'open build/site/index.html'

# The same at http://127.0.0.1:8000, built again whenever a file in docs/ changes.
docs-serve: build/pages $(DOCS)/.installed
	$(MKDOCS) serve --strict

.PHONY: build/pages
build/pages: $(STAMP)
	$(BIN)/python -m tools.site.pages $@

$(DOCS)/.installed: requirements-docs.lock
	test -x $(DOCS)/bin/python || $(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install --quiet --require-hashes --no-deps -r requirements-docs.lock
	touch $@

# Everything that CI runs, except `make docs` and `make run`.
check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/lint-imports
	$(BIN)/deptry .
	$(MAKE) --jobs 2 types device-dry-run
	$(BIN)/python -m pytest -q -n auto

# `make check` runs these two side by side: mypy uses one core, and the dry run waits for many imports. With two workers
# (`mypy -n 2`) mypy gives up if one has not started within 3 s, which a busy machine takes.
types: $(STAMP)
	$(BIN)/mypy

device-dry-run: $(STAMP)
	$(BIN)/python -m tools.device --dry-run --seconds 3000

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lab: $(STAMP)
	$(BIN)/tui-lab

# torch itself is not in the locks, since each machine chooses its own build, but its dependencies are.
COMPILE = $(BIN)/pip-compile --quiet --unsafe-package torch --upgrade-package $(firstword $(TORCH)) \
	--generate-hashes --strip-extras --no-emit-index-url --no-emit-find-links

# The extras that `all` stands for: pip-compile would write a requirement on tui-lab itself, with a path, for `all`.
# lightning is installed everywhere, so that CI tests one callback; transformers, six times its size, is with the peers.
DEV = --extra plots --extra sweep --extra serve --extra tensorboard --extra gpu --extra lightning --extra dev

lock:
	$(COMPILE) $(DEV) --output-file requirements.lock pyproject.toml
	$(COMPILE) --constraint requirements.lock --output-file requirements-run.lock pyproject.toml
	$(COMPILE) $(DEV) --extra peers --extra huggingface --output-file requirements-peers.lock pyproject.toml
	$(COMPILE) $(DEV) --extra audit --output-file requirements-audit.lock pyproject.toml
	$(COMPILE) --extra litgpt --output-file requirements-litgpt.lock pyproject.toml
	$(BIN)/python -m tools.site.requirements | $(COMPILE) --output-file requirements-docs.lock -
