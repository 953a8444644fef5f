"""Export to one C file that needs no runtime: readable C11 without allocation or global state.

`compiler` makes the C file of any .tflite file; its kernels are the C files in the folder
``kernels``. `network` and `floats` write the float C file of a chain of Keras layers, with the
vector kernels in this folder.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

from lenet_edge import __version__
from lenet_edge.artifacts.artifact import Artifact, TensorSpec
from lenet_edge.errors import ModelFileError
from lenet_edge.export.converter import ConversionRequest, Converted
from lenet_edge.export.native import chain, compiler, floats, network, text, tflite_graph
from lenet_edge.export.native.calls import MOST_LANES
from lenet_edge.export.native.compiler import Compiled
from lenet_edge.export.onnx_model import OnnxModel
from lenet_edge.support.files import atomic_write

CONVERTER = f"lenet-edge {__version__} native"
# "dynamic": float convolutions and int8 dense weights. "int8" and "int4": the integers of
# TensorFlow Lite.
PRECISIONS = ("float32", "dynamic", "int8", "int4")
_INTEGERS = ("int8", "int4")


def convert(request: ConversionRequest) -> Converted:
    """Convert a float model to a C file.

    Raises:
        ModelFileError: a layer or an operator is not covered; the message names it.
    """
    code = write(request, text.identifier(request.name))
    return Converted(
        code.file(request.precision),
        tensors=(code.inputs, code.outputs),
        converter=_converter(request),
    )


def write(request: ConversionRequest, name: str, lanes: int = MOST_LANES) -> Compiled:
    """Return the C code of a float model.

    A chain of layers in float gets the kernels with vectors in `floats`. Any other model, int8 and
    int4 go through the .tflite file.

    Args:
        request: the model and its precision.
        name: the name of the C function.
        lanes: the number of floats in the widest vectors that the code will be compiled for.

    Raises:
        ModelFileError: a layer or an operator is not covered.
    """
    code = None
    # Other models than chains need the float32 file twice.
    to_tflite = functools.cache(functools.partial(_tflite, request))
    if request.precision not in _INTEGERS:
        try:
            code = _write_chain(request, name, lanes, to_tflite)
        except ModelFileError as error:
            if request.precision == "dynamic":
                raise ModelFileError(f"{error}; leave out dynamic") from error
    if code is None:
        content = to_tflite(request.precision)
        code = compiler.compile_tflite(content, name, request.name)
        if (len(code.inputs), len(code.outputs)) != (1, 1):
            raise ModelFileError("the native format of export has one input and one output")
    inputs, outputs = (
        tuple(
            dataclasses.replace(spec, shape=(request.batch_size, *spec.shape[1:])) for spec in specs
        )
        for specs in (code.inputs, code.outputs)
    )
    return dataclasses.replace(code, inputs=inputs, outputs=outputs)


def write_tflite(content: bytes, name: str, file_name: str) -> Compiled:
    """Return the C code of a .tflite file; a chain of layers in float gets the vector kernels.

    Args:
        content: the .tflite file.
        name: the name of the C function.
        file_name: the name of the .tflite file, for messages.

    Raises:
        ModelFileError: the file is damaged, or an operator is not covered.
    """
    compiled = compiler.compile_tflite(content, name, file_name)
    if compiled.has_integers or (len(compiled.inputs), len(compiled.outputs)) != (1, 1):
        return compiled
    try:
        layers, image, classes = chain.read(tflite_graph.read(content, file_name))
        code = _write_layers(name, layers, image, classes)
    except ModelFileError:
        return compiled
    return dataclasses.replace(code, inputs=compiled.inputs, outputs=compiled.outputs)


def _write_chain(
    request: ConversionRequest, name: str, lanes: int, to_tflite: Callable[[str], bytes]
) -> Compiled:
    """Return the C code of a chain of layers.

    Raises:
        ModelFileError: it is no such chain.
    """
    layers, image, classes = _chain(request, to_tflite)
    return _write_layers(name, layers, image, classes, request.precision == "dynamic", lanes)


def _write_layers(
    name: str,
    layers: list[network.NativeLayer],
    image: network.Shape,
    classes: int,
    int8: bool = False,
    lanes: int = MOST_LANES,
) -> Compiled:
    source, stack_bytes = floats.write(name, layers, image, classes, int8, lanes)
    return Compiled(
        source,
        name,
        stack_bytes,
        (TensorSpec("image", (None, *image), "float32"),),
        (TensorSpec("logits", (None, classes), "float32"),),
        layers=tuple(_layer_line(layer) for layer in layers),
    )


def _layer_line(layer: network.NativeLayer) -> str:
    if isinstance(layer, network.Pool):
        return text.layer_line("MaxPooling2D", layer.name, layer.output_shape, 0, 0)
    parameters = layer.kernel.size + layer.bias.size
    if isinstance(layer, network.Dense):
        shape: tuple[int, ...] = layer.kernel.shape[1:]
        return text.layer_line("Dense", layer.name, shape, parameters, layer.kernel.size)
    macs = layer.output_shape[0] * layer.output_shape[1] * layer.kernel.size
    return text.layer_line("Conv2D", layer.name, layer.output_shape, parameters, macs)


def _chain(
    request: ConversionRequest, to_tflite: Callable[[str], bytes]
) -> tuple[list[network.NativeLayer], network.Shape, int]:
    """Return the layers of a chain, the shape of its images, and the number of its logits."""
    model = request.model
    uncovered = None
    if not isinstance(model, OnnxModel):
        try:
            layers = network.read(model)
            return layers, tuple(model.inputs[0].shape[1:]), int(model.outputs[0].shape[-1])
        except ModelFileError as error:
            uncovered = error
    # The .tflite file has BatchNorm inside the weights of the layer before it.
    graph = tflite_graph.read(to_tflite("float32"), request.name)
    try:
        return chain.read(graph)
    except ModelFileError as error:
        raise uncovered or error from None


def _tflite(request: ConversionRequest, precision: str) -> bytes:
    from lenet_edge.export import tflite

    single = dataclasses.replace(request, batch_size=1, precision=precision)
    return tflite.convert(single).content


def _converter(request: ConversionRequest) -> str:
    is_onnx = isinstance(request.model, OnnxModel)
    return f"{OnnxModel.CONVERTER}, {CONVERTER}" if is_onnx else CONVERTER


def write_header(artifact: Artifact) -> None:
    """Write the .h file beside an exported .c file."""
    with atomic_write(artifact.path.with_suffix(".h")) as temporary:
        temporary.write_text(text.header(artifact), encoding="utf-8")
