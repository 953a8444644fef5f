"""A Keras model as a chain of the layers that the C kernels support."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.errors import ModelFileError

Weights = npt.NDArray[np.float32]
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Conv:
    """A convolution; `kernel` is of shape (rows, columns, channels, filters)."""

    name: str
    input_shape: Shape
    output_shape: Shape
    kernel: Weights
    bias: Weights
    strides: tuple[int, int]
    same: bool
    relu: bool = False

    @property
    def padding(self) -> tuple[int, int, int, int]:
        """The zeros above, below, left and right of the image."""
        return _padding(self.input_shape, self.output_shape, self.kernel.shape, self.strides)


@dataclass(frozen=True)
class Pool:
    """A max-pool over windows of `size`."""

    name: str
    input_shape: Shape
    output_shape: Shape
    size: tuple[int, int]
    strides: tuple[int, int]
    same: bool

    @property
    def padding(self) -> tuple[int, int, int, int]:
        """The rows and columns of windows outside the image: above, below, left and right."""
        return _padding(self.input_shape, self.output_shape, self.size, self.strides)

    @property
    def halves(self) -> bool:
        """True if the pool has complete windows of 2 x 2 pixels, side by side."""
        return (
            self.size == self.strides == (2, 2)
            and self.padding[0::2] == (0, 0)
            and (
                2 * self.output_shape[0] <= self.input_shape[0]
                and 2 * self.output_shape[1] <= self.input_shape[1]
            )
        )


@dataclass(frozen=True)
class Dense:
    """A dense layer; `kernel` is of shape (inputs, outputs)."""

    name: str
    kernel: Weights
    bias: Weights
    relu: bool = False


NativeLayer = Conv | Pool | Dense


def _padding(
    before: Shape, after: Shape, size: tuple[int, ...], strides: tuple[int, int]
) -> tuple[int, int, int, int]:
    # Source: TensorFlow's "SAME" padding; the smaller half is above and left.
    rows, columns = (
        max((n - 1) * step + k - m, 0)
        for m, n, k, step in zip(before[:2], after[:2], size[:2], strides, strict=True)
    )
    return rows // 2, rows - rows // 2, columns // 2, columns - columns // 2


def read(model: Any) -> list[NativeLayer]:
    """Return the layers of a sequential Keras model; each ReLU is part of the layer before it.

    Raises:
        ModelFileError: a layer is not supported, which the message names, or the model is not a
            chain of layers.
    """
    layers: list[NativeLayer] = []
    for layer in _chain(model):
        kind, config = type(layer).__name__, layer.get_config()
        if kind in ("InputLayer", "Dropout", "Flatten"):
            continue
        if kind == "Reshape":
            if len(layer.output.shape) != 2:
                raise _uncovered(layer, f"its output is of shape {layer.output.shape[1:]}")
        elif kind == "ReLU" or (kind == "Activation" and config["activation"] == "relu"):
            if any(config.get(name) for name in ("negative_slope", "threshold", "max_value")):
                raise _uncovered(layer, "only the plain ReLU is")
            _join_relu(layers, layer)
        elif kind == "Conv2D":
            layers.append(_conv(layer, config))
        elif kind == "MaxPooling2D":
            layers.append(_pool(layer, config))
        elif kind == "Dense":
            if len(layer.input.shape) != 2:
                raise _uncovered(layer, f"its input is of shape {layer.input.shape[1:]}")
            layers.append(_with_activation(layer, Dense(layer.name, *_weights(layer))))
        else:
            raise _uncovered(layer, "convolution, max-pool, ReLU, flatten and dense are")
    if not layers or not isinstance(layers[-1], Dense):
        raise ModelFileError("the native format needs a dense layer at the end; add one")
    return layers


def _chain(model: Any) -> list[Any]:
    layers: list[Any] = []
    for layer in model.layers:
        layers += _chain(layer) if hasattr(layer, "layers") else [layer]
    previous = None
    for layer in layers:
        if type(layer).__name__ == "InputLayer":
            continue
        if isinstance(layer.input, list) or (
            previous is not None and tuple(layer.input.shape) != tuple(previous.output.shape)
        ):
            raise _uncovered(layer, "only one chain of layers is")
        previous = layer
    return layers


def _uncovered(layer: Any, why: str) -> ModelFileError:
    return ModelFileError(
        f"layer {layer.name} ({type(layer).__name__}) is not covered by the native format ({why});"
        " replace it, or choose another --format"
    )


def _weights(layer: Any) -> tuple[Weights, Weights]:
    kernel = layer.kernel.numpy()
    bias = layer.bias.numpy() if layer.use_bias else np.zeros(kernel.shape[-1], np.float32)
    if not (np.isfinite(kernel).all() and np.isfinite(bias).all()):
        raise _uncovered(layer, "its weights are not finite")
    return kernel, bias


def _conv(layer: Any, config: dict[str, Any]) -> Conv:
    plain = (layer.data_format, tuple(layer.dilation_rate), layer.groups)
    if plain != ("channels_last", (1, 1), 1):
        raise _uncovered(layer, "data format, dilation and groups must have their default values")
    conv = Conv(
        layer.name,
        layer.input.shape[1:],
        layer.output.shape[1:],
        *_weights(layer),
        strides=tuple(layer.strides),
        same=layer.padding == "same",
    )
    activated = _with_activation(layer, conv)
    assert isinstance(activated, Conv)
    return activated


def _pool(layer: Any, config: dict[str, Any]) -> Pool:
    if layer.data_format != "channels_last":
        raise _uncovered(layer, "its data format must be channels_last")
    return Pool(
        layer.name,
        layer.input.shape[1:],
        layer.output.shape[1:],
        tuple(layer.pool_size),
        tuple(layer.strides),
        layer.padding == "same",
    )


def _with_activation(layer: Any, plain: Conv | Dense) -> Conv | Dense:
    name = layer.activation.__name__
    if name not in ("linear", "relu"):
        raise _uncovered(layer, f"its activation {name} is not; linear and relu are")
    return dataclasses.replace(plain, relu=name == "relu")


def _join_relu(layers: list[NativeLayer], relu: Any) -> None:
    # A ReLU may move before max-pools, because both preserve the order of numbers.
    for index in reversed(range(len(layers))):
        layer = layers[index]
        if not isinstance(layer, Pool):
            layers[index] = dataclasses.replace(layer, relu=True)
            return
    raise _uncovered(relu, "it must follow a convolution or a dense layer")
