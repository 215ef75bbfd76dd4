# One target per task. `make help` lists them.
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
CYCLONEDX := 7.5.0
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/python -m uv pip

# Python keeps its bytecode, whatever the environment says: an import of torch takes half the time.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help serve setup test test-all test-slow check format load bench bench-gpu reliability soak image image-test wheel sbom manifests audit lock clean

help: ## list these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 13

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Sightglass needs Python 3.11 or newer, but $(PYTHON) is $$($(PYTHON) --version). Choose another one, for example: make PYTHON=python3.12 …"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

$(VENV)/serve.installed: requirements/serve.txt | $(BIN)/python
	$(UV) install --quiet --require-hashes -r $<
	@touch $@

$(VENV)/dev.installed: requirements/dev.txt | $(BIN)/python
	$(UV) install --quiet --require-hashes -r $<
	@touch $@

serve: $(VENV)/serve.installed ## start the service on http://127.0.0.1:3000 with the bundled models (options: HOST=, PORT=, MODELS=)
	@$(if $(MODELS),SIGHTGLASS_MODELS_DIR=$(MODELS)) $(BIN)/python -m service serve --host $(HOST) --port $(PORT)

setup: $(VENV)/dev.installed ## install torch and everything else for training and tests into .venv

# Three processes share the test modules, since one of them often waits. Each computes in one thread,
# so they do not wait for each other's. In the order of their names, the slowest modules do not come
# last.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadscope --no-loadscope-reorder
test: check ## run make check, then all tests except the slow ones
	$(PYTEST) -m "not slow"

test-all: check ## run make check, then all tests
	$(PYTEST)

test-slow: $(VENV)/dev.installed ## run only the slow tests
	$(PYTEST) -m slow

check: $(VENV)/dev.installed manifests ## check format, lint, types, import layers, manifests and alert rules
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

manifests: $(VENV)/dev.installed ## validate deploy/ against the schemas of Kubernetes and with promtool
	$(BIN)/python -m deploy.manifests
	@if command -v promtool > /dev/null; \
	  then promtool check rules deploy/prometheus/alerts.yaml && promtool test rules deploy/prometheus/tests.yaml; \
	  else echo "The alert rules were NOT checked, because promtool is not installed. It is in Debian's package prometheus."; fi

audit: $(VENV)/dev.installed ## list known vulnerabilities of all packages; fails as well if the database does not answer
	$(BIN)/python -m deploy.audit $(AUDIT)

load: $(VENV)/dev.installed ## run a Locust load test against the running service (options: SHAPE=ramp|spike|soak, USERS=, SECONDS=)
	$(BIN)/locust -f loadtests/locustfile.py --headless --only-summary --shape $(SHAPE) \
	  -u $(USERS) $(if $(SECONDS),-t $(SECONDS)s) -H 'http://$(if $(findstring :,$(HOST)),[$(HOST)],$(HOST)):$(PORT)'

bench: $(VENV)/dev.installed ## run the benchmarks against the hardware limit and other servers, within 30 minutes (FULL=1: all of them)
	$(BIN)/python -m benchmarks run $(if $(FULL),--full)

reliability: $(VENV)/dev.installed ## inject faults and check the limits, within 15 minutes; needs nginx (SUBJECT=stock: also stock BentoML)
	$(BIN)/python -m tests.reliability all $(if $(SUBJECT),--subject $(SUBJECT))

soak: $(VENV)/dev.installed ## run an hour of mixed load and draw docs/pictures/soak.png (options: SUBJECT=stock, MINUTES=)
	$(BIN)/python -m tests.reliability soak $(if $(SUBJECT),--subject $(SUBJECT)) $(if $(MINUTES),--minutes $(MINUTES))

bench-gpu: $(VENV)/dev.installed ## run the benchmarks of a GPU, on a machine that has one
	$(BIN)/python -m benchmarks.gpu

# By default, bentoml build recommends a command that cannot use our Dockerfile. So it prints the tag.
image: $(VENV)/serve.installed ## build the container image (options: VARIANT=gpu, BUILDER=podman|buildah|nerdctl, BUILD_OPTIONS=)
	$(BIN)/bentoml build --output tag
	version=$$($(BIN)/python -c "from service import __version__; print(__version__)") \
	  && bento=$$($(BIN)/python -c "import bentoml; print(bentoml.get('sightglass:latest').path)") \
	  && $(BUILDER) build $(BUILD_OPTIONS) -t sightglass:$(VARIANT) --build-arg VARIANT=$(VARIANT) \
	  --build-arg BASE_IMAGE=$(BASE_IMAGE) --build-arg VERSION=$$version -f "$$bento/env/docker/Dockerfile" "$$bento"
	@echo "The image is sightglass:$(VARIANT). Run it: docker run --rm --read-only --tmpfs /tmp -p 3000:3000 sightglass:$(VARIANT)"

wheel: | $(BIN)/python ## build the package into dist/: pip install it, and the command is sightglass
	$(BIN)/python -m uv build --quiet --wheel --build-constraints requirements/dev.txt --require-hashes

sbom: | $(BIN)/python ## list the packages of the image in dist/ as CycloneDX (option: VARIANT=gpu)
	@mkdir -p dist
	$(BIN)/python -m uv tool run --quiet --from cyclonedx-bom==$(CYCLONEDX) cyclonedx-py requirements \
	  requirements/$(VARIANT).txt --pyproject pyproject.toml -o dist/sightglass-$(VARIANT).cdx.json

image-test: $(VENV)/dev.installed ## build and test the image without a container engine; needs root, buildah and debootstrap (IMAGE= skips the build)
	VARIANT=$(VARIANT) IMAGE=$(IMAGE) $(BIN)/python -m pytest -v tests/deploy/image.py

format: $(VENV)/dev.installed ## format the code and fix lint errors
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

COMPILE := $(UV) compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header pyproject.toml
lock: | $(BIN)/python ## pin the dependencies again
	$(COMPILE) --extra grpc --extra heif --extra openvino --extra tracing --extra training --group dev -o requirements/dev.txt
	$(COMPILE) -c requirements/dev.txt --extra grpc --extra openvino -o requirements/serve.txt
	$(COMPILE) -c requirements/dev.txt --group cpu --extra grpc --extra openvino --extra tracing --no-emit-package onnxruntime-gpu -o requirements/cpu.txt
	$(COMPILE) -c requirements/dev.txt --extra gpu --extra grpc --extra tracing -o requirements/gpu.txt

clean: ## remove everything that make created
	rm -rf $(VENV) .cache dist
