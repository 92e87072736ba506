# Every target does all its own set-up: it needs Python 3.11 or newer and nothing else.
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV := .venv
STAMP := $(VENV)/.complete
ROWS ?= 1000000

.PHONY: setup demo test check bench screenshots

setup: $(STAMP)

$(STAMP): pyproject.toml
	@test -n "$(PYTHON)" || { echo "Onefold needs Python 3.11 or newer; install it and run make again"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[postgres]' --group dev
	@touch $(STAMP)

demo: setup
	$(VENV)/bin/onefold demo

# A browser to test with, where one is missing and can be installed.
BROWSER := { command -v chromium || command -v chromium-browser || command -v google-chrome; } >/dev/null || \
	{ test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
	  apt-get update -qq && apt-get install -qq -y chromium >/dev/null; } || \
	echo "No Chromium is here, and none could be installed; tests that need one are skipped"

test: setup
	@$(BROWSER)
	$(VENV)/bin/pytest --numprocesses auto

check: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

bench: setup
	$(VENV)/bin/python -m benchmarks --rows $(ROWS) $(if $(GROW),--grow)

# Pictures of the web app, for README and docs.
screenshots: setup
	@$(BROWSER)
	$(VENV)/bin/python tests/screenshots.py
