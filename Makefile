# `make demo` and `make test` set up all they need in .venv, once.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
READY := $(VENV)/.ready

.PHONY: help demo test fuzz lint docs format setup clean
.DEFAULT_GOAL := help

help:
	@echo "make demo     synthesise drone flights, train MSNet on them, evaluate it, draw what it finds (output/demo; SEED=N: other scenes)"
	@echo "make test     run the tests"
	@echo "make fuzz     try every fault of SECURITY.md at length, and count (benchmarks/trust.md)"
	@echo "make lint     check style with ruff, types with mypy, and build the documentation"
	@echo "make docs     build the documentation (output/docs/index.html)"
	@echo "make format   apply ruff's format"
	@echo "make setup    make the environment .venv (the others do it when needed)"
	@echo "make clean    remove .venv and output/"

setup: $(READY)

# Made again when what it is made from changes.
$(READY): .ci/setup .ci/requirements.txt .ci/detectron2.txt setup.py $(wildcard projects/*/pyproject.toml)
	@bash .ci/setup "$(PYTHON)"
	@touch $@

demo: $(READY)
	@$(VENV)/bin/msnet demo --out output/demo $(if $(SEED),--seed $(SEED))

test: $(READY)
	@$(VENV)/bin/python -m pytest -n auto --dist worksteal

fuzz: $(READY)
	@$(VENV)/bin/python benchmarks/trust.py

lint: $(READY)
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/python -m mypy
	@$(MAKE) --no-print-directory docs

docs: $(READY)
	@CUDA_VISIBLE_DEVICES= $(VENV)/bin/python -m sphinx -q -W --keep-going -b html docs output/docs
	@echo "docs: output/docs/index.html"

format: $(READY)
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

clean:
	rm -rf $(VENV) output
