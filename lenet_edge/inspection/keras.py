"""The layers of a .keras file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lenet_edge.artifacts.keras_file import loadable
from lenet_edge.errors import MissingPackageError
from lenet_edge.inspection.layer import Layer


def read(path: str) -> Iterator[Layer]:
    """Yield the layers, with the layers of nested models in place of the models."""
    try:
        import tensorflow as tf
    except ImportError:
        raise MissingPackageError("tensorflow", "host") from None
    with loadable(Path(path)) as file:
        model = tf.keras.models.load_model(file, compile=False, safe_mode=True)
    for layer in _flat(model):
        shape = tuple(layer.output.shape)
        positions = layer.input.shape if "Transpose" in type(layer).__name__ else shape
        kernels = [w for w in layer.weights if "kernel" in w.name and len(w.shape) > 1]
        yield Layer(
            name=layer.name,
            kind=type(layer).__name__,
            output_shape=shape,
            parameters=layer.count_params(),
            macs=sum(math.prod(kernel.shape) for kernel in kernels) * math.prod(positions[1:-1]),
            dense=isinstance(layer, tf.keras.layers.Dense),
        )


def _flat(model: Any) -> Iterator[Any]:
    for layer in model.layers:
        if hasattr(layer, "layers"):  # a nested model
            yield from _flat(layer)
        elif type(layer).__name__ != "InputLayer":
            yield layer
