# make demo | test | check | bench | docs | tutorial | site | lowest | clean
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
SITE := "mkdocs-jupyter>=0.25" "mkdocs-material>=9.5" "mkdocstrings[python]>=0.27"
CORE := tests/test_api.py tests/test_core_equations.py tests/test_capture.py tests/test_models.py \
  tests/test_guides.py tests/test_perturb.py tests/notebook/test_notebook.py tests/test_statistics.py \
  tests/test_beside.py tests/test_plugins.py tests/test_results.py tests/test_parquet.py
PURELIB = $(shell $(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")
TEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

.PHONY: demo test check bench docs tutorial site lowest clean

demo: $(INSTALLED)
	@$(BIN)/python run.py experiment=fig12_perturbation

test: $(INSTALLED)
	@$(TEST)

check: $(INSTALLED)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(TEST)

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
