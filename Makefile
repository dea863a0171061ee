# The scripts do the work; make is a convenience and not needed for any of it.
PYTHON = .venv/bin/python

.PHONY: quickstart test test-slow test-gpu check lint types

quickstart:
	bash examples/quickstart/run.sh

test:
	bash tests/run.sh

test-slow:
	bash tests/run.sh -m slow

test-gpu:
	bash tests/run.sh -m gpu

check: lint types test

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types:
	$(PYTHON) -m mypy
