# Two commands do everything on a bare machine: make demo, make test.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test quick lint format types imports docs site sims bench fuzz torture cluster clean

demo: $(STAMP)          ## a whole negotiation study, offline, on real code paths
	$(BIN)/peira run studies/negotiation/quickstart.yaml
	@echo
	@echo "Look at:   experiments/quickstart/report.html   (or: $(BIN)/peira view experiments)"
	@echo "To go on:  source $(BIN)/activate    then: peira --help"

test: $(DEV_STAMP)      ## every test
	$(BIN)/python -m pytest -n 2 --dist loadfile

quick: $(DEV_STAMP)     ## tests without torch, browsers and clusters
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not torch and not browser and not cluster"

lint: $(DEV_STAMP)
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks

format: $(DEV_STAMP)
	$(BIN)/ruff check --fix src tests benchmarks
	$(BIN)/ruff format src tests benchmarks

types: $(DEV_STAMP)
	$(BIN)/mypy

imports: $(DEV_STAMP)
	$(BIN)/lint-imports

docs: $(DEV_STAMP)      ## run every snippet of README and docs
	$(BIN)/python -m pytest tests/docs

site: $(DEV_STAMP)      ## the documentation as a website, in site/
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[docs]"
	$(BIN)/python -m sphinx -W -q -b html docs site
	@echo "Look at: site/index.html"

fuzz: $(DEV_STAMP)      ## anything as study, reply, recording, run.db: only our own errors
	$(BIN)/python benchmarks/fuzz.py

torture: $(DEV_STAMP)   ## kill, fill, corrupt, confuse: every family, bounded in time
	$(BIN)/python benchmarks/torture.py

cluster: $(DEV_STAMP)   ## Ray with a node killed, a real one-node SLURM (as root on Debian)
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[ray,slurm]"
	scripts/start_slurm.sh
	$(BIN)/python -m pytest tests/scale; status=$$?; scripts/start_slurm.sh stop; exit $$status

sims: $(DEV_STAMP)      ## simulation gate of the statistics (minutes)
	$(BIN)/python benchmarks/sims_stats.py

bench: $(DEV_STAMP)     ## ratios and per-CPU-second figures
	for f in benchmarks/bench_*.py; do echo "== $$f"; $(BIN)/python $$f || exit 1; done

$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || { \
		echo "$(PYTHON): Python 3.11 or newer is needed; for example: make demo PYTHON=python3.12"; exit 2; }
	@echo "Installing into $(VENV): one to three minutes, the first time only."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	touch $@

# torch in a step of its own: the plain name would pull gigabytes of CUDA packages.
$(DEV_STAMP): $(STAMP)
	$(BIN)/python -m pip install -q "torch==2.13.0" || echo "torch is not available here: its tests will be skipped"
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[dev]"
	$(BIN)/python -c "import torch" 2>/dev/null && $(BIN)/python -m pip install -q -c constraints.txt "transformers>=5,<6" safetensors || true
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
