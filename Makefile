# The commands of the project. Each sets up what it needs, by pip, in .venv: `make help` lists them.
# PYTHON chooses the interpreter that .venv is made from; `make clean` before changing it.

PYTHON ?= python3
VENV := .venv
# From its wheel; that of CUDA 13.0 takes copies that barriers wait for to be races.
SANITIZER ?= $(VENV)/lib/python3*/site-packages/nvidia/cu13/bin/compute-sanitizer
RUN := $(VENV)/bin/python

.PHONY: help demo test sanitize lint clean
.DEFAULT_GOAL := help
.NOTPARALLEL:

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/demo.stamp ## classify real digits on the GPU or CPU; ARGS="--mnist DIR" for MNIST, ARGS=--help for more
	@$(RUN) docs/demo/demo.py $(ARGS)

# The cores are the workers': threads that numpy's products start beside them would wait for each other in loops.
test: $(VENV)/test.stamp ## run all tests; ARGS="-k name" for some of them
	@OPENBLAS_NUM_THREADS=1 $(RUN) -m pytest -q -n auto --maxprocesses 8 --dist loadscope $(ARGS)

sanitize: $(VENV)/sanitize.stamp ## look for memory faults and races in one GPU kernel of each family; SANITIZER=PATH for another tool
	@for tool in memcheck racecheck; do \
	    echo "$$tool:"; \
	    BITMLIR_REQUIRE_GPU=1 $(SANITIZER) --tool $$tool --error-exitcode 1 --target-processes all \
	        $(RUN) -m pytest -q -m sanitize test/gpu $(ARGS) || exit 1; \
	done

lint: $(VENV)/lint.stamp $(VENV)/links/bitmlir ## check style, format and types
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@PYTHONPATH=$(VENV)/links $(RUN) -m pyright --pythonpath $(RUN)

clean: ## remove what these commands made
	rm -rf $(VENV) out build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

# What each command needs; a stamp older than pyproject.toml is made anew.
$(VENV)/demo.stamp: PACKAGES = -e '.[demo,cuda]'
$(VENV)/test.stamp: PACKAGES = -e '.[test,cuda]'
$(VENV)/sanitize.stamp: PACKAGES = -e '.[test,cuda,sanitize]'
$(VENV)/lint.stamp: PACKAGES = -e '.[dev]'

$(VENV)/%.stamp: pyproject.toml
	@echo "setting up $(VENV) for 'make $*'"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "bitmlir needs Python 3.10 or later: make PYTHON=...")'
	@$(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip install -qq --disable-pip-version-check $(PACKAGES)
	@touch $@

# Pyright does not follow setuptools' package-dir mapping: it gets the packages where Python imports them from.
$(VENV)/links/bitmlir:
	@mkdir -p $@
	@ln -s $(addprefix $(CURDIR)/,bitmlir/__init__.py dialects lowering tools) $@
