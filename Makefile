# make demo: set up and run the main job on embedded data.  make test: set up and check everything.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test setup clean

demo: .venv/ready
	$(BIN)/edgekd run

test: .venv/test-ready
	PATH="$(CURDIR)/$(BIN):$$PATH" tools/check

setup: .venv/test-ready

.venv/bin/uv:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv

.venv/ready: pyproject.toml | .venv/bin/uv
	$(BIN)/uv pip install --quiet --python .venv --editable .
	touch $@

.venv/test-ready: pyproject.toml | .venv/bin/uv
	$(BIN)/uv pip install --quiet --python .venv --editable ".[test]"
	touch $@ .venv/ready

clean:
	rm -rf .venv build dist runs .mypy_cache .pytest_cache .ruff_cache .hypothesis
