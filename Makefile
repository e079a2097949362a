# make book   set everything up, execute the book on the quick profile, render it
# make test   set everything up, then every check
#
# Both may be run again at any time, after a kill too: what is finished is not done again.

SHELL := /bin/sh
# the first python that is new enough, if no PYTHON is given
NEW_ENOUGH := 'import sys; sys.exit(sys.version_info < (3, 11))'
PYTHON ?= $(or $(shell for p in python3 python3.11 python3.12 python3.13 python3.14 python; do \
	$$p -c $(NEW_ENOUGH) 2>/dev/null && echo $$p && break; done),python3)
BIN := .venv/bin
# given on make's command line: a variable of the same name in the shell decides nothing
PROFILE := quick
DEVICE := cpu
SEED := 0
PORT ?= 8000
# cells run one thread each, so that a number does not depend on the machine's cores
export OMP_NUM_THREADS := 1
# nor does what Python reads: other modules, no assertions, other tests
unexport PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONOPTIMIZE PYTHONWARNINGS PYTHONSAFEPATH
unexport PYTEST_ADDOPTS PYTEST_PLUGINS
PYTEST := $(BIN)/python -m pytest
WORKERS ?= 2

.PHONY: book pdf test lint unit chapters site setup clean distclean record serve
.DEFAULT_GOAL := book

setup:
	@command -v $(PYTHON) >/dev/null 2>&1 || \
		{ echo "no $(PYTHON) found; Python 3.11 or newer is needed" >&2; exit 1; }
	@$(PYTHON) tools/setup_venv.py

book: setup
	@$(BIN)/thesis-repro book build --profile $(PROFILE) --device $(DEVICE) --seed $(SEED)

# the steps in order, whatever -j says
test: setup
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory unit
	@$(MAKE) --no-print-directory book
	@$(MAKE) --no-print-directory chapters
	@$(MAKE) --no-print-directory site

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: setup
	$(PYTEST) -q -n $(WORKERS)

# the whole book on paper: _build/pdf/book.pdf
pdf: book
	@$(BIN)/thesis-repro book pdf

# every executed chapter once more, in a store of its own: nothing is read back that was kept
chapters: setup
	$(BIN)/thesis-repro book check

site: setup
	$(PYTEST) -q -rs -m 'book and not slow' -n $(WORKERS)

record: setup
	@test -n "$(TABLE)" || { echo "usage: make record TABLE=gloro-vra [PROFILE=paper DEVICE=cuda]" >&2; exit 2; }
	$(BIN)/thesis-repro run $(TABLE) --profile $(PROFILE) --device $(DEVICE)

serve: book
	@echo "http://127.0.0.1:$(PORT)/  (stop with Ctrl-C)"
	@$(BIN)/python -m http.server $(PORT) --bind 127.0.0.1 --directory _build/html

clean:
	rm -rf _build

distclean: clean
	rm -rf .venv .venv.lock
