# Each target makes .venv and installs what it needs; when that is done, it starts at once.
# Another interpreter: make test PYTHON=python3.13

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.installed

.PHONY: help demo test suite lint house format docs wheel clean
.DEFAULT_GOAL := demo

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 14

demo: $(READY) ## the whole pipeline on small images, in two minutes after the installation
	$(BIN)/ofa demo --out demo-run

test: ## every check: lint and the whole suite, at the same time (ARGS="…" for pytest)
	@$(MAKE) --no-print-directory -j 2 lint suite

suite: $(READY) ## the tests only
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

lint: $(READY) ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

house: $(READY) ## sizes of src and what repeats itself in it; they may only go down
	$(BIN)/python .ci/house.py --check $(ARGS)

format: $(READY) ## mend what ruff can mend
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: .venv/.docs ## the documentation as a site, with the API: site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo site/index.html

wheel: $(READY) ## build dist/*.whl, install it into an empty environment, use it outside the repository
	rm -rf dist
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	$(BIN)/python .ci/check_wheel.py dist

clean: ## remove all that the other targets have made
	rm -rf .venv .venv-* .ci/skipped demo-run dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis

.venv/.docs: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	touch $@

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and "onceforall needs Python 3.11 or newer, $(PYTHON) is %d.%d: run make PYTHON=/path/to/a/newer/python" % v[:2])'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[onnx,log,ui,dev]'
	touch $@
