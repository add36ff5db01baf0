# The short list of commands that a person types; each is a thin front of a script or a tool.

BIN := .venv/bin

.PHONY: help setup dev fmt lint test system check api bench quickstart clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## packages and .venv that the daemon needs (root)
	deploy/setup.sh run

dev: ## the same, and what the tests need (root)
	deploy/setup.sh test

fmt: ## format, and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: ## static checks
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: ## tests that need no root
	$(BIN)/python -m pytest tests/unit tests/contract tests/integration

system: ## tests on the real kernel (root)
	LXDPY_REQUIRE=all $(BIN)/python -m pytest tests/system

check: ## all that CI runs (root)
	tests/run.sh

api: ## rewrite api/openapi.json
	$(BIN)/python -m lxdpy.api.openapi

bench: ## measure beside docker, LXD and others, rewrite docs/performance.md (root; ARGS="--only pull --rounds 3")
	deploy/setup.sh bench
	$(BIN)/python -m bench.run $(ARGS)

quickstart: ## the main job, end to end (root)
	deploy/quickstart.sh

clean: ## remove what tools left; keeps .venv
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
