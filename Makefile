# make demo    set up everything, then train, export, verify, bench and recommend a file to ship.
#              OPTIONS of `lenet-edge run` shorten it: make demo OPTIONS='--epochs 1'
# make test    set up everything, then run the tests
# make quick   run the tests that need no training and no export: 90 seconds on two cores
# make wheel   build dist/lenet_edge-VERSION-py3-none-any.whl, for pip and pipx
# Set-up needs Python 3.10 to 3.13 with venv (Debian: python3-venv) and a package index.
# Nothing else is downloaded. The newest Keras for Python 3.10 cannot open the committed .keras files.

PYTHON ?= python3
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
PINS := $(wildcard constraints/$(VERSION).txt)
OPTIONS :=
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed-$(VERSION)
# Two processes share the tests, file by file. More processes need more than 8 GiB of memory.
PYTEST := $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Containers often set it. Without cached bytecode, each of the thousand processes that the tests
# start compiles the package again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-slow quick lint bench exported picture constraints sbom wheel clean

demo: $(INSTALLED)
	$(BIN)/lenet-edge run --output-dir demo $(OPTIONS)

# The benchmarks run one call each, in a process of their own: beside TensorFlow, which other tests
# import, tflite-runtime cannot open a file.
test: $(INSTALLED)
	$(PYTEST) -m "not slow" tests
	$(BIN)/pytest --quiet --benchmark-disable benchmarks

test-slow: $(INSTALLED)
	$(PYTEST) -m slow

quick: $(INSTALLED)
	$(PYTEST) -m quick

# On Python 3.10 or 3.11: mypy checks for 3.10, where it cannot read the types of a newer NumPy.
lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.prose

# The committed results of this machine: parity and latency of the files in exported/.
bench: $(INSTALLED)
	$(BIN)/python -m benchmarks.record

# The committed reference artifacts, for any processor.
exported: $(INSTALLED)
	$(BIN)/lenet-edge train --recipe best --output exported/lenet.keras
	rm -rf exported/lenet.training
	$(BIN)/lenet-edge export --int8 --dynamic --cpu x86 \
		--format tflite --format onnx --format native --format wasm

# The picture at the top of README.md, from the newest committed results. Needs chromium.
picture: $(INSTALLED)
	$(BIN)/python -m tests.picture

# The pinned packages of each Python version. uv resolves for a Python that is not installed.
# A pin changes only where pyproject.toml requires it: delete its line to take the newest release.
constraints: build/uv/bin/uv
	for version in 3.10 3.11 3.12 3.13; do \
	  build/uv/bin/uv pip compile --quiet --python-version $$version \
	    --python-platform x86_64-manylinux_2_28 --extra host --extra report --extra test \
	    --no-annotate --custom-compile-command "make constraints" \
	    --output-file constraints/$$version.txt pyproject.toml || exit; \
	done

build/uv/bin/uv:
	$(PYTHON) -m venv build/uv
	build/uv/bin/pip install --quiet uv==0.13.9

# The software bill of materials of the installed packages, as CycloneDX. The tool has 25
# dependencies, so it gets an environment of its own. Once installed, it needs no network.
sbom: $(INSTALLED) build/sbom/bin/cyclonedx-py
	@mkdir -p dist
	build/sbom/bin/cyclonedx-py environment $(BIN)/python --pyproject pyproject.toml \
	  --output-format JSON --output-file dist/lenet-edge.cdx.json

build/sbom/bin/cyclonedx-py:
	$(PYTHON) -m venv build/sbom
	build/sbom/bin/pip install --quiet cyclonedx-bom==7.5.0

# The wheel, in dist/. The same sources give the same bytes: the versions of its tools are pinned,
# and hatchling gives all files one date.
wheel: build/wheel/bin/python
	rm -f dist/lenet_edge-*.whl
	build/wheel/bin/python -m build --wheel --no-isolation --outdir dist .

build/wheel/bin/python:
	rm -rf build/wheel
	$(PYTHON) -m venv build/wheel
	build/wheel/bin/pip install --quiet build==1.6.1 hatchling==1.33.0 || { rm -rf build/wheel; exit 1; }

clean:
	rm -rf $(VENV) demo build dist

# An environment of another Python version is deleted. Without its own constraints, a Python
# version gets the newest packages.
$(INSTALLED): pyproject.toml $(PINS)
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) cannot make a virtual environment; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@echo "Setting up $(VENV) (a few minutes: TensorFlow is large) ..."
	@ls $(VENV)/lib/python$(VERSION) >/dev/null 2>&1 || rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet $(PINS:%=--constraint %) --editable '.[host,report,test]'
	@touch $@
