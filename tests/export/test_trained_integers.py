"""The C file computes the integers of the trained network in fixed-point arithmetic."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lenet_edge.artifacts.artifact import load_artifact
from lenet_edge.data import mnist
from lenet_edge.data.dataset import Dataset, to_input
from lenet_edge.target import quantize
from tests.conftest import first_images
from tests.export.native_random import cut_levels, unused_levels
from tests.export.test_native import WARNINGS, call_batch
from tests.export.test_native import build as compile_c
from tests.train.test_quantization import EXPORTED, build_foreign

pytestmark = pytest.mark.costly


def build_mixed() -> Any:
    """Build a classifier with most of the covered layers, dead channels, and logits."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(1)
    model = build_foreign()
    logits = tf.keras.layers.Dense(10)(tf.keras.layers.ReLU()(model.layers[-2].output))
    mixed = tf.keras.Model(model.input, logits)
    for layer in mixed.layers:
        if isinstance(layer, tf.keras.layers.Conv2D):
            layer.kernel.assign(layer.kernel * [0, 1e-6, 1, 1, 1, 1, 1, 1])
            layer.bias.assign([0.5, -0.5, 0, 0, 0.1, 0, 0, 0])
    return mixed


def build_lenet() -> Any:
    from lenet_edge.export.checkpoint import load_checkpoint

    return load_checkpoint(EXPORTED / "lenet.keras")


@pytest.mark.needs("cc")
@pytest.mark.parametrize(("build", "precision"), [(build_mixed, "int8"), (build_lenet, "int4")])
def test_the_c_file_has_the_integers_of_the_network(
    build: Any, precision: str, tmp_path: Path, test_part: Dataset
) -> None:
    from lenet_edge.export.checkpoint import load_checkpoint
    from lenet_edge.export.exporter import export
    from lenet_edge.export.trained_integers import IntegerNetwork
    from lenet_edge.fake_quantization import FakeQuantizedNetwork
    from lenet_edge.train import loop

    training, path = first_images(mnist.load("train"), 1000), tmp_path / "net.keras"
    model = build()
    network = FakeQuantizedNetwork(model, precision)
    network.calibrate(np.array_split(to_input(training.images), 10))
    network.round_model()
    ranges = network.trained_ranges()
    loop.save_checkpoint(model, path, training.class_names, ranges=ranges)
    export(path, tmp_path, training, first_images(test_part, 100), ["native"], [precision])
    source, library = tmp_path / f"net_native_{precision}.c", tmp_path / "net.so"
    copy = tmp_path / "copy.c"
    copy.write_text(cut_levels(source.read_text(), unused_levels()))
    compile_c("cc", *WARNINGS, "-O1", "-shared", "-fPIC", copy, "-o", library)
    images, file = to_input(test_part.images[:1000]), load_artifact(source)
    actual = call_batch(library, quantize(images, file.inputs[0]), "net")
    scale, zero = file.outputs[0].scale, file.outputs[0].zero_point
    trained = load_checkpoint(path)
    exact, simulated = (
        np.rint(network(images) / np.float32(scale)) + zero
        for network in (IntegerNetwork(trained, ranges), FakeQuantizedNetwork.load(trained, ranges))
    )
    np.testing.assert_array_equal(actual, exact)
    assert len(np.unique(actual)) > 50
    assert np.mean(actual != simulated) > 0.01, "float factors round some sums otherwise"
