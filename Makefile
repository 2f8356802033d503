# make setup        an environment with everything in it
# make quickstart   watch TOOD learn: data, training, evaluation, pictures (minutes, on a CPU)
# make test         every test
# make lint         formatter and linter
#
# The environment is the active virtual or conda environment, else .venv, else what you name:
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
  $(error make cannot work with spaces in the path of an environment: "$(ENV_DIR)")
endif

PY := $(ENV_DIR)/bin/python
# One stamp per checkout and environment, kept in the environment so that it goes when that goes.
STAMP := $(ENV_DIR)/.tood-setup-$(shell pwd | cksum | cut -d' ' -f1)
QUICKSTART_ARGS ?=

.PHONY: setup quickstart test lint check
.DEFAULT_GOAL := setup

setup: $(STAMP)

$(ENV_DIR)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python >= 3.10 is needed, and $(PYTHON) is " + sys.version.split()[0] + "; name another: make PYTHON=python3.11")'
	@echo "creating the virtual environment $(ENV_DIR)"
	@$(PYTHON) -m venv $(ENV_DIR) || { echo "no virtual environment could be made in $(ENV_DIR); on Debian and Ubuntu: apt install python3-venv, then remove that folder"; exit 1; }

$(STAMP): setup.py tools/install_detectron2.py | $(ENV_DIR)/bin/python
	@echo "installing torch, torchvision and the rest into $(ENV_DIR) (once; torch is large)"
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PY) -m ensurepip
	@$(PY) -m pip install --disable-pip-version-check -q setuptools wheel
	@$(PY) -m pip install --disable-pip-version-check -q -e ".[dev]"
	@$(PY) tools/install_detectron2.py
	@$(PY) -m tood.cli.check_env
	@rm -f $(ENV_DIR)/.tood-setup-*
	@touch $@

quickstart: setup
	@$(PY) -m tood.cli.quickstart $(QUICKSTART_ARGS)

test: setup
	@$(PY) -m pytest

lint: setup
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .

check: setup
	@$(PY) -m tood.cli.check_env
