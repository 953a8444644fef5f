"""The networks that `train` can train: LeNet, and the family that `Architecture` describes.

TensorFlow is imported inside the functions, because the command line reads the names.

Sources: C. Banbury et al., "MLPerf Tiny benchmark", 2021, and its reference implementations;
Y. Zhang et al., "Hello edge: keyword spotting on microcontrollers", 2017 (DS-CNN);
A. Howard et al., "MobileNets", 2017; K. He et al., "Deep residual learning for image recognition",
2016 (ResNet); S. Ioffe and C. Szegedy, "Batch normalization", 2015.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from lenet_edge.errors import DataError

LENET = "lenet"
# Of the moving statistics of BatchNorm. With Keras's 0.99, those of a training of 100 steps would
# still contain a third of their initial values.
_MOMENTUM = 0.9


@dataclass(frozen=True)
class Block:
    """One stage of a network. BatchNorm and ReLU follow each convolution, which has no bias.

    A plain block is one convolution. A depthwise block is a depthwise convolution and a 1 x 1
    convolution. A residual block is that twice, added to its input; a 1 x 1 convolution adapts the
    input if its shape differs. The first convolution of a block has the stride. A residual block
    has the padding "same".
    """

    width: int  # channels of the output
    kernel: int = 3
    stride: int = 1
    depthwise: bool = False
    residual: bool = False
    padding: Literal["same", "valid"] = "same"


@dataclass(frozen=True)
class Architecture:
    """A convolutional network: its blocks in order, then the head.

    The head averages over all pixels, or flattens them. Dense layers with ReLU follow, and the
    layer that computes the logits.
    """

    blocks: tuple[Block, ...]
    head: Literal["average", "flatten"] = "average"
    dense: tuple[int, ...] = ()


Network = str | Architecture  # the name of a network, or its description


def _plain(*widths: int) -> Architecture:
    """Return four plain convolutions of these widths and a dense layer, for small images."""
    first, second, third, fourth = widths
    blocks = (
        Block(first, 5, 2, padding="valid"),
        Block(second, padding="valid"),
        Block(third, stride=2),
        Block(fourth, padding="valid"),
    )
    return Architecture(blocks, "flatten")


# The forms of MLPerf Tiny, for images of any shape. Padding is "same", and no layer drops values.
# DS-CNN has square kernels instead of those for a spectrogram. MobileNetV1 has a quarter of its
# channels, and the last of its five strides is 1, because 28 x 28 pixels allow only four.
_ARCHITECTURES = {
    "ds-cnn": Architecture((Block(64, stride=2), *[Block(64, depthwise=True)] * 4)),
    "mobilenet-tiny": Architecture(
        (
            Block(8, stride=2),
            *(
                Block(width, stride=stride, depthwise=True)
                for width, stride in (
                    (16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5,
                    (256, 1), (256, 1),
                )
            ),
        )
    ),
    "resnet-8": Architecture(
        (
            Block(16),
            Block(16, residual=True),
            Block(32, stride=2, residual=True),
            Block(64, stride=2, residual=True),
        )
    ),
    # Chosen by the accuracy on held-out images. Recorded: python -m benchmarks.training smallest
    "cnn-16k": _plain(16, 16, 32, 24),
    "cnn-8k": _plain(12, 12, 20, 16),
    "cnn-5k": _plain(8, 8, 16, 12),
    "cnn-3k": _plain(6, 6, 12, 8),
}  # fmt: skip
# Each network with its text in --help.
SUMMARIES = {
    LENET: "60,074 parameters, as published",
    "ds-cnn": "22,218 parameters, depthwise convolutions",
    "mobilenet-tiny": "220,970 parameters, depthwise convolutions",
    "resnet-8": "78,138 parameters, residual blocks",
    "cnn-16k": "16,746 parameters, more accurate than LeNet",
    "cnn-8k": "8,326 parameters, about as accurate as LeNet",
    "cnn-5k": "4,922 parameters, for small microcontrollers",
    "cnn-3k": "2,844 parameters, the smallest",
}


def build(network: Network, num_classes: int, image_shape: tuple[int, int, int]) -> Any:
    """Build an untrained Keras model.

    Its input is float32 of shape (batch, height, width, channels), scaled to 0..1. Its outputs are
    logits, float32 of shape (batch, num_classes).

    Args:
        network: one of `SUMMARIES`, or an architecture.
        num_classes: the number of classes.
        image_shape: height, width and channels.

    Raises:
        DataError: the images are too small.
    """
    from lenet_edge.model import build_lenet

    name = network if isinstance(network, str) else "network"
    try:
        if network == LENET:
            return build_lenet(num_classes, image_shape)
        architecture = _ARCHITECTURES[network] if isinstance(network, str) else network
        return _build(architecture, num_classes, image_shape, name)
    except ValueError as error:  # Keras finds a layer without outputs
        height, width, _ = image_shape
        raise DataError(
            f"images of {height} x {width} pixels are too small for {name}; give larger ones, or"
            " another --network"
        ) from error


def _build(
    architecture: Architecture, num_classes: int, image_shape: tuple[int, int, int], name: str
) -> Any:
    import tensorflow as tf

    layers = tf.keras.layers
    image = tf.keras.Input(image_shape, name="image")
    values = image
    for number, block in enumerate(architecture.blocks, start=1):
        values = _add_block(values, block, f"block{number}")
    if architecture.head == "average":
        values = layers.AveragePooling2D(values.shape[1:3], name="average")(values)
    values = layers.Flatten(name="flatten")(values)
    for number, units in enumerate(architecture.dense, start=1):
        values = layers.Dense(units, activation="relu", name=f"dense{number}")(values)
    return tf.keras.Model(image, layers.Dense(num_classes, name="logits")(values), name=name)


def _add_block(values: Any, block: Block, name: str) -> Any:
    import tensorflow as tf

    layers = tf.keras.layers
    if not block.residual:
        return layers.ReLU(name=f"{name}_relu")(_convolve(values, block, block.stride, name))
    inner = _convolve(values, block, block.stride, f"{name}_1")
    inner = layers.ReLU(name=f"{name}_1_relu")(inner)
    inner = _convolve(inner, block, 1, f"{name}_2")
    if block.stride != 1 or values.shape[-1] != block.width:
        shortcut = layers.Conv2D(block.width, 1, block.stride, "same", name=f"{name}_shortcut")
        values = shortcut(values)
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([values, inner]))


def _convolve(values: Any, block: Block, stride: int, name: str) -> Any:
    """Add the convolutions of a block, without its last ReLU."""
    import tensorflow as tf

    layers = tf.keras.layers

    def normalize(values: Any, name: str) -> Any:
        return layers.BatchNormalization(momentum=_MOMENTUM, name=f"{name}_norm")(values)

    if not block.depthwise:
        convolve = layers.Conv2D(
            block.width, block.kernel, stride, block.padding, use_bias=False, name=name
        )
        return normalize(convolve(values), name)
    depthwise = layers.DepthwiseConv2D(
        block.kernel, stride, block.padding, use_bias=False, name=f"{name}_depthwise"
    )
    values = normalize(depthwise(values), f"{name}_depthwise")
    values = layers.ReLU(name=f"{name}_depthwise_relu")(values)
    return normalize(layers.Conv2D(block.width, 1, use_bias=False, name=name)(values), name)
