# `make run` and `make test` set everything up by themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: run test lint types install format protos clean

run: $(STAMP)
	$(BIN)/splitpoint run quickstart --out runs/quickstart

test: lint types $(STAMP)
	$(BIN)/pytest -n 2 --dist loadgroup -m "not live"
	$(BIN)/pytest -m live

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

protos: $(STAMP)
	$(BIN)/python -m splitpoint.protos.generate

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@# Once here, and not by each of a run's processes at the same time.
	$(BIN)/python -m compileall -q *.py channel codec device models policies protos server sim
	touch $@

clean:
	rm -rf $(VENV) runs build dist
