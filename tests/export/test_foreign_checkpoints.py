"""Tests of foreign Keras classifiers, with random weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from lenet_edge.artifacts.artifact import load_artifact
from tests.conftest import LenetEdge

SHAPE = (32, 32, 3)


def mobilenet(applications: Any) -> Any:
    return applications.MobileNetV2(alpha=0.35, weights=None, input_shape=SHAPE, classes=7)


def efficientnet(applications: Any) -> Any:
    return applications.EfficientNetB0(weights=None, input_shape=SHAPE, classes=7)


@pytest.mark.slow
@pytest.mark.parametrize("build", [mobilenet, efficientnet])
def test_keras_applications(
    build: Callable[[Any], Any], tmp_path: Path, lenet_edge_here: LenetEdge
) -> None:
    import keras

    keras.utils.set_random_seed(0)
    build(keras.applications).save(tmp_path / "foreign.keras")
    np.savez(tmp_path / "images.npz", np.random.default_rng(0).random((16, *SHAPE), np.float32))
    done = lenet_edge_here(
        "export", "foreign.keras", "--int8", "--calibration", "images.npz",
        "--output-dir", "out",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for precision in ("float32", "int8"):
        for format in ("tflite", "onnx"):
            artifact = load_artifact(tmp_path / "out" / f"foreign_{precision}.{format}")
            assert artifact.inputs[0].shape == (None, *SHAPE)
            assert artifact.outputs[0].shape == (None, 7)
            rule = artifact.preprocessing  # the images are floats of 0..1
            inside = build is efficientnet  # it has a Rescaling layer
            assert rule.scale == ((1.0,) if inside else (1 / 255,))
            assert (artifact.labels, rule.origin) == ((), "read" if inside else "inferred")
            if precision == "float32":
                assert f"{artifact.name} agrees with foreign.keras on 100.0% of 16" in done.stderr
    operators = {n.op_type for n in onnx.load(tmp_path / "out" / "foreign_float32.onnx").graph.node}
    assert not operators & {"Shape", "Gather", "Slice", "Concat", "Identity"}


def test_missing_images_are_reported(tmp_path: Path, lenet_edge_here: LenetEdge) -> None:
    import keras

    model = keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten(), keras.layers.Dense(7)])
    model.save(tmp_path / "foreign.keras")
    done = lenet_edge_here("export", "foreign.keras", "--output-dir", "out", "--batch-size", "3")
    assert done.returncode == 0, done.stderr
    assert "were not compared with it; give images that fit with --calibration" in done.stderr
    done = lenet_edge_here("export", "foreign.keras", "--int8")
    assert done.returncode == 1
    assert "28 x 28 x 1 and the model takes 32 x 32 x 3" in done.stderr.splitlines()[-1]


def test_images_of_any_size_are_refused(tmp_path: Path, lenet_edge_here: LenetEdge) -> None:
    import keras

    model = keras.Sequential([keras.Input((None, None, 3)), keras.layers.GlobalAveragePooling2D()])
    model.save(tmp_path / "free.keras")
    done = lenet_edge_here("export", "free.keras")
    assert done.returncode == 1
    assert "takes images of any size" in done.stderr.splitlines()[-1]
