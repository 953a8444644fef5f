"""The four networks of MLPerf Tiny, from their published architectures, with random weights.

They are the field's own test of int8 on small processors: image classification (ResNet-8), keyword
spotting (DS-CNN), visual wake words (MobileNetV1 0.25) and anomaly detection (an autoencoder).
The measurement compares each network as C with LiteRT XNNPACK, at batch 1 on one thread.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lenet_edge.artifacts.artifact import load_artifact, write_manifest
from lenet_edge.bench.interleave import compare
from lenet_edge.runtimes import get_target
from lenet_edge.selection import Pair, load_artifacts

BAR = 1.0
ROUNDS = 500  # calls of each file in each process


def _keras() -> Any:
    import lenet_edge.model  # noqa: F401  imported first: it quiets TensorFlow

    import tensorflow as tf  # isort: skip

    return tf.keras


def _conv(values: Any, filters: int, size: Any, strides: Any = 1, relu: bool = True) -> Any:
    layers = _keras().layers
    values = layers.Conv2D(filters, size, strides, "same", use_bias=False)(values)
    values = layers.BatchNormalization()(values)
    return layers.ReLU()(values) if relu else values


def _separable(values: Any, filters: int, strides: int = 1) -> Any:
    layers = _keras().layers
    values = layers.DepthwiseConv2D(3, strides, "same", use_bias=False)(values)
    values = layers.ReLU()(layers.BatchNormalization()(values))
    return _conv(values, filters, 1)


def _head(values: Any, classes: int) -> Any:
    layers = _keras().layers
    _, rows, cols, _ = values.shape
    mean = layers.AveragePooling2D((rows, cols))(values)
    return layers.Dense(classes, activation="softmax")(layers.Flatten()(mean))


def resnet8() -> Any:
    """Return the network for images of 32 x 32 in 10 classes."""
    layers = _keras().layers
    image = _keras().Input((32, 32, 3), name="image")
    values = _conv(image, 16, 3)
    for filters, strides in ((16, 1), (32, 2), (64, 2)):
        inner = _conv(_conv(values, filters, 3, strides), filters, 3, relu=False)
        if strides != 1:
            values = layers.Conv2D(filters, 1, strides, "same")(values)
        values = layers.ReLU()(layers.Add()([values, inner]))
    return _keras().Model(image, _head(values, 10))


def ds_cnn() -> Any:
    """Return the network for 49 frames of 10 features in 12 classes."""
    image = _keras().Input((49, 10, 1), name="image")
    values = _conv(image, 64, (10, 4), (2, 2))
    for _ in range(4):
        values = _separable(values, 64)
    return _keras().Model(image, _head(values, 12))


def mobilenet_v1() -> Any:
    """Return the network for images of 96 x 96 in 2 classes, with a quarter of the channels."""
    image = _keras().Input((96, 96, 3), name="image")
    values = _conv(image, 8, 3, 2)
    for filters, strides in ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2),
                             *[(128, 1)] * 5, (256, 2), (256, 1)):  # fmt: skip
        values = _separable(values, filters, strides)
    return _keras().Model(image, _head(values, 2))


def autoencoder() -> Any:
    """Return the network for vectors of 640 features."""
    layers = _keras().layers
    image = _keras().Input((640,), name="image")
    values = image
    for units in (*[128] * 4, 8, *[128] * 4):
        values = layers.ReLU()(layers.BatchNormalization()(layers.Dense(units)(values)))
    return _keras().Model(image, layers.Dense(640)(values))


NETWORKS: dict[str, Callable[[], Any]] = {
    "resnet8": resnet8,
    "ds_cnn": ds_cnn,
    "mobilenet_v1": mobilenet_v1,
    "autoencoder": autoencoder,
}


def make(name: str, precision: str = "int8") -> bytes:
    """Return the .tflite file of a network, with random weights and a batch of 1."""
    from lenet_edge.export import tflite
    from lenet_edge.export.converter import ConversionRequest

    keras = _keras()
    keras.utils.set_random_seed(7)
    model = NETWORKS[name]()
    random = np.random.default_rng(7)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            count = layer.gamma.shape[0]
            spread = random.uniform(0.5, 1.5, (2, count)), random.normal(0, 0.3, (2, count))
            layer.set_weights([spread[0][0], spread[1][0], spread[1][1], spread[0][1]])
    images = random.normal(0, 1, (24, *model.input_shape[1:])).astype(np.float32)
    return tflite.convert(ConversionRequest(model, precision, images, 1)).content


def measure() -> dict[str, Any]:
    """Return the ratio C / LiteRT XNNPACK of each network. Calls are interleaved."""
    from lenet_edge.export.from_tflite import export_tflite

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in NETWORKS:
            print(f"{name} ...", file=sys.stderr)
            path = Path(folder) / f"{name}.tflite"
            path.write_bytes(make(name))
            (source,) = load_artifacts([path], Path(folder))
            write_manifest(source)
            # The export fails if a byte of 20 outputs differs from LiteRT's reference kernels.
            (code,) = export_tflite(path, Path(folder), ("native",))
            pairs = [
                Pair(source, get_target("litert-xnnpack")),
                Pair(load_artifact(code.path), get_target("native-cpu")),
            ]
            litert, native = compare(pairs, rounds=ROUNDS)
            rows.append({"name": name, "ratio": native.median,
                         "low": native.low, "high": native.high, "p50_s": native.p50_s,
                         "litert_p50_s": litert.p50_s, "bar": BAR,
                         "met": native.median <= BAR})  # fmt: skip
    return {"rows": rows}


def show(facts: dict[str, Any]) -> None:
    """Print a table."""
    print("\nMLPerf Tiny, int8, batch 1, one thread: C / LiteRT XNNPACK")
    for row in facts["rows"]:
        print(f"  {row['name']:13} {row['ratio']:.3f} [{row['low']:.3f}, {row['high']:.3f}],"
              f" {row['p50_s'] * 1e6:.1f} us / {row['litert_p50_s'] * 1e6:.1f} us"
              f" <= {row['bar']}: {'met' if row['met'] else 'NOT MET'}")  # fmt: skip
