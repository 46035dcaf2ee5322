# Everything a contributor runs. `make` alone lists it; nothing but Python 3.11 has to be installed before.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3
CLUSTER ?= dev
NODE ?= auto
KWOK ?= 0
# Each worker has a control plane of its own; which tests it runs is in tests/scheduling.py.
PARALLEL ?= --numprocesses=2

VENV := .venv
BIN := $(VENV)/bin
READY := .make/venv-is-ready
SOURCES := operator crds deploy/local deploy/demo deploy/image deploy/manifests.py deploy/site tests

export UV_PYTHON_DOWNLOADS := never
localcluster = PYTHONPATH=deploy/local UV=$$(deploy/local/find-uv $(PYTHON)) $(BIN)/python -m localcluster

.PHONY: help
help: ## This list
	@echo "Usage: make TARGET [VARIABLE=value]"; echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  CLUSTER=$(CLUSTER)   the cluster's name; any number of them run side by side"
	@echo "  NODE=$(NODE)     a real node: auto (if this machine can), yes, no; at most one per machine"
	@echo "  KWOK=$(KWOK)        how many simulated nodes"

# --- the environment ---------------------------------------------------------------------------

.PHONY: venv
venv: $(READY) ## The Python environment in .venv, exactly as locked

$(READY): pyproject.toml uv.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: Python 3.11 or newer is needed; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || echo missing)." >&2; \
	  echo "  Name another one with: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@uv=$$(deploy/local/find-uv $(PYTHON)); \
	"$$uv" sync --frozen --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')"
	@mkdir -p $(@D) && touch $@

# --- checks and tests --------------------------------------------------------------------------

.PHONY: check
check: $(READY) ## Formatting, lint, types, layering, generated files
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy operator/sidecarpolicy deploy/local/localcluster deploy/demo deploy/image deploy/manifests.py deploy/site crds/src tests
	$(BIN)/lint-imports
	$(BIN)/python crds/src/generate.py --check
	PYTHONPATH=deploy/local $(BIN)/python -m deploy.manifests --check

.PHONY: format
format: $(READY) ## Format the code and repair what lint can repair
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

.PHONY: test
test: $(READY) ## Pure tests, tests on a real API server, tests on a real node
	UV=$$(deploy/local/find-uv $(PYTHON)) $(BIN)/pytest -m 'not long' $(PARALLEL)

.PHONY: test-long
test-long: $(READY) ## What takes minutes: run by the author of a change (RESULTS=file: and write down how it went)
	UV=$$(deploy/local/find-uv $(PYTHON)) $(BIN)/pytest -m long $(RESULTS:%=--results=%)

.PHONY: demo
demo: $(READY) ## Everything this does, shown on a real Kubernetes (NODE; KEEP=1 leaves it running)
	@PYTHONPATH=deploy/local UV=$$(deploy/local/find-uv $(PYTHON)) NODE=$(NODE) $(BIN)/python -m deploy.demo

# --- what is shipped ---------------------------------------------------------------------------

.PHONY: image
image: $(READY) ## The operator's image as an OCI archive in dist/, without Docker (NAME=registry/name:tag)
	@PYTHONPATH=deploy/local UV=$$(deploy/local/find-uv $(PYTHON)) $(BIN)/python -m deploy.image $(NAME:%=--name=%)

.PHONY: manifests
manifests: $(READY) ## Write what is made from other manifests: the chart's kinds and README, dist/install.yaml
	@PYTHONPATH=deploy/local UV=$$(deploy/local/find-uv $(PYTHON)) $(BIN)/python -m deploy.manifests

.PHONY: chart
chart: $(READY) ## Lint the Helm chart and package it into dist/
	@helm=$$(PYTHONPATH=deploy/local UV=$$(deploy/local/find-uv $(PYTHON)) $(BIN)/python -c \
	  'from localcluster.binaries import require; print(require(["helm"])["helm"])'); \
	"$$helm" lint --strict deploy/chart; "$$helm" package deploy/chart --destination dist

.PHONY: docs
docs: ## The documentation as a site in dist/site; a broken link ends it (REPO_URL: where the code is; SITE_URL)
	@uv=$$(deploy/local/find-uv $(PYTHON)); export UV_PROJECT_ENVIRONMENT=.make/docs; \
	"$$uv" sync --quiet --frozen --only-group docs --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')"
	@NO_MKDOCS_2_WARNING=1 .make/docs/bin/mkdocs build

# --- measurements ------------------------------------------------------------------------------

.PHONY: bench
bench: $(READY) ## What injecting costs, as ratios to a JSON round trip and to reading YAML of the same run
	$(BIN)/pytest tests/bench/test_inject.py tests/bench/test_manifests.py --quiet --capture=no

.PHONY: bench-lifecycle
bench-lifecycle: $(READY) ## Five ways to run a sidecar, measured on a real node (6 min); rewrites docs/lifecycle.md
	@PYTHONPATH=deploy/local UV=$$(deploy/local/find-uv $(PYTHON)) $(BIN)/python -m tests.bench.lifecycle

.PHONY: bench-scale
bench-scale: $(READY) ## What it costs at 10,000 Deployments (ONLY, SIZES, ROUNDS, LABEL, PROFILE=1); docs/performance.md
	@PYTHONPATH=deploy/local UV=$$(deploy/local/find-uv $(PYTHON)) BENCH_PROFILE=$(if $(PROFILE),.make/profiles) \
	  $(BIN)/python -m tests.bench.scale $(ONLY) $(SIZES:%=--sizes=%) $(ROUNDS:%=--rounds=%) $(LABEL:%=--label=%) \
	  $(if $(PROFILE),--no-results)

.PHONY: chaos
chaos: $(READY) ## Two replicas on a bad day (1 h; SCENARIO, DEPLOYMENTS, SEED); rewrites docs/reliability.md
	@PYTHONPATH=deploy/local:. UV=$$(deploy/local/find-uv $(PYTHON)) $(BIN)/python -m tests.chaos \
	  $(DEPLOYMENTS:%=--deployments=%) $(SEED:%=--seed=%) $(SCENARIO)

.PHONY: soak
soak: $(READY) ## Two replicas for a long time: nothing may rise (MINUTES=60); rewrites docs/reliability.md
	@PYTHONPATH=deploy/local:. UV=$$(deploy/local/find-uv $(PYTHON)) $(BIN)/python -m tests.chaos.soak \
	  $(MINUTES:%=--minutes=%) $(DEPLOYMENTS:%=--deployments=%) $(SEED:%=--seed=%)

.PHONY: fuzz
fuzz: $(READY) ## Mangled input: an error that says where, or a right result (MINUTES=10; FILES does it again)
	@PYTHONPATH=deploy/local:. $(BIN)/python -m tests.chaos.fuzz $(MINUTES:%=--minutes=%) $(SEED:%=--seed=%) $(FILES)

# --- a local cluster ---------------------------------------------------------------------------

.PHONY: cluster-up
cluster-up: $(READY) ## Start a real Kubernetes on this machine (CLUSTER, NODE, KWOK)
	@$(localcluster) up --cluster $(CLUSTER) --node $(NODE) --kwok $(KWOK)

.PHONY: cluster-down
cluster-down: $(READY) ## Stop it and remove every trace of it (CLUSTER)
	@$(localcluster) down --cluster $(CLUSTER)

.PHONY: cluster-status
cluster-status: $(READY) ## Say what runs (CLUSTER)
	@$(localcluster) status --cluster $(CLUSTER)

.PHONY: clean
clean: ## Remove what was made in this checkout (built Kubernetes programs in the cache stay)
	rm -rf $(VENV) .make dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +
