"""Export to one C file that needs no runtime: readable C11 without allocation or global state.

`compiler` makes the C file of any .tflite file; its kernels are the C files in the folder
``kernels``. `network` and `floats` write the float C file of a chain of Keras layers, with the
vector kernels in this folder.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from lenet_edge import __version__
from lenet_edge.artifacts.artifact import Artifact, TensorSpec
from lenet_edge.errors import ModelFileError
from lenet_edge.export.converter import ConversionRequest, Converted
from lenet_edge.export.native import (
    chain,
    compiler,
    floats,
    network,
    program,
    text,
    tflite_graph,
)
from lenet_edge.export.native.calls import MOST_LANES
from lenet_edge.export.onnx_model import OnnxModel
from lenet_edge.support.files import atomic_write

CONVERTER = f"lenet-edge {__version__} native"
# "dynamic": float convolutions and int8 dense weights. "int8": the integers of TensorFlow Lite.
PRECISIONS = ("float32", "dynamic", "int8")


def convert(request: ConversionRequest) -> Converted:
    """Convert a classifier to a C file.

    Raises:
        ModelFileError: a layer is not supported; the message names it.
    """
    name = text.identifier(request.name)
    written = write(request, name)
    contract = tensors_contract(written.tensors)
    top = text.top(
        name, request.precision, written.memory_bytes, contract, is_static=written.is_static
    )
    content = f"{top}\n{written.source}".encode()
    return Converted(content, tensors=written.tensors, converter=_converter(request))


@dataclass(frozen=True)
class Written:
    """The C code of a model.

    Attributes:
        source: the file, without the comment at its top.
        memory_bytes: the memory for activations.
        is_static: True if this memory is a static array, False if it is on the stack.
        tensors: the input and the output.
    """

    source: str
    memory_bytes: int
    is_static: bool
    tensors: tuple[TensorSpec, TensorSpec]


def write(request: ConversionRequest, name: str, lanes: int = MOST_LANES) -> Written:
    """Return the C code of a model.

    A chain of layers in float gets the kernels with vectors in `floats`. Other graphs of .onnx
    files, and all graphs in int8, get those of `compiler`.

    Args:
        request: the model and its precision.
        name: the name of the C function.
        lanes: the number of floats in the widest vectors that the code will be compiled for.
    """
    source, memory_bytes, is_compiled, specs = _write(request, name, lanes)
    inputs, outputs = (
        dataclasses.replace(spec, shape=(request.batch_size, *spec.shape[1:])) for spec in specs
    )
    is_static = is_compiled and memory_bytes > program.STACK_ARENA_BYTES
    return Written(source, memory_bytes, is_static, (inputs, outputs))


def _write(
    request: ConversionRequest, name: str, lanes: int
) -> tuple[str, int, bool, tuple[TensorSpec, TensorSpec]]:
    """Return the code, its bytes of memory, whether `compiler` wrote it, and the tensors."""
    if request.precision != "int8":
        try:
            layers, image, classes = _chain(request)
            is_int8 = request.precision == "dynamic"
            source, stack_bytes = floats.write(name, layers, image, classes, is_int8, lanes)
        except ModelFileError:
            if request.precision == "dynamic" or not isinstance(request.model, OnnxModel):
                raise
        else:
            specs = (
                TensorSpec("image", (None, *image), "float32"),
                TensorSpec("logits", (None, classes), "float32"),
            )
            return source, stack_bytes, False, specs
    compiled = compiler.compile_tflite(_tflite(request, request.precision), name, request.name)
    if (len(compiled.inputs), len(compiled.outputs)) != (1, 1):
        raise ModelFileError("the native format of export has one input and one output")
    return compiled.source, compiled.arena_bytes, True, (compiled.inputs[0], compiled.outputs[0])


def _chain(request: ConversionRequest) -> tuple[list[network.NativeLayer], network.Shape, int]:
    """Return the layers of a chain, the shape of its images, and the number of its logits."""
    model = request.model
    if isinstance(model, OnnxModel):
        graph = tflite_graph.read(_tflite(request, "float32"), request.name)
        return chain.read(graph)
    image = tuple(model.inputs[0].shape[1:])
    return network.read(model), image, int(model.outputs[0].shape[-1])


def _tflite(request: ConversionRequest, precision: str) -> bytes:
    from lenet_edge.export import tflite

    single = dataclasses.replace(request, batch_size=1, precision=precision)
    return tflite.convert(single).content


def _converter(request: ConversionRequest) -> str:
    is_onnx = isinstance(request.model, OnnxModel)
    return f"{OnnxModel.CONVERTER}, {CONVERTER}" if is_onnx else CONVERTER


def tensors_contract(tensors: tuple[TensorSpec, TensorSpec]) -> dict[str, Any]:
    """Return the part of the contract that describes the tensors; a session needs no more."""
    inputs, outputs = ([dataclasses.asdict(spec)] for spec in tensors)
    return {"inputs": inputs, "outputs": outputs}


def write_header(artifact: Artifact) -> None:
    """Write the .h file beside an exported .c file."""
    with atomic_write(artifact.path.with_suffix(".h")) as temporary:
        temporary.write_text(text.header(artifact), encoding="utf-8")
