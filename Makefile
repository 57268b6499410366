# `make check` runs lint, types, security, documentation and all tests in the current environment.
PYTHON ?= python

.PHONY: core wheel install format lint types security docs test slow check bench

install:
	$(PYTHON) -m pip install -e ".[dev]"

# Compiles the hot loop again, after a change of its source.
core:
	$(PYTHON) hatch_build.py

# Builds a wheel with the compiled core for any Linux of this architecture and this version of Python.
wheel:
	$(PYTHON) -m build --wheel --outdir dist .
	$(PYTHON) -m auditwheel repair --wheel-dir dist dist/*-linux_*.whl

format:
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .

lint:
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m deptry .

types:
	$(PYTHON) -m mypy

test:
	$(PYTHON) -m pytest

slow:
	$(PYTHON) -m pytest -m slow

security:
	$(PYTHON) -m bandit --quiet --recursive --configfile pyproject.toml simulator traces profiling

docs:
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict

check: lint types security docs test slow

bench:
	$(PYTHON) -m benchmarks.speed
