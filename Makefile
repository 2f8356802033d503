# make setup          create an environment with everything in it
# make quickstart     watch TOOD learn: data, training, evaluation, detections (minutes, on a CPU)
# make check          format, lint, types, fast tests: before every commit
# make test           all tests but the slow ones
# make test-slow      the slow tests
# make lint           formatter, linter, spelling, types; changes nothing
# make format         format the code
# make docs           build the documentation site into site/
# make wheel          build the wheel into dist/
# make supply-chain   write a bill of materials into dist/, look for known vulnerabilities
# make release-check  check the changelog, and use the wheel in a new environment
#
# The environment is the active virtual or conda environment, else .venv, or the one you name:
#   make test VENV=/somewhere/venv

PYTHON ?= python3

ifdef VENV
  ENV_DIR := $(VENV)
else ifneq ($(VIRTUAL_ENV),)
  ENV_DIR := $(VIRTUAL_ENV)
else ifneq ($(CONDA_PREFIX),)
  ENV_DIR := $(CONDA_PREFIX)
else
  ENV_DIR := .venv
endif

ifneq ($(words $(ENV_DIR)),1)
  $(error make cannot use an environment whose path contains spaces: "$(ENV_DIR)". Name another one: make VENV=DIR)
endif

PY := $(ENV_DIR)/bin/python
# One stamp per checkout and environment. It lies in the environment, so that it goes with it.
STAMP := $(ENV_DIR)/.tood-setup-$(shell pwd | cksum | cut -d' ' -f1)
PIP_INSTALL := -m pip install --disable-pip-version-check -q
QUICKSTART_ARGS ?=
PYTEST_ARGS ?=
# Tests run in two processes of one thread each; the tests of a file stay together. Files run in their
# order: by number of tests, the longest would come last and leave one process without work.
PYTEST := OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: setup quickstart check test test-slow lint format docs wheel supply-chain release-check
.DEFAULT_GOAL := setup

setup: $(STAMP)

$(ENV_DIR)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed, but $(PYTHON) is " + sys.version.split()[0] + ". Name another one: make PYTHON=python3.11")'
	@echo "creating the virtual environment $(ENV_DIR)"
	@$(PYTHON) -m venv $(ENV_DIR) || { echo "Cannot create a virtual environment in $(ENV_DIR). On Debian and Ubuntu: apt install python3-venv, then remove that folder."; exit 1; }

$(STAMP): setup.py pyproject.toml tood_runtime/install_detectron2.py tood_runtime/detectron2_wheel.py tood_runtime/git_tree.py | $(ENV_DIR)/bin/python
	@echo "installing torch, torchvision and the rest into $(ENV_DIR) (once; torch is large)"
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PY) -m ensurepip
	@$(PY) $(PIP_INSTALL) setuptools wheel
	@$(PY) $(PIP_INSTALL) -e ".[dev]"
	@$(PY) tools/install_detectron2.py
	@$(PY) -m tood check-env
	@rm -f $(ENV_DIR)/.tood-setup-*
	@touch $@

quickstart: setup
	@$(PY) -m tood quickstart $(QUICKSTART_ARGS)

check: lint test

test: setup
	@$(PYTEST) -m "not slow" $(PYTEST_ARGS)

# With the name of each test, so that it is known what was running if this is cut off.
test-slow: setup
	@$(PYTEST) -m slow -vv --durations=30 $(PYTEST_ARGS)

lint: setup
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m codespell_lib
	@$(PY) -m mypy

format: setup
	@$(PY) -m ruff format .
	@$(PY) -m ruff check --fix .

docs: setup
	@$(PY) $(PIP_INSTALL) -e ".[docs]"
	@$(PY) -m mkdocs build --strict

wheel: setup
	@rm -rf build dist
	@$(PY) -m build --wheel --no-isolation --outdir dist

supply-chain: setup
	@.ci/supply-chain $(PY)

# All of a release but the tag: version and changelog agree, and the wheel works without the
# checkout.
release-check: setup
	@version=$$($(PY) -c 'import runpy; print(runpy.run_path("tood/version.py")["__version__"])') && \
	grep -qE "^## \[?$$version\]? - [0-9]{4}-[0-9]{2}-[0-9]{2}" CHANGELOG.md || \
	{ echo "CHANGELOG.md has no dated section for this version: ## $$version - YYYY-MM-DD"; exit 1; }
	@.ci/wheel $(PY)
