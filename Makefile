# The chain, stage by stage, with real file dependencies. Everything is set up in .venv and made in artifacts/.
#
#   make demo      set up, then run the chain on the CPU
#   make demo-results   write the demo's figures to docs/results/demo.json
#   make test      set up, then run the tests (some twelve minutes on two cores)
#   make test-all  the long tests too
#   make lint      formatting, lint and types
#   make plan-nano2    what each command of the report's chain takes on many GPUs
#   make h200-base pretrain the small base of recipes/h200/base.yaml from the texts in corpus/
#   make bench-gpu measure training on an H200, a quarter of an hour (docs/bench/gpu-training.json)
#   make docs      rewrite the tables and figures in docs from the result files
#   make clean     remove what was made (artifacts/), not the environment

PYTHON ?= python3
BIN := .venv/bin
NANO2 := $(BIN)/nano2
SETUP := .venv/installed
PEERS := .peers/installed

.PHONY: demo demo-results plan-nano2 setup test test-all h200-base bench-gpu lint docs clean
.DELETE_ON_ERROR:

# ---- environment ----

setup: $(SETUP)

$(SETUP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

# mamba-ssm as an oracle, outside .venv: transformers would take its CUDA kernels for the CPU if it could import it.
$(PEERS): tests/peers/install_mamba_ssm.sh | $(SETUP)
	PYTHON=$(BIN)/python bash tests/peers/install_mamba_ssm.sh .peers/mamba_ssm
	touch $@

# ---- the chain on the CPU ----

include recipes/demo/chain.mk

demo: $(SETUP)
	$(CHAIN) chain

demo-results: $(SETUP)
	$(BIN)/python -m stages.common.chain results $(DEMO) -o docs/results/demo.json

# ---- the report's chain ----

plan-nano2: $(SETUP)
	$(BIN)/python -m nano2cli.plan_chain recipes/nano2/chain.sh

# ---- one GPU ----

h200-base: $(SETUP)
	NANO2=$(NANO2) sh recipes/h200/base.sh

bench-gpu: $(SETUP)
	NANO2=$(NANO2) sh recipes/h200/bench.sh

# ---- quality ----

test: $(SETUP) $(PEERS)
	$(BIN)/pytest -n 2 -m "not slow and not gpu"

test-all: $(SETUP) $(PEERS)
	$(BIN)/pytest -n 2 -m "not gpu"

lint: $(SETUP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(SETUP)
	$(BIN)/python -m stages.common.quotes

clean:
	rm -rf artifacts
