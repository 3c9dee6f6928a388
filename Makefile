# skelconv: every target sets up what it needs; nothing has to be installed by hand but Python >= 3.11 and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STORE ?=
RECIPE ?=
PROBE ?=
RUN ?= runs/pretrain
SEEDS ?= 0 1 2
FUZZ ?= 100
MUTATIONS ?= 50000
ATTACK ?= 1
TEST_WORKERS ?= 2
SCALE ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-all demo-motion demo-align reproduce-small pretrain test test-slow fuzz attack lint format bench docs clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 17

# The stamp is older than its reasons whenever the dependencies change, and then pip runs again.
$(VENV)/.stamp: setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "skelconv needs Python 3.11 or newer; run: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

setup: $(VENV)/.stamp  ## a virtual environment in .venv with skelconv and everything it can use

# The main job from end to end, on generated data. Three pretrainings, so that the report can state their spread.
demo: setup  ## raw files to a probed model on generated data, and demo/report.html (minutes, CPU)
	rm -rf demo/report.html
	$(BIN)/skelconv synth ntu120 demo/raw --recordings 480 --seed 0 --workers 2 --overwrite
	$(BIN)/skelconv ingest ntu120 demo/raw demo/ntu120.zarr --overwrite
	$(BIN)/skelconv verify demo/ntu120.zarr
	$(BIN)/skelconv s2i demo/ntu120.zarr demo/s2i.zarr --format ntu25 --overwrite
	rm -rf $(addprefix demo/run,$(SEEDS))
	$(MAKE) --jobs 2 --output-sync=recurse $(SEEDS:%=demo/run%/probe.json)
	$(BIN)/skelconv report demo/ntu120.zarr --s2i demo/s2i.zarr $(addprefix --run demo/run,$(SEEDS)) \
	  --title "skelconv demo: generated NTU RGB+D recordings" --out demo/report.html

# One thread a run and two runs at once: small matrices gain nothing from a second thread.
demo/run%/probe.json:
	OMP_NUM_THREADS=1 $(BIN)/skeltrain pretrain demo --store demo/ntu120.zarr --out demo/run$* --set seed=$*
	OMP_NUM_THREADS=1 $(BIN)/skeltrain probe demo/run$* --recipe demo_linprobe --untrained --seeds $*

demo-all: setup  ## every dataset's generated form: written, ingested, verified, drawn; prints one table
	$(BIN)/python -m tests.demo_all demo/all

# 2D to 3D: every seed pretrains, then trains on Human3.6M from there and from scratch, for equally many steps.
# ALPHAPOSE and OPENPOSE name detections of one's own, in place of generated ones.
motion := demo/motion
motion_sets := h36m amass posetrack
motion_lift := alphapose openpose
motion_of = $(or $($(shell echo $(1) | tr a-z A-Z)),$(motion)/raw_$(1))
motion_train = OMP_NUM_THREADS=1 $(BIN)/skeltrain train motion_small_$(1) --set seed=$*

demo-motion: setup  ## 3D pose from 2D on generated data: pretrained against scratch, predicted, a page (minutes, CPU)
	rm -rf $(motion)
	for set in $(motion_sets) $(motion_lift); do \
	  $(BIN)/skelconv synth $$set $(motion)/raw_$$set --recordings 48 --workers 2 --quiet || exit; done
	for set in $(motion_sets); do \
	  $(BIN)/skelconv ingest $$set $(motion)/raw_$$set $(motion)/$$set.zarr --quiet || exit; done
	$(BIN)/skelconv ingest alphapose $(call motion_of,alphapose) $(motion)/alphapose.zarr --quiet
	$(BIN)/skelconv ingest openpose $(call motion_of,openpose) $(motion)/openpose.zarr --track 5 --quiet
	$(MAKE) --jobs 2 --output-sync=recurse $(SEEDS:%=$(motion)/seed%)
	for set in $(motion_lift); do \
	  $(BIN)/skeltrain predict $(motion)/seed$(firstword $(SEEDS))/tuned $(motion)/$$set.zarr \
	    $(motion)/$${set}_3d.zarr --height 1.75 && \
	  $(BIN)/skelconv verify $(motion)/$${set}_3d.zarr || exit; done
	$(BIN)/python -m skeltrain.motion_report $(SEEDS:%=--scratch $(motion)/seed%/scratch) \
	  $(SEEDS:%=--pretrained $(motion)/seed%/tuned) $(SEEDS:%=--pretraining $(motion)/seed%/pretrained) \
	  $(motion_lift:%=--poses $(motion)/%_3d.zarr) --out $(motion)/report.html

$(motion)/seed%:
	$(call motion_train,pose3d) --store $(motion)/h36m.zarr --out $@/scratch
	$(call motion_train,pretrain) $(motion_sets:%=--store $(motion)/%.zarr) --out $@/pretrained
	$(call motion_train,pose3d) --store $(motion)/h36m.zarr --set init.weights=$@/pretrained --out $@/tuned

reproduce-small: setup  ## the S2I paper's tables in small, on generated data: SCALE=1 of the epochs (half an hour, CPU)
	$(BIN)/python -m tests.reproduce_small demo/small --scale $(SCALE)

# Picture, 2D and 3D pose in one space: three steps a seed, two seeds at once, a thread each. Interrupted, it goes on.
ALIGN ?= full
align_recordings := $(if $(filter short,$(ALIGN)),28,168)
align_every := $(if $(filter short,$(ALIGN)),10,7)
align_steps1 := $(if $(filter short,$(ALIGN)),40,1500)
align_steps2 := $(if $(filter short,$(ALIGN)),6,220)
align_steps3 := $(if $(filter short,$(ALIGN)),6,200)
align_seeds := $(if $(filter short,$(ALIGN)),0,$(SEEDS))
align := demo/align-$(ALIGN)
align_train = OMP_NUM_THREADS=1 $(BIN)/skeltrain train unihpr_small_step$(1) --resume --set data.protocol=xsub \
  --set seed=$* --set optim.iterations=$(align_steps$(1)) --set epoch_steps=$(align_steps$(1))

demo-align: setup  ## pictures and poses in one space on generated data: trained, searched, a page (minutes, CPU); ALIGN=short
	$(MAKE) $(align)/crops.zarr
	$(MAKE) --jobs 2 --output-sync=recurse $(align_seeds:%=$(align)/seed%/evaluated/evaluation.json)
	$(BIN)/skeltrain embed $(align)/seed$(firstword $(align_seeds))/step3 $(align)/crops.zarr $(align)/gallery.zarr --overwrite
	$(BIN)/python -m skeltrain.align_report $(align_seeds:%=$(align)/seed%/evaluated) \
	  --gallery $(align)/gallery.zarr --store $(align)/crops.zarr --out $(align)/report.html

$(align)/h36m.zarr:
	$(BIN)/skelconv synth h36m $(align)/raw --seed 1 --recordings $(align_recordings) --frames 40 60 --workers 2 --overwrite --quiet
	$(BIN)/skelconv ingest h36m $(align)/raw $@ --joints 17 --with pixel --quiet

$(align)/crops.zarr: $(align)/h36m.zarr
	$(BIN)/skelconv draw $< $(align)/pictures --size 1000 1002 --every $(align_every) --workers 2 --quiet
	$(BIN)/skelconv crops $< $(align)/pictures $@ --every $(align_every) --workers 2 --quiet

$(align)/seed%/step1/evaluation.json: $(align)/crops.zarr
	$(call align_train,1) --store $(align)/h36m.zarr --set data.picture=[1000,1002] --out $(@D)

$(align)/seed%/step2/evaluation.json: $(align)/seed%/step1/evaluation.json
	$(call align_train,2) --store $(align)/crops.zarr --set init.weights=$(<D) --out $(@D)

$(align)/seed%/step3/evaluation.json: $(align)/seed%/step2/evaluation.json
	$(call align_train,3) --store $(align)/crops.zarr --set init.weights=$(<D) --out $(@D)

$(align)/seed%/evaluated/evaluation.json: $(align)/seed%/step3/evaluation.json
	OMP_NUM_THREADS=1 $(BIN)/skeltrain evaluate $(<D) --out $(@D) > /dev/null

.SECONDARY: $(foreach step,1 2 3,$(align_seeds:%=$(align)/seed%/step$(step)/evaluation.json)) $(align)/h36m.zarr

demo/ntu120.zarr: | setup
	$(BIN)/skelconv synth ntu120 demo/raw --recordings 480 --seed 0 --workers 2 --overwrite
	$(BIN)/skelconv ingest ntu120 demo/raw $@

# With no STORE: the demo's store and recipe; else the recipe that fits store and machine, unless RECIPE names one.
pretrain: setup $(if $(STORE),,demo/ntu120.zarr)  ## pretrain and probe: STORE=out.zarr RECIPE=name RUN=folder
	$(BIN)/skeltrain pretrain $(or $(RECIPE),$(if $(STORE),auto,demo)) \
	  --store $(or $(STORE),demo/ntu120.zarr) --out $(RUN) --resume
	$(BIN)/skeltrain probe $(RUN) --recipe $(or $(PROBE),$(if $(STORE),auto,demo_linprobe)) \
	  --store $(or $(STORE),demo/ntu120.zarr) --untrained

test: setup  ## the tests (under 12 minutes on 2 cores)
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile

test-slow: setup  ## the tests that take minutes each
	$(BIN)/python -m pytest -m slow

fuzz: setup  ## damaged files against every reader: MUTATIONS=50000 each, and the tests' targets FUZZ=100 times as long
	$(BIN)/python -m tests.fuzzing --mutations $(MUTATIONS)
	SKELCONV_FUZZ=$(FUZZ) $(BIN)/python -m pytest tests/skelformats -k "damage or mutated or fuzz"

attack: setup  ## kills, two writers, damage, full disks, bit flips, hostile stores; prints one table (minutes)
	$(BIN)/python -m tests.attack --scale $(ATTACK)

lint: setup  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup  ## let ruff lay out the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup  ## every benchmark, one after another
	set -e; for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script; done

docs: setup  ## check that what the documents say is true (tests of README and docs)
	$(BIN)/python -m pytest tests/test_docs.py

clean:  ## remove what the targets made, but not your stores
	rm -rf $(VENV) build dist demo runs *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
