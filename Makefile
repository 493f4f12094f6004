# make run    the whole pipeline on phantoms: venv, training, metrics, summary page
# make test   every test
#             (with UVLM_REAL_DATA set, also a draft report of the real CT found there)
# make bench  speed and memory compared with the authors' release and other libraries:
#             reports/benchmarks.md, within half an hour on two cores
# make check  lint, types, import direction, Dockerfile
# make constant-reports   reports/constant_reports.md from CT-RATE's reports in UVLM_REAL_DATA
# make reader-faults   how this reader, SimpleITK and nibabel take thousands of damaged CTs:
#             reports/reader_faults.md (with UVLM_REAL_DATA set, real CTs too)
#
# PYTHON       the interpreter of the venv (3.11 or newer)
# TORCH_INDEX  an additional index for torch's wheel; for a small CPU build on Linux:
#              make run TORCH_INDEX=https://download.pytorch.org/whl/cpu

SHELL := /bin/bash
PYTHON ?= python3
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
TORCH := $(shell grep '^torch==' constraints.txt)
# The stamp's name holds a checksum of the two files, so that touching one installs nothing.
STAMP := $(VENV)/.installed-$(shell cat constraints.txt pyproject.toml | cksum | cut -d' ' -f1)

export PATH := $(CURDIR)/$(BIN):$(PATH)
export DO_NOT_TRACK := 1
export DVC_NO_ANALYTICS := 1
export HF_HUB_DISABLE_TELEMETRY := 1
export MLFLOW_DISABLE_TELEMETRY := true
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: setup run test bench constant-reports check reader-faults format clean

setup: $(STAMP)

# torch is installed first and alone: its wheel may come from a separate index
# (where 2.13.0+cpu counts as newer than 2.13.0). Some packages pull in a torchvision that may
# belong to another torch and then breaks every import; nothing needs it.
$(STAMP):
	@case "$$($(PYTHON) -c 'import sys; print(sys.version_info >= (3, 11))' 2>/dev/null)" in \
		True) ;; \
		False) echo "$(PYTHON) is too old: set PYTHON to 3.11 or newer" >&2; exit 4 ;; \
		*) echo "$(PYTHON) cannot be run: set PYTHON to a Python of 3.11 or newer" >&2; exit 4 ;; \
	esac
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) \
		-c constraints.txt $(TORCH)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[pipeline,test]'
	@$(BIN)/python -c 'import torchvision' >/dev/null 2>&1 \
		|| $(BIN)/python -m pip uninstall --quiet --yes torchvision
	@rm -f $(VENV)/.installed-*
	@touch $@

run: setup
	dvc repro
ifdef UVLM_REAL_DATA
	uvlm predict $(UVLM_REAL_DATA)/ct/chest_abdomen_3mm.nii.gz --model data/models/report --out data/draft
endif
	@echo
	@echo "Summary: reports/summary.md, and with figures reports/summary.html"
	@echo "Every run: mlflow ui --backend-store-uri sqlite:///mlflow.db"

test: setup
	pytest -q

constant-reports: setup
	python -m benchmarks.constant_reports

bench: setup
	python -m benchmarks.preprocess
	python -m benchmarks

check: setup
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	hadolint Dockerfile

reader-faults: setup
	python -m benchmarks.reader_faults

format: setup
	ruff check --fix-only --quiet .
	ruff format .

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
