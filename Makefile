# `make help` lists what there is. Everything lives in this checkout: .venv/, .slipway/ and build/.
# Without it, each start of each process would compile its modules again.
unexport PYTHONDONTWRITEBYTECODE
PYTHON ?= python3
PY := .venv/bin/python
STACK := PYTHONPATH=include/stack:plugins $(PY) -m slipway_stack
BUNDLES := breast-cancer diabetes-boosted wine-no-sample skeleton
UNIT := $(filter-out tests/system tests/stack tests/compose,$(wildcard tests/*))
COMPILE = .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --custom-compile-command 'make lock' $(UPGRADE)
# More arguments for pytest, such as ARGS='-k token -x'.
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help up down secrets image demo stop status sandbox-aws sandbox-azure test lint lock bundles clean environment dev-environment

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | awk -F'|' '{printf "make %-13s %s\n", $$1, $$2}'

demo: environment bundles ## start everything, take a sample bundle from zip to endpoint, and score with it
	@$(STACK) demo

sandbox-aws: dev-environment ## run a local AWS and connect the stack to it; ARGS='--port 4566'
	@PYTHONPATH=sandbox:include/stack:include/scoring $(PY) -m slipway_sandbox.aws $(ARGS)

stop: ## end the stack that `make demo` started
	@if [ -x $(PY) ]; then $(STACK) stop; else echo 'No stack runs: there is no environment.'; fi

status: ## tell how the stack is
	@if [ -x $(PY) ]; then $(STACK) status; else echo 'No stack runs: start one with `make demo`.'; fi

sandbox-azure: dev-environment ## run a local AzureML to try its DAGs with; ARGS='--port 5443' goes to it
	@PYTHONPATH=sandbox:include/stack:include/scoring $(PY) -m slipway_sandbox.azure $(ARGS)

# Two runs: what is alone in its folder and on its ports goes in parallel, a whole stack wants the machine for itself.
test: dev-environment bundles ## run all tests; ARGS='…' goes to pytest
	@echo '== tests of the parts'; $(PY) -m pytest -n 2 $(UNIT) $(ARGS); parts=$$?; \
	echo '== tests of the whole'; $(PY) -m pytest tests/compose tests/stack tests/system $(ARGS); whole=$$?; \
	if [ $$parts -ne 0 ]; then echo "The tests of the parts did not pass: see above." >&2; exit $$parts; fi; exit $$whole

lint: dev-environment ## check style and types
	@$(PY) -m ruff check . && $(PY) -m ruff format --check . && $(PY) -m mypy

# The production stack (docs/production.md): docker-compose 1.29 or compose v2.
COMPOSE ?= $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)
WORKERS ?= 1

secrets: ## make the passwords of the production stack, where they are missing
	@$(PYTHON) include/compose/make_secrets.py .secrets .env

image: ## build the production image; BASE_IMAGE=… chooses what it stands on
	docker build $(if $(BASE_IMAGE),--build-arg BASE_IMAGE=$(BASE_IMAGE)) --tag $${SLIPWAY_IMAGE:-slipway:latest} .

up: ## start the production stack and wait until it is healthy; WORKERS=4 starts four workers
	@$(PYTHON) include/compose/up.py $(WORKERS) $(COMPOSE)

down: ## stop the production stack; its data stay
	@$(COMPOSE) down --remove-orphans

lock: environment ## compile requirements*.in to requirements*.txt; UPGRADE=--upgrade takes the newest versions
	$(COMPILE) requirements.in -o requirements.txt
	$(COMPILE) requirements-dev.in -o requirements-dev.txt
	$(COMPILE) requirements-production.in -o requirements-production.txt
	$(COMPILE) --generate-hashes --only-binary :all: --no-annotate include/scoring/requirements.txt \
	  include/scoring/general.in -o include/scoring/general.lock
	$(COMPILE) --generate-hashes --only-binary :all: --no-annotate include/model_host/door.in \
	  -o include/model_host/door.lock

bundles: ## zip the sample bundles into build/bundles/, the same bytes on every machine
	@for name in $(BUNDLES); do \
	  $(PYTHON) include/model_bundles/zip_bundle.py include/model_bundles/$$name build/bundles/$$name.zip || exit 1; done

clean: stop ## end the stack and remove all that make made, the models in it too
	rm -rf .venv .slipway build .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

environment:
	@$(PYTHON) include/stack/make_environment.py requirements.txt

dev-environment:
	@$(PYTHON) include/stack/make_environment.py requirements.txt requirements-dev.txt
