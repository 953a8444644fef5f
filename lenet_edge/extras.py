"""The commands that install what an extra of this package brings.

They name the packages themselves. The name of an extra would need lenet-edge on a package index,
where it is not yet, and a bundle on a board is no installed package.
"""

from __future__ import annotations

import sys
from pathlib import Path

# The arguments of pip for each extra of pyproject.toml, with the versions that would not be the
# newest ones, or that an installed package may lack. A test compares both.
PACKAGES = {
    "litert": "ai-edge-litert",
    "tflite": "tflite-runtime 'numpy<2'",
    "onnx": "onnxruntime",
    "openvino": "openvino",
    "opencv": "'opencv-python-headless>=5'",
    "executorch": "executorch torch",
    "ncnn": "ncnn",
    "webgpu": "'onnxruntime>=1.24' onnxruntime-ep-webgpu",
    "npu": "'ai-edge-litert>=2.3' 'openvino>=2026.3.1,<2026.4'",
    "wasm": "wasmtime",
    "micro": "tflite-micro",
    "ethos-u": "ethos-u-vela",
    "predict": "pillow",
    "serve": "pillow tornado",
    "fleet": "cryptography distributed tomli",
    "host": (
        "ai-edge-litert flatbuffers litert-quantizer onnx onnxruntime tensorboard tensorflow"
        " tf2onnx"
    ),
    "report": "jinja2 matplotlib pillow",
}


def install_command(extra: str) -> str:
    """Return the command that installs the packages of an extra into this environment."""
    is_pipx = Path(sys.prefix, "pipx_metadata.json").exists()
    return f"{'pipx inject lenet-edge' if is_pipx else 'pip install'} {PACKAGES[extra]}"
