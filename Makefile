# The scripts do the work; make is a convenience and not needed for any of it.
PYTHON = .venv/bin/python

.PHONY: quickstart test test-slow test-gpu test-lowest test-other-python soak check lint types lock audit

quickstart:
	bash examples/quickstart/run.sh

test:
	bash tests/run.sh

test-slow:
	bash tests/run.sh -m slow

test-gpu:
	bash tests/run.sh -m gpu

# kills trainings for MINUTES and compares what becomes of them; see docs/reliability.md
soak:
	$(PYTHON) tests/integration/soak.py --minutes $(or $(MINUTES),10) --seed $(or $(SEED),1)

check: lint types test

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types:
	$(PYTHON) -m mypy

# both ends of the ranges in setup.py
test-lowest:
	bash tests/lowest_versions.sh

test-other-python:
	bash tests/other_python.sh

# tools that change or judge requirements/*.lock, apart from what these install
MAINTENANCE = .venv/maintenance

$(MAINTENANCE): requirements/tools.txt
	$(PYTHON) -m venv $@
	$@/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/tools.txt
	touch $@

lock: $(MAINTENANCE)
	PATH="$(CURDIR)/$(MAINTENANCE)/bin:$$PATH" python requirements/lock.py

audit: $(MAINTENANCE)
	$(MAINTENANCE)/bin/python requirements/audit.py
