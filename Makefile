# `make demo` turns a video into trajectories and tokens; `make test` runs every check. Both install what is missing.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet
VIDEO ?=
OUTPUT ?= demo_output
WORKERS ?= 2
PYTEST_ARGS ?=
ROOMS := modeling_trajvit processing training evaluation

.PHONY: demo test lint types unit docs clean

demo: $(VENV)/.installed
	$(BIN)/python -m trajvit.demo $(if $(VIDEO),--video "$(VIDEO)") --output "$(OUTPUT)"

# mypy needs one core, and the tests' workers leave it room while they start.
test: lint
	@$(MAKE) --no-print-directory -j2 types unit

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy does not follow an import hook, so it is shown the rooms under one `trajvit` folder, as a wheel installs them.
types: $(VENV)/.installed-dev
	$(call link_rooms,build/types)
	MYPYPATH=build/types $(BIN)/mypy -p trajvit

define link_rooms
rm -rf $(1) && mkdir -p $(1)/trajvit
ln -s $(abspath $(wildcard trajvit/*.py) $(ROOMS)) $(1)/trajvit/
endef

# The site, into build/site: a link or a name that leads nowhere is an error. It reads the code and does not import it.
docs: $(VENV)/.installed-docs
	$(call link_rooms,build/linked)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

unit: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 10) else "TrajViT needs Python 3.10 or newer; name one with: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip

# The OpenCV wheel that PySceneDetect brings is the one with windows.
CHECK_OPENCV = $(BIN)/python -c 'import cv2' || { \
	echo "OpenCV needs two system libraries. On Debian or Ubuntu: apt-get install libgl1 libglib2.0-0"; exit 1; }

$(VENV)/.installed: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(PIP) -e .
	@$(CHECK_OPENCV)
	touch $@

# SAM 2 comes as source and is built with torch: the one that is there, or pip would fetch a second one for the build.
# Its CUDA extension, which only fills holes in masks, is not used.
$(VENV)/.installed-dev: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(PIP) -e . 'setuptools>=77'
	SAM2_BUILD_CUDA=0 $(PIP) --no-deps --no-build-isolation sam2
	$(PIP) -e '.[dev]'
	@$(CHECK_OPENCV)
	touch $(VENV)/.installed $(VENV)/.installed-docs $@

$(VENV)/.installed-docs: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(PIP) -e '.[docs]'
	touch $@

clean:
	rm -rf build dist *.egg-info demo_output .pytest_cache .mypy_cache .ruff_cache
