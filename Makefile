# Two commands do everything: `make` and `make test`. `make help` lists the rest.
PYTHON ?= python3.11
VENV := .venv
INSTALL := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes
PIN = uv pip compile --quiet --generate-hashes --no-annotate --no-header --no-emit-index-url \
	--no-emit-find-links --python-version 3.11
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export PYTHONUNBUFFERED := 1

.DEFAULT_GOAL := repro
.PHONY: repro test check lint format bench preview smoke default table3 grid paper status requirements help clean

repro: $(VENV)/ready  ## create the environment, then run every stage that is not up to date
	@python -m pipeline check --dvc
	dvc --wait-for-lock repro

$(VENV)/ready: requirements.txt
	@"$(PYTHON)" --version 2>&1 | grep -q '^Python 3\.11\.' || { echo "PYTHON=$(PYTHON) is not Python 3.11, \
	which Blender's module needs; name one that is: make PYTHON=/path/to/python3.11"; exit 2; }
	@echo "Installing into $(VENV): 7 GB, some minutes"
	@# What another Python left there goes; one of 3.11 is kept and completed.
	"$(PYTHON)" -m venv $$([ -x $(VENV)/bin/python3.11 ] || echo --clear) $(VENV)
	@# The file names every package and version there is to install: nothing is left to resolve.
	$(INSTALL) -r requirements.txt
	@touch $@

$(VENV)/test-ready: requirements-test.txt $(VENV)/ready
	@# The same versions, and what only tests, lint and benchmarks need.
	$(INSTALL) -r requirements-test.txt
	@touch $@

test: $(VENV)/test-ready  ## run every test (a real smoke run of the pipeline is among them)
	python -m pytest -n logical --maxprocesses 4 --dist loadgroup --no-loadscope-reorder

check: lint  ## format, rules, types and the tests that take no run of the pipeline: 2 minutes
	python -m pytest -n logical --maxprocesses 4 --dist loadgroup --no-loadscope-reorder -m "not slow"

lint: $(VENV)/test-ready  ## check format, rules and types
	ruff format --check .
	ruff check .
	mypy

format: $(VENV)/test-ready  ## format the code
	ruff format .
	ruff check --fix .

bench: $(VENV)/test-ready  ## measure rendering and training speed; one JSON line each
	python -m benchmarks.render
	python -m benchmarks.train

preview: $(VENV)/ready  ## render a contact sheet of a few scenes with the present params
	python -m pipeline preview

status: $(VENV)/ready  ## what is done, stale, running and left, and the time left
	python -m pipeline status

smoke default table3 grid paper: $(VENV)/ready  ## apply that preset to params.yaml, then run
	python -m pipeline preset $@
	@python -m pipeline check --dvc
	dvc --wait-for-lock repro

requirements: $(VENV)/test-ready  ## pin requirements*.in, with hashes and without hosts
	$(PIN) requirements-test.in -o requirements-test.txt
	$(PIN) requirements.in -c requirements-test.txt -o requirements.txt

clean:  ## remove checkpoints and scratch files; outputs and DVC's cache stay
	rm -rf .cache

help:  ## list these commands
	@grep -hE '^[a-z0-9 ]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | awk -F'\t' '{printf "  make %-28s %s\n", $$1, $$2}'
