# The commands of this project. Each sets up .venv by itself, which takes under a second when nothing changed.
#   PYTHON=python3.12   the Python to build .venv with (3.10 to 3.13); default: a fitting one on PATH
#   VARIANT=cuda        cpu or cuda; default: what .venv already is, else cpu
PYTHON ?=
VARIANT ?=
# Any Python 3 can run the installer, which looks for the right one.
RUNNER := $(firstword $(foreach p,$(PYTHON) python3 python,$(shell command -v $(p) 2>/dev/null)))
BIN := .venv/bin
NAME ?=
ARGS ?=
TARGET ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format bench docs image

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' Makefile

setup: ## .venv with everything that fits together
	@test -n "$(RUNNER)" || { echo "set-up: no Python found; install Python 3.10 to 3.13" >&2; exit 2; }
	@$(RUNNER) requirements/install.py --python "$(PYTHON)" --variant "$(VARIANT)"

demo: setup ## prepare MovieLens-100k, train, evaluate, write the report, export the model
	@$(BIN)/python -m interformer_rec.demo.demo

# Four workers on two cores: some tests wait for processes that they have started. Each of those, and each worker, would
# compile all modules anew where Python may keep no bytecode.
test: setup ## the test suite, 2-rank tests included (ARGS="-k name" and so on)
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder $(ARGS)

check: setup ## format, lint, types, architecture rules, links
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/test_architecture.py tests/docs/test_links.py

format: setup ## let ruff rewrite what `check` would refuse
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: setup ## list the benchmarks, or run one: make bench NAME=data ARGS="--json out.json"
	@if [ -n "$(NAME)" ]; then $(BIN)/python -m benchmarks.$(NAME) $(ARGS); else \
	for file in $$(grep -l '^if __name__' benchmarks/*.py benchmarks/*/__main__.py); do name=$${file#benchmarks/}; \
	printf '%-14s %s\n' "$$(echo $${name%/__main__.py} | sed 's/\.py$$//')" "$$(sed -n '1s/^"*//;1s/"*$$//;1p' $$file)"; done; fi

docs: setup ## the documentation as a site: build/site/index.html
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

image: ## the container image for GPU clusters, or of a server: TARGET=serve, serve-onnx (needs a Docker engine)
	docker build $(if $(TARGET),--target $(TARGET) --build-arg BASE=ubuntu:24.04 --build-arg VARIANT=cpu) --build-arg PIP_INDEX_URL --build-arg PIP_EXTRA_INDEX_URL \
	  -t interformer-rec$(if $(TARGET),-$(TARGET)):$$(sed -n 's/^__version__ = "\(.*\)"/\1/p' interformer_rec/__init__.py) .
