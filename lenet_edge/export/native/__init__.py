"""Export to one C file that needs no runtime: readable, C11, no allocation, no state.

`network` reads the Keras model, `floats` and `integers` write it; the C text is in the files
beside them.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from lenet_edge import __version__
from lenet_edge.artifacts.artifact import Artifact, TensorSpec
from lenet_edge.export.native import floats, integers, network, text
from lenet_edge.export.native.calls import MOST_LANES
from lenet_edge.support.files import atomic_write
from lenet_edge.target import Images

CONVERTER = f"lenet-edge {__version__} native"
# "dynamic": float convolutions and int8 dense weights; "int8": TensorFlow Lite's own integers.
PRECISIONS = ("float32", "dynamic", "int8")


def convert(
    model: Any,
    precision: str,
    calibration: Images,
    batch_size: int | None = None,
    name: str = "lenet",
) -> bytes:
    """Return the C file of a sequential Keras classifier.

    Args:
        model: the Keras model.
        precision: one of `PRECISIONS`.
        calibration: images that set the ranges of int8 activations: float32 of shape
            (N, height, width, channels), scaled as in training.
        batch_size: None leaves the batch free.
        name: of the C function.

    Raises:
        ModelFileError: a layer is not covered; the message names it.
    """
    source, stack_bytes, contract = write(model, precision, calibration, batch_size, name)
    return f"{text.top(name, precision, stack_bytes, contract)}\n{source}".encode()


def write(
    model: Any,
    precision: str,
    calibration: Images,
    batch_size: int | None,
    name: str,
    lanes: int = MOST_LANES,
) -> tuple[str, int, dict[str, Any]]:
    """Return what `convert` makes a file of: the C code, its stack in bytes, and the tensors.

    `lanes` are those of the widest vectors that the code will be built for.
    """
    image = tuple(model.inputs[0].shape[1:])
    layers = network.read(model)
    if precision == "int8":
        from lenet_edge.export import tflite

        content = tflite.convert(model, precision, calibration, batch_size=1)
        source, stack_bytes, specs = integers.write(name, content)
    else:
        classes = int(model.outputs[0].shape[-1])
        source, stack_bytes = floats.write(
            name, layers, image, classes, precision == "dynamic", lanes
        )
        specs = (
            TensorSpec("image", (None, *image), "float32"),
            TensorSpec("logits", (None, classes), "float32"),
        )
    inputs, outputs = (
        [dataclasses.asdict(dataclasses.replace(spec, shape=(batch_size, *spec.shape[1:])))]
        for spec in specs
    )
    return source, stack_bytes, {"inputs": inputs, "outputs": outputs}


def tensors(content: bytes) -> dict[str, tuple[TensorSpec, ...]]:
    """Return the ``inputs`` and ``outputs`` that a C file made here says it has."""
    facts = text.contract_of(content)
    return {
        side: tuple(TensorSpec(**spec) for spec in facts[side]) for side in ("inputs", "outputs")
    }


def write_header(artifact: Artifact) -> None:
    """Write the .h file beside an exported .c file."""
    with atomic_write(artifact.path.with_suffix(".h")) as temporary:
        temporary.write_text(text.header(artifact), encoding="utf-8")
