# Every target makes what it needs: a virtual environment, and in it what the target uses.
#   make demo      the whole of critwin on handwritten digits
#   make test      the tests
#   make coverage  the tests once more, with their coverage (half as long again)
#   make validate  the long proofs
#   make lint      style and types
#   make bench     the benchmarks
#   make docs      the pages: links and code
#   make clean     remove the environment and caches; run folders stay

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= auto
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
STAMP := $(VENV)/.installed
CACHES := .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage build dist

.DEFAULT_GOAL := help
.PHONY: help demo test coverage validate lint bench docs clean

help:
	@sed -n 's/^#   //p' Makefile

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "critwin needs Python 3.11 or newer: make PYTHON=python3.12 ..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	@touch $@

$(STAMP)-test: $(STAMP)
	$(PIP) -e '.[test]'
	@touch $@

$(STAMP)-lint: $(STAMP)
	$(PIP) -e '.[lint]'
	@touch $@

demo: $(STAMP)
	$(BIN)/critwin demo

test: $(STAMP)-test
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile

coverage: $(STAMP)-test
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --cov=critwin --cov-report=
	@echo "coverage: $$($(BIN)/python -m coverage report --format=total) %"

validate: $(STAMP)-test
	CRITWIN_RESULTS=benchmarks/results $(BIN)/python -m pytest -q -m validate

lint: $(STAMP)-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)-test
	@set -e; for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python "$$script"; done

docs: $(STAMP)-test
	$(BIN)/python -m pytest -q tests/test_docs.py

clean:
	rm -rf $(VENV) $(CACHES)
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
