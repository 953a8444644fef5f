"""Export to one C file that needs no runtime: readable C11 without allocation or global state.

`network` reads the Keras model. `floats` and `integers` write it as C. The kernels are the C files
in this folder.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from lenet_edge import __version__
from lenet_edge.artifacts.artifact import Artifact, TensorSpec
from lenet_edge.export.converter import ConversionRequest, Converted
from lenet_edge.export.native import floats, integers, network, text
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
    source, stack_bytes, tensors = write(request, name)
    top = text.top(name, request.precision, stack_bytes, tensors_contract(tensors))
    return Converted(f"{top}\n{source}".encode(), tensors=tensors)


def write(
    request: ConversionRequest, name: str, lanes: int = MOST_LANES
) -> tuple[str, int, tuple[TensorSpec, TensorSpec]]:
    """Return the C code of a model, the bytes of stack that it needs, and its tensors.

    Args:
        request: the model and its precision.
        name: the name of the C function.
        lanes: the number of floats in the widest vectors that the code will be compiled for.
    """
    model = request.model
    image = tuple(model.inputs[0].shape[1:])
    layers = network.read(model)
    if request.precision == "int8":
        from lenet_edge.export import tflite

        single = dataclasses.replace(request, batch_size=1)
        source, stack_bytes, specs = integers.write(name, tflite.convert(single).content)
    else:
        classes = int(model.outputs[0].shape[-1])
        source, stack_bytes = floats.write(
            name, layers, image, classes, request.precision == "dynamic", lanes
        )
        specs = (
            TensorSpec("image", (None, *image), "float32"),
            TensorSpec("logits", (None, classes), "float32"),
        )
    inputs, outputs = (
        dataclasses.replace(spec, shape=(request.batch_size, *spec.shape[1:])) for spec in specs
    )
    return source, stack_bytes, (inputs, outputs)


def tensors_contract(tensors: tuple[TensorSpec, TensorSpec]) -> dict[str, Any]:
    """Return the part of the contract that describes the tensors; a session needs no more."""
    inputs, outputs = ([dataclasses.asdict(spec)] for spec in tensors)
    return {"inputs": inputs, "outputs": outputs}


def write_header(artifact: Artifact) -> None:
    """Write the .h file beside an exported .c file."""
    with atomic_write(artifact.path.with_suffix(".h")) as temporary:
        temporary.write_text(text.header(artifact), encoding="utf-8")
