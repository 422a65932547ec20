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

.PHONY: run korean site lab app notebooks test lint bench soak clean

run: .venv/installed
	$(BIN)/python -m scripts.run_notebooks $(NOTEBOOKS) --output output

# The Korean edition, from the English one and its translations.
korean: .venv/installed
	$(BIN)/python -m scripts.korean

# The notebooks as they are stored, as pages: output/site/index.html.
site: .venv/installed
	$(BIN)/python -m scripts.build_site

# Servers drop messages over 10 MB without a word, so that a photograph that is too large would just
# not come. With more, the explorer can say that 8 MB is its limit.
MESSAGES = tornado_settings='{"websocket_max_message_size": 104857600}'

# Its root is the repository, so that the notebooks' links to README open, too. NST_LANG=ko: in Korean.
lab: .venv/installed
	$(BIN)/jupyter lab --notebook-dir=. $(firstword $(sort $(wildcard notebooks/$(or $(NST_LANG),en)/*.ipynb)) $(NOTEBOOKS)) --ServerApp.$(MESSAGES)

# The sliders as a page, at the address that it prints, with a token. For a class on the local
# network: make app ARGS="--Voila.ip=0.0.0.0". NST_KERNEL_MEMORY=2G limits what each visitor takes.
app: .venv/installed
	$(BIN)/python -m scripts.serve $(ARGS)

# The notebooks' stored outputs: all of them, at full quality, from one real run.
notebooks: .venv/installed
	NST_BUDGET=full NST_LANG=en $(BIN)/python -m scripts.run_notebooks $(NOTEBOOKS) --inplace --output output

test: .venv/installed
	$(BIN)/python -m pytest

# The same for everybody: pre-commit and CI run this target.
lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/numpydoc lint $(wildcard nst_helpers/*.py nst_helpers/*/*.py)

bench: .venv/installed
	$(BIN)/python -m scripts.measure.benchmark $(ARGS)

soak: .venv/installed
	$(BIN)/python -m scripts.measure.soak $(ARGS)

clean:
	rm -rf .venv output build dist *.egg-info .*_cache .hypothesis

.venv/installed: pyproject.toml
	$(PYTHON) -c "import sys; sys.exit('Python 3.11 or newer is needed; this is ' + sys.version) if sys.version_info < (3, 11) else None"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[test,lint]"
	$(BIN)/python -c "import pathlib; pathlib.Path('.venv/installed').touch()"
