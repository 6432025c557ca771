# make serve | demo | test | test-fast | lint | bench | bench-flows: each builds .venv by itself when it is missing or out of date.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: serve demo test test-fast lint format bench bench-flows clean

serve: $(VENV)/serve.stamp
	exec $(BIN)/herocoordinator serve $(ARGS)

demo: $(VENV)/serve.stamp
	$(BIN)/herocoordinator demo examples/diamond.toml $(ARGS)

test: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -n 2 --dist loadfile --max-worker-restart=0 $(ARGS)

test-fast: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -n 2 --dist loadfile --max-worker-restart=0 -m 'not slow' $(ARGS)

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/peers.stamp
	$(BIN)/python -m bench $(if $(QUICK),--quick) $(ARGS)

bench-flows: $(VENV)/peers.stamp
	$(BIN)/python -m bench.flows $(if $(QUICK),--quick) $(ARGS)

clean:
	rm -rf $(VENV) tests/interop/node/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/serve.stamp: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

$(VENV)/dev.stamp: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,interop,bench]'
	touch $@ $(VENV)/serve.stamp

$(VENV)/peers.stamp: $(VENV)/dev.stamp
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,interop,bench,peers]'
	touch $@
