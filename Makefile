# Verbs for people and for CI. `make help` lists them.

VENV ?= .venv
BIN := $(VENV)/bin
NODE := tests/node
# Files of tests run side by side, on few cores, too: many wait for time to pass. Each process starts servers of its own.
PARALLEL ?= -n 4 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help run test test-all test-nodes test-others lint format types bench soak-isolation soak-nodes docs lock clean

help: ## List the verbs
	@echo "make VERB"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-14s %s\n", $$1, $$2 }'
	@echo "PYTHON=/path/to/python chooses the interpreter of a new $(VENV)."

run: export BULKHEAD_PROFILE ?= development
run: $(VENV)/.runtime ## Serve, in the development profile unless BULKHEAD_PROFILE says otherwise
	@exec $(BIN)/bulkhead serve

test: $(VENV)/.dev node-modules ## Run the tests with coverage; ARGS="-k name tests/folder" runs some, without coverage
	$(BIN)/python -m pytest $(PARALLEL) $(or $(ARGS),-m "not nodes" --cov --cov-report=term)

test-nodes: $(VENV)/.dev ## Run the tests that take nodes, workers and servers down
	$(BIN)/python -m pytest $(PARALLEL) -m nodes $(ARGS)

test-all: ## Run all tests on each of Python 3.11, 3.12 and 3.13 that this machine has
	@set -e; .ci/pythons | while read -r version python; do \
	    $(MAKE) test VENV=.venv-$$version PYTHON=$$python </dev/null; \
	done

test-others: ## Run the fast part of the tests on each supported Python other than that of .venv
	@set -e; own=$$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true); \
	.ci/pythons | while read -r version python; do \
	    [ "$$version" != "$$own" ] || continue; \
	    $(MAKE) test VENV=.venv-$$version PYTHON=$$python ARGS='-m "not slow and not browser and not nodes"' </dev/null; \
	done

lint: $(VENV)/.dev ## Check style and common defects
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.dev ## Rewrite the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.dev ## Check types, strictly
	$(BIN)/mypy

bench: $(VENV)/.dev ## Run the benchmarks
	$(BIN)/python -m benchmarks $(ARGS)

soak-isolation: $(VENV)/.dev ## Try for minutes to get what is another user's; ARGS="--seconds 600 --users 100"
	$(BIN)/python -m tests.isolation.soak $(ARGS)

soak-nodes: $(VENV)/.dev ## Let two things go wrong at once among three nodes; ARGS="--seconds 600 --long" with pauses of a minute
	$(BIN)/python -m tests.nodes.soak $(ARGS)

docs: $(VENV)/.dev ## Write the generated parts of the documentation again
	$(BIN)/python -m config.reference > docs/configuration.md
	$(BIN)/python -m tests.docs.generate

LOCK = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --no-header --no-annotate --no-emit-index-url $(ARGS)

lock: ## Resolve the lock files again (needs uv and npm); ARGS=--upgrade takes newer versions
	$(LOCK) pyproject.toml -o requirements.lock
	$(LOCK) pyproject.toml --group dev -c requirements.lock -o requirements-dev.lock
	$(LOCK) --group build -c requirements-dev.lock -o requirements-build.lock
	cd $(NODE) && npm install --package-lock-only --silent

clean: ## Remove everything that the other verbs made
	rm -rf .venv .venv-* $(NODE)/node_modules build dist htmlcov .coverage .coverage.* .*_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.runtime: pyproject.toml requirements.lock requirements-build.lock .ci/venv
	@.ci/venv $(VENV) requirements.lock requirements-build.lock
	@touch $@

$(VENV)/.dev: pyproject.toml requirements-dev.lock .ci/venv
	@.ci/venv $(VENV) requirements-dev.lock
	@touch $@ $(VENV)/.runtime

# Without npm, or without a network, the tests of the JavaScript SDK skip (and fail where CI=true).
.PHONY: node-modules
ifneq ($(shell command -v npm 2>/dev/null),)
node-modules: $(NODE)/node_modules/.stamp
endif

$(NODE)/node_modules/.stamp: $(NODE)/package.json $(NODE)/package-lock.json $(NODE)/.npmrc
	@if (cd $(NODE) && npm ci --silent); then touch $@; else echo "npm ci failed: the JavaScript SDK is not there." >&2; fi
