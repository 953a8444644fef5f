"""Export to one C file that needs no runtime: readable C11 without allocation or global state.

`compiler` makes the C file of any .tflite file; its kernels are the C files in the folder
``kernels``. `network` and `floats` write the float C file of a chain of Keras layers, with the
vector kernels in this folder.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from lenet_edge import __version__
from lenet_edge.artifacts.artifact import Artifact, TensorSpec
from lenet_edge.export.converter import ConversionRequest, Converted
from lenet_edge.export.native import compiler, floats, network, program, text
from lenet_edge.export.native.calls import MOST_LANES
from lenet_edge.support.files import atomic_write

CONVERTER = f"lenet-edge {__version__} native"
# "dynamic": float convolutions and int8 dense weights. "int8": the integers of TensorFlow Lite.
PRECISIONS = ("float32", "dynamic", "int8")


def convert(request: ConversionRequest) -> Converted:
    """Convert a sequential Keras classifier to a C file.

    Raises:
        ModelFileError: a layer is not supported; the message names it.
    """
    name = text.identifier(request.name)
    source, bytes_needed, tensors = write(request, name)
    is_static = request.precision == "int8" and bytes_needed > program.STACK_ARENA_BYTES
    contract = tensors_contract(tensors)
    top = text.top(name, request.precision, bytes_needed, contract, is_static=is_static)
    return Converted(f"{top}\n{source}".encode(), tensors=tensors)


def write(
    request: ConversionRequest, name: str, lanes: int = MOST_LANES
) -> tuple[str, int, tuple[TensorSpec, TensorSpec]]:
    """Return the C code of a model, the bytes of memory that it needs, and its tensors.

    Args:
        request: the model and its precision.
        name: the name of the C function.
        lanes: the number of floats in the widest vectors that the code will be compiled for.
    """
    model = request.model
    if request.precision == "int8":
        from lenet_edge.export import tflite

        single = dataclasses.replace(request, batch_size=1)
        compiled = compiler.compile_tflite(tflite.convert(single).content, name, request.name)
        source, bytes_needed = compiled.source, compiled.arena_bytes
        specs = compiled.inputs[0], compiled.outputs[0]
    else:
        image = tuple(model.inputs[0].shape[1:])
        classes = int(model.outputs[0].shape[-1])
        source, bytes_needed = floats.write(
            name, network.read(model), image, classes, request.precision == "dynamic", lanes
        )
        specs = (
            TensorSpec("image", (None, *image), "float32"),
            TensorSpec("logits", (None, classes), "float32"),
        )
    inputs, outputs = (
        dataclasses.replace(spec, shape=(request.batch_size, *spec.shape[1:])) for spec in specs
    )
    return source, bytes_needed, (inputs, outputs)


def tensors_contract(tensors: tuple[TensorSpec, TensorSpec]) -> dict[str, Any]:
    """Return the part of the contract that describes the tensors; a session needs no more."""
    inputs, outputs = ([dataclasses.asdict(spec)] for spec in tensors)
    return {"inputs": inputs, "outputs": outputs}


def write_header(artifact: Artifact) -> None:
    """Write the .h file beside an exported .c file."""
    with atomic_write(artifact.path.with_suffix(".h")) as temporary:
        temporary.write_text(text.header(artifact), encoding="utf-8")
