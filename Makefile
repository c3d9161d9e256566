# Everything a developer or a visitor types; `make` alone lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# uv installs the right Python and all packages. Where it is missing it is put into .uv/, touching nothing else.
UV := $(shell uv --version >/dev/null 2>&1 && echo uv || echo $(CURDIR)/.uv/bin/uv)
BASE := vla-server-base
OCTO := vla-servers/octo-small
IN_BASE := cd $(BASE) && $(UV) run --no-sync
IN_OCTO := cd $(OCTO) && $(UV) run --no-sync
# The oldest supported pair, in an environment of its own. PYENV_VERSION matters only where pyenv hides its Pythons.
OLDEST := cd $(OCTO) && PYENV_VERSION=3.10 UV_PROJECT_ENVIRONMENT=.venv-oldest $(UV) sync --quiet --python 3.10

# A file's tests run in one process, so that they share what it sets up.
ON_TWO_CORES := -n 2 --dist loadfile

FIGURES := --json ../../bench/figures.json

.PHONY: help
help: ## list these targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

.PHONY: demo
demo: setup ## watch the bundled policy pick up a cube (no download); ONCE=1 ends there
	$(IN_OCTO) env OCTO_MODEL="$${OCTO_MODEL:-bundled://tabletop}" octo-service demo

.PHONY: serve
serve: setup ## serve Octo-Small 1.5 on port 8002
	$(IN_OCTO) octo-service serve

.PHONY: test
test: check test-base test-clients test-octo test-oldest ## run every check and every test

.PHONY: check
check: setup ## lint, formatting, types, and what must hold for the whole repository
	$(IN_OCTO) ruff check ../..
	$(IN_OCTO) ruff format --check ../..
	$(IN_BASE) basedpyright
	$(IN_OCTO) basedpyright
	$(IN_OCTO) pytest -q -c pyproject.toml ../../tests

.PHONY: test-base
test-base: setup
	$(IN_BASE) pytest -q $(ON_TWO_CORES)

.PHONY: test-octo
test-octo: setup
	$(IN_OCTO) pytest -q $(ON_TWO_CORES)

.PHONY: test-oldest
test-oldest: $(UV) ## the model's parity once more, on Python 3.10 with JAX 0.4.20
	$(OLDEST) --extra oldest
	cd $(OCTO) && .venv-oldest/bin/python -m pytest -q -n 2 tests/test_parity.py

.PHONY: test-clients
test-clients: setup ## the newest clients from the package index, each in its own environment, against a live server
	$(IN_BASE) python ../conformance/run.py --quick

.PHONY: conformance
conformance: setup ## all of them, old ones, LeRobot's (5 GB each) and LIBERO's too, and write docs/clients.md; ONLY="libero ..." runs some
	$(IN_BASE) python ../conformance/run.py $(if $(ONLY),--only $(ONLY),--write)

.PHONY: parity
parity: setup ## compare with the reference's recorded outputs and write docs/parity.md
	$(IN_OCTO) octo-service check --out ../../docs/parity.md

.PHONY: bench
bench: setup ## how fast this machine answers: tables, bench/figures.json, a drawing; REFERENCE=PYTHON has the reference beside it
	mkdir -p bench
	rm -f bench/figures.json
	$(IN_OCTO) python ../../benchmarks/inference.py $(FIGURES) $(if $(REFERENCE),--reference $(REFERENCE))
	$(IN_OCTO) python ../../benchmarks/precision.py $(FIGURES)
	$(IN_OCTO) python ../../benchmarks/load.py $(FIGURES)
	$(IN_OCTO) python ../../benchmarks/load.py $(FIGURES) --model random://octo-small-1.5 --robots 1 2 3 4 --steps 40
	$(IN_OCTO) python ../../benchmarks/predict.py $(FIGURES)
	$(IN_OCTO) python ../../benchmarks/start_up.py $(FIGURES)
	$(IN_OCTO) python ../../benchmarks/plot.py ../../bench/figures.json ../../bench/performance.svg

.PHONY: fuzz
fuzz: setup ## draw and step mutated scenes in the scene workers for ten minutes
	$(IN_BASE) python tests/scenes/fuzz.py --seconds 600

.PHONY: fix
fix: setup ## format, and mend what the linter can
	$(IN_OCTO) ruff check --fix ../..
	$(IN_OCTO) ruff format ../..

.PHONY: setup
setup: $(UV) ## install everything (done by the other targets)
	cd $(BASE) && $(UV) sync --quiet
	cd $(OCTO) && $(UV) sync --quiet --extra cpu

ifneq ($(UV),uv)
$(UV):
	python3 -m venv .uv || { echo "python3 cannot make environments here: install its venv module, or uv"; exit 1; }
	.uv/bin/python -m pip install --quiet --disable-pip-version-check uv
else
.PHONY: uv
endif
