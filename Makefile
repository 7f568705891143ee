# One virtual environment, built when first needed and again when its requirements change.
# On Debian: apt-get install make python3 python3-pip python3-venv

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
# Long calibration runs: make test MARKS=slow
MARKS ?= not slow

comma := ,
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile
CODE := $(wildcard src tests benchmarks examples docs)

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test quick bench browser calibration docs lint format venv clean

help:
	@echo "make demo    install what is needed and run the demonstration into demo-output/"
	@echo "make test    lint, type check, check the direction of imports, run the tests"
	@echo "make quick   the tests that take seconds, until the first failure"
	@echo "make bench   run the benchmarks"
	@echo "make calibration  test the samplers at length and write docs/calibration.md"
	@echo "make docs    build the documentation as a site into site/"
	@echo "make lint    everything of 'make test' but the tests"
	@echo "make format  format the code and mend what ruff can mend"
	@echo "make venv    only build $(VENV)"
	@echo "make browser install the Chromium that tests of reports use"
	@echo "make clean   remove caches and outputs, keep $(VENV)"

# pip is the last thing that venv writes: a broken attempt is repeated.
$(BIN)/pip:
	$(PYTHON) -m venv $(VENV)

# Each use has a stamp of its own, so that the demonstration does not wait for the linters.
define install
$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable "$(1)"
@touch $@
endef

$(VENV)/.installed-run: pyproject.toml constraints.txt | $(BIN)/pip
	$(call install,.)

$(VENV)/.installed-develop: pyproject.toml constraints.txt | $(BIN)/pip
	$(call install,.[test$(comma)dev])
	@touch $(VENV)/.installed-run

$(VENV)/.installed-bench: pyproject.toml constraints.txt | $(BIN)/pip
	$(call install,.[bench])
	@touch $(VENV)/.installed-run

$(VENV)/.installed-docs: pyproject.toml constraints.txt | $(BIN)/pip
	$(call install,.[docs])
	@touch $(VENV)/.installed-run

venv: $(VENV)/.installed-develop

# The tests open reports in Debian's Chromium; where it cannot be installed they are skipped.
browser:
	@command -v chromium chromium-browser google-chrome >/dev/null 2>&1 || \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; \
	else echo "No Chromium: tests of reports are skipped (apt-get install chromium)."; fi

demo: $(VENV)/.installed-run
	$(BIN)/clusterwise demo --output demo-output

lint: $(VENV)/.installed-develop
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-logo

# Most of the time of the tests is XLA's compiler: keep what it makes.
test quick calibration: export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/jax
test quick calibration: export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0.1

# And it is quicker without the newer of its two ways to emit code and without what pays in long runs
# alone. Calibration, the benchmarks and test_the_whole_demonstration compile as users do.
test quick: export XLA_FLAGS ?= --xla_cpu_use_fusion_emitters=false --xla_llvm_disable_expensive_passes=true

test: lint browser
	$(PYTEST) -m "$(MARKS)"

quick: $(VENV)/.installed-develop
	$(BIN)/ruff check
	$(PYTEST) -x -m "not slow and not long"

bench: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks

calibration: $(VENV)/.installed-develop
	$(BIN)/python -m tests.calibration

# Material's notice about MkDocs 2 is not about this site.
docs: export NO_MKDOCS_2_WARNING := 1
docs: $(VENV)/.installed-docs
	$(BIN)/mkdocs build --quiet --strict
	@echo "Read it: $(BIN)/python -m http.server -d site"

format: $(VENV)/.installed-develop
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf .cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist site demo-output
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +
