# demo, test, check, soak and man create .venv if it is missing. They need Python 3.11 or later and a registry.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready

.PHONY: pictures demo test soak check lock man packages clean

demo: $(READY)
	@$(VENV)/bin/mirror demo

# Three workers keep two cores busy: much of the time the tests wait for servers and daemons.
test: check
	$(VENV)/bin/pytest -n 3 --dist worksteal

# The crash and history suites at every step, and others longer: takes hours. Prints how much it tried, and
# appends it to soak.jsonl.
soak: $(READY)
	MIRROR_SOAK=1 MIRROR_COUNTS=$(CURDIR)/soak.jsonl $(VENV)/bin/pytest -n 2 \
	  tests/crash tests/histories tests/verify/test_sweep.py \
	  tests/collect/test_backfill.py tests/collect/test_truth.py

check: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/deptry .
	$(VENV)/bin/vulture

$(READY): requirements/dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed") if sys.version_info < (3, 11) else None'
	@$(PYTHON) -m venv $(VENV)
	@echo "Setting up $(VENV) (once)…"
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

EXTRAS := --extra notify --extra copy --extra lock --extra cluster
# The lock files contain versions and hashes, and no registry. Needs uv.
lock:
	$(PYTHON) -m uv pip compile pyproject.toml requirements/build.in $(EXTRAS) --group pyproject.toml:dev \
	  --quiet --upgrade --universal --generate-hashes --python-version 3.11 --no-header --no-emit-index-url --no-annotate \
	  -o requirements/dev.lock
	$(PYTHON) -m uv pip compile pyproject.toml $(EXTRAS) -c requirements/dev.lock --quiet --universal --generate-hashes \
	  --python-version 3.11 --no-header --no-emit-index-url --no-annotate -o requirements/run.lock
	$(PYTHON) -m uv pip compile requirements/build.in -c requirements/dev.lock --quiet --universal --generate-hashes \
	  --python-version 3.11 --no-header --no-emit-index-url --no-annotate -o requirements/build.lock

pictures: $(READY)
	$(VENV)/bin/python -m tests.web.pictures

man: $(READY)
	$(VENV)/bin/python -m mirror.cli.manual > docs/mirror.1
	$(VENV)/bin/python -m mirror.cli.backed_up > docs/what-is-backed-up.md

# The wheel, the sdist, the Debian package and the bill of materials of this version, in dist/. DEBIAN=13 names another release.
DEBIAN := 12
packages: $(READY)
	rm -rf dist
	$(VENV)/bin/hatchling build
	$(VENV)/bin/python packaging/debian/build.py dist/*.whl --debian $(DEBIAN)
	$(VENV)/bin/python packaging/sbom.py > dist/mirror.cdx.json

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
