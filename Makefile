PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
CORES := $(shell $(PYTHON) -c 'import os; print(os.cpu_count())')
export PATH := $(CURDIR)/$(BIN):$(PATH)

# Larger real images, where a variable names their folder; notebooks run in folders of their own
ifdef SYNAUG_DATA
override SYNAUG_DATA := $(abspath $(SYNAUG_DATA))
export SYNAUG_DATA
endif

.PHONY: study test test-data test-slow gpu benchmarks docs lab export clean

study: $(INSTALLED)
	synaug run quick --out runs/quick
	@echo "Report: $(CURDIR)/runs/quick/report.html"

# Notebooks and tests both run, and both are told, whatever one of them says; tests wait for processes of their own, so
# one more runs at a time than there are cores
test: $(INSTALLED)
	@OMP_NUM_THREADS=1 nbdev_test --n_workers $(CORES) && notebooks=passed || notebooks=FAILED; \
	OMP_NUM_THREADS=1 python -m pytest tests -n $$(($(CORES) + 1)) --dist loadfile --no-loadscope-reorder && tests=passed || tests=FAILED; \
	echo "notebooks $$notebooks, tests $$tests"; \
	test "$$notebooks $$tests" = "passed passed"

# The notebooks that show and check more where SYNAUG_DATA names a folder of real images; NOTEBOOKS=nbs/library/data: some
NOTEBOOKS ?= nbs/library
test-data: $(INSTALLED)
	@test -d "$(SYNAUG_DATA)" || { echo "give the folder of real images: make test-data SYNAUG_DATA=FOLDER"; exit 2; }
	grep -rlE 'SYNAUG_DATA|real_data' $(NOTEBOOKS) --include='*.ipynb' | \
	OMP_NUM_THREADS=1 xargs -n 1 -P $(CORES) nbdev_test --n_workers 1 --path

test-slow: $(INSTALLED)
	nbdev_test --n_workers 1 --flags slow
	python -m pytest tests --slow

# Does a training do on a GPU what it does on a CPU, and how fast? Without a GPU it is a rehearsal, and says so
gpu: $(INSTALLED)
	python -m pytest -q tests/test_devices.py
	cd nbs/evidence && jupyter execute --inplace gpu.ipynb
	nbdev_clean --fname nbs/evidence/gpu.ipynb
	@echo "To look at and commit: $(CURDIR)/nbs/evidence/gpu.ipynb"

# How fast, beside the libraries one would use instead: what nbs/evidence/benchmarks.parquet lacks, hours from nothing;
# MINUTES=60: as much as begins within an hour
benchmarks: MINUTES ?= inf
benchmarks: $(INSTALLED)
	python -m pip install -q --no-deps denoising-diffusion-pytorch einops
	cd nbs/evidence && MINUTES=$(MINUTES) jupyter execute --inplace --timeout=-1 benchmarks.ipynb
	nbdev_clean --fname nbs/evidence/benchmarks.ipynb
	@echo "To look at and commit: $(CURDIR)/nbs/evidence/benchmarks.ipynb and .parquet"

docs: $(INSTALLED)
	python docs/build.py

# Jupyter refuses to start for root, who is the only user of many containers; it listens to this machine alone, with a token
lab: AS_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)
lab: $(INSTALLED)
	jupyter lab nbs --ip=127.0.0.1 --LabApp.default_url=/lab/tree/guides/play.ipynb $(AS_ROOT)

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
