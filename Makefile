# Everything from a fresh machine with python3 >= 3.11 and make: `make run` serves, `make test` tests.
# What pyproject.toml asks for is installed into .venv once; a stamp remembers it, so the next call is instant.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
TESTS  ?= tests
ARGS   ?=

.DEFAULT_GOAL := help
.PHONY: help run demo test check format bench docs clean

help:
	@echo "make run     start the server on http://localhost:8080"
	@echo "make demo    see it living: people, music, a market, a live stream"
	@echo "make test    run all tests (TESTS=tests/... ARGS=... narrow it down)"
	@echo "make check   lint, format check, strict types"
	@echo "make format  let ruff mend what it can"
	@echo "make bench   measure the server, print a table"
	@echo "make docs    write the tables of settings anew"
	@echo "make clean   remove .venv and caches (never the data)"

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null 2>&1 || { echo "veza needs Python 3.11 or newer, and '$(PYTHON)' is not there: install it or say make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "veza needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) -c 'import platform; print(platform.python_version())'): say make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "'$(PYTHON)' cannot make virtual environments: install its venv package (Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@echo "creating $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@echo "installing veza into $(VENV) (once)"
	@$(PIP) install --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	@echo "installing veza and its tools into $(VENV) (once)"
	@$(PIP) install --editable '.[dev]'
	@touch $(VENV)/.installed $@

run: $(VENV)/.installed
	@exec $(BIN)/veza serve $(ARGS)

demo: $(VENV)/.installed
	@exec $(BIN)/veza demo $(ARGS)

test: $(VENV)/.installed-dev
	@$(BIN)/python -m pytest -n auto $(ARGS) $(TESTS)

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-dev
	@$(BIN)/python -m bench $(ARGS)

docs: $(VENV)/.installed
	@$(BIN)/python -m veza.commands.settings_page README.md docs/settings.md

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
