# Two commands do all the set-up: `make demo` and `make test`. `make help` lists the rest.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# How many tests run at once; 0: one after the other, in one process. One more than there are processors:
# many tests wait for programs that they have started.
WORKERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN || echo 1) + 1)
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test browser wheel beside matrix faults frames acquisition writes web bench check format lint types arrows docs clean

help:  ## what can be made
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("blissdata needs Python 3.11 or newer; this is %d.%d. Say which one to use: make PYTHON=python3.11 …" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable ".[all]" --group dev
	@touch $@

demo: $(STAMP)  ## replay a measured scan, follow it live, read it again, compare every number
	@$(BIN)/python -m blissdata.demo --web

test: $(STAMP)  ## the tests; NEW_EXAMPLES=1: with other examples than each time
	@-$(BIN)/python -m tests.clients.environments peer >/dev/null
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "not environments and not slow and not browser"

browser: $(STAMP)  ## the page in a browser
	$(BIN)/python -m pytest -m browser

wheel: $(STAMP)  ## the package, built and installed where there is no node: does it serve the page?
	$(BIN)/python -m tests.viewer.wheel

beside: $(STAMP)  ## before a release: beside 2.x and other programs in short, and all tests that `test` leaves out
	$(BIN)/python -m tests.clients.matrix --quick
	$(BIN)/python -m pytest -m "environments or slow or browser"

matrix: $(STAMP)  ## beside blissdata 2.x: every publisher, reader, server, protocol and kind of stream, a line each
	$(BIN)/python -m tests.clients.matrix $(MATRIX)

faults: $(STAMP)  ## a real server broken two hundred times while programs publish and read: what was lost
	$(BIN)/python -m tests.faults $(FAULTS)

frames: $(STAMP)  ## frames in earnest: who got how many from where, torn frames, detectors that are killed
	$(BIN)/python -m tests.frames $(FRAMES)

acquisition: $(STAMP)  ## acquisitions of four times the server's memory: what each reader saw, and from where
	$(BIN)/python -m tests.acquisition $(ACQUISITION)

writes: $(STAMP)  ## a file writer that is killed again and again: is its file the same as without?
	$(BIN)/python -m tests.writer_kills $(WRITES)

web: $(STAMP)  ## the page's own checks (types, lint, rules; they need npm), and each of its faces in build/screenshots
	cd web && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error && npm run --silent check
	$(BIN)/python -m tests.viewer.screenshots

bench: $(STAMP)  ## how fast, beside blissdata 2.4.5 and beside the bare server: a table of ratios
	$(BIN)/python -m benchmarks --json benchmarks/results.json $(BENCH)
	$(BIN)/python -m benchmarks.frames --json benchmarks/frames.json
	$(BIN)/python -m benchmarks.files --json benchmarks/files.json
	$(BIN)/python -m benchmarks.writer --json benchmarks/writer.json

check: format lint types arrows docs test  ## everything that must hold before a change lands

format: $(STAMP)
	$(BIN)/ruff format --check .

lint: $(STAMP)
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy

arrows: $(STAMP)
	$(BIN)/lint-imports --no-cache

docs: $(STAMP)  ## the documentation's site, in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

clean:  ## forget the environment and what was built
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
