# `make demo` and `make test` set up all they need: a Python of 3.11 or later and make are enough.

PYTHON ?= python3
UV_VERSION := 0.13.9
ARGS ?=

uv := .venv/tools/bin/uv
ready := .venv/ready
run := .venv/bin/

.PHONY: demo test check lock clean

demo: $(ready) ## the whole system on this machine: make demo ARGS="--events 200000 --once"
	$(run)footfall demo $(ARGS)

# Files go to the two processes in their order, which begins with the longest: one of those at the
# end would leave a process without work.
test: check ## everything that the gate runs; make test ARGS="-k money" for a part of the tests
	$(run)pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --durations 30 $(ARGS)

check: $(ready) ## style and types
	$(run)ruff check .
	$(run)ruff format --check .
	$(run)mypy

lock: $(uv) ## pin the newest versions that pyproject.toml allows
	$(uv) pip compile --quiet pyproject.toml --group dev --universal --generate-hashes \
		--upgrade --no-header --no-annotate --output-file requirements.lock
	$(uv) pip compile --quiet pyproject.toml --constraint requirements.lock --universal \
		--generate-hashes --no-header --no-annotate --output-file requirements.runtime.lock

# Compiled once here: where PYTHONDONTWRITEBYTECODE is set, every process would compile them again.
$(ready): requirements.lock pyproject.toml | $(uv)
	VIRTUAL_ENV=$(CURDIR)/.venv $(uv) pip sync --quiet --require-hashes --compile-bytecode requirements.lock
	VIRTUAL_ENV=$(CURDIR)/.venv $(uv) pip install --quiet --no-deps --editable .
	touch $@

# uv lives in a small environment of its own, which syncing the project's leaves alone.
$(uv):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Footfall needs Python 3.11 or later: make PYTHON=/path/to/python3.11 …" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(PYTHON) -m venv .venv/tools
	.venv/tools/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

clean: ## remove what make set up in this checkout
	rm -rf .venv
