# make demo | test | test-all | check | extras | golden | costs | bench | docs | tutorial | site | lowest | clean
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
EVERYTHING := .venv/.installed-everything
SITE := "mkdocs-jupyter>=0.25" "mkdocs-material>=9.5" "mkdocstrings[python]>=0.27"
CORE := $(foreach name,api core_equations capture models guides perturb notebook statistics beside \
  plugins results parquet,$(wildcard tests/test_$(name).py tests/*/test_$(name).py))
PURELIB = $(shell $(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")
TEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

.PHONY: demo test test-all check extras golden costs bench docs tutorial site lowest clean

demo: $(INSTALLED)
	@$(BIN)/python run.py experiment=fig12_perturbation

test: $(INSTALLED)
	@$(TEST) -m "not system"

# What `make test` leaves out: every experiment in every way it may run, SLURM, a browser
test-all: $(EVERYTHING)
	@$(TEST) -m system

# Which tests are slow, measured: on a machine that does nothing else
costs: $(EVERYTHING)
	@$(TEST) -m "system or not system" --costs

# Whether every experiment still gives its numbers; WORDS=--make stores those of today
golden: $(INSTALLED)
	@$(BIN)/python tests/golden $(WORDS)

check: $(INSTALLED)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(TEST) -m "not system"

bench: $(INSTALLED)
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[bench]"
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks

# Numbers, tables and settings of the docs; RUNS="embedded=FOLDER photographs=FOLDER" takes new ones.
docs: $(INSTALLED)
	@$(BIN)/python docs/build.py $(RUNS)

tutorial: $(INSTALLED)
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[docs]"
	@cd docs && ../$(BIN)/jupyter execute --inplace tutorial.ipynb

# The site, in build/site, in an environment of its own
site:
	@test -x .venv-site/bin/mkdocs || $(PYTHON) -m venv .venv-site
	@.venv-site/bin/python -m pip install -q --disable-pip-version-check $(SITE)
	@NO_MKDOCS_2_WARNING=1 .venv-site/bin/mkdocs build

# The core's tests on the lowest versions that pyproject allows; torch and all else as installed,
# without transformers, an extra, which asks for newer ones.
lowest: $(INSTALLED)
	@rm -rf .venv-lowest && $(PYTHON) -m venv .venv-lowest && mkdir .venv-lowest/rest
	@ln -s $(PURELIB)/* .venv-lowest/rest/ && rm -f .venv-lowest/rest/transformers*
	@echo $(CURDIR)/.venv-lowest/rest > \
	  $$(.venv-lowest/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/rest.pth
	@.venv-lowest/bin/python -m pip install -q --disable-pip-version-check --only-binary :all: \
	  --no-deps -r constraints-lowest.txt
	@OMP_NUM_THREADS=1 PYTHONPATH=src .venv-lowest/bin/python -m pytest -o filterwarnings= \
	  -W ignore $(CORE)

clean:
	rm -rf .venv .venv-site .venv-lowest .cache build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Installs once; again only when the requirements change.
$(INSTALLED): pyproject.toml setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "attnguide needs Python 3.11 or newer, this is %d.%d; try: make PYTHON=python3.12" % sys.version_info[:2])'
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	@echo "Installing attnguide and its dependencies into .venv (once, some minutes)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

# With what only some tests need: a notebook's kernel
extras: $(EVERYTHING)

$(EVERYTHING): $(INSTALLED)
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt \
	  -e ".[dev,docs]"
	@touch $@
