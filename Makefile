# make demo | run | test | check | bench | train. The first of them sets everything up.
PYTHON_IN_VENV := .venv/bin/python
READY := .venv/.ready

.PHONY: demo run test check format bench train clean

$(READY): pyproject.toml scripts/setup.sh
	@sh scripts/setup.sh

demo: $(READY)
	@$(PYTHON_IN_VENV) -m bench.demo

run: $(READY)
	@STATE_DIRECTORY=$(CURDIR)/.run/state RUNTIME_DIRECTORY=$(CURDIR)/.run sh scripts/run.sh

test: $(READY)
	@$(PYTHON_IN_VENV) -m pytest

check: $(READY)
	@$(PYTHON_IN_VENV) -m ruff check .
	@$(PYTHON_IN_VENV) -m ruff format --check .
	@$(PYTHON_IN_VENV) -m mypy
	@$(PYTHON_IN_VENV) -m pytest tests/test_house.py

format: $(READY)
	@$(PYTHON_IN_VENV) -m ruff check --fix . ; $(PYTHON_IN_VENV) -m ruff format .

bench: $(READY)
	@$(PYTHON_IN_VENV) -m pip install --disable-pip-version-check -q -e '.[bench]'
	@for subject in accuracy intent footprint chaos; do $(PYTHON_IN_VENV) -m bench.$$subject; done

# Trains the bundled model anew and puts it into the package; an hour and a half on two cores.
train: $(READY)
	@$(PYTHON_IN_VENV) -m pip install --disable-pip-version-check -q 'torch==2.13.0' -e '.[training]'
	@OMP_WAIT_POLICY=passive $(PYTHON_IN_VENV) -m training.train --minutes 88 --out .run/training
	@$(PYTHON_IN_VENV) -m training.export .run/training

clean:
	rm -rf .run .pytest_cache .mypy_cache .ruff_cache
