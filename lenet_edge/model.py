"""LeNet, as published: the network that everything else here trains, exports and times."""

from __future__ import annotations

import os
from typing import Any

from lenet_edge.support.quiet import quiet

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
with quiet():  # TensorFlow greets with lines about GPUs that are not there
    import tensorflow as tf

    tf.config.list_physical_devices()  # looks for them now, so that its complaint falls in here


def build_lenet(num_classes: int = 10, image_shape: tuple[int, int, int] = (28, 28, 1)) -> Any:
    """Return an untrained LeNet.

    It maps float32 images of shape (batch, height, width, channels), scaled to 0..1, to logits of
    shape (batch, num_classes). With the default arguments it has 60,074 parameters.

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
