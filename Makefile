# `make check` runs what .ci/run runs, in the environment at hand.
PYTHON ?= python

.PHONY: install format lint types test check bench

install:
	$(PYTHON) -m pip install -e ".[dev]"

format:
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .

lint:
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .

types:
	$(PYTHON) -m mypy

test:
	$(PYTHON) -m pytest

check: lint types test

bench:
	$(PYTHON) -m benchmarks.speed
