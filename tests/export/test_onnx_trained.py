"""ONNX files with trained ranges: each kind of layer, on the integers of the training."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from lenet_edge.export.converter import ConversionRequest
from lenet_edge.fake_quantization import FakeQuantizedNetwork
from lenet_edge.quantized_steps import source_of

pytestmark = pytest.mark.costly


def build_models() -> Iterator[Any]:
    """Yield classifiers of unusual layers: shapes, strides, branches, and ends."""
    import tensorflow as tf

    layers = tf.keras.layers
    image = tf.keras.Input((31, 29, 3))
    values = layers.Conv2D(8, (5, 3), strides=2, padding="same", activation="relu6")(image)
    values = layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same")(values)
    values = layers.ReLU()(layers.BatchNormalization()(values))
    values = layers.AveragePooling2D(3, strides=2, padding="same")(values)
    values = layers.Conv2D(16, 3, dilation_rate=2, padding="same")(values)
    active = layers.ReLU(6.0)(values)  # of a value that another layer reads too
    values = layers.Add()([layers.Add()([values, active]), layers.Conv2D(16, 1)(active)])
    values = layers.MaxPooling2D(3, strides=2, padding="same")(layers.ReLU()(values))
    values = layers.Dense(48, activation="relu")(layers.Flatten()(values))
    values = layers.ZeroPadding2D(((0, 1), (2, 0)))(layers.Reshape((4, 4, 3))(values))
    values = layers.SeparableConv2D(12, 3, strides=2, depth_multiplier=2)(values)
    values = layers.GlobalAveragePooling2D(keepdims=True)(layers.ReLU()(values))
    yield tf.keras.Model(image, layers.Softmax()(layers.Conv2D(10, 1)(values)))
    image = tf.keras.Input((16, 16, 1))
    values = layers.Conv2D(6, 3, padding="same", strides=2, activation="relu")(image)
    values = layers.ReLU()(layers.AveragePooling2D(2)(values))
    yield tf.keras.Model(image, layers.GlobalAveragePooling2D()(layers.Conv2D(10, 3)(values)))
    vector = tf.keras.Input((12,))
    values = layers.Dense(20, activation="relu")(vector)
    yield tf.keras.Model(vector, layers.Dense(10, activation="softmax")(values))


def test_files_compute_what_the_network_computes() -> None:
    import onnxruntime
    import tensorflow as tf

    from lenet_edge.export.onnx import convert

    tf.keras.utils.set_random_seed(1)
    levels = onnxruntime.GraphOptimizationLevel
    cases = (
        (None, "x86", "uint8", levels.ORT_ENABLE_ALL),
        (100, "x86", "uint8", levels.ORT_ENABLE_ALL),
        # The integer operators of x86 without VNNI overflow with int8 weights.
        (None, "arm", "int8", levels.ORT_DISABLE_ALL),
    )
    for model in build_models():
        for layer in model.layers:
            if getattr(layer, "bias", None) is not None:
                layer.bias.assign(np.random.normal(0, 0.1, layer.bias.shape))
        first = next(layer for layer in model.layers if hasattr(layer, "kernel"))
        kernel = np.array(first.kernel)
        kernel[..., 0] = 1e-12  # a channel of its bias alone
        first.kernel.assign(kernel)
        images = np.random.uniform(-1, 1, (200, *model.input_shape[1:])).astype(np.float32)
        network = FakeQuantizedNetwork(model)
        network.calibrate(np.split(images, 2))
        network.round_model()
        expected = np.asarray(network(images))
        step = float(np.ptp(network.ranges[source_of(network.steps[-1]).name])) / 255
        if network.steps[-1].kind == "softmax":
            expected, step = tf.nn.softmax(expected).numpy(), step / 4
        ranges = network.trained_ranges()
        for batch_size, cpu, weights, level in cases:
            request = ConversionRequest(model, "int8", images, batch_size, cpu, ranges=ranges)
            converted = convert(request)
            assert converted.settings == (f"weights={weights}",)
            options = onnxruntime.SessionOptions()
            options.graph_optimization_level = level
            session = onnxruntime.InferenceSession(converted.content, options)
            halves = [session.run(None, {"image": half})[0] for half in np.split(images, 2)]
            actual = np.concatenate(halves)
            assert actual.shape == expected.shape
            assert np.mean(np.abs(actual - expected) < step / 2) > 0.99
