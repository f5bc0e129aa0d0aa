# Each target sets up what it needs: a Python >= 3.11 with its venv module, and make,
# are all it takes. Nothing is compiled.
#
#   make demo       a service, its log, an auditor, and a dishonest operator who is caught
#   make test       all tests; ARGS="-k note" selects some
#   make check      lint, format, types, import layers, spelling
#   make verifier   dist/verify_receipt.pyz, the offline verifier as one file
#   make bench      the benchmarks
#   make mutants    mutants of the core that its tests let live: a quarter of an hour
#   make fix        lets ruff mend what it can
#   make lock       resolves what is pinned anew (needs uv; ARGS="--upgrade")
#   make clean      removes .venv and everything made here, but no log

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed
PIP := $(RUN) -m pip --disable-pip-version-check --no-input --quiet
SOURCES := auditlog demo_service tests
MERKLETOOLS := tests/requirements-merkletools.txt

.PHONY: demo test check verifier bench mutants fix lock clean
.DEFAULT_GOAL := test

demo: $(STAMP)
	@$(RUN) -m demo_service $(ARGS)

test: $(STAMP)
	$(RUN) -m pytest $(ARGS)

check: $(STAMP)
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports --no-logo
	$(VENV)/bin/codespell --skip '*/node_modules' $(SOURCES) *.md

verifier: $(STAMP)
	$(RUN) -m auditlog.build_verifier $(ARGS)

bench: $(STAMP)
	$(RUN) -m tests.bench $(ARGS)

# MUTANTS="auditlog.core.note.*" chooses some.
mutants: $(STAMP)
	@rm -rf mutants
	@nice -n 15 $(RUN) -m tests.mutants
	@cd mutants && HYPOTHESIS_PROFILE=mutants MUTATIONS=300 nice -n 15 ../$(RUN) -m pytest -q \
	    -p tests.mutants -p no:cacheprovider --tb=native -m "not slow" tests/core \
	    tests/storage/test_sealing.py

fix: $(STAMP)
	$(RUN) -m ruff check --fix
	$(RUN) -m ruff format

# uv also records no address; it keeps the pins it finds unless told to upgrade.
LOCK := uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest \
	    --generate-hashes --no-annotate --no-header
lock:
	$(LOCK) --extra dev $(ARGS) --output-file requirements.txt pyproject.toml
	for server in tests/compat/*.in; do \
	    $(LOCK) $(ARGS) --output-file $${server%.in}.txt $$server || exit; done

clean:
	rm -rf $(VENV) dist demo-output mutants .mypy_cache .pytest_cache .ruff_cache \
	    .import_linter_cache .hypothesis demo_service/node_modules tests/anchors/evm/node_modules

# Set-up, once for each change of what is pinned. An existing .venv is kept if it works.
#
# merkletools is published as source only and declares a dependency that does not build
# on Python >= 3.11, so it is built by itself, without dependencies, by the setuptools
# that requirements.txt pins (a venv of Python >= 3.12 has none). It also drops its own
# tests into site-packages as `tests`, which is the name of ours.
$(STAMP): requirements.txt $(MERKLETOOLS) pyproject.toml
	@$(RUN) -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	    || $(MAKE) --no-print-directory new-venv
	@echo "Installing into $(VENV): once, a minute or two ..." >&2
	@$(PIP) install --no-deps --only-binary :all: -r requirements.txt
	@$(PIP) install --no-deps --no-build-isolation --use-pep517 -r $(MERKLETOOLS)
	@rm -rf $(VENV)/lib/python3*/site-packages/tests
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: new-venv
new-venv:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not installed:" \
	    "on Debian, apt install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo \
	    "Python 3.11 or newer is needed, $(PYTHON) is `$(PYTHON) -V 2>&1`:" \
	    "name another one, make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) comes" \
	    "without its venv module: on Debian, apt install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV)
