"""Table of the file formats: one row per format.

This module imports nothing from the package, so that the command line and a board can read it
cheaply. A row names heavy code by a string, ``"module"`` or ``"module:function"``, which `load`
imports on use. `tests/test_formats.py` resolves and type-checks every string.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

HEAD_BYTES = 8

# checkpoint: the float model that export starts from; it is not deployed, served or ranked.
# model: a file that a runtime executes.
# program: source code; it is built and run only if the user names the file.
# browser: a file that `serve` sends to the browser, which executes it.
Role = Literal["checkpoint", "model", "program", "browser"]


@dataclass(frozen=True)
class Format:
    """One file format: how its files are named, recognized, read and made.

    Attributes:
        name: the name in manifests and after ``--format``.
        suffix: the end of the file name, with the dot, in small letters.
        magic: matches the first 8 bytes of every file of this format.
        role: the use of a file, see `Role`.
        check: function of a `Path` that raises `ModelFileError` for an unsafe file.
        contract_reader: `artifacts.embedded.ContractReader`. None: only the manifest describes
            the file.
        contract_writer: `export.converter.ContractWriter`, the counterpart of `contract_reader`.
        layers: module that lists the layers, `inspection.layer.LayerReader`.
        graph: function that reads the whole graph, `inspection.graph.GraphReader`. None: `inspect`
            shows the layers alone.
        converter: module that makes files from a checkpoint, `export.converter.Converter`.
            None: `export` does not offer this format.
        parts: function of a `Path` that returns the names of the further files that hold a part of
            the model, such as weights, relative to its folder. None: the model is one file.
        companion: `export.converter.CompanionWriter`, which writes a file beside each artifact.
        opened_by: name of the target with which `export` opens a file that it made.
        tag: part of the file name between the checkpoint's name and the precision.
        other_suffixes: names that other tools give to files of this format.
    """

    name: str
    suffix: str
    magic: re.Pattern[bytes]
    role: Role
    check: str | None = None
    contract_reader: str | None = None
    contract_writer: str | None = None
    layers: str | None = None
    graph: str | None = None
    converter: str | None = None
    parts: str | None = None
    companion: str | None = None
    opened_by: str | None = None
    tag: str = ""
    other_suffixes: tuple[str, ...] = ()


FORMATS = (
    Format(
        name="tflite",
        suffix=".tflite",
        magic=re.compile(rb"(?s).{4}TFL3"),  # the FlatBuffers file identifier
        role="model",
        contract_reader="lenet_edge.artifacts.embedded:read_tflite",
        contract_writer="lenet_edge.export.embed:embed_tflite",
        layers="lenet_edge.inspection.tflite",
        graph="lenet_edge.inspection.tflite:read_graph",
        converter="lenet_edge.export.tflite",
        opened_by="litert-reference",  # the plain kernels accept every precision
        other_suffixes=(".lite",),
    ),
    Format(
        name="onnx",
        suffix=".onnx",
        magic=re.compile(rb"\x08[\x01-\x3f]"),  # ModelProto field 1: ir_version
        role="model",
        check="lenet_edge.artifacts.embedded:check_external_data",
        parts="lenet_edge.artifacts.embedded:external_data",
        contract_reader="lenet_edge.artifacts.embedded:read_onnx",
        contract_writer="lenet_edge.export.embed:embed_onnx",
        layers="lenet_edge.inspection.onnx",
        graph="lenet_edge.inspection.onnx:read_graph",
        converter="lenet_edge.export.onnx",
        opened_by="onnxruntime-cpu",
    ),
    Format(
        name="keras",
        suffix=".keras",
        magic=re.compile(rb"PK|\x89HDF\r\n\x1a\n"),  # a zip archive; before Keras 3, HDF5
        role="checkpoint",
        check="lenet_edge.artifacts.keras_file:check_keras_file",
        layers="lenet_edge.inspection.keras",
        graph="lenet_edge.inspection.keras:read_graph",
        other_suffixes=(".h5", ".hdf5"),
    ),
    Format(
        name="native",
        suffix=".c",
        magic=re.compile(rb"/\* Neura"),  # the first line of the C files that `export` writes
        role="program",
        contract_reader="lenet_edge.artifacts.embedded:read_native",
        contract_writer="lenet_edge.export.native.text:with_contract",
        layers="lenet_edge.inspection.native",
        graph="lenet_edge.inspection.native:read_graph",
        converter="lenet_edge.export.native",
        companion="lenet_edge.export.native:write_header",
        opened_by="native-cpu",
        tag="_native",  # `--format c` writes a .c file too, which holds a .tflite file
    ),
    Format(
        name="wasm",
        suffix=".wasm",
        magic=re.compile(rb"\0asm\x01\0\0\0"),  # WebAssembly, version 1
        role="browser",
        contract_reader="lenet_edge.artifacts.embedded:read_wasm",
        contract_writer="lenet_edge.export.embed:embed_wasm",
        converter="lenet_edge.export.wasm",
        opened_by="wasmtime-cpu",
    ),
    Format(
        name="executorch",
        suffix=".pte",
        magic=re.compile(rb"(?s).{4}ET\d\d"),  # the FlatBuffers file identifier
        role="model",
    ),
    Format(
        name="ncnn",
        suffix=".param",
        magic=re.compile(rb"7767517\s"),
        role="model",
        check="lenet_edge.artifacts.ncnn_file:check_weights",
        parts="lenet_edge.artifacts.ncnn_file:weights_names",
        contract_reader="lenet_edge.artifacts.ncnn_file:read_ncnn",
        contract_writer="lenet_edge.artifacts.ncnn_file:embed_ncnn",
        layers="lenet_edge.inspection.ncnn",
        graph="lenet_edge.inspection.ncnn:read_graph",
        converter="lenet_edge.export.ncnn",
        opened_by="ncnn-cpu",
        tag="_ncnn",  # the name of the .bin file says what it belongs to
    ),
)
BY_NAME = {format.name: format for format in FORMATS}
BY_SUFFIX = {
    suffix: format for format in FORMATS for suffix in (format.suffix, *format.other_suffixes)
}
# Files that have no row. Each advice completes the sentence "<file> is ...".
_PYTORCH = (
    "a PyTorch file; make an .onnx file of its model:"
    " torch.onnx.export(model, example_image, 'model.onnx'); docs/pytorch.md has all steps"
)
_EXPORT_ONNX = "lenet-edge does not run; export the model as .onnx from the program that trained it"
_CORE_ML = f"a Core ML file for Apple's devices, which {_EXPORT_ONNX}"
_SOURCE = "lenet-edge does not run; name the .onnx or .tflite file that it was converted from"
_TENSORRT = f"a TensorRT engine for one GPU, which {_SOURCE}"
_OPENVINO = (
    f"a file of an OpenVINO model, which {_SOURCE}; OpenVINO runs both: --target openvino-cpu"
)
_PADDLE = (
    "a PaddlePaddle file; make an .onnx file of its model: paddle2onnx --model_dir FOLDER"
    " --save_file model.onnx"
)
_PICKLE = "a Python pickle, which would run code; export its model as .onnx where it was made"
_WEIGHTS = "a file of weights without a network; load it into its model, and save that as .keras or"
ADVICE = {
    ".pt": _PYTORCH,
    ".pth": _PYTORCH,
    ".pt2": _PYTORCH,
    ".ptl": _PYTORCH,
    ".torchscript": _PYTORCH,
    ".ckpt": "a training checkpoint; load it into its model there, and save the model as .keras"
    " or .onnx",
    ".safetensors": f"{_WEIGHTS} .onnx",
    ".gguf": "a file for llama.cpp; lenet-edge is for networks of images and sensors",
    ".pkl": _PICKLE,
    ".joblib": f"{_PICKLE}, such as with skl2onnx",
    ".pb": "a TensorFlow graph; make a .tflite file of its SavedModel folder:"
    " tf.lite.TFLiteConverter.from_saved_model(FOLDER).convert()",
    ".zip": "an archive; unpack it and name the model file in it",
    ".task": "a MediaPipe archive; unpack it (unzip) and name the .tflite file in it",
    ".mlmodel": _CORE_ML,
    ".mlpackage": _CORE_ML,
    ".mlmodelc": _CORE_ML,
    ".engine": _TENSORRT,
    ".plan": _TENSORRT,
    ".trt": _TENSORRT,
    ".mnn": f"an MNN file, which {_SOURCE}",
    ".xml": _OPENVINO,
    ".bin": "a file of weights; name the model file, such as .param, .onnx or .tflite",
    ".ort": f"a file of ONNX Runtime's own format, which {_SOURCE}",
    ".pdmodel": _PADDLE,
    ".pdiparams": _PADDLE,
    ".caffemodel": f"a Caffe file, which {_EXPORT_ONNX}",
    ".rknn": f"a file for Rockchip's NPU, which {_SOURCE}",
    ".hef": f"a file for Hailo's NPU, which {_SOURCE}",
    ".dlc": f"a file for Qualcomm's SNPE, which {_SOURCE}",
    ".kmodel": f"a file for Canaan's NPU, which {_SOURCE}",
    ".vmfb": f"a file for IREE, which {_SOURCE}",
    ".onnx_data": "the weights of an .onnx file; name the .onnx file beside it",
}
EXPORTED = tuple(format.name for format in FORMATS if format.converter)
# These are no file formats: c adds a C array of the int8 .tflite file, and firmware a folder with
# the int8 C file for a board.
EXPORT_CHOICES = (*EXPORTED, "c", "firmware")


def format_of(path: Path) -> Format | None:
    """Return the format that a file's suffix names, in small or capital letters, None if none."""
    return BY_SUFFIX.get(path.suffix.lower())


def recognize(head: bytes) -> Format | None:
    """Return the first format that matches the first 8 bytes of a file, None if none does."""
    return next((format for format in FORMATS if format.magic.match(head)), None)


def load(reference: str) -> Any:
    """Import the module, or the function of a module, that a field of `Format` names."""
    module, _, function = reference.partition(":")
    imported = importlib.import_module(module)
    return getattr(imported, function) if function else imported
