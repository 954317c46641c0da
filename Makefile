# Every target makes the environment it needs in .venv, from a bare Python 3.11 or 3.12.
# Settings: PYTHON=python3.12  TESTS="tests/rollout -k pause"  WORKERS=4
.DEFAULT_GOAL := help
SHELL := /bin/sh
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules
# tests and the demo start hundreds of processes: none should compile the same files again
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input install --quiet
TESTS ?=
BENCH ?=
WORKERS ?= 2
BESIDE = -n $(WORKERS) --dist worksteal

.PHONY: help
help: ## Show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- the environment -------------------------------------------------------------------------

$(BIN)/python:
	@set -e; for p in $(PYTHON) python3 python3.11 python3.12; do \
	  if "$$p" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' \
	    2>/dev/null; then found="$$p"; break; fi; done; \
	if [ -z "$${found:-}" ]; then \
	  echo "make: Python 3.11 or 3.12 is needed and neither python3, python3.11 nor python3.12" \
	    "is one -> install one, or name it: make PYTHON=/path/to/python3.12 ..." >&2; exit 2; fi; \
	echo "make: .venv with $$($$found --version)"; \
	"$$found" -m venv .venv || { rm -rf .venv; \
	  echo "make: this Python cannot make environments -> apt-get install python3-venv" >&2; \
	  exit 2; }

.venv/.base: requirements/base.txt pyproject.toml | $(BIN)/python
	@echo "make: installing what homeostat needs (a few minutes the first time)"
	@$(PIP) --require-hashes --requirement requirements/base.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.dev: requirements/dev.txt pyproject.toml | .venv/.base
	@echo "make: installing what its tests need"
	@$(PIP) --require-hashes --requirement requirements/dev.txt
	@touch $@

.PHONY: venv
venv: .venv/.dev ## Make the whole environment in .venv

# --- running ---------------------------------------------------------------------------------

.PHONY: demo
demo: .venv/.base ## Watch the loop close: a model fails, is noticed, retrained, canaried, promoted
	@$(BIN)/homeostat demo

.PHONY: fraud
fraud: .venv/.dev ## The published fraud benchmark: our table beside the published one
	@$(BIN)/python examples/fraud/table.py
	@$(BIN)/python examples/fraud/replay.py --picture fraud-replay.svg

.PHONY: bench
bench: .venv/.dev ## Short forms of the measurements in benchmarks/
	$(BIN)/python benchmarks/metric_intervals.py --seeds 200

# BENCH="--runs 1000 --docs": see `make bench-rollout BENCH=--help`
.PHONY: bench-rollout
bench-rollout: .venv/.dev ## How often rollouts decide wrongly, how soon, and beside other rules
	@OPENBLAS_NUM_THREADS=1 $(BIN)/python -m benchmarks.rollout $(BENCH)

.PHONY: bench-tick
bench-tick: .venv/.dev ## What a turn of the loop costs with 100 models in rollout
	$(BIN)/python benchmarks/tick.py $(BENCH)

# BENCH="--quick": see `make bench-serving BENCH=--help`
.PHONY: bench-serving
bench-serving: .venv/.dev ## Our server beside FastAPI, MLServer, KServe, BentoML, ... in one run
	@$(BIN)/python -m benchmarks.serving $(BENCH)

# BENCH="--minutes 1 --kills 0"
.PHONY: bench-soak
bench-soak: .venv/.dev ## Five minutes at full rate, with kills: memory flat, nothing lost
	@$(BIN)/python -m benchmarks.serving.soak $(BENCH)

.PHONY: bench-drift
bench-drift: .venv/.dev ## Our drift monitors beside Evidently, NannyML, alibi-detect and SciPy
	@$(BIN)/python -m benchmarks.drift $(BENCH)

.PHONY: bench-quality
bench-quality: .venv/.dev ## Quality without labels, causes, certificates: what they are worth
	$(BIN)/python benchmarks/estimated_quality.py --runs 100
	$(BIN)/python benchmarks/monitor_calibration.py

# --- checking --------------------------------------------------------------------------------

# First what has to have the machine to itself, then all else. pytest's 5: nothing was chosen.
.PHONY: test
test: .venv/.dev services ## All tests
	@alone=0; $(BIN)/python -m pytest -m alone $(TESTS) || alone=$$?; \
	rest=0; $(BIN)/python -m pytest $(BESIDE) -m "not alone" $(TESTS) || rest=$$?; \
	case "$$alone $$rest" in "0 0" | "0 5" | "5 0") ;; \
	  *) echo "make: tests failed (alone: pytest's $$alone, the rest: $$rest)" >&2; exit 1; esac

.PHONY: test-fast
test-fast: .venv/.dev ## The tests that take no time
	@$(BIN)/python -m pytest -q $(BESIDE) -m "not slow" $(TESTS)

.PHONY: check
check: .venv/.dev ## Style, types and the rules of the layout
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# some tests run against real ones; without the right to install them they are skipped
.PHONY: services
services:
	@want=""; \
	ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || \
	  want="postgresql"; \
	for pair in prometheus:prometheus promtool:prometheus \
	  prometheus-alertmanager:prometheus-alertmanager chromium:chromium \
	  chromedriver:chromium-driver; do \
	  command -v "$${pair%%:*}" >/dev/null || want="$$want $${pair##*:}"; done; \
	[ -n "$$want" ] || exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "make: installing for the tests: $$want"; \
	  { apt-get -qq update && DEBIAN_FRONTEND=noninteractive \
	    apt-get -qq install --no-install-recommends --yes $$want; } >/dev/null; \
	else echo "make: their tests are skipped -> apt-get install $$want" >&2; fi

# --- keeping ---------------------------------------------------------------------------------

# What is pinned stays pinned unless it must move; `make lock UPGRADE=--upgrade` takes the newest.
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-annotate --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
  --constraint requirements/constraints.in $(UPGRADE) pyproject.toml requirements/build.in

.PHONY: lock
lock: .venv/.dev ## Pin the dependencies anew in requirements/
	@$(LOCK) --output-file requirements/base.txt
	@$(LOCK) --all-extras --group dev --constraint requirements/base.txt \
	  --output-file requirements/dev.txt
	@! grep -nE '://|--(extra-)?index|--find-links' requirements/base.txt requirements/dev.txt

.PHONY: clean
clean: ## Remove the environment and everything that was computed
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
