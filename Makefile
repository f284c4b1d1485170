PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
CORES := $(shell $(PYTHON) -c 'import os; print(os.cpu_count())')
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: study test test-slow docs lab export clean

study: $(INSTALLED)
	synaug run quick --out runs/quick
	@echo "Report: $(CURDIR)/runs/quick/report.html"

test: $(INSTALLED)
	OMP_NUM_THREADS=1 nbdev_test --n_workers $(CORES)
	OMP_NUM_THREADS=1 python -m pytest tests

test-slow: $(INSTALLED)
	nbdev_test --n_workers 1 --flags slow
	python -m pytest tests --slow

docs: $(INSTALLED)
	python docs/build.py

lab: $(INSTALLED)
	jupyter lab nbs

export: $(INSTALLED)
	nbdev_export
	nbdev_clean

clean:
	rm -rf .venv build dist *.egg-info _docs .pytest_cache

$(INSTALLED): settings.ini setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "synaug needs Python 3.11 or newer; found " + sys.version.split()[0] + ". Try: make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev]'
	touch $@
