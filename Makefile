# make demo     install, and run all notebooks on synthetic scenes; the last line names the report
# make install  install only
# make test     linters, unit tests and notebook checks
# make lab      JupyterLab on the tour
# make gallery  the course and an API reference as web pages
# make lint     linters and types
# make gpu      what only a GPU can show
# make soak     kills and bad inputs, an hour
# Another interpreter: make PYTHON=python3.12 demo

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo install test gpu soak lab gallery lint

demo: install
	$(BIN)/clippan run data_manifests/synthetic_wv3.yaml --preset demo

install: $(READY)
	@echo "The command is $(BIN)/clippan; after 'source $(BIN)/activate' it is clippan. Its options: $(BIN)/clippan --help"

# One thread per worker: two workers share two cores. Files are handed out in the order of tests/conftest.py.
test: lint
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# Less than eight minutes; fails where torch sees no GPU
gpu: $(READY)
	$(BIN)/python tests/gpu.py

soak: $(READY)
	$(BIN)/python -W ignore tests/soak.py

lab: $(READY)
	$(BIN)/jupyter lab notebooks/00_tour.ipynb

gallery: $(READY)
	$(BIN)/python docs/write_gallery.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(READY): pyproject.toml constraints.txt
	@test -x $(BIN)/pip || $(PYTHON) -c "$$OLD" $(PYTHON)
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	$(BIN)/uv pip install --python $(BIN)/python --system-certs --compile-bytecode -c constraints.txt -e '.[test,docs]'
	@touch $@

define OLD
import sys
v = sys.version_info[:2]
if v < (3, 11):
    sys.exit("CLIPPan needs Python 3.11 or newer; %s is %d.%d. Try: make PYTHON=python3.12 demo" % (sys.argv[1], v[0], v[1]))
endef
export OLD
