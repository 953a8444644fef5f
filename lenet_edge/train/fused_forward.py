"""A forward pass of LeNet that XLA compiles to fast code; used for training only.

The gradient of max-pooling is the slowest operation of a training step. A 3 x 3 convolution
followed by a 2 x 2 max-pool is equivalent to a 4 x 4 convolution of stride 2 with four outputs for
each channel, of which the largest is kept. That is a matrix product and three maxima.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import lenet_edge.model  # noqa: F401  imported first: it silences TensorFlow

import tensorflow as tf  # isort: skip


def fits(model: Any) -> bool:
    """Tell whether `fused_forward` can compute a Keras model."""
    layers = tf.keras.layers
    if not isinstance(model, tf.keras.Sequential):
        return False
    for layer, following in itertools.pairwise([*model.layers, None]):
        if isinstance(layer, layers.Conv2D):
            settings = (layer.kernel_size, layer.strides, layer.padding, layer.dilation_rate)
            is_plain = layer.activation is tf.keras.activations.linear and layer.use_bias
            if settings != ((3, 3), (1, 1), "valid", (1, 1)) or layer.groups != 1 or not is_plain:
                return False
            if not isinstance(following, layers.MaxPool2D) or (
                (following.pool_size, following.strides, following.padding)
                != ((2, 2), (2, 2), "valid")
            ):
                return False
    return True


def fused_forward(model: Any) -> Callable[[Any], Any]:
    """Build a function that computes the same logits as `model`, from the same variables.

    The function replaces each 3 x 3 convolution and the 2 x 2 max-pool after it. It calls all
    other layers unchanged.

    Args:
        model: a model that `fits`, such as the LeNet of `lenet_edge.model`.

    Returns:
        A function from float32 images of shape (batch, height, width, channels) to float32 logits
        of shape (batch, classes).
    """

    def forward(images: Any) -> Any:
        values = images
        layers = iter(model.layers)
        for layer in layers:
            if isinstance(layer, tf.keras.layers.Conv2D):
                next(layers)  # the pool
                values = convolve_and_pool(values, layer.kernel) + layer.bias
            else:
                values = layer(values, training=True)
        return values

    return forward


def convolve_and_pool(images: Any, kernel: Any) -> Any:
    """Compute max_pool_2x2(conv_3x3(images)), both without padding.

    Args:
        images: (batch, height, width, channels).
        kernel: (3, 3, channels, filters).
    """
    channels, filters = kernel.shape[2:]
    height, width = ((size - 2) // 2 for size in images.shape[1:3])  # of the result
    # Split the images into tiles of 2 x 2 pixels. A 4 x 4 window of stride 2 is a tile and three
    # of its neighbours.
    tiles = tf.nn.space_to_depth(images[:, : 2 * height + 2, : 2 * width + 2], 2)
    windows = tf.concat(
        [tiles[:, y : y + height, x : x + width] for y in (0, 1) for x in (0, 1)], axis=-1
    )
    # Put the kernel at each of its four positions in a 4 x 4 window, in the order of the tiles.
    shifted = tf.stack(
        [tf.pad(kernel, ((y, 1 - y), (x, 1 - x), (0, 0), (0, 0))) for x in (0, 1) for y in (0, 1)],
        axis=3,
    )
    shifted = tf.reshape(shifted, (2, 2, 2, 2, channels, 4 * filters))
    matrix = tf.reshape(tf.transpose(shifted, (0, 2, 1, 3, 4, 5)), (16 * channels, 4 * filters))
    phases = tf.reshape(windows, (-1, 16 * channels)) @ matrix
    # Compare left with right, then upper with lower. If two values are equal, the first gets the
    # gradient, which is the order of max-pooling.
    rows = tf.maximum(phases[:, : 2 * filters], phases[:, 2 * filters :])
    largest = tf.maximum(rows[:, :filters], rows[:, filters:])
    return tf.reshape(largest, (-1, height, width, filters))
