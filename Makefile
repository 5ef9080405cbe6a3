# Each target makes .venv and installs what it needs; when that is done, it starts at once.
# Another interpreter: make test PYTHON=python3.13

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.installed

.PHONY: demo test lint format docs clean

demo: $(READY)
	$(BIN)/ofa demo --out demo-run

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python docs/build_api.py

clean:
	rm -rf .venv .venv-* .ci/skipped demo-run docs/api .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and "onceforall needs Python 3.11 or newer, $(PYTHON) is %d.%d: run make PYTHON=/path/to/a/newer/python" % v[:2])'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[onnx,log,ui,dev]'
	touch $@
