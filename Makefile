# The two commands are `make lab` and `make test`. Each works alone, on a machine with Python 3.11 or newer and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: lab test help

help:
	@echo "make lab    set everything up and open the first lesson in JupyterLab"
	@echo "make test   check everything: style, structure, mathematics, lessons, browser"

lab: $(VENV)/.installed
	@echo "== Data: a few MB, once; after that no network is needed"
	@$(BIN)/aigc-lessons fetch
	@echo "== JupyterLab on the first lesson; your copies are in work/"
	@$(BIN)/aigc-lessons lab

test: $(VENV)/.installed-test
	@echo "== Data"
	@$(BIN)/aigc-lessons fetch
	@echo "== Style"
	@$(BIN)/ruff check aigc_lessons tests benchmarks
	@$(BIN)/ruff format --check aigc_lessons tests benchmarks
	@echo "== Package, lessons and widgets (about half an hour; the lessons train)"
	@$(BIN)/python -m pytest -q

$(VENV)/bin/python:
	@echo "== A virtual environment in $(VENV)/"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one with: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "This Python cannot make virtual environments. On Debian or Ubuntu: apt-get install python3-venv"; exit 1; }

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	@echo "== The course and what it builds on (the first time: some minutes, mostly torch)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(VENV)/bin/python
	@echo "== The course, what it builds on, and what checks it (the first time: some minutes, mostly torch)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@ $(VENV)/.installed
