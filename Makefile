# make demo   sets up everything, then trains, exports, verifies, benches and says what to ship
# make test   sets up everything, then passes the tests
# Both need Python 3.11 (3.10 works, unpinned) and a package index; nothing else is downloaded.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
# Two processes share the tests, file by file; with more, 8 GiB of memory would not be enough.
PYTEST := $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test test-slow lint bench exported picture sbom clean

demo: $(INSTALLED)
	$(BIN)/lenet-edge run --output-dir demo

test: $(INSTALLED)
	$(PYTEST) -m "not slow"

test-slow: $(INSTALLED)
	$(PYTEST) -m slow

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# The committed results of this machine: parity and latency of the files in exported/.
bench: $(INSTALLED)
	$(BIN)/python -m benchmarks.record

# The committed reference artifacts, made anew, for any processor.
exported: $(INSTALLED)
	$(BIN)/lenet-edge train --recipe best --output exported/lenet.keras
	rm -rf exported/lenet.training
	$(BIN)/lenet-edge export --int8 --dynamic --cpu x86 \
		--format tflite --format onnx --format native --format wasm

# The picture at the top of README.md, from the newest committed results; needs chromium.
picture: $(INSTALLED)
	$(BIN)/python -m tests.picture

# The software bill of materials of what is installed, as CycloneDX. The tool has 25 dependencies of
# its own, so that it looks at our environment from another. Once it is there, this needs no network.
sbom: $(INSTALLED) build/sbom/bin/cyclonedx-py
	@mkdir -p dist
	build/sbom/bin/cyclonedx-py environment $(BIN)/python --pyproject pyproject.toml \
	  --output-format JSON --output-file dist/lenet-edge.cdx.json

build/sbom/bin/cyclonedx-py:
	$(PYTHON) -m venv build/sbom
	build/sbom/bin/pip install --quiet cyclonedx-bom==7.5.0

clean:
	rm -rf $(VENV) demo build dist

$(INSTALLED): pyproject.toml constraints.txt
	@echo "Setting up $(VENV) (a few minutes: TensorFlow is large) ..."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[host,report,test]'
	@touch $@
