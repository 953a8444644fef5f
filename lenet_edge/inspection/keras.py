"""The layers of a .keras file."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lenet_edge.artifacts.keras_file import loadable
from lenet_edge.errors import MissingPackageError
from lenet_edge.inspection.graph import GraphTensor, ModelGraph
from lenet_edge.inspection.layer import Layer
from lenet_edge.support.safe_import import outside_of_the_current_folder

# Layers whose matrix products are not those of their kernels alone.
_UNCOUNTED = ("Attention", "AdditiveAttention", "MultiHeadAttention", "GroupQueryAttention",
              "GroupedQueryAttention", "EinsumDense", "Dot", "TFSMLayer")  # fmt: skip


def read(path: str) -> tuple[Layer, ...]:
    """Return the layers, with the layers of nested models in place of the models."""
    return read_graph(Path(path)).layers


def read_graph(path: Path) -> ModelGraph:
    """Read a .keras or .h5 file.

    Raises:
        MissingPackageError: TensorFlow is not installed.
        ModelFileError: the file is damaged, or needs code of its own.
    """
    try:
        with outside_of_the_current_folder():
            import tensorflow as tf

            _ = tf.keras.layers  # imports Keras, which imports matplotlib
    except ImportError:
        raise MissingPackageError("tensorflow", "host") from None
    with loadable(path) as file:
        model = tf.keras.models.load_model(file, compile=False, safe_mode=True)
    layers = tuple(
        Layer(
            name=layer.name,
            kind=type(layer).__name__,
            output_shape=_shape(layer.output),
            parameters=layer.count_params(),
            macs=_macs(layer, calls),
            dense=isinstance(layer, tf.keras.layers.Dense),
            parameter_bytes=sum(
                math.prod(weight.shape) * tf.as_dtype(weight.dtype).size for weight in layer.weights
            ),
        )
        for layer, calls in _flat(model)
    )
    inputs, outputs = (_tensors(getattr(model, side, None)) for side in ("inputs", "outputs"))
    return dataclasses.replace(ModelGraph.of_layers(layers), inputs=inputs, outputs=outputs)


def _tensors(tensors: Any) -> tuple[GraphTensor, ...] | None:
    if not isinstance(tensors, (list, tuple)):
        return None
    return tuple(
        GraphTensor(tensor.name, str(tensor.dtype), tuple(tensor.shape)) for tensor in tensors
    )


def _flat(model: Any) -> Iterator[tuple[Any, int]]:
    """Yield each layer once, with the number of its calls."""
    graph = getattr(model, "_functional", None) or model
    by_depth = getattr(graph, "_nodes_by_depth", {})
    nodes = {id(node) for nodes in by_depth.values() for node in nodes}
    for layer in model.layers:
        if hasattr(layer, "layers"):  # a nested model
            yield from _flat(layer)
        elif type(layer).__name__ != "InputLayer":
            yield layer, max(1, sum(id(node) in nodes for node in layer._inbound_nodes))


def _shape(tensor: Any) -> Any:
    """Return the shape of a tensor, or of the first of several."""
    while isinstance(tensor, (list, tuple)):
        tensor = tensor[0]
    return tuple(tensor.shape)


def _macs(layer: Any, calls: int) -> int | None:
    import tensorflow as tf

    layers = tf.keras.layers
    kernels = [w for w in layer.weights if "kernel" in w.name and len(w.shape) > 1]
    inner = getattr(layer, "layer", layer)  # of a wrapper, such as TimeDistributed
    if type(inner).__name__ in _UNCOUNTED or (inner is not layer and hasattr(inner, "layers")):
        return None
    if not kernels:
        return 0
    shape, source = _shape(layer.output), _shape(layer.input)
    recurrent = (layers.RNN, layers.Bidirectional)
    if isinstance(inner, recurrent) and inner is not layer:
        return None
    if isinstance(layer, recurrent):
        # The kernels multiply once per step, and those of a ConvLSTM once per position too.
        channels_first = getattr(layer, "data_format", None) == "channels_first"
        rest = shape[2 if getattr(layer, "return_sequences", False) else 1 :]
        positions = (source[1], *(rest[1:] if channels_first else rest[:-1]))
    else:
        positions = (source if "Transpose" in type(layer).__name__ else shape)[1:]
        channels_first = getattr(inner, "data_format", None) == "channels_first"
        positions = positions[1:] if channels_first else positions[:-1]
    if None in positions:
        return None
    weights = sum(math.prod(kernel.shape) for kernel in kernels)
    return int(weights * math.prod(positions) * calls)
