# Each target sets up what it needs: a virtual environment in .venv, with pinned versions.
PYTHON ?= python3
BIN := .venv/bin
COMMA := ,
# what pip says is shown where it fails: with --quiet it keeps the reason to itself. Python compiles
# what is imported by itself: pip would compile all of every package, which takes as long as the rest
define install
	@echo "pip install $(1) (minutes where torch is fetched; .venv/install.log)"
	@$(BIN)/python -m pip install --no-compile -c constraints.txt $(1) >.venv/install.log 2>&1 || \
	  { tail -n 40 .venv/install.log; exit 1; }
endef

.PHONY: demo wheels test test-slow test-ray test-crash test-resolve test-install fuzz lint keywords docs clean

demo: .venv/installed            ## train on the embedded Lorenz data, print scores, draw a figure
	$(BIN)/python train.py experiment=lorenz trainer.device=cpu:0

test: .venv/installed-dev        ## the ordinary tests
	$(BIN)/python -m pytest -q -n auto --dist loadfile

test-slow: .venv/installed-dev   ## those that train for minutes
	$(call install,-e '.[dev$(COMMA)wandb$(COMMA)mlflow]')
	$(BIN)/python -m pytest -q -m slow

test-ray: .venv/installed-dev    ## those of the Ray engine
	$(call install,-e '.[ray]')
	$(BIN)/python -m pytest -q -m ray

fuzz: .venv/installed-dev        ## eleven minutes of fuzzing the readers, each for its share
	for target in session params config space checkpoint npy csv npz mat5 mat73 nwb; do \
	  $(BIN)/python tests/fuzz/fuzz.py $$target 55 || exit 1; \
	done

test-crash: .venv/installed-dev  ## kill 52 runs, continue them, compare: four to ten minutes
	$(BIN)/python -m benchmarks.crash --kills 52

test-resolve: .venv/installed-dev ## do the pins fit together, for every Python and system?
	$(BIN)/python -m pytest -q -n 8 -m 'resolve or not resolve' tests/test_install.py

# PYTHONS="python3.10 python3.13": these alone; INDEX=https://pypi.org/simple: without pip's settings
test-install: .venv/installed-dev ## the wheel, in a fresh environment of each Python found here
	$(BIN)/python tests/install.py $(if $(PYTHONS),--pythons $(PYTHONS)) $(if $(INDEX),--index $(INDEX))

lint: .venv/installed-dev        ## what CI asks of the code's form
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: .venv/installed            ## the site, docs/_build/html; its tutorials are trained: two minutes
	$(call install,-e '.[docs]')
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

# on Linux, for this machine; for arm64 too where Debian's g++-aarch64-linux-gnu is installed
wheels: .venv/installed-dev      ## the wheel for every system, and those that carry the compiled kernel: dist/
	$(BIN)/python -m build
	HATCH_BUILD_HOOK_ENABLE_CUSTOM=true $(BIN)/python -m build --wheel
	if command -v aarch64-linux-gnu-g++; then HATCH_BUILD_HOOK_ENABLE_CUSTOM=true LFADS_WHEEL_FOR=aarch64 \
	  CXX=aarch64-linux-gnu-g++ $(BIN)/python -m build --wheel; fi

keywords: .venv/installed        ## what editors complete, after a change of a parameter or key
	$(BIN)/python -m lfads_lightning.interface.signatures

clean:
	rm -rf .venv

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed, found " + sys.version)'
	$(PYTHON) -m venv .venv
	$(call install,-e .)
	touch $@

.venv/installed-dev: .venv/installed
	$(call install,-e '.[dev]')
	touch $@
