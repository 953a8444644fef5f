"""LeNet in Keras: the network that this package trains, exports, verifies and benchmarks."""

from __future__ import annotations

import os
from typing import Any

from lenet_edge.support.memory_limit import check_memory_limit
from lenet_edge.support.quiet import quiet
from lenet_edge.support.safe_import import outside_of_the_current_folder

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
check_memory_limit("TensorFlow", 2 * 2**30)
with quiet():  # TensorFlow prints warnings about missing GPUs
    with outside_of_the_current_folder():
        import tensorflow as tf

        _ = tf.keras.layers  # imports Keras, which imports matplotlib
    tf.config.list_physical_devices()  # triggers the search for GPUs, and its warnings, here


def build_lenet(num_classes: int = 10, image_shape: tuple[int, int, int] = (28, 28, 1)) -> Any:
    """Build an untrained LeNet.

    Its input is float32 of shape (batch, height, width, channels), scaled to 0..1. Its output are
    logits, float32 of shape (batch, num_classes). With the default arguments it has 60,074
    parameters.

    Args:
        num_classes: the number of classes.
        image_shape: height, width and channels.

    Returns:
        A `keras.Sequential`.

    Source: Y. LeCun et al., "Gradient-based learning applied to document recognition", 1998, in
    the small modern form (3 x 3 kernels, max-pooling, ReLU) of the course notebooks.
    """
    layers = tf.keras.layers
    return tf.keras.Sequential(
        [
            tf.keras.Input(image_shape, name="image"),
            layers.Conv2D(6, 3, name="conv1"),
            layers.MaxPool2D(2, 2, name="pool1"),
            layers.ReLU(name="relu1"),
            layers.Conv2D(16, 3, name="conv2"),
            layers.MaxPool2D(2, 2, name="pool2"),
            layers.ReLU(name="relu2"),
            layers.Flatten(name="flatten"),
            layers.Dense(120, activation="relu", name="dense1"),
            layers.Dense(84, activation="relu", name="dense2"),
            layers.Dense(num_classes, name="logits"),
        ],
        name="lenet",
    )
