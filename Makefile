# Everything a developer or a visitor types; `make` alone lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help

CLIENT := vla-client
CONSOLE := vla-console
BASE := vla-server-base
OCTO := vla-servers/octo-small
LEROBOT := vla-servers/lerobot

# A Python that this machine has: the first of these, or the one that PYTHON= names. Nothing downloads one.
PYTHON = $(or $(shell .ci/find-python 3.12 3.13 3.11 3.10 3.14),$(error No supported Python is on PATH, of pyenv or \
of uv: install one of 3.10 to 3.14, or name one: make $(MAKECMDGOALS) PYTHON=/path/to/python))
export UV_PYTHON_DOWNLOADS := never

# LeRobot's policies need a newer one, and PyTorch; only the targets that are called so install these.
LEROBOT_PYTHON = $(if $(filter file,$(origin PYTHON)),$(or $(shell .ci/find-python 3.12 3.13),$(error LeRobot needs \
Python 3.12 or 3.13, and neither is on PATH, of pyenv or of uv: install one, or name one: make $(MAKECMDGOALS) \
PYTHON=/path/to/python)),$(PYTHON))

# uv makes the environments. Where it is missing it is put into .uv/, touching nothing else.
ifneq ($(shell uv --version 2>/dev/null),)
UV := uv
else
UV := "$(CURDIR)/.uv/bin/uv"
UV_FILE := .uv/bin/uv
endif

# An environment that is there keeps its Python and whatever was added to it, such as extras.
keep_python = $(if $(and $(wildcard $(1)/.venv/bin/python),$(filter file,$(origin PYTHON))),,--python "$($(or $(2),PYTHON))")
sync = cd $(1) && $(UV) sync --quiet --inexact $(call keep_python,$(1),$(2))
# The clients' protocols that are extras are small. EXTRAS= adds others: make serve EXTRAS=cuda12.
WITH_EXTRAS := $(patsubst %,--extra %,zmq lerobot $(EXTRAS))
IN_CLIENT := cd $(CLIENT) && $(UV) run --no-sync
IN_CONSOLE := cd $(CONSOLE) && $(UV) run --no-sync
IN_BASE := cd $(BASE) && $(UV) run --no-sync
IN_OCTO := cd $(OCTO) && $(UV) run --no-sync
IN_LEROBOT := cd $(LEROBOT) && $(UV) run --no-sync

# Types are those of the newest packages, numpy's above all, which older Pythons do not get.
check_types = cd $(1) && if $(UV) run --no-sync python -c "import sys; sys.exit(sys.version_info < (3, 12))"; \
	then $(UV) run --no-sync basedpyright; else echo "types not checked: that takes Python 3.12 or newer"; fi

# A file's tests run in one process, so that they share what it sets up. In the order of their names: by default files of
# few tests come last, and the longest is one of them.
ON_TWO_CORES := -n 2 --dist loadfile --no-loadscope-reorder

# It warns that MkDocs 2, which pyproject.toml excludes, will have no plugins.
MKDOCS := $(IN_OCTO) env NO_MKDOCS_2_WARNING=1 mkdocs
SITE := --config-file ../../mkdocs.yml

FIGURES := --json ../../bench/figures.json

.PHONY: help
help: ## list these targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

.PHONY: demo
demo: install ## watch the bundled policy pick up a cube, in the console (no download); ONCE=1 ends there
	$(IN_OCTO) env OCTO_MODEL="$${OCTO_MODEL:-bundled://tabletop}" octo-service demo

.PHONY: serve
serve: install ## serve Octo-Small 1.5 on port 8002
	$(IN_OCTO) octo-service serve

.PHONY: serve-lerobot
serve-lerobot: install-lerobot ## serve a policy that LeRobot trained, LEROBOT_MODEL=FOLDER (downloads 3 GB, once)
	$(IN_LEROBOT) env LEROBOT_MODEL="$(if $(wildcard $(LEROBOT_MODEL)),$(abspath $(LEROBOT_MODEL)),$(LEROBOT_MODEL))" lerobot-service serve

.PHONY: test
test: check test-vla-client test-console test-base test-clients test-octo test-oldest test-pythons ## run every check and every test

.PHONY: check
check: setup check-manifests ## lint, formatting, types, the page's own tests, and what must hold for the whole repository
	$(IN_OCTO) ruff check ../..
	$(IN_OCTO) ruff format --check ../..
	$(IN_OCTO) env PYTHONPATH=../lerobot/src lint-imports --no-cache ../../.importlinter
	.ci/page check test
	$(call check_types,$(CLIENT))
	$(call check_types,$(CONSOLE))
	$(call check_types,$(BASE))
	$(call check_types,$(OCTO))
	$(MKDOCS) build --quiet --strict $(SITE)
	$(IN_OCTO) pytest -q $(ON_TWO_CORES) -c pyproject.toml ../../tests

.PHONY: test-vla-client
test-vla-client: $(UV_FILE) ## the tests of vla-client, in its own environment, against a live server
	$(call sync,$(CLIENT))
	$(IN_CLIENT) pytest -q $(ON_TWO_CORES)

.PHONY: test-console
test-console: setup ## the console's page in a real browser (Chromium or Chrome) against a live server
	$(IN_CONSOLE) pytest -q

.PHONY: test-base
test-base: setup
	$(IN_BASE) pytest -q $(ON_TWO_CORES)

.PHONY: test-octo
test-octo: setup
	$(IN_OCTO) pytest -q $(ON_TWO_CORES)

.PHONY: test-lerobot
test-lerobot: setup setup-lerobot ## types and tests of LeRobot's service, which `make test` leaves out (downloads 3 GB, once)
	$(IN_LEROBOT) basedpyright
	$(IN_LEROBOT) pytest -q $(ON_TWO_CORES)

.PHONY: test-oldest
test-oldest: $(UV_FILE) ## the model's parity once more, with JAX 0.4.20 on the oldest Python that has it
	UV=$(UV) .ci/test-oldest

.PHONY: test-pythons
test-pythons: setup ## the built wheels in clean environments: imports, servers, the demo, on each Python of this machine; ONLY="3.10 3.13"
	UV=$(UV) .ci/test-pythons $(ONLY)

.PHONY: test-clients
test-clients: setup ## the newest clients from the package index, each in its own environment, against a live server
	$(IN_BASE) python ../conformance/run.py --quick

.PHONY: conformance
conformance: setup setup-lerobot ## all of them, old ones, LeRobot's (5 GB each), LIBERO's and those with ACT too, and write docs/clients.md; ONLY="libero ..." runs some
	$(IN_BASE) python ../conformance/run.py $(if $(ONLY),--only $(ONLY)) --write

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
	$(IN_OCTO) python ../../benchmarks/console.py $(FIGURES)

.PHONY: bench-lerobot
bench-lerobot: setup-lerobot ## what each of LeRobot's policy types keeps when it is served, and what a chunk costs
	mkdir -p bench
	$(IN_LEROBOT) python ../../benchmarks/lerobot_policies.py $(FIGURES)

# Those of deploy/kubernetes/fleet: a machine that says nothing is lost after 16 s; Ray's own are 65.
HEALTH_CHECKS := RAY_health_check_period_ms=1000 RAY_health_check_timeout_ms=3000 RAY_health_check_failure_threshold=4

.PHONY: cluster-demo
cluster-demo: setup ## lose servers, models and a node of a cluster on this machine while robots act; then what a fleet needs
	$(IN_BASE) env PYTHONPATH=tests/fleet:tests/protocols RAY_AUTH_MODE=disabled $(HEALTH_CHECKS) python ../benchmarks/cluster.py --losses
	$(IN_OCTO) python ../../benchmarks/fleet.py
	$(IN_OCTO) python ../../benchmarks/fleet.py --validate --rounds 3

.PHONY: real-models
real-models: setup ## scenes of robosuite, Metaworld and others (1 GB), as they lie, against a live server; writes docs/scenes.md
	$(IN_OCTO) env UV=$(UV) python ../../benchmarks/real_models.py --write

.PHONY: docs
docs: setup ## show the documentation as a site, on http://127.0.0.1:8000, and again whenever a page is saved
	$(MKDOCS) serve --strict $(SITE)

.PHONY: fuzz
fuzz: setup ## draw and step mutated scenes in the scene workers for ten minutes
	$(IN_BASE) python tests/scenes/fuzz.py --seconds 600

.PHONY: fuzz-http
fuzz-http: setup ## send much more of what the API's description allows, and forbids, than the tests do
	$(IN_BASE) env FUZZ_HTTP_EXAMPLES=1000 pytest -q tests/faults/test_openapi_fuzz.py

.PHONY: fuzz-memory
fuzz-memory: setup ## compile and step mutated scenes under valgrind, which has to be installed
	cd vla-server-base && PYTHONMALLOC=malloc OPENBLAS_NUM_THREADS=1 valgrind --undef-value-errors=no \
		.venv/bin/python tests/scenes/fuzz_memory.py --scenes 300

.PHONY: fix
fix: setup ## format, and mend what the linter can
	$(IN_OCTO) ruff check --fix ../..
	$(IN_OCTO) ruff format ../..
	.ci/page fix

.PHONY: hooks
hooks: setup ## run `make fix` before each commit
	$(IN_OCTO) pre-commit install

.PHONY: dist
dist: $(UV_FILE) ## build wheels and source distributions of all packages, and what they were tested with, into dist/
	UV=$(UV) PYTHON="$(PYTHON)" .ci/build-dist dist

.PHONY: sbom
sbom: dist ## list all that is installed with a package as CycloneDX, into dist/
	UV=$(UV) PYTHON="$(PYTHON)" .ci/sbom dist

# Each in an environment of its own: they are large, and nothing else needs them. The date is that of pyproject.toml.
TOOL := $(UV) tool run --quiet --exclude-newer 2026-11-20T00:00:00Z
MANIFESTS = $(filter-out %/kustomization.yaml,$(wildcard deploy/kubernetes/*.yaml deploy/kubernetes/*/*.yaml))
RAY_MANIFESTS := deploy/kubernetes/fleet/rayservice.yaml deploy/kubernetes/fleet-two-policies/kustomization.yaml

.PHONY: check-manifests
check-manifests: $(UV_FILE) ## compare Kubernetes' manifests with its schemas (done by check)
	$(TOOL) kubernetes-validate@1.37.0 --quiet --strict $(filter-out %/rayservice.yaml,$(MANIFESTS))
	$(TOOL) --from kubernetes-validate@1.37.0 python .ci/check_pods.py $(RAY_MANIFESTS)

.PHONY: prove-image
prove-image: ## carry out the Dockerfile without a container engine, as root on Debian with debootstrap, and try the image
	"$(PYTHON)" deploy/proof/image.py

.PHONY: prove-unit
prove-unit: ## run the systemd unit in what prove-image made, under a systemd of its own
	"$(PYTHON)" deploy/proof/unit.py

.PHONY: install
install: $(UV_FILE) ## install what a server needs, and EXTRAS (done by demo and serve)
	$(call sync,$(OCTO)) --no-dev $(WITH_EXTRAS)

.PHONY: install-lerobot
install-lerobot: $(UV_FILE) ## install what serving LeRobot's policies needs (done by serve-lerobot)
	$(call sync,$(LEROBOT),LEROBOT_PYTHON) --no-dev $(WITH_EXTRAS)

.PHONY: setup-lerobot
setup-lerobot: $(UV_FILE) ## install that and what its developers need (done by test-lerobot)
	$(call sync,$(LEROBOT),LEROBOT_PYTHON)

.PHONY: setup
setup: $(UV_FILE) ## install that and what developers need (done by the other targets)
	$(call sync,$(CLIENT))
	$(call sync,$(CONSOLE))
	$(call sync,$(BASE))
	$(call sync,$(OCTO)) $(WITH_EXTRAS)

# Without its venv module Debian's Python may still have pip.
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check
.uv/bin/uv:
	@echo "putting uv into .uv/"
	@rm -rf .uv
	@{ "$(PYTHON)" -m venv .uv >/dev/null && .uv/bin/python $(PIP_INSTALL) uv; } || \
	{ rm -rf .uv; "$(PYTHON)" $(PIP_INSTALL) --target .uv uv; } || \
	{ echo "uv is missing and cannot be put into .uv/: install uv, or Python's venv module (apt install python3-venv)"; exit 1; }
