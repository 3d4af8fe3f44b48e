# `make demo` and `make test` are all a newcomer needs; each sets up what it uses.
SHELL := /bin/bash
.DEFAULT_GOAL := help
BIN := .venv/bin
export QT_API = pyqt6

.PHONY: help setup system kernels demo test gpu-check lint format docs wheel clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/.ready kernels system ## create .venv and install everything, system libraries included

.venv/.ready: pyproject.toml scripts/setup.sh
	@scripts/setup.sh python

.venv-oracle/.ready: pyproject.toml scripts/setup.sh | .venv/.ready
	@scripts/setup.sh oracle

kernels: .venv/.kernels ## build the fused CPU kernels into .venv, where there is a C++ compiler

.venv/.kernels: cuda_ext/pyproject.toml cuda_ext/CMakeLists.txt $(wildcard cuda_ext/src/*.h cuda_ext/src/cpu/* cuda_ext/src/cuda/* cuda_ext/fireants_kernels/*.py) | .venv/.ready
	@scripts/setup.sh kernels

system:
	@scripts/setup.sh system

# Without a display the demo runs headless and needs no library of Qt's.
demo: .venv/.ready kernels $(if $(DISPLAY)$(WAYLAND_DISPLAY),system) ## register the sample pair: in napari, or headless without a display
	@$(BIN)/python -m napari_fireants.demo

test: setup .venv-oracle/.ready ## run the tests (ARGS="-k grid" passes arguments to pytest)
	@scripts/test.sh $(ARGS)

# Needs no .venv: any Python with a CUDA torch, numpy and pytest will do, without a network.
gpu-check: PYTHON ?= python3
gpu-check: ## test and time the CUDA kernels on this machine's GPU (PYTHON=...: with a CUDA torch)
	@$(PYTHON) benchmarks/gpu_check.py $(ARGS)

lint: setup ## check style, types, import layers and the plugin's manifest
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-cache
	$(BIN)/npe2 validate --imports napari_fireants/napari.yaml

format: .venv/.ready ## let ruff mend style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/.ready ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

wheel: .venv/.ready ## build the wheel into dist/
	@rm -rf dist
	$(BIN)/python -m hatchling build -t wheel

clean: ## remove what builds, tests and the demo leave (not .venv)
	rm -rf dist site demo-output .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './.venv*' -prune -exec rm -rf {} +
