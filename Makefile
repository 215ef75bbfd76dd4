# One word per chore. `make help` lists them.
HOST ?= 127.0.0.1
PORT ?= 3000
USERS ?= 32
SECONDS ?=
SHAPE ?= steady
PYTHON ?= python3
VARIANT ?= cpu
BUILDER ?= docker
BUILD_OPTIONS ?=
BASE_IMAGE ?= python:3.12-slim
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/python -m uv pip

.DEFAULT_GOAL := help
.PHONY: help serve setup test test-all test-slow check format load bench bench-gpu reliability soak image image-test manifests audit lock clean

help: ## these chores, a line each
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Sightglass needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Name another one: make PYTHON=python3.12 …"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

$(VENV)/serve.installed: requirements/serve.txt | $(BIN)/python
	$(UV) install --quiet --require-hashes -r $<
	@touch $@

$(VENV)/dev.installed: requirements/dev.txt | $(BIN)/python
	$(UV) install --quiet --require-hashes -r $<
	@touch $@

serve: $(VENV)/serve.installed ## the service on http://127.0.0.1:3000 with the bundled models (HOST=, PORT=, MODELS= change it)
	@$(if $(MODELS),SIGHTGLASS_MODELS_DIR=$(MODELS)) $(BIN)/python -m service serve --host $(HOST) --port $(PORT)

setup: $(VENV)/dev.installed ## torch and all else for training and tests, into .venv

# Two processes share the test files. The result is the last that a run prints.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadscope
test: check ## make check, then all tests but the slow ones
	$(PYTEST) -m "not slow"

test-all: check ## make check, then all tests
	$(PYTEST)

test-slow: $(VENV)/dev.installed ## the slow tests alone
	$(PYTEST) -m slow

check: $(VENV)/dev.installed manifests ## format, lint, types, dependency rule, manifests, alert rules
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

manifests: $(VENV)/dev.installed ## what Kubernetes and Prometheus would say of deploy/
	$(BIN)/python -m deploy.manifests
	@if command -v promtool > /dev/null; \
	  then promtool check rules deploy/prometheus/alerts.yaml && promtool test rules deploy/prometheus/tests.yaml; \
	  else echo "promtool (of Debian's package prometheus) is not here: NOT judged are the alert rules."; fi

audit: $(VENV)/dev.installed ## known vulnerabilities of all that is installed; fails too where nobody could be asked
	$(BIN)/python -m deploy.audit $(AUDIT)

load: $(VENV)/dev.installed ## Locust against the running service, with a verdict (SHAPE=ramp|spike|soak, USERS=, SECONDS= change it)
	$(BIN)/locust -f loadtests/locustfile.py --headless --only-summary --shape $(SHAPE) \
	  -u $(USERS) $(if $(SECONDS),-t $(SECONDS)s) -H http://$(HOST):$(PORT)

bench: $(VENV)/dev.installed ## the performance suite against the bound and other servers, within 30 minutes (FULL=1: all of it)
	$(BIN)/python -m benchmarks run $(if $(FULL),--full)

reliability: $(VENV)/dev.installed ## inject faults and hold the bounds, within 15 minutes; needs nginx (SUBJECT=stock: stock BentoML beside it)
	$(BIN)/python -m tests.reliability all $(if $(SUBJECT),--subject $(SUBJECT))

soak: $(VENV)/dev.installed ## an hour of mixed load, and docs/pictures/soak.png of it (SUBJECT=stock, MINUTES=)
	$(BIN)/python -m tests.reliability soak $(if $(SUBJECT),--subject $(SUBJECT)) $(if $(MINUTES),--minutes $(MINUTES))

bench-gpu: $(VENV)/dev.installed ## what a GPU brings, on a machine that has one
	$(BIN)/python -m benchmarks.gpu

image: $(VENV)/serve.installed ## the container, from bentofile.yaml (VARIANT=gpu with CUDA; BUILDER=podman|buildah|nerdctl, BUILD_OPTIONS=)
	$(BIN)/bentoml build
	bento=$$($(BIN)/python -c "import bentoml; print(bentoml.get('sightglass:latest').path)") \
	  && $(BUILDER) build $(BUILD_OPTIONS) -t sightglass:$(VARIANT) --build-arg VARIANT=$(VARIANT) \
	  --build-arg BASE_IMAGE=$(BASE_IMAGE) -f "$$bento/env/docker/Dockerfile" "$$bento"

image-test: $(VENV)/dev.installed ## build and try the container without an engine; needs root, buildah and debootstrap (IMAGE= is there already)
	VARIANT=$(VARIANT) IMAGE=$(IMAGE) $(BIN)/python -m pytest -v tests/deploy/image.py

format: $(VENV)/dev.installed ## put the code into shape
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

COMPILE := $(UV) compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header pyproject.toml
lock: | $(BIN)/python ## pin the dependencies anew
	$(COMPILE) --extra tracing --extra training --extra dev -o requirements/dev.txt
	$(COMPILE) -c requirements/dev.txt -o requirements/serve.txt
	$(COMPILE) -c requirements/dev.txt --extra cpu --extra tracing --no-emit-package onnxruntime-gpu -o requirements/cpu.txt
	$(COMPILE) -c requirements/dev.txt --extra gpu --extra tracing -o requirements/gpu.txt

clean: ## remove what make made
	rm -rf $(VENV) .cache
