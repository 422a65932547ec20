# The two commands are `make run` and `make test`. Everything lives in .venv, which is made anew
# only when the requirements change. Nothing but pip needs a network.

PYTHON ?= python3
NOTEBOOKS ?= $(sort $(wildcard notebooks/*.ipynb))

ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
PYTHON := python
else
BIN := .venv/bin
endif

.PHONY: run lab app notebooks test bench soak lint clean

run: .venv/installed
	$(BIN)/python scripts/run_notebook.py $(NOTEBOOKS) --output output

# Servers drop messages over 10 MB without a word, so that a photograph that is too large would just
# not come. With more, the explorer can say that 8 MB is its limit.
MESSAGES = tornado_settings='{"websocket_max_message_size": 104857600}'

# Its root is the repository, so that the notebooks' links to README open, too.
lab: .venv/installed
	$(BIN)/jupyter lab --notebook-dir=. $(firstword $(NOTEBOOKS)) --ServerApp.$(MESSAGES)

# The sliders as a page. For a class: make app ARGS="--Voila.ip=0.0.0.0 --token".
app: .venv/installed
	$(BIN)/voila scripts/app.ipynb --Voila.$(MESSAGES) $(ARGS)

# The notebooks' stored outputs: all of them, at full quality, from one real run.
notebooks: .venv/installed
	NST_BUDGET=full $(BIN)/python scripts/run_notebook.py $(NOTEBOOKS) --inplace --output output

test: .venv/installed
	$(BIN)/python -m pytest

bench: .venv/installed
	$(BIN)/python scripts/benchmark.py $(ARGS)

soak: .venv/installed
	$(BIN)/python scripts/soak.py $(ARGS)

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf .venv output build *.egg-info .pytest_cache .ruff_cache .hypothesis

.venv/installed: requirements.txt pyproject.toml
	$(PYTHON) -c "import sys; sys.exit('Python 3.10 or newer is needed; this is ' + sys.version) if sys.version_info < (3, 10) else None"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[test]"
	$(BIN)/python -c "import pathlib; pathlib.Path('.venv/installed').touch()"
