"""The Python of docs/pytorch.md, in an environment with PyTorch."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import LenetEdge
from tests.onnx_models import LENET
from tests.test_docs import TEXTS

# The Python of an environment with torch, onnx and onnxscript.
PYTHON = os.environ.get("LENET_EDGE_TORCH_PYTHON", sys.executable)


@pytest.mark.slow
def test_the_page_trains_and_writes_files_that_export_takes(
    lenet_edge_here: LenetEdge, tmp_path: Path
) -> None:
    found = subprocess.run([PYTHON, "-c", "import torch, onnxscript"], capture_output=True)
    if found.returncode:
        pytest.skip("torch and onnxscript are not installed; name a Python that has them in"
                    " LENET_EDGE_TORCH_PYTHON")  # fmt: skip
    images, labels = LENET.data("train", 2000)
    np.savez(tmp_path / "images.npz", images=images, labels=labels)
    train, newer, older = re.findall(r"^```python\n(.*?)^```", TEXTS["pytorch.md"], re.M | re.S)
    older = older.replace("digits.onnx", "older.onnx")
    done = subprocess.run(
        [PYTHON, "-c", "\n".join((train, newer, older))],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name in ("digits", "older"):
        done = lenet_edge_here(
            "export", f"{name}.onnx", "--int8", *LENET.options(), "--calibration", "images.npz",
            "--format", "tflite", "--output-dir", "out",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        verified = lenet_edge_here("verify", f"out/{name}_int8.tflite", "--target", "litert")
        assert verified.returncode == 0, verified.stdout
        assert "pass" in verified.stdout
