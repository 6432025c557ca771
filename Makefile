# make serve | demo | test | test-fast | test-long | lint | clients | dashboard | dist | coverage | bench | bench-flows: each builds .venv
# by itself when it is missing or out of date. make dashboard builds the dashboard's files with Node.
# PYTHON=python3.12 make serve: with that Python.

PYTHON ?= python3
VENV := .venv
DIST := dist
BIN := $(VENV)/bin
COMMA := ,
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# Tests and benchmarks start hundreds of processes: what one has compiled serves the next, also where that is switched off.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: serve demo test test-fast test-long lint format clients dashboard dist coverage bench bench-flows clean FORCE

serve: $(VENV)/serve.stamp
	@exec $(BIN)/herocoordinator serve $(ARGS)

demo: $(VENV)/serve.stamp
	@$(BIN)/herocoordinator demo examples/diamond.toml $(ARGS)

test: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -n 3 --dist loadfile --max-worker-restart=0 -m 'not long' $(ARGS)

test-long: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -n 3 --dist loadfile --max-worker-restart=0 -m long $(ARGS)

test-fast: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -n 3 --dist loadfile --max-worker-restart=0 -m 'not slow' $(ARGS)

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# What is generated in clients/, anew from the methods and models as they are.
clients: $(VENV)/serve.stamp
	@$(BIN)/python -m coordinator openrpc > specs/openrpc.json.new && mv specs/openrpc.json.new specs/openrpc.json
	@$(BIN)/python -m clients.generator

# The sdist and the wheel, in $(DIST).
dist: $(VENV)/dev.stamp
	rm -rf $(DIST)
	$(BIN)/python -m hatchling build --target sdist --target wheel --directory $(DIST)

# The files of the dashboard, from its sources in dashboard/; it needs Node and npm, which nothing else does.
dashboard:
	cd dashboard && npm install --no-package-lock --no-fund --no-audit && npm run check && npm run build

# Which lines of the package the tests reach, in the processes that they start too; ARGS=tests/unit looks at some only.
coverage: $(VENV)/coverage.stamp
	rm -rf .coverage
	$(BIN)/python -m coverage run -m pytest -n 3 --dist loadfile --max-worker-restart=0 -m 'not long' $(ARGS)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report
	$(BIN)/python -m coverage html --quiet

bench: $(VENV)/peers.stamp
	$(BIN)/python -m bench $(if $(QUICK),--quick) $(ARGS)

bench-flows: $(VENV)/peers.stamp
	$(BIN)/python -m bench.flows $(if $(QUICK),--quick) $(ARGS)

clean:
	rm -rf $(VENV) $(DIST) .coverage htmlcov tests/interop/node/node_modules dashboard/node_modules \
	    clients/typescript/node_modules clients/typescript/dist clients/rust/target \
	    .mypy_cache .ruff_cache .pytest_cache .hypothesis

# -- documents

SITE := site

.PHONY: docs reference clean-site

# The documents as a site, in $(SITE); it needs no network. A link that leads nowhere ends it.
docs: $(VENV)/docs.stamp
	$(BIN)/python -m properdocs build --strict --site-dir $(SITE)
	@echo "open $(SITE)/index.html; its search needs a server: python3 -m http.server --directory $(SITE)"

# What of the documents is made from the code: specs/openrpc.json, docs/reference/, and the examples in both.
reference: $(VENV)/dev.stamp
	$(BIN)/python -m tools.reference $(ARGS)

clean: clean-site

clean-site:
	rm -rf $(SITE)

# The Python is looked at before anything is made, and a creation that failed or was interrupted is removed, so there is
# never half a .venv (bin/activate is written last). One that works is kept, whoever made it.
$(VENV)/python.stamp: $(if $(realpath $(BIN)/python),,FORCE)
	@if [ -e $(BIN)/activate ] && $(BIN)/python -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	    then touch $@; exit; fi; \
	fail() { echo "$$1" >&2; exit 1; }; \
	found=$$($(PYTHON) -c 'import sys; print("Python %d.%d.%d" % sys.version_info[:3])' 2>/dev/null) || \
	    fail "HeroCoordinator needs Python 3.11 or newer, and there is no $(PYTHON) that runs; name one: make PYTHON=python3.12"; \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    fail "HeroCoordinator needs Python 3.11 or newer, and $(PYTHON) is $$found; name another: make PYTHON=python3.12"; \
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	    fail "$(PYTHON) ($$found) has no venv module; install it, on Debian and Ubuntu: apt install python3-venv"; \
	trap 'status=$$?; trap - EXIT; [ $$status = 0 ] || rm -rf $(VENV); exit $$status' EXIT; \
	trap 'exit 130' HUP INT TERM; \
	echo "creating $(VENV) with $$found"; \
	rm -rf $(VENV); \
	$(PYTHON) -m venv $(VENV) || fail "$(PYTHON) could not create $(VENV)"; \
	touch $@

# $(call install,WHAT,WORDS,STAMPS): pip's own words say what failed; made again it goes on from there.
define install
@echo "installing $(2) into $(VENV); this may take a minute"
@$(PIP) --editable '$(1)' || { echo "installing failed, see above; run make again to go on" >&2; exit 1; }
@touch $(3)
endef

$(VENV)/serve.stamp: $(VENV)/python.stamp pyproject.toml constraints.txt
	$(call install,.,HeroCoordinator,$@)

$(VENV)/dev.stamp: $(VENV)/python.stamp pyproject.toml constraints.txt
	$(call install,.[dev$(COMMA)interop$(COMMA)bench$(COMMA)docs],HeroCoordinator and what its tests need,$@ $(VENV)/serve.stamp $(VENV)/docs.stamp)

$(VENV)/docs.stamp: $(VENV)/serve.stamp
	$(call install,.[docs],what builds the documents,$@)

$(VENV)/coverage.stamp: $(VENV)/dev.stamp
	$(call install,.[dev$(COMMA)interop$(COMMA)bench$(COMMA)docs$(COMMA)coverage],what measures coverage,$@)

$(VENV)/peers.stamp: $(VENV)/dev.stamp
	$(call install,.[dev$(COMMA)interop$(COMMA)bench$(COMMA)docs$(COMMA)peers],what the benchmarks compare with,$@)

FORCE:
