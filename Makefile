# The habits of this house. `make help` explains them.

SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
ARGS ?= --simulate
PACKAGES := market connectors operators flows simulator views cascadewatch

# Compiled once rather than in each process: tests start many, and pytest's own share is eight seconds in each.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run live test test-fast test-faults test-cluster image-test test-kubernetes lint-kubernetes tools check fmt bench soak fuzz audit lock clean

help: ## Say what each target does
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

run: $(VENV)/.run ## Watch the simulated market; ARGS="--simulate --scenario short-squeeze --seconds 60" hands arguments on
	@$(BIN)/cascadewatch run $(ARGS)

live: $(VENV)/.run ## Watch the real exchanges
	@$(BIN)/cascadewatch run --live

# The slow ones two at once as well: with three on two cores, programs under test were kept waiting for seconds.
test: $(VENV)/.dev tools check ## All checks and all tests, as CI runs them
	$(BIN)/python -m pytest -m 'not slow' -n 2 --dist loadfile --cov --cov-report=
	$(BIN)/python -m pytest -m 'slow and not cluster and not image and not kubernetes' -n 2 --dist loadfile --durations 10 --cov --cov-append --cov-report=
	$(BIN)/python -m coverage report --include='market/*,operators/*,connectors/sources/venues/*,connectors/sources/chain/*,connectors/sources/mining/*' --fail-under=100 --skip-covered --show-missing

test-fast: $(VENV)/.dev ## The tests that need no second process, in under a minute
	HYPOTHESIS_PROFILE=fast $(BIN)/python -m pytest -q -n 2 --dist loadfile -m 'not slow'

test-faults: $(VENV)/.dev ## Kill the program again and again and count what that changed; KILLS=100 SEED=7
	$(BIN)/python tests/flows/kill_campaign.py --kills $(or $(KILLS),100) $(if $(SEED),--seed $(SEED))

test-cluster: $(VENV)/.dev ## The flow as a Bytewax cluster: not part of make test (docs/scaling.md says why)
	$(BIN)/python -m pytest -m cluster --durations 5

tools: ## Install the real servers that tests start, where this is Debian and we are root; otherwise say which
	@deploy/install-tools.sh

image-test: $(VENV)/.dev ## Build the image and run it under podman, as root: minutes, so not part of make test; BASE=... takes another base
	deploy/image/test.sh $(abspath $(BIN)/python)

lint-kubernetes: $(VENV)/.dev ## Hold the manifests and the Dockerfile against checkov's rules, in a virtual environment of its own
	deploy/kubernetes/lint.sh

test-kubernetes: $(VENV)/.dev ## Run the demo in the cluster that kubectl reaches: kill a pod, scale, check; SINGLE_NODE=1 makes one first
	$(if $(SINGLE_NODE),deploy/kubernetes/single-node.sh run) $(BIN)/python -m pytest -m kubernetes -rs tests/deploy

check: $(VENV)/.dev ## Lint, format, types, and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

fmt: $(VENV)/.dev ## Format the code and mend what a tool can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev ## Measure speed and memory, each beside its baseline (takes minutes)
	$(BIN)/python -m benchmarks $(BENCH)

soak: $(VENV)/.dev ## Run for long and watch what might grow; MINUTES=60 OUT=soak
	$(BIN)/python -m benchmarks.soak --minutes $(or $(MINUTES),60) --out $(or $(OUT),soak)

fuzz: $(VENV)/.dev ## Hand wrong input to all that reads any; SECONDS=600 SEED=7 FUZZ="--frames 1000000 --only parser"
	$(BIN)/python -m fuzzing --seed $(or $(SEED),1) $(if $(SECONDS),--seconds $(SECONDS)) $(FUZZ)

audit: $(VENV)/.dev ## Look up known vulnerabilities of every dependency; fails where that cannot be done
	$(BIN)/python deploy/audit.py

lock: $(VENV)/.dev ## Resolve the dependencies anew into requirements*.lock
	$(BIN)/pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --no-header --no-annotate --generate-hashes --upgrade \
	    --all-extras pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --no-header --no-annotate --generate-hashes --upgrade \
	    --all-extras --group dev pyproject.toml -o requirements-dev.lock
	echo 'hatchling>=1.25' | $(BIN)/uv pip compile --quiet --universal --python-version 3.10 --no-header --no-annotate \
	    --generate-hashes --upgrade - -o deploy/image/build-requirements.lock
	echo 'checkov>=3.2' | $(BIN)/uv pip compile --quiet --universal --python-version 3.10 --no-header --no-annotate \
	    --generate-hashes --upgrade - -o deploy/kubernetes/lint-requirements.lock

clean: ## Remove the virtual environment and caches; data stays
	rm -rf $(VENV) .venv-lint .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .import_linter_cache

$(VENV)/.run: requirements.lock pyproject.toml
	@deploy/make-venv.sh $(VENV) requirements.lock
	@touch $@

$(VENV)/.dev: requirements-dev.lock pyproject.toml
	@deploy/make-venv.sh $(VENV) requirements-dev.lock
	@deploy/get-kubectl.sh $(VENV)
	@touch $@ $(VENV)/.run
