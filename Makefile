# `make run`: the whole tiny pipeline; `make test`: lint and every fast test. Both set up .venv on first use (locked versions).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CONFIG ?= recipes/configs/tiny/pipeline.yaml

.PHONY: run test test-slow chaos lint clean

run: $(READY)
	@$(BIN)/python -m recipes.pipeline --config $(CONFIG)

test: $(READY) lint
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -q -m "not slow and not gpu"

test-slow: $(READY)
	@$(BIN)/python -m pytest -q -m "slow"

# every stage killed at random moments and resumed, held to the run that was never killed; ten minutes on one core
chaos: $(READY)
	@$(BIN)/python -m tests.chaos --kills 100 --out recipes/results/chaos.md

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

$(READY): requirements.lock
	@command -v $(PYTHON) >/dev/null 2>&1 || { echo "error: there is no '$(PYTHON)'; install Python 3.11 or later, or say make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is older than 3.11; say make PYTHON=/path/to/a/newer/python3"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "error: $(PYTHON) has no venv module; install it (Debian, Ubuntu: apt-get install python3-venv)"; exit 1; }
	@echo "Setting up $(VENV) with the versions in requirements.lock (once; a few minutes)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock || { echo "error: pip could not install requirements.lock; its own message stands above"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable . || echo "note: the short command plumbline is not installed; $(BIN)/python -m recipes is the same"
	@touch $(READY)

clean:
	@rm -rf $(VENV) build
