"""The Keras checkpoint, prepared for the converters: one function without dynamic shapes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import lenet_edge.model  # noqa: F401  imported first: it quiets TensorFlow
from lenet_edge.artifacts.artifact import (
    Artifact,
    TensorSpec,
    describe_file,
    has_manifest,
    load_artifact,
)
from lenet_edge.artifacts.declared import declared_preprocessing
from lenet_edge.artifacts.file_check import check_format
from lenet_edge.artifacts.head import head_of
from lenet_edge.artifacts.keras_file import implied_preprocessing, keras_version, loadable
from lenet_edge.artifacts.preprocessing import PIXELS
from lenet_edge.errors import LenetEdgeError, ModelFileError
from lenet_edge.export.onnx_model import OnnxInput, OnnxModel
from lenet_edge.quantized_steps import AUGMENTING
from lenet_edge.target import Images, Logits

import tensorflow as tf  # isort: skip

# Layers and operations that keep their values.
_COPIES = ("Cast", "Dropout", "Flatten", "Identity", "Permute", "Reshape", "Squeeze")


def load_checkpoint(path: Path) -> Any:
    """Return the Keras model in a file of Keras 2 or 3; pickled code in the file is never run.

    Raises:
        ModelFileError: the file is not of Keras, or its model cannot be exported: it has
            several inputs or outputs, or accepts images of any size.
    """
    if check_format(path) != "keras":
        raise ModelFileError(
            f"{path} is not a .keras checkpoint; export needs one, or a float .onnx file"
        )
    try:
        with loadable(path) as file:
            model = tf.keras.models.load_model(file, compile=False, safe_mode=True)
    except LenetEdgeError:
        raise  # the message is complete
    except Exception as error:  # zip, HDF5, JSON and Keras raise various types
        reason = " ".join(str(error).split())[:200]
        version, own = keras_version(path), tf.keras.__version__
        writer = f" (Keras {version} saved it)" if version and version != own else ""
        raise ModelFileError(f"{path} cannot be loaded by Keras {own}{writer}: {reason}") from error
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ModelFileError(
            f"{path} has {len(model.inputs)} inputs and {len(model.outputs)} outputs;"
            " lenet-edge exports classifiers with one of each"
        )
    if None in model.inputs[0].shape[1:]:
        raise ModelFileError(
            f"{path} takes images of any size {model.inputs[0].shape[1:]};"
            " save it with a fixed size: keras.Input((height, width, channels))"
        )
    return model


class KerasModel:
    """The Keras model of a checkpoint, as the exporter uses it; see `source.FloatModel`."""

    batch_size = None  # a batch that the model fixes is left free
    is_single = True

    def __init__(self, model: Any) -> None:
        self.for_converters = model

    @classmethod
    def load(cls, path: Path) -> KerasModel:
        """Load a .keras file, see `load_checkpoint`."""
        return cls(load_checkpoint(path))

    @property
    def inputs(self) -> tuple[OnnxInput, ...]:
        """The input."""
        return (OnnxInput("image", self.input_shape, False),)

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """The shape of the input."""
        return tuple(self.for_converters.inputs[0].shape)

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        """The shape of the output."""
        return tuple(self.for_converters.outputs[0].shape)

    def predict(self, values: Images) -> Logits:
        """Return the outputs for input values."""
        logits: Logits = self.for_converters.predict(values, batch_size=256, verbose=0)
        return logits

    def layers_alone(self) -> Iterator[tuple[str, str, Any]]:
        """Yield each layer's name and class, and a model of that layer alone.

        The error of a converter names its operators. Converting layer by layer finds the layer.
        """
        for layer in _layers(self.for_converters):
            if isinstance(layer.input, list) or isinstance(layer, tf.keras.layers.InputLayer):
                continue
            image = tf.keras.Input(layer.input.shape[1:])
            yield layer.name, type(layer).__name__, tf.keras.Model(image, layer(image))


def keras_artifact(checkpoint: Path, model: Any) -> Artifact:
    """Return the checkpoint's artifact; without a manifest, with what it declares."""
    if has_manifest(checkpoint):
        artifact = load_artifact(checkpoint)
        return dataclasses.replace(artifact, head=artifact.head or keras_head(model))
    inputs = (TensorSpec("image", tuple(model.inputs[0].shape), "float32"),)
    outputs = (TensorSpec("logits", tuple(model.outputs[0].shape), "float32"),)
    declared, labels = declared_preprocessing(checkpoint, "keras", inputs, outputs)
    adapted = [layer.variance for layer in model.layers if type(layer).__name__ == "Normalization"]
    first = implied_preprocessing(
        {"config": model.get_config()}, adapted[0].numpy().tolist() if adapted else None
    )
    return describe_file(
        checkpoint,
        precision="float32",
        batch_size=None,
        inputs=inputs,
        outputs=outputs,
        parent_sha256=None,
        converter="keras",
        calibration=None,
        labels=labels,
        preprocessing=first or declared or dataclasses.replace(PIXELS, origin="assumed"),
        head=keras_head(model),
    )


def keras_head(model: Any) -> str | None:
    """Return the head of a Keras model, a value of `artifacts.head.Head`; None if unknown."""
    tensor, output = model.outputs[0], tuple(model.outputs[0].shape)
    head = head_of(_activation(tensor), tuple(model.inputs[0].shape), output)
    return head and head.value


def _activation(tensor: Any) -> str | None:
    """Return the function that computes a tensor: "softmax", "sigmoid" or another one."""
    while True:
        operation = tensor._keras_history.operation
        layers = getattr(operation, "layers", None)
        if layers and getattr(operation, "outputs", None):  # a nested model
            tensor = operation.outputs[0]
            continue
        kind = type(operation).__name__
        inputs = operation.input
        if kind in _COPIES and not isinstance(inputs, (list, tuple)):
            tensor = inputs
            continue
        function = getattr(operation, "activation", None)
        if kind == "TimeDistributed":
            function = getattr(operation.layer, "activation", None)
        name = getattr(function, "__name__", None) or kind
        return {"softmax": "softmax", "Softmax": "softmax", "sigmoid": "sigmoid",
                "Sigmoid": "sigmoid", "log_softmax": "log_softmax", "LogSoftmax": "log_softmax",
                }.get(name, "other")  # fmt: skip


def inference_function(model: Any, batch_size: int | None = None) -> Any:
    """Return the model's inference as a `tf.function` from ``image`` to ``logits``.

    With a free batch, Flatten and Reshape layers compute their output shape at run time (SHAPE,
    STRIDED_SLICE, PACK), and delegates refuse these operators. A reshape to (-1, ...) is
    equivalent and needs one constant. This function changes these layers of `model` to do that.

    Args:
        model: the Keras model, or an `OnnxModel`.
        batch_size: None leaves the batch free.
    """
    if isinstance(model, OnnxModel):
        return model.inference_function(batch_size)
    for layer in _layers(model):
        if isinstance(layer, (tf.keras.layers.Flatten, tf.keras.layers.Reshape)):
            layer.call = _reshape_to((-1, *layer.output.shape[1:]))

    def infer(image: Any) -> dict[str, Any]:
        return {"logits": tf.identity(model(image, training=False), "logits")}

    shape = (batch_size, *model.inputs[0].shape[1:])
    return tf.function(infer, input_signature=[tf.TensorSpec(shape, tf.float32, name="image")])


def _layers(model: Any) -> Iterator[Any]:
    for layer in model.layers:
        yield layer
        if hasattr(layer, "layers"):  # a nested model
            yield from _layers(layer)


def _reshape_to(shape: tuple[int, ...]) -> Any:
    return lambda values: tf.reshape(values, shape)


def split_rescaling(model: Any) -> tuple[Any, Any]:
    """Return a model without the Rescaling layer at its start, and the layer.

    Layers for augmentation before it are left out too, because they do not change inference.

    Returns:
        The model and the layer; the model itself and None if it starts with another layer.
    """
    # What reads each tensor, as layers and their outputs; Keras tensors cannot be compared.
    readers: dict[int, list[tuple[Any, Any]]] = {}
    pending = [model.outputs[0]]
    seen: set[int] = set()
    while pending:
        tensor = pending.pop()
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        layer, node, _ = tensor._keras_history
        for source in layer._inbound_nodes[node].input_tensors:
            readers.setdefault(id(source), []).append((layer, tensor))
            pending.append(source)
    tensor = model.inputs[0]
    while True:
        if len(readers.get(id(tensor), ())) != 1:
            return model, None
        ((layer, tensor),) = readers[id(tensor)]
        if isinstance(layer, tf.keras.layers.Rescaling):
            break
        if type(layer).__name__ not in AUGMENTING:
            return model, None
    if any(np.shape(values) not in ((), (1,), (3,)) for values in (layer.scale, layer.offset)):
        return model, None
    return tf.keras.Model(tensor, model.outputs[0], name=model.name), layer


def pair_pixels(model: Any) -> str | None:
    """Make the model's first convolution read two neighbouring pixels as two channels.

    A convolution of one channel leaves most of a vector unit idle. On pairs of pixels the image is
    half as wide, and the kernel computes two columns at once. The products and the order of the
    outputs stay the same, in fewer and wider steps. This function changes `model`.

    Returns:
        The name of the layer. None if the first convolution cannot be changed: its stride or
        dilation is not 1, it has padding, its kernel width is even, or the image width is odd.
    """
    convolutions = [x for x in _layers(model) if isinstance(x, tf.keras.layers.Conv2D)]
    if not convolutions or convolutions[0].input.shape[1:] != model.inputs[0].shape[1:]:
        return None
    layer = convolutions[0]
    _, height, width, channels = layer.input.shape
    kernel = layer.kernel.numpy()
    rows, columns, _, filters = kernel.shape
    plain = (layer.padding, layer.strides, layer.dilation_rate, layer.groups)
    if plain != ("valid", (1, 1), (1, 1), 1) or columns % 2 == 0 or width % 2:
        return None
    # The kernel twice: for the left pixel of a pair, and shifted by one column for the right.
    both = np.zeros((rows, columns + 1, channels, 2, filters), np.float32)
    both[:, :columns, :, 0], both[:, 1:, :, 1] = kernel, kernel
    packed = both.reshape(rows, (columns + 1) // 2, 2 * channels, 2 * filters)
    bias = np.tile(layer.bias.numpy(), 2) if layer.use_bias else np.zeros(2 * filters, np.float32)
    output = (-1, *layer.output.shape[1:])

    def call(image: Any) -> Any:
        pairs = tf.reshape(image, (-1, height, width // 2, 2 * channels))
        values = tf.nn.bias_add(tf.nn.conv2d(pairs, packed, 1, "VALID"), bias)
        return layer.activation(tf.reshape(values, output))

    layer.call = call
    return str(layer.name)
