# Two commands do all the set-up: `make sweep` and `make test`. `make` alone lists the targets.
#
#   ACCEL=cpu|cuda12|cuda13|tpu   instead of what is found       PYTHON=/path/to/python   an interpreter that has the packages: no venv
#   CONFIG= WORKDIR= ARGS=        the sweep, where it goes, and more flags, such as ARGS="--config.seeds=4 --resume"

CONFIG  ?= experiments/configs/diversity.py
WORKDIR ?= runs/$(subst :,_,$(subst .py,,$(notdir $(CONFIG))))
ARGS    ?=

# Tests run side by side, a file on one worker, so that its fixtures are made once; in order, so that the longest file is not last.
WORKERS := -n 2 --dist loadfile --no-loadscope-reorder

VENV  := .venv
FLOOR := .venv-floor
# The driver's CUDA version decides between the CUDA extras (none for one before 12); a TPU host has its chips under /dev/accel* or
# /dev/vfio.
CUDA  := $(shell nvidia-smi 2>/dev/null | sed -n 's/.*CUDA Version: \([0-9]*\).*/\1/p')
OLD   := 5 6 7 8 9 10 11
TPU   := $(wildcard /dev/accel* /dev/vfio/[0-9]*) $(TPU_NAME)
ACCEL ?= $(if $(filter-out $(OLD),$(CUDA)),$(if $(filter 12,$(CUDA)),cuda12,cuda13),$(if $(strip $(TPU)),tpu,cpu))
EXTRA := $(if $(filter-out cpu,$(ACCEL)),$(ACCEL),)
ifeq ($(filter $(ACCEL),cpu cuda12 cuda13 tpu),)
  $(error ACCEL=$(ACCEL): expected cpu, cuda12, cuda13 or tpu)
endif

# Set-up happens once per venv and again when pyproject.toml changes; an interpreter given by PYTHON is left as it is.
READY := $(VENV)/.ready-$(ACCEL)
ifeq ($(origin PYTHON),undefined)
  PYTHON := $(VENV)/bin/python
  SETUP  := $(READY)
  DOCS   := $(VENV)/.docs
else
  SETUP  := given
  DOCS   :=
endif
# The first python3 that is new enough makes the venv.
BASE = $(shell for p in python3 python3.13 python3.12 python3.11 python3.14; do \
  command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 22

sweep: $(SETUP)  ## train the label-diversity sweep, evaluate it and draw Fig 3
	$(PYTHON) -m experiments.sweep --config="$(CONFIG)" --workdir="$(WORKDIR)" $(ARGS)

benchmark: $(SETUP)  ## time lrjax against one model at a time, a dense baseline and eager PyTorch (if torch is installed)
	$(PYTHON) -m experiments.benchmark $(ARGS)

accelerator-check: $(SETUP)  ## measure an accelerator in 25 minutes: sweeps, throughput, compiling; goes on where it was (ARGS=--dry)
	$(PYTHON) -m experiments.accelerator_check $(ARGS)

paper: $(SETUP)  ## the paper's own experiment as printed, and what it depends on: docs/results/paper.html (ARGS=--epochs=1000)
	$(PYTHON) -m experiments.paper $(ARGS)

reproduce: $(SETUP)  ## re-measure the paper: sweeps, analyses, docs/results/index.html (ARGS=--seeds=4, ARGS=--quick)
	$(PYTHON) -m experiments.reproduce $(ARGS)

encoders: $(SETUP)  ## train and take apart other encoders: gates in training, heads, depth, LayerNorm, positions, width
	$(PYTHON) -m experiments.encoders $(ARGS)

tasks: $(SETUP)  ## train other tasks: grids, three objects, supervision, decoders, SigLIP, noise; docs/results/tasks.html
	$(PYTHON) -m experiments.tasks $(ARGS)

printed-tasks: $(SETUP)  ## the same under the recipe that the paper prints: days on a CPU (ARGS=--only=three); docs/results/printed_tasks.html
	$(PYTHON) -m experiments.printed_tasks $(ARGS)

regime: $(SETUP)  ## search initial scales and hyper-parameters for the paper's joint finding
	$(PYTHON) -m experiments.regime $(ARGS)

test: style  ## formatting, lint and types, then all tests on the newest packages
	$(PYTHON) -m pytest $(WORKERS) $(ARGS)

test-fast: $(SETUP)  ## laws and units on tiny models, without what is marked slow, commands, faults, studies: for daily work
	$(PYTHON) -m pytest $(WORKERS) -m "not slow" tests/laws tests/unit $(ARGS)

# tests/conftest.py turns XLA's optimisations off, and this leaves them on.
test-optimised: $(SETUP)  ## the laws, and faults, with XLA's optimisations on, as users run: weekly, and before a release
	LRJAX_TEST_OPTIMISED=1 $(PYTHON) -m pytest $(WORKERS) tests/laws tests/reliability/test_faults.py $(ARGS)

test-long: $(SETUP)  ## what `make test` leaves out: programs lower for every platform, a dry check of an accelerator (minutes)
	LRJAX_TEST_LONG=1 $(PYTHON) -m pytest $(WORKERS) tests/unit/test_compile_for.py tests/unit/test_accelerator_check.py $(ARGS)

style: $(SETUP)
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m pyright --pythonpath "$(PYTHON)"

lint: style  ## ruff: formatting and lint; pyright: types; pytest: every test can be imported
	$(PYTHON) -m pytest --collect-only -qq > /dev/null

docs: $(SETUP) $(DOCS)  ## the documentation as a site in .site, strictly: a broken link or reference fails
	$(PYTHON) -m mkdocs build --config-file .mkdocs.yml

test-floor: $(FLOOR)/.ready  ## all tests on the oldest packages allowed (what Colab ships)
	$(FLOOR)/bin/python -m pytest $(WORKERS) $(ARGS)

clean:  ## remove the virtual environments and caches (never runs/)
	rm -rf $(VENV) $(FLOOR) .pytest_cache .ruff_cache .jax_cache .site

given:
	@$(PYTHON) -c 'import sys; from importlib.util import find_spec; sys.exit(not all(map(find_spec, sys.argv[1:])))' \
	  jax flax optax orbax ml_collections absl xarray matplotlib scipy filelock jinja2 markdown_it || \
	  { echo "error: PYTHON=$(PYTHON): lacks packages; install them ($(PYTHON) -m pip install -e .), or leave PYTHON out"; exit 2; }

$(READY): pyproject.toml
	@test -n "$(BASE)" || { echo "error: no python3 >= 3.11 found; install one, or give PYTHON=/path/to/python that has the packages"; exit 2; }
	$(BASE) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	$(VENV)/bin/python -m pip install --quiet -e ".[dev$(if $(EXTRA),$(comma)$(EXTRA))]"
	touch $@

$(VENV)/.docs: $(READY)
	$(VENV)/bin/python -m pip install --quiet -e ".[docs]"
	touch $@

$(FLOOR)/.ready: pyproject.toml tests/floor.txt
	@test -n "$(BASE)" || { echo "error: no python3 >= 3.11 found"; exit 2; }
	$(BASE) -m venv $(FLOOR)
	$(FLOOR)/bin/python -m pip install --quiet --upgrade pip
	$(FLOOR)/bin/python -m pip install --quiet -e ".[dev]" -c tests/floor.txt
	touch $@

comma := ,
.PHONY: given help sweep benchmark accelerator-check paper reproduce encoders tasks printed-tasks regime test test-fast test-optimised \
  test-long style lint docs test-floor clean
