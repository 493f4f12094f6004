# make run    the whole pipeline on phantoms: venv, training, metrics, summary page
# make smoke  every stage on a dozen tiny phantoms in data/smoke; says nothing about quality
# make test   every test; `make quick` only those that take seconds
#             (with UVLM_REAL_DATA set, also a draft report of the real CT found there)
# make campaigns   kills and interruptions by the hundred, of which `make test` tries a few; hours
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
# What `make run` needs has one stamp, what tests and tools need another; a stamp's name holds a
# checksum of the two files, so that touching one installs nothing.
SUM := $(shell cat constraints.txt pyproject.toml | cksum | cut -d' ' -f1)
STAMP := $(VENV)/.installed-run-$(SUM)
TEST_STAMP := $(VENV)/.installed-test-$(SUM)
PIP := $(BIN)/python -m pip

# Hundreds of processes import the same files; where Python is told to keep nothing of them, each
# would compile them again.
export PYTHONDONTWRITEBYTECODE :=
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DO_NOT_TRACK := 1
export DVC_NO_ANALYTICS := 1
export HF_HUB_DISABLE_TELEMETRY := 1
export MLFLOW_DISABLE_TELEMETRY := true
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: setup run smoke test quick campaigns bench constant-reports check reader-faults format clean

setup: $(TEST_STAMP)

# torch is installed first and alone: its wheel may come from a separate index
# (where 2.13.0+cpu counts as newer than 2.13.0).
$(STAMP):
	@case "$$($(PYTHON) -c 'import sys; print(sys.version_info >= (3, 11))' 2>/dev/null)" in \
		True) ;; \
		False) echo "$(PYTHON) is too old: set PYTHON to 3.11 or newer" >&2; exit 4 ;; \
		*) echo "$(PYTHON) cannot be run: set PYTHON to a Python of 3.11 or newer" >&2; exit 4 ;; \
	esac
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) \
		-c constraints.txt $(TORCH)
	@rm -f $(VENV)/.installed-*
	$(call install,pipeline)

$(TEST_STAMP): $(STAMP)
	$(call install,test)

# Some packages pull in a torchvision that may belong to another torch and then breaks every
# import; nothing needs it.
define install
$(PIP) install --quiet -c constraints.txt -e '.[$(1)]'
@$(BIN)/python -c 'import torchvision' >/dev/null 2>&1 || $(PIP) uninstall --quiet --yes torchvision
@touch $@
endef

run: $(STAMP)
	dvc repro
ifdef UVLM_REAL_DATA
	uvlm predict $(UVLM_REAL_DATA)/ct/chest_abdomen_3mm.nii.gz --model data/models/report --out data/draft
endif
	@echo
	@echo "Summary: reports/summary.md, and with figures reports/summary.html"
	@echo "Every run: mlflow ui --backend-store-uri sqlite:///mlflow.db"

smoke: $(STAMP)
	uvlm smoke

# The quick tests, then the others, both in two processes that take one file after another; of the
# slow ones the longest come first (tests/conftest.py).
test: quick
	pytest -q -n 2 --dist loadfile --no-loadscope-reorder -m "slow or e2e"

quick: setup
	pytest -q -n 2 --dist loadfile -m "not slow and not e2e"

campaigns: setup
	UVLM_KILLS=200 pytest -s tests/data/test_killed_writers.py
	UVLM_LABELLED_PHANTOMS=1000 UVLM_LABEL_KILLS=10 \
		pytest -s tests/data/labels/pseudo/test_killed_labelling.py
	UVLM_RAW_KILLS=20 UVLM_RAW_PATIENTS=200 \
		pytest -s -m slow tests/data/sets/ct_rate/test_keep_raw.py
	UVLM_KILLS=30 pytest -s tests/train/loop/test_killed_trainings.py
	UVLM_SWEEP_KILLS=20 pytest -s tests/pipeline/sweep/test_sweep.py
	UVLM_PUBLISH_KILLS=30 pytest -s tests/pipeline/registry/test_killed_publishing.py

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
